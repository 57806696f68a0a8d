"""What the past alone says: mean and variance of demand that was measured, and how a forecast did lately."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.production.demand.series import DemandData

HOURS_PER_DAY = 24
DAYS = 7
WORST_ERROR = 6.0
"""Standardised errors count up to here."""
USUAL_HOURS = 5
"""Hours of usual errors that count beside those seen."""
LEAST_SPREAD = 0.3
"""Added to the spread of days, on the demand scale: they may be alike by chance."""
FAR_BELOW = 15.0
"""Distances in spreads count up to here."""


def of_past_hours(data: DemandData) -> tuple[np.ndarray, np.ndarray]:
    """(n, p) mean and standard deviation of the measured hours of each case."""
    past = data.measurement.astype(np.float64)
    return past.mean(axis=1), past.std(axis=1)


def of_same_hour(data: DemandData, days: int = DAYS) -> tuple[np.ndarray, np.ndarray]:
    """(n, p) mean and standard deviation of the same hour of the last known days.

    At the beginning of the series there are fewer; where there is none, the measured hours serve.
    """
    first = -(-data.lead // HOURS_PER_DAY) * HOURS_PER_DAY
    lags = first + HOURS_PER_DAY * np.arange(days)
    values = _lagged(data.series.astype(np.float64), data.target_hour, lags)
    mean, spread = of_past_hours(data)
    some = np.isfinite(values).any(axis=0)
    values = np.where(some, values, 0.0)
    return np.where(some, np.nanmean(values, axis=0), mean), np.where(some, np.nanstd(values, axis=0), spread)


def days_below(data: DemandData, limit: float, days: int) -> np.ndarray:
    """(n, p) how far the mean of the same hour of the last known days lies below a limit, in their standard
    deviations, which count as `LEAST_SPREAD` more than they are; cut at `FAR_BELOW`.
    """
    mean, spread = of_same_hour(data, days)
    return np.clip((limit - mean) / (spread + LEAST_SPREAD), -FAR_BELOW, FAR_BELOW)


def recent_errors(error: np.ndarray, target_hour: np.ndarray, lead: int) -> list[np.ndarray]:
    """How a forecast did lately, as it is known `lead` hours before the hour that is planned.

    Args:
        error: (n, p) standardised errors of the cases, in order of time.
        target_hour: (n,) hours, ascending.
        lead: hours from the last known one to the target; the error of hour t - lead is the newest that
            counts.

    Returns:
        Four arrays (n, p): the error 24 hours before; the means of the same hour of the last seven days, of
        the last 24 known hours, and of the last 168 known hours. Days that are not known yet (lead > 24) are
        skipped; what lies before the first case counts as no error.
    """
    line, at = _line(error, target_hour)
    first = -(-lead // HOURS_PER_DAY) * HOURS_PER_DAY
    same = first + HOURS_PER_DAY * np.arange(DAYS)
    newest = lead + np.arange(HOURS_PER_DAY)
    week = lead + np.arange(DAYS * HOURS_PER_DAY)
    return [_mean(line, at, lags) for lags in ([first], same, newest, week)]


def roughness(error: np.ndarray, target_hour: np.ndarray, lead: int, hours: int, usual: float) -> np.ndarray:
    """(n, p) how large a forecast's errors were lately, 1 where they were as large as usual.

    Args:
        error: (n, p) standardised errors of the cases, in order of time.
        target_hour: (n,) hours, ascending.
        lead: hours from the last known one to the target.
        hours: of the past that are looked at, the newest known ones.
        usual: root mean square of the standardised errors, where the forecast's law holds.

    Returns:
        The root mean square over these hours over the usual one. `USUAL_HOURS` hours of usual errors are
        joined, so that a quiet day does not make a forecast certain.
    """
    line, at = _line(error / usual, target_hour)
    lags = lead + np.arange(hours)
    square = _mean(np.square(line), at, lags, nothing=1.0)
    return np.sqrt((square * hours + USUAL_HOURS) / (hours + USUAL_HOURS))


def _line(error: np.ndarray, target_hour: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Errors (hours, p) of every hour from the first case to the last, NaN where there is no case, and the
    place (n,) of the cases in it.
    """
    at = target_hour - target_hour[0]
    line = np.full((int(at[-1]) + 1, error.shape[1]), np.nan)
    line[at] = np.clip(error, -WORST_ERROR, WORST_ERROR)
    return line, at


def _mean(
    line: np.ndarray, at: np.ndarray, lags: Sequence[int] | np.ndarray, nothing: float = 0.0
) -> np.ndarray:
    """(n, p) means over what is there of the values `lags` hours before; `nothing` where there is none."""
    total, count = np.zeros((len(at), line.shape[1])), np.zeros((len(at), line.shape[1]))
    for lag in lags:
        there = at >= lag
        value = line[at[there] - lag]
        total[there] += np.nan_to_num(value)
        count[there] += np.isfinite(value)
    return np.divide(total, count, out=np.full(total.shape, nothing), where=count > 0)


def _lagged(series: np.ndarray, hour: np.ndarray, lags: np.ndarray) -> np.ndarray:
    """(lags, n, p) values of the series `lag` hours before; NaN before its beginning."""
    found = np.full((len(lags), len(hour), series.shape[1]), np.nan)
    for i, lag in enumerate(lags):
        there = hour >= lag
        found[i, there] = series[hour[there] - lag]
    return found
