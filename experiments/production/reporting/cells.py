"""Was the promise kept in every cell? One product at one r_t in one run, with two tests of it.

Two tests say whether a cell's violations are significantly more than r_t allows: the exact binomial test,
which takes hours as independent and so calls too much significant, and a one-sided t test over weeks of
violations - r_t x accepted, which is blind to an excess within one week. A method has hundreds of cells, of
which one in twenty would be significant by chance alone were its risk exactly r_t: `holm` says which are
after Holm's correction of the exact test over all of the method's cells.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy import stats

from experiments.support.results.saved import Saved

LEVEL = 0.05
CELL = ["method", "r_t", "product"]
COLUMNS = ["method", "r_t", "seed", "product", "accepted", "violations", "over", "p_exact", "p_weeks", "holm"]


def cells(runs: Iterable[Saved], name: str) -> pd.DataFrame:
    """One row per method, r_t, seed and product, of the runs that have the table.

    Args:
        runs: that have finished.
        name: of their table, a row per method, r_t, product and week, with `accepted` and `violations`.

    Returns:
        Columns `COLUMNS`: product-hours accepted, violations, their share over r_t, the p-values of both
        tests (NaN where nothing was accepted), and whether the exact one is significant after Holm's
        correction; r_t = 1 promises nothing and is not tested there.
    """
    parts = [_of_run(run.table(name)).assign(seed=run.seed) for run in runs if run.has(name)]
    if not parts:
        return pd.DataFrame(columns=COLUMNS)
    found = pd.concat(parts, ignore_index=True)
    found["holm"] = False
    for _, mine in found[(found["accepted"] > 0) & (found["r_t"] < 1)].groupby("method"):
        found.loc[mine.index, "holm"] = holm(mine["p_exact"].to_numpy())
    return found[COLUMNS]


def _of_run(table: pd.DataFrame) -> pd.DataFrame:
    weeks = table.assign(excess=table["violations"] - table["r_t"] * table["accepted"])
    groups = weeks.groupby(CELL, sort=False)
    found = groups[["accepted", "violations"]].sum().reset_index()
    n, k, r_t = (found[name].to_numpy() for name in ("accepted", "violations", "r_t"))
    with np.errstate(invalid="ignore"):
        found["over"] = k / n / r_t
    found["p_exact"] = np.where(n > 0, stats.binom.sf(k - 1, n, r_t), np.nan)
    found["p_weeks"] = np.where(n > 0, groups["excess"].agg(by_weeks).to_numpy(), np.nan)
    return found


def holm(p: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """(k,) which hypotheses are rejected with family-wise error `level` (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    within = p[order] * (len(p) - np.arange(len(p))) < level
    rejected = np.zeros(len(p), dtype=bool)
    rejected[order[: len(p) if within.all() else int(np.argmin(within))]] = True
    return rejected


def by_weeks(excess: pd.Series) -> float:
    """One-sided p-value of a mean excess (weeks,) above 0, by a t test over weeks; 1 where it is none."""
    if excess.mean() <= 0:
        return 1.0
    return float(stats.ttest_1samp(excess.to_numpy(dtype=float), 0.0, alternative="greater").pvalue)
