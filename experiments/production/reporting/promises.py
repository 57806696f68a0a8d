"""Was the promise kept for every product? Exact counts of the guard's curves, by product, r_t and seed.

A cell is one product at one r_t in one run (`reporting.cells`).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from experiments.production.records import ORACLE, PRODUCTS
from experiments.production.reporting.cells import LEVEL, cells
from experiments.production.reporting.comparison import OURS, curves
from experiments.production.reporting.measured import Measured
from experiments.support.results.points import once

KNOB = "ours_knob"
"""Our score behind a knob: a method without a promise."""
SHOWN = (1e-3, 1e-2, 1e-1)


def promised(measured: Measured) -> list[str]:
    """Methods with a promise: ours under every constraint, and the binary classifier's."""
    return [m for m in measured.methods if m.startswith((OURS, "binary")) and not m.startswith(KNOB)]


@once
def per_product(measured: Measured) -> pd.DataFrame:
    """The runs' `cells`: one row per method, r_t, seed and product."""
    return cells(measured.saved, PRODUCTS)


@once
def promises(measured: Measured) -> pd.DataFrame:
    """One row per method of the guard: the largest violation share over r_t of all products together and of
    any product and seed, cells above r_t and significantly so, and revenue at `SHOWN` as a share of the
    oracle's. r_t = 1 promises nothing and is left out.
    """
    by_cell, pooled = per_product(measured), curves(measured)
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
