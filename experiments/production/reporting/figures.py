"""Figure 2: violation against revenue (A) and against r_t (B), drawn from saved results only.

Points pool the runs; where no violation was seen, the point lies on the line marked 0 and its bar ends at the
one-sided 95 % Clopper-Pearson upper limit. Settings that produce nothing have no violation share and no
point; captions name them. Names stand beside their lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from experiments.production.records import CHOSEN, ORACLE
from experiments.production.reporting import looks
from experiments.production.reporting.comparison import OURS, curves, worst
from experiments.production.reporting.measured import Measured, gather, read
from experiments.production.reporting.promises import promised, worst_products
from experiments.production.reporting.report import summary
from experiments.support.results import figures
from experiments.support.results.largest import sentence
from experiments.support.results.saved import of_directory
from safeframe.certificates.cases import clopper_pearson_upper

__all__ = ["caption", "draw", "figure_2", "panels", "summary"]

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RANGE = (0.4, 1.0)
"""Revenue, as a share of the oracle's, that panel A shows."""
PROMISED = (OURS, "ours_per_product_static", "ours_pooled_weekly", "binary", "binary_xi_0")
"""Methods with a promise that panel B shows."""


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
    """A: the paper's baselines and strong ones, each beside ours. B: all products together, the worst one."""
    import matplotlib.pyplot as plt

    table = limits(measured)
    figure, ((paper, strong), (pooled, product)) = plt.subplots(2, 2, figsize=(figures.PAGE[0], 5.6))
    rail = _rail(table)
    for axes, names, title in (
        (paper, looks.papers(measured.methods), "A  the paper's baselines"),
        (strong, looks.strong(measured.methods), "strong baselines"),
    ):
        against_revenue(axes, table, [*names, OURS], rail)
        axes.set_title(title, loc="left", fontweight="bold")
    promised = looks.group(measured.methods, PROMISED)
    _against_r_t(pooled, table, promised, rail)
    pooled.set_title("B  all products together", loc="left", fontweight="bold")
    own = worst_products(measured)
    own = own.assign(violation=own["share"], zero=own["share"] == 0)
    _against_r_t(product, own, looks.group(list(own["method"]), promised), rail, bars=False)
    product.set_title("the worst product and seed", loc="left", fontweight="bold")
    return figure


def against_revenue(
    axes: Axes, table: pd.DataFrame, methods: Sequence[str], rail: float, chosen: bool = True
) -> None:
    """Violation against revenue, every method over its own knob; crosses: knobs `chosen` on the calibration
    quarter.
    """
    labels = []
    for method in methods:
        rows = table[table["method"] == method].sort_values(["r_t", "knob"], ascending=[True, False])
        if not len(rows):
            continue
        _curve(axes, rows, rail)
        user = table[(table["method"] == method + CHOSEN) & chosen]
        look = looks.look(method)
        height = np.where(user["zero"], rail, 100 * user["violation"])
        axes.scatter(
            user["revenue_share"], height, marker="x", s=14, linewidth=0.8, color=look["color"], zorder=3
        )
        labels.append(_label(rows, look, rail, method == OURS))
    axes.set_xlim(*RANGE)
    shown = table[table["revenue_share"].between(*RANGE)]
    figures.log_axis_with_zero(axes, rail, 100 * float(shown["violation"].max() if len(shown) else 1.0))
    axes.set_xlabel("revenue (share of the oracle's)")
    axes.set_ylabel("violations among what was produced (%)")
    looks.label_beside(axes, labels)


def _label(rows: pd.DataFrame, look: dict, rail: float, bold: bool) -> looks.Label:
    """Beside the last point of a line that is in sight."""
    seen = rows[rows["revenue_share"].between(*RANGE)]
    last = (seen if len(seen) else rows).sort_values("revenue_share").iloc[-1]
    height = rail if last["zero"] else 100 * last["violation"]
    return looks.Label(float(last["revenue_share"]), float(height), look["label"], look["color"], bold)


def curves_figure(measured: Measured, source: str, directory: Path | None = None) -> list[Path]:
    """figure_2_curves_<source>: ours under every constraint, choice and calibration. A: against revenue,
    beside the same score behind a swept knob and the true probability. B: the worst product and seed.
    """
    import matplotlib.pyplot as plt

    own = [m for m in looks.NAMES if m.startswith(f"{OURS}_")]
    shown = looks.group(measured.methods, [*own, "truth"])
    if not any(method in measured.methods for method in own):
        return []
    with figures.style():
        table = limits(measured)
        figure, (left, right) = plt.subplots(1, 2, figsize=(figures.PAGE[0], 3.2))
        rail = _rail(table)
        against_revenue(left, table, shown, rail, chosen=False)
        left.set_title("A", loc="left", fontweight="bold")
        worst_of = worst_products(measured)
        worst_of = worst_of.assign(violation=worst_of["share"], zero=worst_of["share"] == 0)
        _against_r_t(right, worst_of, looks.group(promised(measured), own), rail, bars=False)
        right.set_title("B  the worst product and seed", loc="left", fontweight="bold")
        text = (
            f"Our score under every constraint, choice and calibration, production planning, data: {source}; "
            f"{len(measured.runs)} runs, seeds {', '.join(map(str, measured.seeds))}. A: violations, bars as "
            "in figure 2; dashed: static thresholds. Our score, swept, and the true probability (synthetic "
            "demand) have a knob instead of a promise. B: of all products and seeds the one with the largest "
            "share; dotted, r_t. On the line marked 0: no violation seen.\n"
        )
        return figures.save(figure, f"figure_2_curves_{source}", text, directory)


