"""The prior P(unsafe) that a bound has to stand: given, an interval, or observed over blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from safeframe.chance_constraint import validate_prior
from safeframe.types import UNSAFE, LabelArray, SafeframeError

Prior = float | tuple[float, float] | Literal["observed"] | None


@dataclass(frozen=True)
class PriorInterval:
    """P(unsafe) that a bound has to stand.

    Attributes:
        low: its lower end.
        high: its upper end, with which bounds are computed.
        mean: the share in the cases.
        given: whether the user gave it.
    """

    low: float
    high: float
    mean: float
    given: bool


def prior_interval(prior: Prior, label: LabelArray, block: np.ndarray | None = None) -> PriorInterval:
    """The prior that a bound has to stand.

    Args:
        prior: P(unsafe); (low, high); "observed", the shares of the blocks; None, the share of the cases.
        label: (n,) 0 safe, 1 unsafe.
        block: (n,) ids of the periods or sites of the cases; needed for "observed".

    Returns:
        The interval.

    Raises:
        SafeframeError: on values outside [0, 1], an interval upside down, or "observed" with fewer than two
            blocks.
    """
    unsafe = np.asarray(label) == UNSAFE
    mean = float(unsafe.mean())
    if prior is None:
        return PriorInterval(mean, mean, mean, False)
    if isinstance(prior, str):
        if prior != "observed":
            raise SafeframeError(f'prior is {prior!r}; it must be a number, (low, high) or "observed"')
        keys = np.unique(block) if block is not None else np.empty(0)
        if block is None or len(keys) < 2:
            raise SafeframeError('prior "observed" needs block ids of at least two periods or sites')
        shares = [float(unsafe[block == key].mean()) for key in keys]
        return PriorInterval(min(shares), max(shares), mean, True)
    low, high = prior if isinstance(prior, tuple) else (prior, prior)
    for end in (low, high):
        validate_prior(end, 2)
    if low > high:
        raise SafeframeError(f"prior is ({low}, {high}); the lower end comes first")
    return PriorInterval(float(low), float(high), mean, True)
