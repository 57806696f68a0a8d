"""The radius between two halves of the internal test data, as the threshold rule measures it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from safeframe.types import SAFE, SQRT2, UNSAFE, BoolArray, FloatArray, LabelArray

if TYPE_CHECKING:
    pass
from safeframe.informativeness.measured import lower_shift, sorted_sample


def alternating_runs(n: int, runs: int) -> BoolArray:
    """Every other of some runs of consecutive cases: a half of data whose neighbours depend on each other.

    Args:
        n: cases, at least 0.
        runs: of them, as equally long as can be; at most n are made.

    Returns:
        (n,) bool, True in the second run, the fourth and so on.
    """
    return (np.arange(n) * min(runs, n) // max(n, 1)) % 2 == 1


class HalvesRadius:
    """xi between two halves of labelled cases, for thresholds within a reach.

    Takes for each class the side that counts (unsafe cases not lower, safe ones not higher than in the other
    half), in both directions. Margins are sorted once, so that asking for many reaches is cheap.

    Args:
        margin: (n,) finite margins.
        label: (n,) 0 safe, 1 unsafe.
        odd: (n,) bool, which half a case belongs to.

    Raises:
        SafeframeError: if a class is absent from a half, or a margin is NaN or infinite.
    """

    def __init__(self, margin: FloatArray, label: LabelArray, odd: BoolArray) -> None:
        values, state, half = np.asarray(margin), np.asarray(label), np.asarray(odd, bool)

        def part(mine: BoolArray, state_id: int) -> FloatArray:
            return sorted_sample(values[mine & (state == state_id)], "reference")

        self._unsafe = part(half, UNSAFE), part(~half, UNSAFE)
        safe = part(half, SAFE), part(~half, SAFE)
        self._safe_mirrored = -safe[0][::-1], -safe[1][::-1]

    def radius(self, reach: float, delta: float) -> float:
        """xi for thresholds tau <= reach.

        Args:
            reach: the largest threshold that counts.
            delta: mass in [0, 1) that is left out.

        Returns:
            xi, in logit units.
        """
        gaps = [
            lower_shift(reference, other, delta, *window)
            for pair, window in (
                (self._unsafe, (-np.inf, reach)),
                (self._safe_mirrored, (-reach, np.inf)),
            )
            for reference, other in (pair, pair[::-1])
        ]
        return max(gaps) / SQRT2


def radius_between(
    margin: np.ndarray, label: np.ndarray, odd: np.ndarray, reach: float, delta: float
) -> float:
    """xi between two halves of the internal test data: :class:`HalvesRadius` for one reach.

    Args:
        margin: (n,) finite margins.
        label: (n,) 0 safe, 1 unsafe.
        odd: (n,) bool, which half a case belongs to.
        reach: only thresholds tau <= reach count.
        delta: mass in [0, 1) that is left out.

    Returns:
        xi, in logit units.

    Raises:
        SafeframeError: if a class is absent from a half, or a margin is NaN or infinite.
    """
    return HalvesRadius(margin, label, odd).radius(reach, delta)
