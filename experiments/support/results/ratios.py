"""Ratios and shares pooled over runs, with intervals."""

from __future__ import annotations

import numpy as np
from scipy import stats

from safeframe.certificates.cases import clopper_pearson_lower, clopper_pearson_upper

EXACT = "Clopper-Pearson 95%"


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> tuple[float, float, float]:
    """Pooled ratio sum / sum over runs, with the 95 % t interval over runs.

    Linearised ratio estimator (Cochran, Sampling Techniques, 1977, section 6.3).

    Args:
        numerator: (runs,) sums.
        denominator: (runs,) sums.

    Returns:
        Value and both limits; NaN limits for a single run, all NaN if the denominator is zero.
    """
    total = float(np.sum(denominator))
    if total == 0:
        return np.nan, np.nan, np.nan
    value, runs = float(np.sum(numerator)) / total, len(numerator)
    if runs < 2:
        return value, np.nan, np.nan
    residual = np.asarray(numerator) - value * np.asarray(denominator)
    half = stats.t.ppf(0.975, runs - 1) * np.sqrt(runs / (runs - 1) * np.sum(residual**2)) / total
    return value, value - float(half), value + float(half)


def share_interval(k: np.ndarray, n: np.ndarray, shared: float = 1.0) -> tuple[float, float, float, str]:
    """Pooled share of counts over runs, with an interval.

    t over runs where several have cases (cut to [0, 1]); Clopper-Pearson over cases where one has, and where
    none is counted.

    Args:
        k: (runs,) cases counted.
        n: (runs,) cases.
        shared: runs that have their cases in common; where none is counted, such cases count once.

    Returns:
        Value, both limits and the interval's name; NaN and no name without a case.
    """
    k, n = np.asarray(k)[np.asarray(n) > 0], np.asarray(n)[np.asarray(n) > 0]  # runs that have any
    cases, bad = int(np.sum(n)), int(np.sum(k))
    if cases == 0:
        return np.nan, np.nan, np.nan, ""
    if len(k) > 1 and bad > 0:
        value, low, high = ratio(k, n)
        return value, max(low, 0.0), min(high, 1.0), "t over runs 95%"
    once = cases if bad else max(int(cases / shared), 1)
    low, high = clopper_pearson_lower(bad, once, 0.025), clopper_pearson_upper(bad, once, 0.025)
    return bad / cases, low, high, EXACT


def exact(k: int, n: int) -> tuple[float, int, float, float, str]:
    """Share with its Clopper-Pearson interval (95 %).

    Args:
        k: cases counted.
        n: cases.

    Returns:
        Share, n, both limits and the interval's name; NaN and no name without a case.
    """
    if n == 0:
        return np.nan, 0, np.nan, np.nan, ""
    return k / n, n, clopper_pearson_lower(k, n, 0.025), clopper_pearson_upper(k, n, 0.025), EXACT


def mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean of one number per run, with the 95 % t interval over runs; NaN limits for a single run."""
    values = np.asarray(values, dtype=float)
    mean, runs = float(values.mean()), len(values)
    if runs < 2:
        return mean, np.nan, np.nan
    half = float(stats.t.ppf(0.975, runs - 1) * values.std(ddof=1) / np.sqrt(runs))
    return mean, mean - half, mean + half
