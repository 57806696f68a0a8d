"""How figures look and how they are saved: one style, colours for colour-blind readers too, no dates.

Saving the same figure twice gives the same bytes, so that a figure under version control changes only when
what it shows does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.support.files import REPOSITORY, atomic_path, atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito (2008), "Color Universal Design", in an order that keeps neighbours apart.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
SIDEWAYS = 4
"""Decades that are labelled on a logarithmic axis from left to right."""
COLUMN = (3.4, 2.6)
"""Inches: one column of a paper."""
PAGE = (7.0, 2.9)
"""Inches: the width of a page, for panels side by side."""

STYLE = {
    "font.size": 8.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 8.0,
    "legend.fontsize": 7.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "figure.figsize": COLUMN,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
    "svg.hashsalt": "safeframe",
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Within this context, matplotlib draws without a display, in the house style."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from cycler import cycler

    with plt.rc_context(STYLE | {"axes.prop_cycle": cycler(color=PALETTE)}):
        yield


def colours(names: list[str]) -> dict[str, str]:
    """A colour for each name, by its place in the list."""
    return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(names)}


def log_axis_with_zero(axes: Axes, rail: float, top: float, which: str = "y") -> None:
    """Make `which` axis logarithmic up to `top`, with a shaded line marked 0 at `rail`, below all values.

    Every decade is labelled upwards; sideways, where labels are wide, at most SIDEWAYS, none beside the 0.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis, along = (axes.yaxis, axes.axhline) if which == "y" else (axes.xaxis, axes.axvline)
    span = axes.axhspan if which == "y" else axes.axvspan
    (axes.set_yscale if which == "y" else axes.set_xscale)("log")
    (axes.set_ylim if which == "y" else axes.set_xlim)(rail / 1.5, top * 1.6)
    decades = 10.0 ** np.arange(np.ceil(np.log10(rail * 1.01)), np.floor(np.log10(top * 1.6)) + 1)
    if which == "x":
        clear = decades[decades > 5 * rail]
        decades = clear[:: -max(-(-len(clear) // SIDEWAYS), 1)]
    axis.set_major_locator(FixedLocator([rail, *decades]))
    axis.set_minor_locator(NullLocator())

    def shown(value: float, _: int) -> str:
        if np.isclose(value, rail, atol=0):
            return "0"
        return f"{value:g}" if value > 5e-4 else f"$10^{{{np.log10(value):.0f}}}$"

    axis.set_major_formatter(FuncFormatter(shown))
    along(rail, color="#555555", linewidth=0.6)
    span(rail / 1.5, rail * 1.6, color="#000000", alpha=0.05, linewidth=0)


def save(figure: Figure, name: str, caption: str, directory: Path | None = None) -> list[Path]:
    """Save results/figures/<name>.png, .pdf and .txt, its caption (or under `directory`), and close the
    figure; the paths.
    """
    import matplotlib.pyplot as plt

    directory = directory or REPOSITORY / "results" / "figures"
    nothing = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Creator": None, "Producer": None}}
    paths = []
    for suffix, metadata in nothing.items():
        path = directory / f"{name}.{suffix}"
        with atomic_path(path) as temporary, plt.rc_context(STYLE):
            figure.savefig(temporary, format=suffix, metadata=metadata)
        paths.append(path)
    plt.close(figure)
    paths.append(directory / f"{name}.txt")
    atomic_write(paths[-1], caption)
    return paths
