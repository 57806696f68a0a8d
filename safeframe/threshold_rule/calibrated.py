"""What a rule chooses for each r_t, and which of all choices up to an r_t counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from safeframe.types import Threshold


@dataclass(frozen=True)
class Calibrated:
    """What a rule chose for one r_t.

    Attributes:
        threshold: with the bound at tau as the rule computes it.
        radius: xi that was used, in logit units.
        slack: mass that was added: what the radius leaves out, and for accepted cases the one case more.
        refused: why nothing may be accepted, where that is not for the bound; else empty.
    """

    threshold: Threshold
    radius: float
    slack: float = 0.0
    refused: str = ""

    @property
    def tau(self) -> float:
        """Accept iff margin < tau; -inf rejects everything."""
        return self.threshold.tau

    @property
    def r_t(self) -> float:
        """Threshold on the probability, in (0, 1]."""
        return self.threshold.r_t


def most_permissive(calibrate: Callable[[float], Calibrated], levels: Sequence[float]) -> list[Calibrated]:
    """One choice for each r_t: of all thresholds up to it, the most permissive.

    Args:
        calibrate: from r_t to what a rule chooses for it alone.
        levels: ascending r_t in (0, 1].

    Returns:
        The choices, in the order of the levels; tau never falls.
    """
    found: list[Calibrated] = []
    for r_t in levels:
        choice = calibrate(r_t)
        keep = bool(found) and found[-1].tau >= choice.tau
        found.append(found[-1] if keep else choice)
    return found
