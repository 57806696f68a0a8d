"""The figure of promises: how often what a guard accepts is riskier than r_t, by rule and way of use."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from experiments.support.results import figures
from experiments.theory.reporting.claims_promises import UNSTATED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HEIGHT = 1.05  # inches, of a row of panels
_APART = {"plug-in": 0.85, "conservative": 1.0, "certified": 1.18, "shrinkage": 1.4}
"""Factors on n, so that points are seen."""


def promises(tables: dict[str, pd.DataFrame]) -> tuple[Figure, str]:
    """Rows: ways of use; columns: r_t; lines: rules."""
    table = tables["promises"]
    figure, _ = grid(table, list(table["setting"].unique()), "setting", _HEIGHT)
    figure.supylabel("calibrations whose true risk is above $r_t$ (%)", fontsize=8)
    return figure, _caption(table)


def grid(
    table: pd.DataFrame, rows: list[str], by: str, height: float, more: int = 0
) -> tuple[Figure, np.ndarray]:
    """Panels of shares of broken calibrations: one row per value of a column, one column per r_t.

    Args:
        table: with columns ``by``, rule, r_t, n, and what is counted.
        rows: values of ``by``, in order.
        by: name of that column.
        height: inches, of a row.
        more: panels to the right of each row that the caller fills.

    Returns:
        The figure, and its panels (rows, levels + more).
    """
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    levels, sizes = (sorted(table[name].unique()) for name in ("r_t", "n"))
    figure, axes = plt.subplots(
        len(rows), len(levels) + more, figsize=(figures.PAGE[0], height * len(rows) + 0.8), squeeze=False,
        sharex=True, sharey=True,
    )  # fmt: skip
    for (row, use), (column, r_t) in product(enumerate(rows), enumerate(levels)):
        panel = axes[row, column]
        for rule, part in table[(table[by] == use) & (table["r_t"] == r_t)].groupby("rule", sort=False):
            _line(panel, part, str(rule))
        panel.axhline(100 * table["nominal"].max(), color="#777777", linewidth=0.8)
        if row == 0:
            panel.set_title(f"$r_t$ = {r_t:g}", fontsize=8)
        if column == 0:
            panel.set_ylabel(use.replace(", ", ",\n"))
    bottom = axes[-1, 0]
    bottom.set(xscale="log", ylim=(-8, 108), yticks=[0, 50, 100], xlim=(min(sizes) / 1.5, max(sizes) * 1.5))
    bottom.xaxis.set_major_locator(FixedLocator(sizes))
    bottom.xaxis.set_major_formatter(
        FixedFormatter([f"{n // 1000}k" if n % 1000 == 0 else f"{n}" for n in sizes])
    )
    bottom.xaxis.set_minor_locator(NullLocator())
    figure.supxlabel("internal test cases", fontsize=8)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure, axes


def style_of(rule: str) -> tuple[str, int]:
    """(colour, place) of a rule, the same in every figure."""
    index = list(_APART).index(rule)
    return figures.PALETTE[(1, 0, 2, 3)[index]], index


def _line(panel: Axes, part: pd.DataFrame, rule: str) -> None:
    """Shares with intervals; open markers where nothing is ever accepted."""
    colour, index = style_of(rule)
    x = part["n"] * _APART[rule]
    share, low, high = (100 * part[name] for name in ("share_broken", "broken_low", "broken_high"))
    panel.errorbar(x, share, [share - low, high - share], color=colour, linewidth=1.0, elinewidth=0.7)
    silent = (part["refused"] == part["repeats"]).to_numpy()
    for mask, face in ((~silent, colour), (silent, "white")):
        panel.plot(
            x[mask], share[mask], linestyle="none", marker=figures.MARKERS[index], color=colour,
            markerfacecolor=face, label=rule if face == colour else None,
        )  # fmt: skip


def _caption(table: pd.DataFrame) -> str:
    repeats = int(table["repeats"].min())
    stated = table[table["setting"] != UNSTATED]
    largest = {
        rule: f"{100 * part['share_broken'].max():.3g} %" for rule, part in stated.groupby("rule", sort=False)
    }
    ratio = stated[stated["rule"] == "conservative"]["mean_ratio"].max()
    return (
        "Which guarantee a guard gives, counted on laws whose risk is known: share of calibrations of which "
        f"the true risk is above r_t, of {repeats} draws of the internal test data per point (each rule on "
        "the same draws), with 95 % Clopper-Pearson intervals. Open markers: every one of the draws accepts "
        "nothing (the risk then counts as 0). A calibration that stops for want of cases (no unsafe one in "
        "the small group; too few to certify coverage) accepts nothing either. Grey: the "
        f"{100 * np.nanmax(table['nominal']):g} % that the certified rule allows; the others state no "
        "confidence. Rows: the README's law; a group of 5 % of the cases with a law of its own; the action "
        "selected among five candidates of which riskier ones score higher; accepted and covered; five "
        "periods whose prior odds are 0.5 to 1.5 of the mean, used at the highest, with no prior given (what "
        "the bound assumes is then wrong), the largest observed share, and the true interval. Largest share "
        f"but for the row without a prior: plug-in {largest.get('plug-in')}, conservative "
        f"{largest.get('conservative')}, certified {largest.get('certified')}; the mean true risk of the "
        f"conservative rule is at most {ratio:.2g} r_t there."
    )
