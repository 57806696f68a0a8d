"""The times of an hourly table: one row per hour, in UTC."""

from __future__ import annotations

import numpy as np
import pandas as pd

from experiments.production.demand.tables import Table
from safeframe.types import SafeframeError

TIME_COLUMN = "utc_hour"
HOUR = 3600
"""Seconds."""
_CHANGES_A_YEAR = 3
"""A clock is put forward and back once a year; one more for a year begun."""


def hours(table: Table) -> np.ndarray:
    """Hours since the epoch of every row.

    Times may have a zone ("2021-01-01 00:00:00-05:00", "2021-01-01T00Z"); without one they are taken as UTC.

    Args:
        table: with the column `TIME_COLUMN`.

    Returns:
        (hours,) int64, each one more than the one before.

    Raises:
        SafeframeError: for a cell that is no time, hours that are missing, repeated or not in order, and
            times that are no full hours.
    """
    path, column = table.path, table.cells[TIME_COLUMN]
    times = pd.to_datetime(column, format="ISO8601", utc=True, errors="coerce")
    if times.isna().any():
        row = int(np.flatnonzero(times.isna())[0])
        raise SafeframeError(
            f"{path}, {table.where(row)}: {TIME_COLUMN} = {column.iloc[row]!r} is no time like "
            "2021-01-01 00:00:00"
        )
    seconds = times.dt.tz_localize(None).to_numpy().astype("datetime64[s]").astype(np.int64)
    step = np.diff(seconds)
    breaks = np.flatnonzero(step != HOUR)
    if breaks.size:
        row = int(breaks[0]) + 1
        raise SafeframeError(
            f"{path}, {table.where(row)}: {_kind(int(step[row - 1]))}: {column.iloc[row]} follows "
            f"{column.iloc[row - 1]} ({_places(step, breaks)}); every row must be one hour after the last"
            f"{_advice(step, breaks)}"
        )
    if len(seconds) and seconds[0] % HOUR:
        raise SafeframeError(
            f"{path}, {table.where(0)}: {TIME_COLUMN} = {column.iloc[0]!r} is not a full hour in UTC"
        )
    return seconds // HOUR


def _kind(step: int) -> str:
    """What is wrong with a step (seconds) between two rows."""
    if step == 0:
        return "duplicated hour"
    if step < 0:
        return "time goes backwards"
    if step < HOUR:
        return f"a step of {step / 60:g} minutes"
    return "hours missing" if step % HOUR == 0 else f"a step of {step / HOUR:g} hours"


def _places(step: np.ndarray, breaks: np.ndarray) -> str:
    """How many places are wrong, and how many hours are missing in all."""
    missing = int(np.maximum(step[breaks] // HOUR - 1, 0).sum())
    return f"{breaks.size:,} such place(s) in all" + (f", {missing:,} hours missing" if missing else "")


def _advice(step: np.ndarray, breaks: np.ndarray) -> str:
    """What the steps (seconds) that are wrong, at the places `breaks`, look like."""
    years = len(step) // 8760 + 1
    if set(step[breaks].tolist()) <= {0, 2 * HOUR} and 1 <= breaks.size <= _CHANGES_A_YEAR * years:
        return (
            "; local time with daylight saving, perhaps: give UTC, or the zone with every time "
            "(2021-03-14 03:00:00-07:00)"
        )
    if breaks.size == len(step) and (step == step[0]).all() and step[0] > 0:
        return "; take means over each hour" if step[0] < HOUR else "; hourly demand is needed"
    if (step[breaks] < 0).any():
        return "; sort the rows by time"
    return ""


def looks_like_times(column: pd.Series) -> bool:
    """Whether the first cells of a column are times, and no mere numbers."""
    first = column.iloc[:5]
    if first.empty or pd.to_numeric(first, errors="coerce").notna().any():
        return False
    return bool(pd.to_datetime(first, format="ISO8601", utc=True, errors="coerce").notna().all())
