"""Scaling laws: a straight line in log10 of a size, with intervals.

y = intercept + slope * log10(x), ordinary least squares (arXiv 2504.20924, scaling in internal test data);
t intervals of the slope and of the line (Draper and Smith, Applied Regression Analysis, 3rd ed. 1998,
sections 1.4 and 3.1), which take errors as independent with equal spread.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from safeframe.types import FloatArray, Floats, SafeframeError


@dataclass(frozen=True)
class ScalingFit:
    """A fitted line y = intercept + slope * log10(x).

    Attributes:
        slope: change of y per factor of 10 in x.
        low: lower end of the slope's interval; NaN for two points (no error to estimate).
        high: upper end of the slope's interval; NaN for two points.
        intercept: value of the line at x = 1.
        r_squared: share of the variance of y that the line explains; NaN if y does not vary.
        error: residual standard deviation, in the unit of y; NaN for two points.
        n: number of points.
        level: confidence of the intervals, in (0, 1).
        centre: mean of log10 x.
        spread: sum of squared deviations of log10 x from its mean.
    """

    slope: float
    low: float
    high: float
    intercept: float
    r_squared: float
    error: float
    n: int
    level: float
    centre: float
    spread: float

    def at(self, x: Floats) -> tuple[FloatArray, FloatArray]:
        """The line at given sizes, with its interval.

        Args:
            x: (m,) sizes > 0.

        Returns:
            Two arrays (m,): the fitted value, and half the width of the interval of the line there (NaN for
                two points).
        """
        away = np.log10(np.asarray(x, dtype=float))
        half = (
            _t(self.level, self.n)
            * self.error
            * np.sqrt(1 / self.n + (away - self.centre) ** 2 / self.spread)
        )
        return self.intercept + self.slope * away, half


def fit_log10(x: Floats, y: Floats, level: float = 0.95) -> ScalingFit:
    """Least squares of y on log10 x. For a power law give log10 y.

    Args:
        x: (n,) finite sizes > 0, two different ones at least; they may repeat.
        y: (n,) finite values.
        level: confidence of the intervals, in (0, 1).

    Returns:
        The fitted line.

    Raises:
        SafeframeError: for lengths that differ, numbers that are not finite, x that is not positive, fewer
            than two different x, or a level outside (0, 1).
    """
    size, value = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if size.ndim != 1 or size.shape != value.shape:
        raise SafeframeError(f"scaling law: x {size.shape} and y {value.shape} must be vectors, alike")
    if not (np.isfinite(size).all() and np.isfinite(value).all()):
        raise SafeframeError("scaling law: x and y must be finite")
    if (size <= 0).any():
        raise SafeframeError(f"scaling law: x must be positive, the least is {size.min()}")
    if len(np.unique(size)) < 2:
        raise SafeframeError(f"scaling law: {len(np.unique(size))} different x; a line needs two at least")
    if not 0.0 < level < 1.0:
        raise SafeframeError(f"scaling law: level is {level}; it must lie in (0, 1)")
    log = np.log10(size)
    centre, mean, n = float(log.mean()), float(value.mean()), len(log)
    spread = float(np.sum((log - centre) ** 2))
    slope = float(np.sum((log - centre) * (value - mean)) / spread)
    intercept = mean - slope * centre
    residual = float(np.sum((value - intercept - slope * log) ** 2))
    total = float(np.sum((value - mean) ** 2))
    error = float(np.sqrt(residual / (n - 2))) if n > 2 else np.nan
    half = _t(level, n) * error / np.sqrt(spread)
    r_squared = 1.0 - residual / total if total > 0 else np.nan
    return ScalingFit(
        slope, slope - half, slope + half, intercept, r_squared, error, n, level, centre, spread
    )


def _t(level: float, n: int) -> float:
    return float(stats.t.ppf(0.5 + level / 2, n - 2)) if n > 2 else np.nan
