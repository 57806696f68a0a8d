"""Demand as cases: 24 past hours of all products (measurement) and the demand a day ahead (state).

The paper (arXiv 2504.20924, production planning) measures 24 past steps of four products, plans ahead, and
calls a product unsafe in the hour for which its demand falls below 3 on a scale of [0, 10]. Time is cut into
four quarters of equal length (8,760 hours, a year of hourly data each): training, internal test for training,
validation, internal test for validation.

A case is named by its target hour h. With `lookback` = 24 and `lead` = 24 its measurement holds the hours
h - lead - lookback + 1, ..., h - lead, so nothing of the last `lead` hours before the target. `quarters` says
how time is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from experiments.production.demand.quarters import (
    HOURS_PER_QUARTER,
    HOURS_PER_WEEK,
    LEFT_OUT,
    Quarter,
    check_order,
    first_target,
    periods,
    roles,
)

__all__ = [
    "CALENDAR_NAMES",
    "HOURS_PER_QUARTER",
    "HOURS_PER_WEEK",
    "N_PRODUCTS",
    "SCALE_TOP",
    "UNSAFE_BELOW",
    "ClipReport",
    "DemandData",
    "Quarter",
    "build_cases",
    "calendar_of",
    "check_order",
    "first_target",
]

UNSAFE_BELOW = 3.0
"""A product is unsafe in an hour with (scaled) demand below this value."""
SCALE_TOP = 10.0
"""Demand is scaled and clipped to [0, SCALE_TOP]."""
N_PRODUCTS = 4
CALENDAR_NAMES = ("hour_of_day", "day_of_week", "day_of_year")


@dataclass(frozen=True)
class ClipReport:
    """How the series were scaled, and what clipping to [0, 10] changed.

    Attributes:
        names: of the products.
        minimum: (p,) in the unit of the source, what went to 0.
        maximum: (p,) in the unit of the source, what went to 10.
        below: (4, p) share of the hours of each quarter (rows by quarter id) that were clipped at 0.
        above: (4, p) the same at 10.
        share: (p,) share of all hours of each series that were clipped at either end.
    """

    names: tuple[str, ...]
    minimum: np.ndarray
    maximum: np.ndarray
    below: np.ndarray
    above: np.ndarray
    share: np.ndarray

    @property
    def per_quarter(self) -> np.ndarray:
        """(4, p) share of hours clipped at either end."""
        return self.below + self.above

    def __str__(self) -> str:
        parts = [
            f"{name} {all_:.2f} % ({', '.join(f'{value:.2f}' for value in quarters)})"
            for name, all_, quarters in zip(
                self.names, 100 * self.share, 100 * self.per_quarter.T, strict=True
            )
        ]
        return "hours clipped to [0, 10], all (by quarter 0 to 3): " + "; ".join(parts)


@dataclass(frozen=True)
class DemandData:
    """Cases of the production problem; n cases, p = 4 products, arrays are read-only by convention.

    Attributes:
        series: (hours, p) float32 demand on the scale [0, 10]; one row per hour.
        measurement: (n, lookback, p) float32, oldest hour first.
        demand: (n, p) float32 demand in the target hour (the state s).
        unsafe: (n, p) bool, demand < 3.
        target_hour: (n,) int64 row of `series` that is the target.
        quarter: (n,) int64 quarter id, see `Quarter`.
        period: (n,) int64 which quarter of time, 0 the first; several may have one role.
        calendar: (n, 3) int64 hour of day 0-23, day of week 0-6 (Monday 0), day of year 1-366 of the target
            hour, in UTC.
        names: of the products.
        clip: how much of the series was clipped.
        lead: hours from the last measured one to the target.
        source: where the series are from.
        starts: date (UTC) on which each quarter of time begins, by `period`.
        notes: on what was done to them.
        oddities: what looks like an error in them (`quality`).
        truth_mean: (n, p) float64 mean of the unclipped target given the past; synthetic data only, else
            None.
        truth_sd: (n, p) float64 standard deviation of the same.
    """

    series: np.ndarray
    measurement: np.ndarray
    demand: np.ndarray
    unsafe: np.ndarray
    target_hour: np.ndarray
    quarter: np.ndarray
    period: np.ndarray
    calendar: np.ndarray
    names: tuple[str, ...]
    clip: ClipReport
    lead: int
    source: str
    starts: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())
    oddities: tuple[str, ...] = field(default=())
    truth_mean: np.ndarray | None = None
    truth_sd: np.ndarray | None = None

    @property
    def state(self) -> np.ndarray:
        """(n, p) the state s of the paper; another name for `demand`."""
        return self.demand

    @property
    def lookback(self) -> int:
        return self.measurement.shape[1]

    def __len__(self) -> int:
        return len(self.target_hour)

    def where(self, *quarters: int) -> np.ndarray:
        """Index (k,) of the cases that lie in the given quarters, in order of time."""
        return np.flatnonzero(np.isin(self.quarter, [int(q) for q in quarters]))

    def by_period(self, *quarters: int) -> list[np.ndarray]:
        """The same apart for each quarter of time (a role may have several), in order of time."""
        index = self.where(*quarters)
        return [index[self.period[index] == k] for k in np.unique(self.period[index])]

    def calendar_features(self) -> np.ndarray:
        """(n, 6) float32 sine and cosine of hour of day, day of week and day of year of the target hour."""
        angle = 2 * np.pi * self.calendar / np.array([24.0, 7.0, 365.25])
        return np.concatenate([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)


def build_cases(
    raw: np.ndarray,
    hour_of_epoch: np.ndarray,
    names: Sequence[str],
    minimum: np.ndarray,
    maximum: np.ndarray,
    *,
    lookback: int,
    lead: int,
    hours_per_quarter: int,
    order: Sequence[int],
    source: str,
    notes: Sequence[str] = (),
    oddities: Sequence[str] = (),
    truth_mean: np.ndarray | None = None,
    truth_sd: np.ndarray | None = None,
) -> DemandData:
    """Scale, clip and cut hourly series into cases.

    Args:
        raw: (hours, p) in any unit.
        hour_of_epoch: (hours,) hours since 1970-01-01 00:00 UTC, for the calendar.
        names: of the products.
        minimum: (p,) values that go to 0.
        maximum: (p,) values that go to 10.
        lookback: hours of measured demand that a case holds.
        lead: hours from the last measured one to the target.
        hours_per_quarter: length of each quarter.
        order: the role (`Quarter`) of each consecutive quarter of time, or `LEFT_OUT`.
        source: where the series are from.
        notes: on what was done to them.
        oddities: what looks like an error in them.
        truth_mean: (hours, p) by target hour, on the scale [0, 10]; synthetic data only.
        truth_sd: (hours, p) of the same.

    Returns:
        The cases of the four quarters.
    """
    raw = np.asarray(raw, dtype=np.float64)
    hours = len(raw)
    period = periods(hours, lookback, lead, hours_per_quarter, order)
    scaled = (raw - minimum) / (np.asarray(maximum) - minimum) * SCALE_TOP
    series = np.clip(scaled, 0.0, SCALE_TOP).astype(np.float32)

    role_of_hour = roles(period, order)
    rows = [role_of_hour == role for role in Quarter]
    clip = ClipReport(
        names=tuple(names),
        minimum=np.asarray(minimum, dtype=np.float64),
        maximum=np.asarray(maximum, dtype=np.float64),
        below=np.array([(scaled[r] < 0).mean(axis=0) for r in rows]),
        above=np.array([(scaled[r] > SCALE_TOP).mean(axis=0) for r in rows]),
        share=((scaled < 0) | (scaled > SCALE_TOP)).mean(axis=0),
    )

    history = lookback + lead - 1
    inside = np.flatnonzero(period >= 0)
    offset, end = int(inside[0]), int(inside[-1]) + 1
    target = np.arange(max(offset, history), end, dtype=np.int64)
    target = target[role_of_hour[target] != LEFT_OUT]
    windows = np.lib.stride_tricks.sliding_window_view(
        series, lookback, axis=0
    )  # (hours - lookback + 1, p, lookback)
    measurement = np.ascontiguousarray(windows[target - history].transpose(0, 2, 1))
    demand = series[target]
    notes = list(notes)
    if history > offset:
        notes.append(
            f"the first {history - offset} target hours of the first quarter lack a full history and "
            "were dropped"
        )
    if end < hours:
        notes.append(f"the last {hours - end:,} hours lie after the last quarter and are not used")
    return DemandData(
        series=series,
        measurement=measurement,
        demand=demand,
        unsafe=demand < UNSAFE_BELOW,
        target_hour=target,
        quarter=role_of_hour[target],
        period=period[target],
        calendar=calendar_of(np.asarray(hour_of_epoch)[target]),
        names=tuple(names),
        clip=clip,
        lead=lead,
        source=source,
        starts=tuple(
            str(np.datetime64(int(np.asarray(hour_of_epoch)[period == k][0]), "h").astype("datetime64[D]"))
            for k in range(len(order))
        ),
        notes=tuple(notes),
        oddities=tuple(oddities),
        truth_mean=None if truth_mean is None else truth_mean[target],
        truth_sd=None if truth_sd is None else truth_sd[target],
    )


def calendar_of(hour_of_epoch: np.ndarray) -> np.ndarray:
    """Hour of day, day of week (Monday 0) and day of year, (n, 3) int64, from hours since 1970 in UTC."""
    hour_of_epoch = np.asarray(hour_of_epoch, dtype=np.int64)
    day = hour_of_epoch // 24
    date = day.astype("datetime64[D]")
    day_of_year = (date - date.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64) + 1
    return np.stack([hour_of_epoch % 24, (day + 3) % 7, day_of_year], axis=1)  # 1970-01-01 was a Thursday
