"""What is printed and kept of production runs: a summary, tables, claims and the manifests behind them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from experiments.production.reporting.comparison import (
    DRAWS,
    OURS,
    USEFUL_SHARE,
    curves,
    strictest_useful,
    times_safer,
    times_safer_at,
)
from experiments.production.reporting.measured import ORACLE, Measured, gather, read
from experiments.support.files import REPOSITORY, atomic_path, write_json
from experiments.support.results import claims
from experiments.support.results.ratios import ratio, share_interval

TRAINED_AT = 1e-3
SHOWN = (1e-4, 1e-3, 1e-2, 1e-1)
RESULTS = REPOSITORY / "results"


def summary(source: Path | pd.DataFrame, weekly: pd.DataFrame | None = None) -> str:
    """A run as a compact table: `summary(directory)` of a finished run, or `summary(frame, weekly)` of its
    tidy results and weekly table.

    Rows: every method over r_t at `SHOWN`, and every method's strictest useful point (marked *).
    """
    if isinstance(source, pd.DataFrame):
        measured = gather([{"run": "run", "seed": 0, "order": (), "weekly": weekly, "frame": source}])
    else:
        measured = gather([read(Path(source))])
    table = curves(measured)
    useful = {strictest_useful(measured, method) for method in measured.methods if method != ORACLE}
    kept = [
        at
        for at, r_t in table["r_t"].items()
        if at in useful or at == measured.oracle or np.isclose(r_t, SHOWN, rtol=1e-6).any()
    ]
    head = ("method", "r_t / knob", "violations %", "interval 95 %", "n", "revenue", "acceptance")
    lines = [head, *(_line(table.loc[at], at in useful) for at in kept)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    padded = [[cell.rjust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    text = [
        "  ".join([line[0].ljust(widths[0]), *rest[1:]]) for line, rest in zip(lines, padded, strict=True)
    ]
    text.insert(1, "-" * len(text[0]))
    hours = int(measured.hours.sum(axis=1).mean())
    text.append(
        f"{hours:,} validation hours; n: product-hours produced; revenue: share of the oracle's;\n"
        "interval: Clopper-Pearson, hours taken as independent;\n"
        f"* the strictest point that earns at least {USEFUL_SHARE:.0%} of the oracle's revenue"
    )
    return "\n".join(text)


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


def write_tables(
    measured: Measured, source: str, directory: Path = RESULTS, draws: int = DRAWS
) -> list[Path]:
    """tables/production_{times_safer,times_safer_at,curves,per_product}_<source>.csv; the paths. The last
    needs the tidy results.
    """
    tables = {
        "times_safer": times_safer(measured, draws=draws),
        "times_safer_at": times_safer_at(measured, draws=draws),
        "curves": curves(measured),
    }
    paths = []
    if measured.frame is not None:
        tables["per_product"] = per_product(measured.frame)
    for name, table in tables.items():
        paths.append(directory / "tables" / f"production_{name}_{source}.csv")
        with atomic_path(paths[-1]) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n", float_format="%.8g")
    return paths


def per_product(frame: pd.DataFrame) -> pd.DataFrame:
    """Violation share of every product, run and r_t of ours, with and without conservative testing: what the
    promise is about. `over` is the share over r_t; low and high are Clopper-Pearson, hours as independent.
    """
    rows = frame[frame["metric"].str.startswith("violation.") & (frame["n"] > 0)]
    rows = rows[rows["method"].isin([OURS, "ours_xi_0"])]
    rows = rows.assign(
        product=rows["metric"].str.removeprefix("violation."), over=rows["value"] / rows["r_t"]
    )
    columns = ["method", "r_t", "seed", "product", "value", "low", "high", "n", "over"]
    return rows[columns].sort_values(columns[:4]).rename(columns={"value": "violation", "n": "produced"})


def write_manifests(by_n_t: dict[int, Measured], source: str, directory: Path = RESULTS) -> Path:
    """The manifests of all runs behind the tables, as one list sorted by run."""
    found = [
        json.loads((Path(place) / "manifest.json").read_text())
        for measured in by_n_t.values()
        for place in measured.runs["directory"]
    ]
    path = directory / "manifests" / f"production_{source}.json"
    write_json(path, sorted(found, key=lambda manifest: str(manifest.get("run"))))
    return path


def record(
    measured: Measured,
    source: str,
    preset: str,
    safer: pd.DataFrame | None = None,
    ledger: Path | None = None,
) -> list[str]:
    """Write the claims of production to the ledger; what could not be claimed, and why, as texts.

    `safer`: the table `times_safer`, computed if not given.
    """
    common = {
        "experiment": "production",
        "seeds": measured.seeds,
        "preset": preset,
        "data": source,
        "path": ledger,
    }
    missing: list[str] = []

    def claim(name: str, value: float, low: float, high: float, n: int) -> None:
        given = bool(np.isfinite(low) and np.isfinite(high))
        ends = {"low": low if given else None, "high": high if given else None}
        claims.record(f"production.{name}", value, n=int(n), **ends, **common)

    _times_safer(times_safer(measured) if safer is None else safer, claim, missing)
    for method, suffix in (
        (OURS, ""),
        *((name, f"_{name}") for name in ("ours_xi_0", "ours_certified", "cross_entropy")),
    ):
        _over_threshold(measured, method, f"violation_over_threshold_max{suffix}", claim, missing)
    for metric in ("acceptance", "calibration_acceptance"):
        for suffix in ("", "_xi_0"):
            _gain(measured, metric, suffix, claim, missing)
    at = measured.at(OURS, TRAINED_AT)
    if at is None:
        missing.append(f"production.revenue_share_of_oracle: ours was not run at r_t = {TRAINED_AT:g}")
    else:
        earned, oracle = (measured.revenue[:, i].sum(axis=1) for i in (at, measured.oracle))
        claim("revenue_share_of_oracle", *ratio(earned, oracle), int(measured.hours.sum()))
    return missing


def _times_safer(safer: pd.DataFrame, claim: Callable, missing: list[str]) -> None:
    """Where ours had no violation, the lower end is the lesser of the bootstrap's and `limit`."""
    for row in safer.to_dict("records"):
        if np.isnan(row["ratio"]):
            missing.append(f"production.times_safer.{row['method']}: {row['note']}")
            continue
        low = row["low"] if np.isnan(row["limit"]) else min(row["low"], row["limit"])
        claim(
            f"times_safer.{row['method']}",
            row["ratio"],
            low,
            row["high"],
            row["produced"] + row["ours_produced"],
        )


