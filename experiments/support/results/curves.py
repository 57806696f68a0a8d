"""Curves over a threshold: where one first reaches a given value of something else."""

from __future__ import annotations

import numpy as np
from scipy import stats

ROUNDING = 1e-12
"""Of values that are sums in floating point."""


def crossing(
    across: np.ndarray, value: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The value where a curve, followed from strict to loose, first reaches a target.

    Points whose value is NaN are passed over.

    Args:
        across: (draws, points) what must reach the target.
        value: (draws, points) what is read off there.
        target: (draws,).

    Returns:
        Three arrays (draws,), the interpolated value, the index of the point that reaches it (-1: none does,
            value NaN) and the share of the way from the point before (1 where that point is an end: there is
            none before, or it has no value).
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
    """What percentiles of few runs are widened by: t quantile over normal quantile (97.5 %).

    Args:
        runs: the degrees of freedom are runs - 1.
        units: the degrees of freedom are units - 1 where there is one run.

    Returns:
        The factor > 1.
    """
    free = max((runs if runs > 1 else units) - 1, 1)
    return float(stats.t.ppf(0.975, free) / stats.norm.ppf(0.975))
