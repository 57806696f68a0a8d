"""Two panels over r_t: what was promised, beside the line y = r_t, and how much is let through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from experiments.llm.reporting.figures import GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def against_threshold(figure: Figure, left: Axes, right: Axes, smallest: float, columns: int) -> None:
    """Finish panels A and B: y = r_t on the left, from the smallest r_t on, axes, letters, a legend below.

    Args:
        figure: of both panels.
        left: with shares of what is unsafe, drawn with labels.
        right: with shares of what is let through.
        smallest: r_t.
        columns: of the legend.
    """
    ends = np.geomspace(smallest, 1.0, 100)
    left.plot(ends, ends, color=GREY, linestyle=":", linewidth=1.0)
    left.annotate("$y = r_t$", (1.0, 1.0), xytext=(-16, -2), textcoords="offset points", ha="right", va="top",
                  fontsize=7, color=GREY)  # fmt: skip
    for axes, letter in ((left, "A"), (right, "B")):
        axes.set_xscale("log")
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("threshold $r_t$")
        axes.set_title(letter, loc="left", fontweight="bold")
    labels = dict(zip(*reversed(left.get_legend_handles_labels()), strict=True))
    figure.legend(labels.values(), labels.keys(), loc="outside lower center", ncols=columns)
