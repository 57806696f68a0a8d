"""The figure of tailored training: where it gains over cross-entropy, where it harms, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from experiments.support.results import figures
from experiments.theory.reporting.claims_tailoring import gains, mean_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = (
    "plain", "anchor", "schedules", "open only", "mended", "never harm", "never harm, plug-in", "priced",
    "priced mended",
)  # fmt: skip
GREY = "#777777"
_CLIP = 20.0  # points; bars that are longer are cut


def tailoring(tables: dict[str, pd.DataFrame]) -> tuple[Figure, str]:
    """Columns: capacities, and what takes the harm away. Rows of each: methods, at every r_t and number of
    cases.
    """
    import matplotlib.pyplot as plt

    table, why = tables["tailoring"], tables["tailoring_why"]
    found = gains(table)
    capacities = list(dict.fromkeys(found["capacity"]))
    figure, axes = plt.subplots(
        1, len(capacities) + 1, figsize=(figures.PAGE[0], 4.4), squeeze=False,
        width_ratios=[1.0] * len(capacities) + [0.9],
    )  # fmt: skip
    cells = list(dict.fromkeys(zip(found["n"], found["r_t"], strict=True)))
    for letter, panel, capacity in zip("ABC", axes[0], capacities, strict=False):
        _panel(panel, found[found["capacity"] == capacity], cells)
        panel.set_title(f"{letter}  {capacity}", fontsize=8, loc="left")
        panel.set_yticks(range(len(SHOWN)), SHOWN if letter == "A" else [""] * len(SHOWN), fontsize=7)
        panel.set_xlabel("gain (points)")
    _causes(axes[0, -1], why)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=7)
    return figure, _caption(table, why)


def _panel(panel: Axes, part: pd.DataFrame, cells: list[tuple[int, float]]) -> None:
    shifts = np.linspace(-0.3, 0.3, len(cells))
    for index, ((n, r_t), shift) in enumerate(zip(cells, shifts, strict=True)):
        rows = part[(part["n"] == n) & (part["r_t"] == r_t)].set_index("method")
        rows = rows.reindex([name for name in SHOWN if name in rows.index])
        place = np.array([SHOWN.index(name) for name in rows.index]) + shift
        value, low, high = (rows[name].to_numpy() for name in ("value", "low", "high"))
        panel.errorbar(
            value, place, xerr=[value - low, high - value], linestyle="none", elinewidth=0.8, markersize=3.5,
            marker=figures.MARKERS[index], color=figures.PALETTE[index], label=f"n = {n:,}, $r_t$ = {r_t:g}",
        )  # fmt: skip
    panel.axvline(0, color=GREY, linewidth=0.8)
    panel.set_ylim(len(SHOWN) - 0.4, -0.6)
    low, high = panel.get_xlim()
    panel.set_xlim(max(low, -_CLIP), min(high, _CLIP))
    panel.grid(axis="x")


def _causes(panel: Axes, why: pd.DataFrame) -> None:
    labels = []
    for place, (key, part) in enumerate(why.groupby(["capacity", "temperature", "data"], sort=False)):
        capacity, width, data = key
        one = mean_of(100 * part["gain"].to_numpy())
        panel.errorbar(
            one["value"], place, xerr=[[one["value"] - one["low"]], [one["high"] - one["value"]]],
            marker=figures.MARKERS[0 if width == "wide" else 1], markersize=3.5, elinewidth=0.8,
            color="#000000" if width == "wide" else GREY,
        )  # fmt: skip
        labels.append(f"{capacity}, {width},\n{data}")
    panel.axvline(0, color=GREY, linewidth=0.8)
    panel.set_yticks(range(len(labels)), labels, fontsize=5.5)
    panel.yaxis.tick_right()
    panel.set_ylim(len(labels) - 0.4, -0.6)
    panel.set_title("D  causes", fontsize=8, loc="left")
    panel.set_xlabel("gain (points)")
    panel.grid(axis="x")


def _caption(table: pd.DataFrame, why: pd.DataFrame) -> str:
    best = table.groupby("r_t")["best_acceptance"].mean()
    possible = ", ".join(f"{100 * value:.1f} % at {r_t:g}" for r_t, value in best.items())
    return (
        "Tailored training on a law whose best acceptance is known "
        f"({possible}). A to C: true acceptance less that of as many further steps of cross-entropy, by "
        "classifiers of too little, just enough and ample capacity; mean and 95 % t interval over "
        f"{table['repeat'].nunique()} draws of the n training cases (priced: reward earned under the priced "
        "rule less that of cross-entropy under it). True acceptance is the largest among thresholds whose "
        "true risk is at most r_t. D: gain over the start of the approximate loss alone at "
        f"r_t = {why['r_t'].iloc[0]:g} with wide and with narrow temperatures, on {int(why['n'].iloc[0]):,} "
        "training cases as they are drawn, on all of them in every step (no noise of the minibatch), and on "
        f"fresh cases in every step (nothing to learn by heart); {why['repeat'].nunique()} draws."
    )