def _against_r_t(
    axes: Axes, table: pd.DataFrame, methods: Sequence[str], rail: float, bars: bool = True
) -> None:
    labels = []
    for index, method in enumerate(methods):
        rows = table[table["method"] == method].sort_values("r_t")
        shift = 1.05 ** (index - (len(methods) - 1) / 2)
        across, look = rows["r_t"].to_numpy(float) * shift, looks.look(method)
        height = np.where(rows["zero"], rail, 100 * rows["violation"])
        axes.plot(across, height, **look | {"marker": look["marker"] or "."}, markersize=3, zorder=3)
        if bars:
            _bars(axes, rows, across, rail, look["color"])
        labels.append(looks.Label(across[-1], height[-1], look["label"], look["color"], method == OURS))
    r_t = table.loc[table["method"].isin(methods), "r_t"]
    ends = np.array([(r_t.min() if len(r_t) else 1e-4) / 1.6, 1.6])
    axes.plot(ends, 100 * ends, color="#555555", linestyle=":", linewidth=1.0)
    axes.annotate("$r_t$", (2e-2, 2.0), (-8, 5), textcoords="offset points", fontsize=7, color="#555555")
    axes.set_xscale("log")
    axes.set_xlim(*ends)
    figures.log_axis_with_zero(axes, rail, 100.0)
    axes.set_xlabel("threshold $r_t$")
    axes.set_ylabel("violations among what was produced (%)")
    looks.label_beside(axes, labels)


def _rail(table: pd.DataFrame) -> float:
    """Height, in per cent, of the line that stands for zero: below everything that is drawn."""
    seen = table.loc[~table["zero"], "violation"]
    lowest = min([*seen, *(table.loc[table["zero"], "limit"])], default=1e-4)
    return 100 * 10 ** (np.floor(np.log10(lowest)) - 0.7)


def _curve(axes: Axes, rows: pd.DataFrame, rail: float) -> None:
    style = looks.look(rows["method"].iloc[0])
    across = rows["revenue_share"].to_numpy(dtype=float)
    height = np.where(rows["zero"], rail, 100 * rows["violation"])
    axes.plot(across, height, **style, zorder=4 if style["linewidth"] > 2 else 3, markersize=3.5)
    _bars(axes, rows, across, rail, style["color"])


def _bars(axes: Axes, rows: pd.DataFrame, across: np.ndarray, rail: float, colour: str) -> None:
    zero = rows["zero"].to_numpy()
    low = np.where(zero, rail, np.maximum(100 * rows["violation_low"].to_numpy(), rail))
    high = 100 * np.where(zero, rows["limit"], rows["violation_high"])
    dense = len(rows) > 15
    style = {"color": colour, "linewidth": 0.5, "alpha": 0.2 if dense else 0.5, "zorder": 2}
    axes.vlines(across, low, high, **style)
    axes.scatter(across[zero], high[zero], marker="_", s=14, **style)


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
        "A: ours over r_t, every baseline over its own knob, which is hindsight; crosses: the knob chosen "
        "for an r_t on the calibration quarter. Revenue is a share of what a plan that knows the demand and "
        "never violates earns (violating can earn more).",
        "B: dotted line, violation = r_t; right, of all products and seeds the one with the largest share; "
        "points are shifted sideways by a few per cent so that they do not hide each other.",
        sentence("violation share of ours", worst(measured), "runs and weeks"),
        f"Not shown, nothing produced: {'; '.join(nothing)}." if nothing else "",
        *(f"Note: {note}." for note in measured.notes),
    ]
    return " ".join(part for part in parts if part) + "\n"


def figure_2(
    measured: Measured, source: str, name: str | None = None, directory: Path | None = None
) -> list[Path]:
    """Draw all panels, write the caption beside them as text; paths of png, pdf and txt."""
    with figures.style():
        name = name or f"figure_2_{source}"
        return figures.save(panels(measured), name, caption(measured, source), directory)


def draw(directory: Path, source: str = "this run") -> list[Path]:
    """All panels of one run, from its tables, saved beside it as figure_2a_2b."""
    measured = gather([read(of_directory(directory, finished=False))])
    return figure_2(measured, source, "figure_2a_2b", Path(directory))
