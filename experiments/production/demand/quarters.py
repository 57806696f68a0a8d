"""Time cut into quarters of equal length, each with a role.

Quarter k of time holds the target hours [offset + k Q, offset + (k + 1) Q) with Q hours per quarter. The
paper has four quarters; a longer series may have more, and then several may have the same role (networks
trained on four years) or none (a year that is left out). The offset is lookback + lead - 1 = 47 where the
series is long enough, which gives every quarter exactly Q cases. Four calendar years have 35,064 h =
24 + 4 Q: the offset is then 24, and the 23 first target hours of the first quarter, which lack a full
history, are dropped (8,737 cases instead of 8,760).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np

from safeframe.types import SafeframeError

HOURS_PER_QUARTER = 8760
HOURS_PER_WEEK = 168
N_QUARTERS = 4
LEFT_OUT = -1
"""The role of a quarter of time that is not used."""


class Quarter(IntEnum):
    """What a quarter of the time axis is used for; the values are the ids in `DemandData.quarter`."""

    TRAINING = 0
    INTERNAL_TEST_TRAINING = 1
    VALIDATION = 2
    INTERNAL_TEST_VALIDATION = 3

    @property
    def title(self) -> str:
        """The role in words."""
        return ("training", "internal test for training", "validation", "internal test for validation")[self]


def first_target(
    hours: int, lookback: int, lead: int, hours_per_quarter: int, quarters: int = N_QUARTERS
) -> int:
    """Offset of the first quarter in hours (module docstring).

    Raises:
        SafeframeError: for windows that are no positive integers and for a series shorter than its quarters.
    """
    for name, value in (("lookback", lookback), ("lead", lead), ("hours_per_quarter", hours_per_quarter)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise SafeframeError(f"{name} = {value!r}: a whole number of hours >= 1 is needed")
    history = lookback + lead - 1
    needed = quarters * hours_per_quarter
    if hours < needed:
        count = "four" if quarters == N_QUARTERS else str(quarters)
        shorter = hours // quarters
        raise SafeframeError(
            f"too few hours: the series have {hours:,}; {needed:,} are needed ({count} quarters of "
            f"{hours_per_quarter:,}), {needed + history:,} for every target to have {lookback} past hours, "
            f"{lead} hours ahead"
            + (f"; quarters of {shorter:,} hours (hours_per_quarter) would fit" if shorter > history else "")
        )
    offset = min(history, hours - needed)
    if history - offset >= hours_per_quarter:
        raise SafeframeError(
            f"lookback + lead - 1 = {history} hours of history leave no case in the first quarter of "
            f"{hours_per_quarter:,} hours; shorten them"
        )
    return offset


def check_order(order: Sequence[int]) -> tuple[int, ...]:
    """The role of each consecutive quarter of time.

    Raises:
        SafeframeError: unless each of the four roles is there and nothing but them and `LEFT_OUT`.
    """
    roles = [int(role) for role in order]
    if not set(Quarter) <= set(roles) <= {LEFT_OUT, *Quarter}:
        raise SafeframeError(
            f"order = {list(order)}: it must hold each of 0, 1, 2, 3 once or more, the role of each quarter "
            f"of time, and {LEFT_OUT} for a quarter that is left out"
        )
    return tuple(roles)


def periods(hours: int, lookback: int, lead: int, hours_per_quarter: int, order: Sequence[int]) -> np.ndarray:
    """(hours,) int64, in which quarter of time (0 the first) each hour lies; -1 before and after them."""
    quarters = len(check_order(order))
    offset = first_target(hours, lookback, lead, hours_per_quarter, quarters)
    found = np.full(hours, -1, dtype=np.int64)
    found[offset : offset + quarters * hours_per_quarter] = np.repeat(np.arange(quarters), hours_per_quarter)
    return found


def roles(period: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """(hours,) int64 role of each hour by its quarter of time (hours,); `LEFT_OUT` where it has none."""
    return np.append(np.asarray(order, dtype=np.int64), LEFT_OUT)[period]
