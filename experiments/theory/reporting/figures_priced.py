"""The figure of priced risk: reward of gated and priced rules by number of candidates."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pandas as pd

from experiments.support.results import figures
from experiments.theory.reporting.claims_priced import LEAST, compared

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HEIGHT = 1.6
_LINES = {
    ("oracle", "hindsight"): ("#777777", "-", "oracle: true risk priced"),
    ("gated", "hindsight"): (figures.PALETTE[1], "-", "gated, in hindsight"),
    ("priced", "hindsight"): (figures.PALETTE[0], "-", "priced, in hindsight"),
    ("gated", "certified"): (figures.PALETTE[1], "--", "gated, certified"),
    ("priced", "certified"): (figures.PALETTE[0], "--", "priced, certified"),
    ("gated", "conservative"): (figures.PALETTE[1], ":", "gated, conservative"),
    ("priced", "conservative"): (figures.PALETTE[0], ":", "priced, conservative"),
}
"""Colour, style and name of a choice and rule; the plug-in rule is in the table."""


def priced(tables: dict[str, pd.DataFrame]) -> tuple[Figure, str]:
    """Rows: classifiers; columns: r_t; lines: choices and rules."""
    import matplotlib.pyplot as plt

    table = tables["priced"]
    classifiers, levels = list(table["classifier"].unique()), sorted(table["r_t"].unique())
    figure, axes = plt.subplots(
        len(classifiers), len(levels), figsize=(figures.PAGE[0], _HEIGHT * len(classifiers) + 1.0),
        squeeze=False, sharex=True, sharey="col",
    )  # fmt: skip
    for (row, classifier), (column, r_t) in product(enumerate(classifiers), enumerate(levels)):
        panel = axes[row, column]
        mine = table[(table["classifier"] == classifier) & (table["r_t"] == r_t)]
        for (choice, rule), (colour, style, name) in _LINES.items():
            part = mine[(mine["choice"] == choice) & (mine["rule"] == rule)].sort_values("candidates")
            _line(panel, part, colour, style, name)
        panel.set_xscale("log", base=2)
        if row == 0:
            panel.set_title(f"$r_t$ = {r_t:g}", fontsize=8)
        if column == 0:
            panel.set_ylabel(f"{classifier} classifier")
    sizes = sorted(table["candidates"].unique())
    axes[-1, 0].set_xticks(sizes, [str(size) for size in sizes])
    figure.supxlabel("candidates of a measurement", fontsize=8)
    figure.supylabel("mean reward (default action: 0)", fontsize=8)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=7)
    return figure, _caption(table)


def _line(panel: Axes, part: pd.DataFrame, colour: str, style: str, name: str) -> None:
    """Mean rewards; with intervals where they are means over draws."""
    reward = part["reward"]
    if part["reward_low"].notna().all():
        around = [reward - part["reward_low"], part["reward_high"] - reward]
        panel.errorbar(
            part["candidates"], reward, around, color=colour, linestyle=style, linewidth=1.0, elinewidth=0.6,
            label=name,
        )  # fmt: skip
    else:
        panel.plot(part["candidates"], reward, style, color=colour, linewidth=1.2, label=name)


def _caption(table: pd.DataFrame) -> str:
    calibrated = table[table["rule"] != "hindsight"]
    ratio = compared(table, "hindsight")
    ratio = ratio[ratio["gated"] >= LEAST]
    over = (ratio["priced"] / ratio["gated"]).groupby(ratio["classifier"], sort=False)
    found = "; ".join(
        f"{name} {part.median():.3g} ({part.min():.3g} to {part.max():.3g})" for name, part in over
    )
    return (
        "Risk priced instead of gated, on a law whose risks are known: mean reward by number of candidates, "
        "where riskier candidates are rewarded more (correlation .7) and the default action earns 0. Rows: a "
        "classifier whose margin is the true log odds, one with noise, and one of which the order is right "
        "and the logistic scale wrong. Solid: the best knob in hindsight with a true risk of at most r_t "
        "(thresholds of the gate; price and level of the price; the oracle prices the true risk). Dashed and "
        "dotted: calibrated by the guard, mean and 95 % t-interval over "
        f"{int(calibrated['repeats'].min())} draws of {int(table['n'].min()):,} measurements. Priced over "
        f"gated in hindsight, median and extremes over panels' points: {found}."
    )
