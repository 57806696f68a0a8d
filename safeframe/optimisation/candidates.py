"""The optimisation stage for a finite set of candidates with a default action.

The default action is taken where no candidate is feasible (arXiv 2504.20924, section 3.1). With J(default) >
0 and J = 0 elsewhere the paper's rule is to sample from the model's own distribution restricted to the
feasible candidates ("sample"); choosing the highest score is the other case ("rank").
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from safeframe.chance_constraint import validate_threshold
from safeframe.types import BoolArray, FloatArray, IntArray, SafeframeError, Status

Rule = Literal["rank", "sample"]
DEFAULT = -1


@dataclass(frozen=True)
class Decisions:
    """The chosen candidate of every case.

    Attributes:
        index: (n,) integers, -1 where the default action is taken.
        n_feasible: (n,) candidates that were feasible.
    """

    index: IntArray
    n_feasible: IntArray

    @cached_property
    def status(self) -> np.ndarray:
        """Of :class:`safeframe.types.Status`.

        Returns:
            (n,) values, "optimal" or "default".
        """
        return np.where(self.accepted, Status.OPTIMAL.value, Status.DEFAULT.value)

    @property
    def accepted(self) -> BoolArray:
        """Where a candidate was chosen and not the default action: (n,)."""
        return self.index != DEFAULT

    def take(self, candidates: np.ndarray, default: np.ndarray | float) -> np.ndarray:
        """The actions that were decided on.

        Args:
            candidates: (n, c, ...) actions.
            default: the default action, broadcast to (...).

        Returns:
            (n, ...) candidates at the chosen index, the default action elsewhere; in the type of
                ``candidates``.
        """
        pool = np.asarray(candidates)
        chosen = pool[np.arange(len(pool)), np.maximum(self.index, 0)].copy()
        chosen[~self.accepted] = default
        return chosen


def feasible_candidates(bound: FloatArray, r_t: float) -> BoolArray:
    """Where a bound on P(unsafe) is at most r_t.

    Args:
        bound: bounds of any shape.
        r_t: threshold on the probability, in (0, 1].

    Returns:
        Bools, shaped like ``bound``.

    Raises:
        SafeframeError: on NaN bounds or an r_t outside (0, 1].
    """
    values = np.asarray(bound, dtype=np.float64)
    if np.isnan(values).any():
        raise SafeframeError("bound holds NaN; a bound is a number, 1 where nothing is known")
    return values <= validate_threshold(r_t)


def choose(
    bound_or_feasible: FloatArray | BoolArray,
    score: FloatArray | None = None,
    rule: Rule = "rank",
    probability: FloatArray | None = None,
    rng: np.random.Generator | None = None,
    r_t: float | None = None,
) -> Decisions:
    """Choose one feasible candidate per case, or the default action.

    Args:
        bound_or_feasible: (n, c) bool, or bounds on P(unsafe), which need ``r_t``; c >= 1.
        score: (n, c), the higher the better, required for "rank"; the lowest index wins among equals; -inf is
            never chosen.
        rule: "rank", or "sample": draw from ``probability`` restricted to the feasible.
        probability: (n, c) finite and not negative, required for "sample"; it need not sum to 1.
        rng: the random generator, required for "sample".
        r_t: threshold on the probability in (0, 1], required with bounds.

    Returns:
        The choice for every case.

    Raises:
        SafeframeError: on shapes that differ, NaN, an unknown rule, probabilities that are negative or
            infinite, a missing score, probability, generator or r_t.
    """
    first = np.asarray(bound_or_feasible)
    if first.ndim != 2 or first.shape[1] == 0:
        raise SafeframeError(f"bound_or_feasible has shape {first.shape}; expected (n, c) with c >= 1")
    feasible: BoolArray
    if first.dtype == np.bool_:
        feasible = first.astype(np.bool_)  # a copy
    elif r_t is None:
        raise SafeframeError("bounds were given but no r_t: pass r_t, or a boolean array of what is feasible")
    else:
        feasible = feasible_candidates(first.astype(np.float64), r_t)
    if rule == "rank":
        return ranked(feasible, _checked(score, "score", feasible.shape))
    if rule == "sample":
        weight = _checked(probability, "probability", feasible.shape)
        if (weight < 0.0).any() or np.isinf(weight).any():
            raise SafeframeError("probability holds negative or infinite values")
        if rng is None:
            raise SafeframeError("rule 'sample' needs rng, a numpy.random.Generator")
        feasible &= weight > 0.0
        cumulative = np.cumsum(np.where(feasible, weight, 0.0), axis=1)
        # The first candidate whose cumulative mass exceeds u * total, u in [0, 1): never one of mass zero.
        draw = rng.random(len(weight))[:, None] * cumulative[:, -1:]
        index = np.argmax(cumulative > draw, axis=1)
    else:
        raise SafeframeError(f"rule is {rule!r}; it must be 'rank' or 'sample'")
    return _decided(feasible, index)


def ranked(feasible: BoolArray, score: FloatArray) -> Decisions:
    """The best-scored feasible candidate of every case, or the default action; nothing is checked.

    Args:
        feasible: (n, c) bool.
        score: (n, c) without NaN and +inf, the higher the better; -inf is never chosen, the lowest index wins
            among equals.

    Returns:
        The choice for every case.
    """
    feasible = feasible & (score > -np.inf)
    return _decided(feasible, np.argmax(np.where(feasible, score, -np.inf), axis=1))


def _decided(feasible: BoolArray, index: IntArray) -> Decisions:
    count = feasible.sum(axis=1)
    return Decisions(np.where(count > 0, index, DEFAULT), count)


def _checked(values: FloatArray | None, name: str, shape: tuple[int, ...]) -> FloatArray:
    if values is None:
        raise SafeframeError(f"{name} is missing; this rule needs it with shape {shape}")
    array = np.asarray(values, dtype=np.float64)
    if array.shape != shape:
        raise SafeframeError(f"{name} has shape {array.shape}; expected {shape}")
    if np.isnan(array).any() or (array == np.inf).any():
        raise SafeframeError(f"{name} holds NaN or +inf")
    return array
