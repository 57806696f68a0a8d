"""Times safer over a range of revenues: the geometric mean, and the least and the largest ratio in it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from experiments.production.records import CHOSEN
from experiments.production.reporting.comparison import (
    DRAWS,
    OURS,
    SHARES,
    Pooled,
    compared,
    pooled,
    sides,
    weights,
)
from experiments.production.reporting.measured import Measured
from experiments.support.results.curves import stretch
from experiments.support.results.points import once

COLUMNS = ["method", "shares", "mean", "mean_low", "mean_high", "least", "largest", "note"]


@once
def over_range(
    measured: Measured,
    shares: tuple[float, ...] = SHARES,
    draws: int = DRAWS,
    seed: int = 0,
    own: str = OURS,
) -> pd.DataFrame:
    """Every method's violation share over ours (the curve `own`) at equal revenue, over `shares` of the
    oracle's revenue.

    One row per method: `mean` is the geometric mean of the ratios at the shares that its curve spans and ours
    reaches (`shares` says how many of how many), with a bootstrap interval as `comparison` has it; `least`
    and `largest` are those of single shares. A draw in which either side has no ratio at some share is left
    out.
    """
    base, drawn = pooled(measured), pooled(measured, weights(measured, draws, seed))
    rows = []
    for method in compared(measured):
        theirs = measured.where(method)
        if not len(theirs) or not len(measured.where(own)):
            continue
        ratios = np.array([_ratio(measured, base, theirs, share, own)[0] for share in shares])
        used = np.flatnonzero(np.isfinite(ratios))
        row = {"method": method, "shares": f"{len(used)} of {len(shares)}"}
        if not len(used):
            rows.append(row | {"note": "its curve spans none of these revenues, or ours does not"})
            continue
        mean = float(np.exp(np.log(ratios[used]).mean()))
        logs = np.array([np.log(_ratio(measured, drawn, theirs, shares[i], own)) for i in used])
        of_draws = np.exp(logs.mean(axis=0))
        low, high = np.nanpercentile(of_draws, [2.5, 97.5])
        widen = stretch(len(measured.runs), measured.produced.shape[2])
        row |= {
            "mean": mean,
            "mean_low": mean * (min(low, mean) / mean) ** widen,
            "mean_high": mean * (max(high, mean) / mean) ** widen,
            "least": float(ratios[used].min()),
            "largest": float(ratios[used].max()),
        }
        rows.append(row)
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def of_every_curve(measured: Measured, draws: int = DRAWS) -> pd.DataFrame:
    """`over_range` of every curve of ours, in a column `curve`."""
    own = [m for m in measured.methods if m.startswith(f"{OURS}_") and not m.endswith(CHOSEN)]
    return pd.concat(
        [over_range(measured, draws=draws, own=curve).assign(curve=curve) for curve in [OURS, *own]],
        ignore_index=True,
    )


def _ratio(measured: Measured, draws: Pooled, theirs: np.ndarray, share: float, own: str) -> np.ndarray:
    """(draws,) ratio at one revenue; NaN where either side has none."""
    found = sides(measured, draws, theirs, share, own)
    return np.where(found["index"] < 0, np.nan, found["theirs"] / found["ours"])
