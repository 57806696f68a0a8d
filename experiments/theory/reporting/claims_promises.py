"""What is claimed of promises: how often each rule breaks its word at worst, and what it accepts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from experiments.support.results.largest import DRAWS
from safeframe.certificates.cases import clopper_pearson_upper

UNSTATED = "drift, prior none"
"""Where the prior moves and the guard is not told: what its bound assumes is wrong."""


def claimed(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Claims under guard.promises: largest share of broken calibrations, largest mean risk over r_t, and the
    acceptance of the largest draws, by rule.
    """
    stated, unstated = table[table["setting"] != UNSTATED], table[table["setting"] == UNSTATED]
    for rule in table["rule"].unique():
        name = rule.replace("-", "_")
        for claim, rows in (("broken_max", stated), ("broken_max_prior_unstated", unstated)):
            mine = rows[rows["rule"] == rule]
            value, low, high = largest_share(mine)
            yield {"claim": f"guard.promises.{claim}.{name}", "value": value, "low": low, "high": high,
                   "n": int(mine["repeats"].min())}  # fmt: skip
        mine = stated[stated["rule"] == rule]
        worst = mine.loc[mine["mean_ratio"].idxmax()]
        yield {
            "claim": f"guard.promises.mean_risk_over_threshold_max.{name}",
            "value": worst["mean_ratio"],
            "low": worst["ratio_low"],
            "high": worst["ratio_high"],
            "n": int(worst["repeats"]),
        }
        large = mine[mine["n"] == mine["n"].max()].iloc[0]
        yield {
            "claim": f"guard.promises.acceptance_large.{name}",
            "value": large["acceptance"],
            "n": int(large["repeats"]),
        }
    large = table[table["n"] == table["n"].max()].iloc[0]
    yield {
        "claim": "guard.promises.acceptance_large.best",
        "value": large["best"],
        "n": int(large["repeats"]),
    }


def largest_share(rows: pd.DataFrame) -> tuple[float, float, float]:
    """The largest share of broken calibrations, with a 95 % interval of that maximum."""
    value = float(rows["share_broken"].max())
    if value == 0.0:
        return 0.0, 0.0, clopper_pearson_upper(0, int(rows["repeats"].min()), 0.025)
    renamed = rows.assign(failures=rows["broken"], delta=1.0, guaranteed=True)
    low, high = largest_failure_rate(renamed)
    return value, min(low, value), max(high, value)  # a share from a file has fewer digits than its limits


def largest_failure_rate(table: pd.DataFrame, draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the largest failure rate / delta of the guaranteed rows, wherever it lies: every row's
    failures are drawn anew from its own rate, the largest taken in every draw. It always holds the value.
    """
    rows = table[table["guaranteed"].astype(bool)]
    k, n, delta = (rows[name].to_numpy(dtype=float) for name in ("failures", "repeats", "delta"))
    drawn = np.random.default_rng(seed).binomial(n.astype(int), k / n, size=(draws, len(rows)))
    low, high = np.percentile((drawn / n / delta).max(axis=1), [2.5, 97.5])
    value = float((k / n / delta).max())
    return min(float(low), value), max(float(high), value)
