"""Bets against a hypothesis on a risk, whose wealth is a function of two counts.

H0: each label that comes is unsafe with probability at most r, given the labels that came before it. One bet
for each alternative q > r multiplies its wealth by q / r at an unsafe label and by (1 - q) / (1 - r) at a
safe one: on average by at most 1 under H0, so that the wealth is an e-process and passes 1 / alpha, ever,
with probability at most alpha (Ville 1939; Waudby-Smith & Ramdas 2024, doi:10.1093/jrsssb/qkad009; Podkopaev
& Ramdas, arXiv 2110.06177). A mean over alternatives is one as well:

    W(k, n; r) = sum_j w_j (q_j / r)^k ((1 - q_j) / (1 - r))^(n - k),   q_j = min(a_j r, (1 + r) / 2).

It depends on the n labels through the k unsafe ones alone, so nothing is accumulated and nothing drifts,
however many labels there are. It falls with every safe label and it falls in r.

Departure from the source: an alternative above the middle between r and 1 bets on that middle. One on
exactly 1 would lose everything for good at the first safe label.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from safeframe.types import FloatArray, Floats, IntArray, SafeframeError, number, numbers

LOWEST = 28_000
"""The rung of a lower limit of 0; the one above it is 7e-13."""
_STEP = 1e-3


def open_unit(value: float, name: str) -> float:
    """Check a probability that may be neither 0 nor 1.

    Args:
        value: a number in (0, 1).
        name: what the message of an error calls it.

    Returns:
        The number as a float.

    Raises:
        SafeframeError: unless it is a number in (0, 1).
    """
    try:
        found = number(value, name)
    except SafeframeError as error:
        raise SafeframeError(f"{name} is {value!r:.80}; it must be a number in (0, 1)") from error
    if not 0.0 < found < 1.0:
        raise SafeframeError(f"{name} is {found}; it must lie in (0, 1), both excluded")
    return found


class Bets:
    """A mixture of bets on risks that are multiples of the hypothesis's.

    Args:
        alternatives: the multiples a_j > 1.
        weights: of the bets, positive; they are divided by their sum. None: equal ones.

    Raises:
        SafeframeError: without alternatives, on one that is not finite and above 1, on weights that are not
            one positive number each.
    """

    def __init__(self, alternatives: Sequence[float], weights: Sequence[float] | None = None) -> None:
        multiples = numbers(alternatives, "alternatives")
        if multiples.ndim != 1 or not multiples.size:
            raise SafeframeError(f"alternatives are {alternatives!r}; expected a list of numbers above 1")
        if not (np.isfinite(multiples) & (multiples > 1.0)).all():
            raise SafeframeError(
                f"alternatives are {multiples.tolist()}; each is a multiple of r_t and must be above 1"
            )
        mass = np.ones(multiples.shape) if weights is None else numbers(weights, "weights")
        if mass.shape != multiples.shape or not (np.isfinite(mass) & (mass > 0.0)).all():
            raise SafeframeError(
                f"weights are {weights!r}; expected {multiples.size} positive numbers, one per alternative"
            )
        self.alternatives, self.weights = multiples, mass / mass.sum()
        self.log_weights = np.log(self.weights)

    def factors(self, r: float) -> tuple[FloatArray, FloatArray]:
        """What each bet wins and loses at one label.

        Args:
            r: the risk of the hypothesis, in (0, 1).

        Returns:
            (j,) logs of q / r and (j,) logs of (1 - q) / (1 - r).
        """
        q = np.minimum(self.alternatives * r, 0.5 * (1.0 + r))
        return np.log(q / r), np.log1p((r - q) / (1.0 - r))

    def log_wealth(self, unsafe: Floats | IntArray, safe: Floats | IntArray, r: float) -> FloatArray:
        """The logarithm of the wealth after so many labels.

        Args:
            unsafe: unsafe labels, of any shape.
            safe: safe labels, of the same shape.
            r: the risk of the hypothesis, in (0, 1).

        Returns:
            Logarithms, shaped like the counts; 0 at the start.
        """
        won, lost = self.factors(r)
        each = np.multiply.outer(unsafe, won) + np.multiply.outer(safe, lost) + self.log_weights
        return log_sum(each)

    def lower_limit(self, unsafe: int, n: int, log_bar: float, rung: int = LOWEST) -> int:
        """The largest risk on a ladder (:func:`rung_value`) against which the wealth is at the bar.

        The ladder makes the answer one that does not depend on where the search begins.

        Args:
            unsafe: unsafe labels.
            n: labels.
            log_bar: logarithm of the bar, above 0.
            rung: one that is known to be reached.

        Returns:
            The rung; the one given where no higher one is reached.
        """
        beyond, step = rung - 1, 1  # gallop upwards, then halve
        while beyond > 0 and self._reaches(unsafe, n, log_bar, beyond):
            rung, step = beyond, 2 * step
            beyond = max(rung - step, 0)
        while rung - beyond > 1:
            middle = (rung + beyond) // 2
            if self._reaches(unsafe, n, log_bar, middle):
                rung = middle
            else:
                beyond = middle
        return rung

    def _reaches(self, unsafe: int, n: int, log_bar: float, rung: int) -> bool:
        return bool(self.log_wealth(unsafe, n - unsafe, rung_value(rung)) >= log_bar)


def rung_value(rung: int) -> float:
    """The risk of a rung of the ladder of lower limits: neighbours are a thousandth apart.

    Args:
        rung: from 1, the highest, to ``LOWEST``, which stands for 0.

    Returns:
        The risk, in [0, 1).
    """
    return math.exp(-_STEP * rung) if rung < LOWEST else 0.0


def log_sum(logs: FloatArray) -> FloatArray:
    """The logarithm of a sum over the last axis, without overflow.

    Args:
        logs: (..., j) finite logarithms of the terms.

    Returns:
        (...) logarithms of the sums.
    """
    top = logs.max(axis=-1)
    return top + np.log(np.exp(logs - top[..., None]).sum(axis=-1))
