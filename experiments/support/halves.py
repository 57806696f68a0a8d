"""The radius of conservative testing as measured between two halves of the internal test data."""

from __future__ import annotations

import numpy as np

from safeframe.informativeness import measured_radius
from safeframe.types import SAFE, UNSAFE


def radius_between(
    margin: np.ndarray, label: np.ndarray, odd: np.ndarray, reach: float, delta: float
) -> float:
    """xi between two halves for thresholds tau <= reach, with mass delta left out.

    margin, label (0/1), odd (bool): (n,). Takes for each class the side that counts (unsafe cases not lower,
    safe ones not higher than in the other half), in both directions. SafeframeError if a class is absent from
    a half.
    """
    gaps = []
    for state, side in ((SAFE, "upper"), (UNSAFE, "lower")):
        parts = margin[odd & (label == state)], margin[~odd & (label == state)]
        for reference, other in (parts, parts[::-1]):
            found = measured_radius(reference, other, delta, side=side, window=(-np.inf, reach))
            gaps.append(found.radius)
    return max(gaps)
