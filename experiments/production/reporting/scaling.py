"""Scaling in internal test cases: revenue and violation of ours at one threshold against n_t."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from experiments.production.reporting.looks import look
from experiments.production.reporting.measured import Measured
from experiments.production.reporting.report import TRAINED_AT
from experiments.support.results import figures
from experiments.support.results.ratios import ratio
from safeframe.scaling_law import fit_log10


def line(n_t: np.ndarray, value: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Least squares on log10 n_t: fitted value and half width of its 95 % t interval at `at`, slope and its
    half width. NaN widths for fewer than three points.
    """
    fit = fit_log10(n_t, value)
    fitted, half = fit.at(at)
    return fitted, half, fit.slope, fit.high - fit.slope


def scaling_rows(by_n_t: dict[int, Measured], r_t: float = TRAINED_AT, method: str = "ours") -> pd.DataFrame:
    """Per run at r_t: n_t, seed, share of the oracle's revenue, acceptance, violations, product-hours."""
    rows = []
    for n_t, measured in by_n_t.items():
        at = measured.at(method, r_t)
        if at is None:
            continue
        sums = {
            name: getattr(measured, name)[:, at].sum(axis=1) for name in ("produced", "violations", "revenue")
        }
        oracle = measured.revenue[:, measured.oracle].sum(axis=1)
        accepted = measured.metric("acceptance", method, r_t)
        for run, seed in enumerate(measured.runs["seed"]):
            row = {"n_t": n_t, "seed": int(seed), "revenue_share": sums["revenue"][run] / oracle[run]}
            row |= {"acceptance": accepted["value"].iloc[run] if len(accepted) else np.nan}
            rows.append(row | {name: int(sums[name][run]) for name in ("produced", "violations")})
    return pd.DataFrame(rows)


def figure_2_scaling(
    by_n_t: dict[int, Measured], source: str, directory: Path | None = None, r_t: float = TRAINED_AT
) -> list[Path]:
    """Revenue and violation of ours at r_t against n_t; empty list if fewer than two n_t were run."""
    import matplotlib.pyplot as plt

    rows = scaling_rows(by_n_t, r_t)
    if rows.empty or rows["n_t"].nunique() < 2:
        return []
    with figures.style():
        figure, (left, right) = plt.subplots(1, 2, figsize=figures.PAGE)
        style = {"color": look("ours")["color"]}
        grid = np.geomspace(rows["n_t"].min(), rows["n_t"].max(), 100)
        fitted, half, slope, width = line(rows["n_t"].to_numpy(), rows["revenue_share"].to_numpy(), grid)
        left.scatter(rows["n_t"], rows["revenue_share"], s=12, alpha=0.7, linewidth=0, **style)
        left.plot(grid, fitted, **style)
        left.fill_between(grid, fitted - half, fitted + half, alpha=0.15, linewidth=0, **style)
        left.set_ylabel("revenue (share of the oracle's)")
        given = f" ± {width:.2g}" if np.isfinite(width) else ""
        left.set_title(f"A   slope {slope:.2g}{given} per decade", loc="left")
        groups = [group for _, group in rows.groupby("n_t")]
        at = [group["n_t"].iloc[0] for group in groups]
        pooled = [100 * ratio(g["violations"].to_numpy(), g["produced"].to_numpy())[0] for g in groups]
        right.scatter(
            rows["n_t"], 100 * rows["violations"] / rows["produced"], s=12, alpha=0.5, linewidth=0, **style
        )
        right.plot(at, pooled, marker="o", **style)
        right.axhline(100 * r_t, color="#555555", linestyle=":", linewidth=1.0)
        right.annotate("$r_t$", (1.0, 100 * r_t), xycoords=("axes fraction", "data"), xytext=(-3, 3),
                       textcoords="offset points", ha="right", fontsize=7, color="#555555")  # fmt: skip
        right.set_ylim(bottom=0)
        right.set_ylabel("violations among what was produced (%)")
        right.set_title("B", loc="left")
        for axes in (left, right):
            axes.set_xscale("log")
            axes.set_xlabel("internal test cases $n_t$")
        caption = _caption(rows, source, r_t, f"{slope:.4g}{given}")
        return figures.save(figure, f"figure_2_scaling_{source}", caption, directory)


def _caption(rows: pd.DataFrame, source: str, r_t: float, slope: str) -> str:
    seeds, at = sorted(rows["seed"].unique()), sorted(rows["n_t"].unique())
    return (
        f"Production planning, data: {source}; ours at r_t = {r_t:g}. n = {len(rows)} runs, seeds "
        f"{', '.join(map(str, seeds))}, n_t = {', '.join(map(str, at))}. Small points: runs. A: "
        f"least-squares line of revenue on log10 n_t, slope {slope} per decade; band: 95 % t "
        "interval of the line, runs taken as independent. B: line, pooled over runs; dotted, r_t. Runs that "
        "produced nothing have no point in B.\n"
    )
