"""The choice for every r_t: a threshold, or nothing; and the order between choices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Calibrated:
    """tau for r_t (or one for every candidate, (k,)), the bound there (the largest over behaviours), the
    share of states in which something is accepted, whether r_t can be kept at all (otherwise tau is -inf:
    the default action always), and xi in logits (the largest over behaviours)."""

    r_t: float
    tau: float | np.ndarray
    bound: float
    acceptance: float
    feasible: bool
    radius: float = 0.0


def most_permissive(
    threshold: Callable[[float], Calibrated], levels: Sequence[float]
) -> dict[float, Calibrated]:
    """By r_t, ascending: what is safe enough at a stricter r_t is so at a looser one. Where every candidate
    has a tau of its own, they are kept together, by the mean acceptance."""
    found: dict[float, Calibrated] = {}
    last: Calibrated | None = None
    for r_t in sorted(levels):
        choice = threshold(r_t)
        if last is not None and last.feasible and _more(last, choice):
            choice = replace(last, r_t=r_t)
        found[r_t] = last = choice
    return found


def agreed(found: Mapping[float, Calibrated], holds: Callable[[Calibrated], bool]) -> dict[float, Calibrated]:
    """By r_t, ascending: where a choice does not hold, that of the next stricter r_t, or nothing."""
    kept: dict[float, Calibrated] = {}
    last: Calibrated | None = None
    for r_t in sorted(found):
        choice = found[r_t]
        if not holds(choice):
            nothing = Calibrated(r_t, -np.inf, 1.0, 0.0, False, choice.radius)
            choice = nothing if last is None else replace(last, r_t=r_t)
        kept[r_t] = last = choice
    return kept


def _more(one: Calibrated, other: Calibrated) -> bool:
    if isinstance(one.tau, float) and isinstance(other.tau, float):
        return one.tau > other.tau
    return one.acceptance > other.acceptance
