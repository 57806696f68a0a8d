"""Curves over a threshold: where one first reaches a given value of something else."""

from __future__ import annotations

import numpy as np
from scipy import stats

ROUNDING = 1e-12
"""Of values that are sums in floating point."""


def crossing(
    across: np.ndarray, value: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`value` (draws, points) where across (draws, points), followed from strict to loose, first reaches
    `target` (draws,).

    Returns the interpolated value, the index of the point that reaches it (-1: none does, value NaN) and the
    share of the way from the point before (1 where that point is an end: there is none before, or it
    has no value). Points whose value is NaN are passed over.
    """
    reached = (across >= target[:, None] - ROUNDING) & np.isfinite(value)
    index = np.where(reached.any(axis=1), reached.argmax(axis=1), -1)
    draw, before = np.arange(len(across)), np.maximum(index - 1, 0)
    start = np.where((index > 0) & np.isfinite(value[draw, before]), before, np.maximum(index, 0))
    step = across[draw, index] - across[draw, start]
    way = np.where(
        (start == index) | (index < 0), 1.0, (target - across[draw, start]) / np.where(step == 0, 1.0, step)
    )
    low, high = value[draw, start], value[draw, index]
    return np.where(index >= 0, low + way * (high - low), np.nan), index, way


def stretch(runs: int, units: int) -> float:
    """t quantile over normal quantile (97.5 %), for runs - 1 (units - 1 for one run) degrees of freedom: what
    percentiles of few runs are widened by.
    """
    free = max((runs if runs > 1 else units) - 1, 1)
    return float(stats.t.ppf(0.975, free) / stats.norm.ppf(0.975))
