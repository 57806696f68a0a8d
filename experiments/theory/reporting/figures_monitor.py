"""The figure of the monitor: labels until the alarm and share of streams with one, by risk and method."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from experiments.support.results import figures
from experiments.theory.reporting.claims_monitor import AS_CALLED, MATCHED, OURS, label_ratios, largest_share

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMES = {
    OURS: "betting (RiskMonitor)",
    MATCHED: "MAPIE, bound at $\\alpha$",
    AS_CALLED: "MAPIE, test_level = $\\alpha$",
}
_APART = {OURS: 1.0, MATCHED: 1.03, AS_CALLED: 1 / 1.03}  # factors on the risk, so that points are seen


def monitor(tables: dict[str, pd.DataFrame]) -> tuple[Figure, str]:
    """Upper row: median labels until the alarm; lower row: share of streams with an alarm; columns: r_t."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    table = tables["monitor"]
    levels, risks = sorted(table["r_t"].unique()), sorted(table["multiple"].unique())
    figure, axes = plt.subplots(
        2, len(levels), figsize=(figures.PAGE[0], 4.2), squeeze=False, sharex=True, sharey="row"
    )
    for column, r_t in enumerate(levels):
        upper, lower = axes[:, column]
        for index, (method, name) in enumerate(_NAMES.items()):
            part = table[(table["r_t"] == r_t) & (table["method"] == method)]
            if len(part):
                _labels(upper, part[part["multiple"] > 1.0], r_t, index, name)
                _shares(lower, part, index)
        lower.axhline(100 * table["alpha"].max(), color="#777777", linewidth=0.8)
        upper.set(title=f"$r_t$ = {r_t:g}", yscale="log")
        lower.set(xscale="log", ylim=(-5, 105))
        lower.xaxis.set_major_locator(FixedLocator(risks))
        lower.xaxis.set_major_formatter(FixedFormatter([f"{risk:g}" for risk in risks]))
        lower.xaxis.set_minor_locator(NullLocator())
    axes[0, 0].set_ylabel("labels until the alarm $\\times\\, r_t$")
    axes[1, 0].set_ylabel("streams with an alarm (%)")
    figure.supxlabel("risk of what is accepted $/\\, r_t$", fontsize=8)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure, _caption(tables)


def _labels(panel: Axes, part: pd.DataFrame, r_t: float, index: int, name: str) -> None:
    """Medians, with the middle half of the streams, in units of 1 / r_t; only where half have an alarm."""
    kept = part[np.isfinite(part["median"])]
    x, y = kept["multiple"] * list(_APART.values())[index], kept["median"] * r_t
    low = y - kept["quarter"] * r_t
    high = kept["three_quarters"].clip(upper=kept["labels"]) * r_t - y
    panel.errorbar(
        x, y, [low, high], color=figures.PALETTE[index], marker=figures.MARKERS[index], elinewidth=0.7,
        label=name,
    )  # fmt: skip


def _shares(panel: Axes, part: pd.DataFrame, index: int) -> None:
    x = part["multiple"] * list(_APART.values())[index]
    share, low, high = (100 * part[name] for name in ("share", "share_low", "share_high"))
    panel.errorbar(
        x, share, [(share - low).clip(lower=0), (high - share).clip(lower=0)], color=figures.PALETTE[index],
        marker=figures.MARKERS[index], elinewidth=0.7,
    )  # fmt: skip


def _caption(tables: dict[str, pd.DataFrame]) -> str:
    table = tables["monitor"]
    ours = table[table["method"] == OURS]
    null, other = ours[ours["multiple"] <= 1.0], ours[ours["multiple"] > 1.0]
    length = float((ours["labels"] * ours["r_t"]).iloc[0])
    alpha = float(table["alpha"].max())
    text = (
        f"A monitor of the risk of what is accepted, at alpha = {alpha:g}: streams of independent labels, "
        f"{length:g} / r_t of them, watched after every label. Above: median labels until the alarm, in "
        "units of 1 / r_t, with the middle half of the streams (cut at the stream's length); left out where "
        f"fewer than half of the streams have one. n = {int(other['streams'].min())} streams per point. "
        "Below: share of streams with an alarm, with 95 % Clopper-Pearson intervals; grey: alpha. At a risk "
        f"of r_t every alarm is false: {100 * largest_share(null, 'alarms')[0]:.2g} % at most "
        f"(n = {int(null['streams'].min())} streams). The lower limit on the risk was above it at some label "
        f"in at most {100 * largest_share(ours, 'limit_above')[0]:.2g} % of the streams of a point."
    )
    ratios, called = label_ratios(table, MATCHED), label_ratios(table, AS_CALLED)
    if not len(ratios) or not len(called):
        return text
    return (
        f"{text} MAPIE's RiskMonitoring on the same streams ({int(ratios['streams_theirs'].min())} per "
        "point) with the threshold r_t: as called with test_level = alpha, of which its one-sided bound gets "
        "a quarter, and with four times that, so that both bounds have level alpha. Median labels of the "
        f"latter over ours: {ratios['ratio'].min():.2g} to {ratios['ratio'].max():.2g} where both have one "
        f"(of the former: {called['ratio'].min():.2g} to {called['ratio'].max():.2g})."
    )