def _over_threshold(measured: Measured, method: str, name: str, claim: Callable, missing: list[str]) -> None:
    """The largest pooled violation / r_t over thresholds; the interval is that threshold's (not the
    maximum's).
    """
    found = []
    for at in measured.where(method):
        k, n = measured.violations[:, at].sum(axis=1), measured.produced[:, at].sum(axis=1)
        if n.sum() > 0:
            value, low, high, _ = share_interval(k, n, measured.shared)
            r_t = float(measured.points["r_t"].iloc[at])
            found.append((value / r_t, low / r_t, high / r_t, int(n.sum())))
    if found:
        claim(name, *max(found))
    else:
        missing.append(f"production.{name}: {method} was not run or produced nothing at any threshold")


def _gain(measured: Measured, metric: str, suffix: str, claim: Callable, missing: list[str]) -> None:
    """Ours less cross-entropy at r_t = 1e-3, paired over runs, with the t interval over runs."""
    name = f"{metric}_gain_over_cross_entropy{suffix}"
    ours, theirs = (
        measured.metric(metric, method + suffix, TRAINED_AT) for method in (OURS, "cross_entropy")
    )
    if ours.empty or theirs.empty:
        missing.append(f"production.{name}: {metric} at r_t = {TRAINED_AT:g} is not in every run's results")
        return
    gain = ours["value"].to_numpy(dtype=float) - theirs["value"].to_numpy(dtype=float)
    half = np.nan
    if len(gain) > 1:
        half = stats.t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / np.sqrt(len(gain))
    claim(name, float(gain.mean()), gain.mean() - half, gain.mean() + half, int(ours["n"].sum()))
