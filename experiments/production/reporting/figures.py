"""Figures 2A (violation against revenue) and 2B (violation against r_t).

Drawn from saved results only. Points pool the runs; where no violation was seen, the point lies on the line
marked 0 and its bar ends at the one-sided 95 % Clopper-Pearson upper limit. Settings that produce nothing
have no violation share and no point; captions name them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from experiments.production.records import ORACLE
from experiments.production.reporting.comparison import curves, worst
from experiments.production.reporting.measured import Measured, gather, read
from experiments.production.reporting.report import summary
from experiments.support.results import figures
from experiments.support.results.largest import sentence
from experiments.support.results.saved import of_directory
from safeframe.certificates.cases import clopper_pearson_upper

__all__ = ["draw", "summary", "figure_2", "panels", "caption"]

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES = {
    "ours": "ours",
    "ours_xi_0": "ours, $\\xi$ = 0",
    "ours_certified": "ours, certified",
    "cross_entropy": "cross-entropy",
    "cross_entropy_xi_0": "cross-entropy, $\\xi$ = 0",
    "mean_variance": "MeanVar",
    "two_stage": "TwoStage",
    "end_to_end": "EndToEnd",
}
LOOKS: dict[str, dict[str, Any]] = {
    "ours": {"color": "#0072B2", "marker": "o"},
    "ours_xi_0": {"color": "#56B4E9", "marker": "o", "linestyle": "--", "markerfacecolor": "white"},
    "ours_certified": {"color": "#56B4E9", "marker": "P", "linestyle": ":"},
    "cross_entropy": {"color": "#D55E00", "marker": "s"},
    "cross_entropy_xi_0": {
        "color": "#E69F00",
        "marker": "s",
        "linestyle": "--",
        "markerfacecolor": "white",
    },
    "mean_variance": {"color": "#009E73", "marker": "^"},
    "two_stage": {"color": "#CC79A7", "marker": "D"},
    "end_to_end": {"color": "#000000", "marker": "v"},
}


def look(method: str) -> dict[str, Any]:
    """Line, marker, colour and label of a method; a plain grey for one that is not known."""
    return {"label": NAMES.get(method, method), **LOOKS.get(method, {"color": "#777777", "marker": "X"})}


def limits(measured: Measured) -> pd.DataFrame:
    """`curves` with `zero` and `limit`, the one-sided 95 % upper limit where no violation was seen; settings
    that produced nothing are left out.
    """
    table = curves(measured)
    table = table[(table["produced"] > 0) & (table["method"] != ORACLE)].copy()
    once = (table["produced"] / measured.shared).clip(lower=1).astype(int)
    table["zero"] = table["violations"] == 0
    table["limit"] = [clopper_pearson_upper(0, n, 0.05) for n in once]
    return table


def silent(measured: Measured) -> list[str]:
    """Settings that produced nothing in any run, as text, one for each method."""
    table = curves(measured)
    table = table[(table["produced"] == 0) & (table["method"] != ORACLE)]
    found = []
    for method, rows in table.groupby("method", sort=False):
        name = "r_t =" if rows["r_t"].notna().all() else "knob"
        values = np.sort(rows["r_t"].fillna(rows["knob"]).to_numpy())
        ends = f"{values[0]:.3g}" + (f" to {values[-1]:.3g}" if len(values) > 1 else "")
        found.append(f"{method} at {name} {ends}")
    return found


def panels(measured: Measured) -> Figure:
    """Both panels side by side, one legend below."""
    import matplotlib.pyplot as plt

    table = limits(measured)
    figure, (left, right) = plt.subplots(1, 2, figsize=(figures.PAGE[0], 3.5))
    rail = _rail(table)
    for method in measured.methods:
        rows = table[table["method"] == method]
        if len(rows):
            _curve(left, rows, "revenue_share", rail)
    left.axvline(1.0, color="#555555", linestyle=":", linewidth=1.0)
    quiet = {"textcoords": "offset points", "ha": "right", "fontsize": 7, "color": "#555555"}
    place = ("data", "axes fraction")
    left.annotate("oracle", (1.0, 0.3), (-2, 0), place, va="center", rotation=90, **quiet)
    left.set_xlabel("revenue (share of the oracle's)")
    shares = table["revenue_share"]
    left.set_xlim(min(0.0, float(shares.min()) * 1.05), max(1.05, float(shares.max()) * 1.04))
    over = [method for method in measured.methods if (table["method"] == method).any()]
    over = [m for m in over if np.isfinite(table.loc[table["method"] == m, "r_t"]).any()]
    for index, method in enumerate(over):
        shift = 1.06 ** (index - (len(over) - 1) / 2)
        _curve(right, table[table["method"] == method], "r_t", rail, shift)
    thresholds = np.array([table["r_t"].min() / 1.6, 1.6])
    right.plot(thresholds, 100 * thresholds, color="#555555", linestyle=":", linewidth=1.0)
    right.annotate("y = x", (3e-3, 0.3), xytext=(-5, 6), **quiet)
    right.set_xscale("log")
    right.set_xlim(*thresholds)
    right.set_xlabel("threshold $r_t$")
    for axes, letter in ((left, "A"), (right, "B")):
        figures.log_axis_with_zero(
            axes, rail, 100 * float(max(table["violation"].max(), thresholds[-1] if axes is right else 0))
        )
        axes.set_ylabel("violations among what was produced (%)")
        axes.set_title(letter, loc="left", fontweight="bold")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def _rail(table: pd.DataFrame) -> float:
    """Height, in per cent, of the line that stands for zero: below everything that is drawn."""
    seen = table.loc[~table["zero"], "violation"]
    lowest = min([*seen, *(table.loc[table["zero"], "limit"])], default=1e-4)
    return 100 * 10 ** (np.floor(np.log10(lowest)) - 0.7)


def _curve(axes: Axes, rows: pd.DataFrame, x: str, rail: float, shift: float = 1.0) -> None:
    rows = rows.sort_values(["r_t", "knob"], ascending=[True, False])
    style = look(rows["method"].iloc[0])
    zero = rows["zero"].to_numpy()
    across = rows[x].to_numpy(dtype=float) * shift
    height = np.where(zero, rail, 100 * rows["violation"].to_numpy())
    dense = len(rows) > 15
    axes.plot(across, height, **style, zorder=3, markersize=1.8 if dense else 3.5)
    low = np.where(zero, rail, np.maximum(100 * rows["violation_low"].to_numpy(), rail))
    high = 100 * np.where(zero, rows["limit"], rows["violation_high"])
    bars = {
        "color": style["color"],
        "linewidth": 0.6 if dense else 0.8,
        "alpha": 0.3 if dense else 0.6,
        "zorder": 2,
    }
    axes.vlines(across, low, high, **bars)
    axes.scatter(across[zero], high[zero], marker="_", s=18, **bars)
    if x == "revenue_share" and rows["revenue_share_low"].notna().all():
        axes.hlines(height, rows["revenue_share_low"], rows["revenue_share_high"], **bars)


def caption(measured: Measured, source: str) -> str:
    """What the figure shows, with n, seeds and which interval."""
    runs, hours = len(measured.runs), int(measured.hours.sum(axis=1).mean())
    orders = len({tuple(order) for order in measured.runs["order"]})
    produced = limits(measured)["produced"]
    interval = (
        "t interval (95 %) over runs, lower ends below the axis cut"
        if runs > 1
        else "Clopper-Pearson (95 %), hours taken as independent"
    )
    shared = (
        "The runs validate on the same hours: their interval is over training, not over another year. "
        if runs > 1 and measured.shared > 1
        else ""
    )
    nothing = silent(measured)
    several = "s" if runs > 1 else ""
    parts = [
        f"Production planning, data: {source}. Points pool {runs} run{several} (seeds: "
        f"{', '.join(map(str, measured.seeds))}; orders of the quarters: {orders}), {hours:,} validation "
        f"hours each; n = {produced.min():,} to {produced.max():,} product-hours produced per point.",
        f"Bars: {interval}. {shared}".strip(),
        "On the line marked 0: no violation seen; the bar ends at the one-sided 95 % Clopper-Pearson upper "
        "limit (hours that runs share count once).",
        "A: every method over its own knob; revenue as a share of what a plan that knows the demand and "
        "never violates earns (violating can earn more).",
        "B: dotted line, violation = r_t; points are shifted sideways by a few per cent so that they do not "
        "hide each other.",
        sentence("violation share of ours", worst(measured), "runs and weeks"),
        f"Not shown, nothing produced: {'; '.join(nothing)}." if nothing else "",
        *(f"Note: {note}." for note in measured.notes),
    ]
    return " ".join(part for part in parts if part) + "\n"


def figure_2(
    measured: Measured, source: str, name: str | None = None, directory: Path | None = None
) -> list[Path]:
    """Draw both panels, write the caption beside them as text; paths of png, pdf and txt."""
    with figures.style():
        name = name or f"figure_2_{source}"
        return figures.save(panels(measured), name, caption(measured, source), directory)


def draw(directory: Path, source: str = "this run") -> list[Path]:
    """Both panels of one run, from its weekly.parquet, saved beside it as figure_2a_2b."""
    measured = gather([read(of_directory(directory, finished=False))])
    return figure_2(measured, source, "figure_2a_2b", Path(directory))
