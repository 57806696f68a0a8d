"""Was the promise kept for every product? Exact counts of the guard's curves, by product, r_t and seed.

A cell is one product at one r_t in one run. Both tests of `reporting.deployment` ask whether its violations
are significantly more than r_t allows: the exact binomial test (hours as independent: it calls too much
significant) and a t test over weeks (blind to an excess within one week).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy import stats

from experiments.production.records import ORACLE, PRODUCTS
from experiments.production.reporting.comparison import OURS, curves
from experiments.production.reporting.deployment import LEVEL, by_weeks, holm
from experiments.production.reporting.measured import Measured
from experiments.support.results.saved import Saved

KNOB = "ours_knob"
"""Our score behind a knob: a method without a promise."""
SHOWN = (1e-3, 1e-2, 1e-1)


def cells(runs: Iterable[Saved]) -> pd.DataFrame:
    """One row per method, r_t, seed and product: product-hours made, violations, their share over r_t, the
    p-values of both tests, and whether the exact one is significant after Holm's correction over the method's
    cells. Columns only where no run has the table.
    """
    rows = []
    for run in runs:
        if not run.has(PRODUCTS):
            continue
        table = run.table(PRODUCTS)
        table = table.assign(excess=table["violations"] - table["r_t"] * table["accepted"])
        for (method, r_t, product), weeks in table.groupby(["method", "r_t", "product"], sort=False):
            n, k = int(weeks["accepted"].sum()), int(weeks["violations"].sum())
            rows.append(
                {
                    "method": method, "r_t": r_t, "seed": run.seed, "product": product, "accepted": n,
                    "violations": k, "over": k / n / r_t if n else np.nan,
                    "p_exact": float(stats.binom.sf(k - 1, n, r_t)) if n else np.nan,
                    "p_weeks": by_weeks(weeks["excess"]) if n else np.nan,
                }
            )  # fmt: skip
    columns = ["method", "r_t", "seed", "product", "accepted", "violations", "over", "p_exact", "p_weeks"]
    found = pd.DataFrame(rows, columns=columns)
    found["holm"] = False
    for _, mine in found[(found["accepted"] > 0) & (found["r_t"] < 1)].groupby("method"):
        found.loc[mine.index, "holm"] = holm(mine["p_exact"].to_numpy())
    return found


def promised(measured: Measured) -> list[str]:
    """Methods with a promise: ours under every constraint, and the binary classifier's."""
    return [m for m in measured.methods if m.startswith((OURS, "binary")) and not m.startswith(KNOB)]


def promises(measured: Measured, by_cell: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row per method of the guard: the largest violation share over r_t of all products together and of
    any product and seed, cells above r_t and significantly so, and revenue at `SHOWN` as a share of the
    oracle's. r_t = 1 promises nothing and is left out.
    """
    by_cell = cells(measured.saved) if by_cell is None else by_cell
    pooled = curves(measured)
    rows = []
    for method in dict.fromkeys(by_cell["method"]):
        mine = by_cell[(by_cell["method"] == method) & (by_cell["r_t"] < 1) & (by_cell["accepted"] > 0)]
        points = pooled[(pooled["method"] == method) & (pooled["r_t"] < 1)]
        made = points[points["produced"] > 0]
        row = {"method": method, "runs": len(measured.runs), "cells": len(mine)}
        row |= {"pooled_over": (made["violation"] / made["r_t"]).max(), "worst_over": mine["over"].max()}
        row |= {"above": int((mine["over"] > 1).sum())}
        for test in ("exact", "weeks"):
            row |= {f"significant_{test}": int((mine[f"p_{test}"] < LEVEL).sum())}
        row |= {"significant_holm": int(mine["holm"].sum())}
        for level in SHOWN:
            found = points.loc[np.isclose(points["r_t"], level, rtol=1e-6), "revenue_share"]
            row |= {f"revenue_{level:g}": found.iloc[0] if len(found) else np.nan}
        rows.append(row)
    return pd.DataFrame(rows)


def worst_products(measured: Measured) -> pd.DataFrame:
    """The guard's points with the violation share of the product and seed that has the largest one.

    From the tidy results: columns method, r_t, share, produced; empty without them.
    """
    columns = ["method", "r_t", "share", "produced"]
    if measured.frame is None:
        return pd.DataFrame(columns=columns)
    rows = measured.frame
    rows = rows[rows["metric"].str.startswith("violation.") & rows["r_t"].notna() & (rows["n"] > 0)]
    rows = rows[rows["method"] != ORACLE]
    at = rows.groupby(["method", "r_t"])["value"].idxmax()
    worst = rows.loc[at, ["method", "r_t", "value", "n"]]
    return worst.set_axis(columns, axis=1).reset_index(drop=True)
