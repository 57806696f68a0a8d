"""What is printed and kept of production runs: a summary, tables and claims."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.production.records import ORACLE
from experiments.production.reporting.across import of_every_curve, over_range
from experiments.production.reporting.comparison import (
    DRAWS,
    OURS,
    USEFUL_SHARE,
    curves,
    strictest_useful,
    times_safer,
    times_safer_at,
    worst,
)
from experiments.production.reporting.measured import Measured, gather, read
from experiments.production.reporting.promises import SHOWN as PROMISE_LEVELS
from experiments.production.reporting.promises import per_product, promised, promises, worst_products
from experiments.support.results.publish import RESULTS, Claimant, write_tables
from experiments.support.results.ratios import mean_interval, ratio
from experiments.support.results.saved import of_directory

TRAINED_AT = 1e-3
SHOWN = (1e-4, 1e-3, 1e-2, 1e-1)
GAINS = tuple((m, radius) for m in ("acceptance", "calibration_acceptance") for radius in ("", "_xi_0"))
"""Metrics and ends of methods' names for which the gain of trained loss over cross-entropy is claimed."""


def summary(source: Path | pd.DataFrame, weekly: pd.DataFrame | None = None) -> str:
    """A run as a compact table: `summary(directory)` of a finished run, or `summary(frame, weekly)` of its
    tidy results and weekly table.

    Rows: every method over r_t at `SHOWN`, and every method's strictest useful point (marked *). Then the
    guard's promise for every product.
    """
    if isinstance(source, pd.DataFrame):
        measured = gather([{"run": "run", "seed": 0, "order": (), "weekly": weekly, "frame": source}])
    else:
        measured = gather([read(of_directory(Path(source)))])
    table = curves(measured)
    useful = {strictest_useful(measured, method) for method in measured.methods if method != ORACLE}
    kept = [
        at
        for at, r_t in table["r_t"].items()
        if at in useful or at == measured.oracle or np.isclose(r_t, SHOWN, rtol=1e-6).any()
    ]
    head = ("method", "r_t / knob", "viol. %", "interval 95 %", "n", "revenue", "made")
    lines = [head, *(_line(table.loc[at], at in useful) for at in kept)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    padded = [[cell.rjust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    text = [
        "  ".join([line[0].ljust(widths[0]), *rest[1:]]) for line, rest in zip(lines, padded, strict=True)
    ]
    text.insert(1, "-" * len(text[0]))
    hours = int(measured.hours.sum(axis=1).mean())
    text += ["", *_promise_lines(measured), ""]
    text.append(
        f"{hours:,} validation hours; n: product-hours produced; revenue: share of the oracle's;\n"
        "interval: Clopper-Pearson, hours taken as independent;\n"
        f"* the strictest point that earns at least {USEFUL_SHARE:.0%} of the oracle's revenue"
    )
    return "\n".join(text)


def _promise_lines(measured: Measured) -> list[str]:
    """The worst product of every method with a promise at `SHOWN`; nothing without the tidy results."""
    worst_of = worst_products(measured)
    lines = []
    for method in promised(measured):
        rows = worst_of[worst_of["method"] == method]
        found = [rows[np.isclose(rows["r_t"], r_t, rtol=1e-6)] for r_t in SHOWN]
        cells = ["-" if one.empty else f"{one['share'].iloc[0] / one['r_t'].iloc[0]:.2f}" for one in found]
        if any(cell != "-" for cell in cells):
            lines.append(f"{method:<28}" + "".join(f"{cell:>9}" for cell in cells))
    head = f"{'worst product / r_t':<28}" + "".join(f"{r_t:>9.3g}" for r_t in SHOWN)
    return [head, "-" * len(head), *lines] if lines else []


def _line(row: pd.Series, useful: bool) -> tuple[str, ...]:
    setting = f"r_t {row['r_t']:.3g}" if np.isfinite(row["r_t"]) else f"{row['knob']:.4g}"
    nothing = row["produced"] == 0
    return (
        row["method"] + "*" * useful,
        "-" if row["method"] == ORACLE else setting,
        "nothing made" if nothing else f"{100 * row['violation']:.3g}",
        "" if nothing else f"[{100 * row['violation_low']:.3g}, {100 * row['violation_high']:.3g}]",
        f"{row['produced']:,}",
        f"{row['revenue_share']:.1%}",
        "" if np.isnan(row["acceptance"]) else f"{row['acceptance']:.1%}",
    )


def write(measured: Measured, source: str, place: Path = RESULTS, draws: int = DRAWS) -> list[Path]:
    """tables/production_{times_safer,times_safer_at,times_safer_over,curves,per_product,promises}_<source>.csv;
    the paths. The last two need the runs' tables of products.
    """
    tables = {
        "times_safer": times_safer(measured, draws=draws),
        "times_safer_at": times_safer_at(measured, draws=draws),
        "times_safer_over": of_every_curve(measured, draws),
        "curves": curves(measured),
        "per_product": per_product(measured),
        "promises": promises(measured),
    }
    return write_tables({f"production_{name}_{source}": table for name, table in tables.items()}, place)


def record(
    measured: Measured,
    source: str,
    preset: str,
    ledger: Path | None = None,
    dirty: bool = False,
) -> list[str]:
    """Write the claims of production to the ledger; what could not be claimed, and why, as texts.

    `dirty`: from runs of a dirty tree too.
    """
    claim = Claimant(
        "production", measured.saved, "make figure-2", ledger, dirty,
        seeds=measured.seeds, preset=preset, data=source,
    )  # fmt: skip
    _times_safer(times_safer(measured), claim)
    _over_range(over_range(measured), times_safer_at(measured), claim)
    for method in promised(measured):
        suffix = "" if method == OURS else f"_{method}"
        _over_threshold(measured, method, f"violation_over_threshold_max{suffix}", claim)
    _promises(promises(measured), claim)
    for metric, suffix in GAINS:
        claim_gain(measured.metric, metric, suffix, claim)
    at = measured.at(OURS, TRAINED_AT)
    if at is None:
        claim.lacks("revenue_share_of_oracle", f"ours was not run at r_t = {TRAINED_AT:g}")
    else:
        earned, oracle = (measured.revenue[:, i].sum(axis=1) for i in (at, measured.oracle))
        claim("revenue_share_of_oracle", *ratio(earned, oracle), int(measured.hours.sum()))
    return claim.missing


def _times_safer(safer: pd.DataFrame, claim: Claimant) -> None:
    """Where ours had no violation, the lower end is the lesser of the bootstrap's and `limit`."""
    for row in safer.to_dict("records"):
        if np.isnan(row["ratio"]):
            claim.lacks(f"times_safer.{row['method']}", row["note"])
            continue
        low = row["low"] if np.isnan(row["limit"]) else min(row["low"], row["limit"])
        n = row["produced"] + row["ours_produced"]
        claim(f"times_safer.{row['method']}", row["ratio"], low, row["high"], n)


def _over_range(over: pd.DataFrame, at: pd.DataFrame, claim: Claimant) -> None:
    """The geometric mean of times safer over 50 to 90 % of the oracle's revenue, the least of them, and the
    one whose lower limit is largest.
    """
    for method, rows in at[at["ratio"].notna()].groupby("method", sort=False):
        best = rows.loc[rows["low"].idxmax()]
        claim(f"times_safer_best.{method}", best["ratio"], best["low"], best["high"], best["ours_produced"])
    for row in over.to_dict("records"):
        if not np.isfinite(row["mean"]):
            continue
        name = f"times_safer_over.{row['method']}"
        claim(name, row["mean"], row["mean_low"], row["mean_high"], int(row["shares"].split()[0]))
        claim(f"{name}.least", row["least"], np.nan, np.nan, int(row["shares"].split()[0]))


def _promises(table: pd.DataFrame, claim: Claimant) -> None:
    """Of every method with a promise: cells significantly above r_t, the largest, revenue."""
    for row in table.to_dict("records"):
        name = f"promise.{row['method']}"
        for key in ("worst_over", "significant_exact", "significant_weeks", "significant_holm"):
            claim(f"{name}.{key}", row[key], np.nan, np.nan, row["cells"])
        for level in PROMISE_LEVELS:
            if np.isfinite(row[f"revenue_{level:g}"]):
                place = f"{level:.0e}".replace("-0", "_")
                claim(f"{name}.revenue.{place}", row[f"revenue_{level:g}"], np.nan, np.nan, row["runs"])


def _over_threshold(measured: Measured, method: str, name: str, claim: Claimant) -> None:
    """The largest pooled violation / r_t over thresholds, with the interval of that maximum."""
    value, low, high, n = worst(measured, method)
    if n:
        claim(name, value, low, high, n)
    else:
        claim.lacks(name, f"{method} was not run or produced nothing at any threshold")


def claim_gain(
    rows: Callable[[str, str, float], pd.DataFrame], metric: str, suffix: str, claim: Claimant, form: str = ""
) -> None:
    """The trained binary classifier less its warm-up at r_t = 1e-3, paired over runs, t interval of them.

    `rows(metric, method, r_t)` has one row per run, in the same order; `form` is of the training ("_mended").
    """
    name = f"{metric}_gain_over_cross_entropy{form}{suffix}"
    ours, theirs = (
        rows(metric, method + suffix, TRAINED_AT) for method in ("binary", "binary_cross_entropy")
    )
    if ours.empty or theirs.empty:
        claim.lacks(name, f"{metric} at r_t = {TRAINED_AT:g} is not in every run's results")
        return
    gain = ours["value"].to_numpy(dtype=float) - theirs["value"].to_numpy(dtype=float)
    claim(name, *mean_interval(gain), int(ours["n"].sum()))
