"""What looks like an error in a series though it can be read: said, never mended.

The scale of demand is the range of the training quarters, so one wrong hour there stretches it, and with it
what "below 3" means. Whoever gave the file decides what to do about it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FAR = 2.0
"""An extreme hour is suspicious beyond this multiple of the quantile of one hour in a thousand."""
ALIKE = 36
"""So many equal hours in a row are suspicious."""
CLIPPED = 0.05
"""So large a share of a quarter's hours clipped is suspicious."""


def oddities(
    raw: np.ndarray, hour_of_epoch: np.ndarray, names: Sequence[str], training: np.ndarray
) -> list[str]:
    """One sentence for each thing that is suspicious.

    Args:
        raw: (hours, p) demand in any unit, finite and >= 0.
        hour_of_epoch: (hours,) hours since 1970-01-01 00:00 UTC.
        names: of the series.
        training: (hours,) bool, the hours that fix the scale.

    Returns:
        The sentences, series by series; empty where nothing is.
    """
    found = []
    for i, name in enumerate(names):
        value, scaling = raw[:, i], raw[training, i]
        zero = np.flatnonzero(value == 0)
        if zero.size and np.median(value) > 0:
            found.append(
                f"{name}: {zero.size:,} hours with a demand of 0, the first {_time(hour_of_epoch[zero[0]])}: "
                "are these missing values?"
            )
        top = float(np.quantile(scaling, 0.999))
        high = float(scaling.max())
        if top > 0 and high > FAR * top:
            at = np.flatnonzero(training)[int(scaling.argmax())]
            found.append(
                f"{name}: the largest demand, {high:g} at {_time(hour_of_epoch[at])}, is {high / top:.1f} "
                "times what one hour in a thousand exceeds, and it sets the scale: is it an error?"
            )
        low, bottom = float(scaling.min()), float(np.quantile(scaling, 0.001))
        if 0 < low < bottom / FAR:
            at = np.flatnonzero(training)[int(scaling.argmin())]
            found.append(
                f"{name}: the smallest demand, {low:g} at {_time(hour_of_epoch[at])}, is {low / bottom:.2f} "
                "times what one hour in a thousand is below, and it sets the scale: is it an error?"
            )
        start, length = longest_run(value)
        if length >= ALIKE:
            found.append(
                f"{name}: {length:,} equal hours in a row from {_time(hour_of_epoch[start])}: were they "
                "filled in?"
            )
    return found


def longest_run(value: np.ndarray) -> tuple[int, int]:
    """First index and length of the longest stretch of equal values (n,), n >= 1."""
    starts = np.append(0, np.flatnonzero(np.diff(value) != 0) + 1)
    lengths = np.diff(np.append(starts, len(value)))
    longest = int(lengths.argmax())
    return int(starts[longest]), int(lengths[longest])


def _time(hour: int) -> str:
    return str(np.datetime64(int(hour), "h")).replace("T", " ") + ":00"
