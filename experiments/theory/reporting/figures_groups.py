"""Figures of the shrinkage bound and of constraints over groups: broken promises, and what is accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from experiments.theory.reporting.claims_groups import ASSUMED
from experiments.theory.reporting.figures_promises import grid, style_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STATES = {
    "right": "right",
    "low": "3 times\ntoo low",
    "high": "3 times\ntoo high",
    "fitted": "fitted",
    "steep": "too steep",
    "floor": "floor",
    "drift, prior none": "drift,\nno prior",
    "drift, prior upper end": "drift,\nupper end",
    "weeks": "weeks",
}
_CONSTRAINTS = {"per_group": "per group", "pooled": "pooled", "worst_group": "worst group"}
_SHOWN = ("conservative", "shrinkage")


def shrinkage(tables: dict[str, pd.DataFrame]) -> tuple[Figure, str]:
    """Rows: states of the model; columns: r_t; solid: broken, dashed: accepted."""
    table = tables["shrinkage"].replace({"setting": _STATES})
    rows = list(table["setting"].unique())
    figure, axes = grid(table, rows, "setting", 0.82)
    for row, state in enumerate(rows):
        for column, r_t in enumerate(sorted(table["r_t"].unique())):
            part = table[(table["setting"] == state) & (table["r_t"] == r_t)]
            _accepted(axes[row, column], part, _SHOWN)
            best = part.drop_duplicates("n")
            axes[row, column].plot(best["n"], 100 * best["best"], ":", color="black", linewidth=0.8)
    figure.supylabel("calibrations above $r_t$, solid; cases accepted, dashed (%)", fontsize=8)
    raw = tables["shrinkage"]
    mine = raw[raw["rule"] == "shrinkage"]
    kept, other = mine[mine["setting"].isin(ASSUMED)], mine[~mine["setting"].isin(ASSUMED)]
    worst = other.loc[other["mean_ratio"].idxmax()]
    return figure, (
        "The shrinkage bound on the README's law beside the other rules, all on the same draws. Solid: "
        f"share of calibrations of which the true risk is above r_t, of {int(raw['repeats'].min())} draws "
        "per point, with 95 % Clopper-Pearson intervals; open markers: every draw accepts nothing. "
        "Dashed: share of cases that the conservative rule (blue) and the shrinkage bound accept on "
        f"average; dotted: the most that is possible within r_t. Grey: the {100 * raw['nominal'].max():g} "
        "% that the certified rule allows; the others state no confidence. Rows: the model's p̂ is the "
        "true risk; its odds are three times too low, or too high; it is a logistic fit to a third of the "
        "cases; its log odds are 1.3 times as far from those of .05 as they should be; every case is "
        "unsafe with probability .002 that the model does not know of; used where the prior odds are 1.4 "
        "times those of the data, with no prior given and with the true upper end; cases that depend on "
        "one another within weeks of 25. Where its assumptions hold (all rows but too steep, floor and "
        "drift without a prior) the shrinkage bound was broken in at most "
        f"{100 * kept['share_broken'].max():.3g} % of draws, with a mean true risk of at most "
        f"{kept['mean_ratio'].max():.2g} r_t; elsewhere in up to {100 * other['share_broken'].max():.3g} "
        f"%, with {worst['mean_ratio']:.3g} r_t ({worst['setting']}, r_t = {worst['r_t']:g}, "
        f"{int(worst['n'])} cases)."
    )


def group_constraints(tables: dict[str, pd.DataFrame]) -> tuple[Figure, str]:
    """Rows: kinds of groups and constraints; left columns: broken, right ones: accepted."""
    raw = tables["group_constraints"]
    label = raw["kind"] + ",\n" + raw["constraint"].replace(_CONSTRAINTS).str.replace(" ", "\n")
    table = raw.assign(row=label)
    rows, levels = list(table["row"].unique()), sorted(table["r_t"].unique())
    figure, axes = grid(table, rows, "row", 0.95, more=len(levels))
    for row, name in enumerate(rows):
        for column, r_t in enumerate(levels):
            panel = axes[row, len(levels) + column]
            part = table[(table["row"] == name) & (table["r_t"] == r_t)]
            _accepted(panel, part, list(part["rule"].unique()))
            if row == 0:
                panel.set_title(f"accepted, $r_t$ = {r_t:g}", fontsize=8)
                axes[row, column].set_title(f"above, $r_t$ = {r_t:g}", fontsize=8)
    figure.supylabel("calibrations that break their promise; cases accepted (%)", fontsize=8)
    pooled = raw[(raw["constraint"] == "pooled") & (raw["rule"] == "conservative")]
    worst = raw[(raw["constraint"] == "worst_group") & (raw["rule"] == "conservative")]
    return figure, (
        "One constraint over several groups whose laws are known. Left: share of calibrations that break "
        "what they promise (per group and worst group: the true risk of some group is above r_t; pooled: "
        f"that of all that is accepted), of {int(raw['repeats'].min())} draws per point, with 95 % "
        "Clopper-Pearson intervals; open markers: every draw accepts nothing; grey: the "
        f"{100 * raw['nominal'].max():g} % that the certified rule allows, the others state no confidence. "
        "Right: share of cases accepted on average. Kinds: 60, 35 and 5 % of the cases, the smaller the "
        "noisier (unequal); a large group and one of two cases (two); 90 % and 10 % that are hardly ever "
        "unsafe, mostly without an unsafe case (none). A calibration that stops because a group lacks an "
        "unsafe case accepts nothing. By the conservative rule pooled calibrations had a mean true risk "
        f"of at most {pooled['pooled_ratio'].max():.2g} r_t over all, and of up to "
        f"{pooled['worst_ratio'].max():.2g} r_t in the worst group, which they do not promise; those for "
        f"the worst group at most {worst['worst_ratio'].max():.2g} r_t there."
    )


def _accepted(panel: Axes, part: pd.DataFrame, rules: list[str] | tuple[str, ...]) -> None:
    """Acceptance by rule, dashed."""
    for rule in rules:
        mine = part[part["rule"] == rule]
        panel.plot(mine["n"], 100 * mine["acceptance"], "--", color=style_of(rule)[0], linewidth=1.0)
