"""What a SafetyGuard reports: how its thresholds were calibrated, and what it did with a batch and why."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from safeframe.certificates.cases import Certificate
from safeframe.types import Status

EVERYTHING: Hashable = "all"


@dataclass(frozen=True)
class GuardCalibration:
    """One threshold r_t calibrated (for one group), with every probability by the event it belongs to.

    Attributes:
        r_t: threshold on the probability, in (0, 1].
        group: id of the group, or ``EVERYTHING``.
        tau: accept iff margin < tau; -inf rejects everything.
        feasible: whether some tau qualifies.
        accepted_risk: bound on P(unsafe | accepted).
        selected_risk: bound on P(unsafe | selected); None where there are no candidates to select from.
        acceptance: share of cases accepted.
        selection_rate: share of measurements with an accepted candidate.
        n_accepted: internal test cases that the calibrated event counts: accepted ones, or measurements with
            a selected candidate.
        n_unsafe_accepted: unsafe ones among them.
        n_t: internal test cases that calibrated.
        radius: xi, in logit units.
        cases_needed: accepted cases, none of them unsafe, that would certify r_t.
        certificate: from cases that had no part in the plug-in calibration, or None.
    """

    r_t: float
    group: Hashable
    tau: float
    feasible: bool
    accepted_risk: float
    selected_risk: float | None
    acceptance: float
    selection_rate: float
    n_accepted: int
    n_unsafe_accepted: int
    n_t: int
    radius: float
    cases_needed: int
    certificate: Certificate | None = None

    @property
    def summary(self) -> str:
        """One sentence, also for the case that nothing qualifies."""
        where = "" if self.group == EVERYTHING else f" in group {self.group!r}"
        if not self.feasible:
            return (
                f"no threshold qualifies for r_t = {self.r_t:g}{where}: the default action is always taken; "
                f"at least {self.cases_needed:,} accepted cases, none unsafe, would be needed to certify it "
                f"(there are {self.n_t:,} cases in all)"
            )
        selected = "" if self.selected_risk is None else f", P(unsafe | selected) <= {self.selected_risk:.3g}"
        few = ""
        if self.certificate is None and self.n_accepted < self.cases_needed:
            few = f"; too few for a certificate, which takes {self.cases_needed:,} accepted cases"
        return (
            f"r_t = {self.r_t:g}{where}: accept margin < {self.tau:.6g}; bounds P(unsafe | accepted) <= "
            f"{self.accepted_risk:.3g}{selected}; accepts {self.acceptance:.1%} of {self.n_t:,} cases{few}"
        )


@dataclass(frozen=True)
class GuardedActions:
    """What a guard did with a batch of n measurements, and why.

    Attributes:
        action: (n, ...) actions, the default action where rejected.
        accepted: (n,) bool.
        bound: (n,) the smallest r_t whose plug-in threshold accepts the margin; 1 where the measurement is
            not covered.
        threshold: r_t.
        tau: (n,) thresholds on the margin in force.
        margin: (n,) of the action taken, or the least one where all were rejected.
        index: (n,) chosen candidate, 0 without candidates, -1 where rejected.
        status: (n,) "optimal", "default" (rejected) or "infeasible" (no threshold qualifies at all).
        group: (n,) ids, or None.
        calibration: per group, with the bounds per accepted and per selected action.
        distance: (n,) to the internal test data, in scaled features; None without a coverage guard.
        covered: (n,) bool, whether the distance is within ``coverage_radius``; None without a coverage guard.
        coverage_radius: distance beyond which a bound is not trusted; None without a coverage guard.
    """

    action: Any
    accepted: Any
    bound: Any
    threshold: float
    tau: Any
    margin: Any
    index: Any
    status: np.ndarray
    group: np.ndarray | None
    calibration: dict[Hashable, GuardCalibration]
    distance: Any = None
    covered: Any = None
    coverage_radius: float | None = None

    def explain(self, i: int) -> str:
        """Why an action was taken.

        Args:
            i: its position in the batch.

        Returns:
            One sentence.
        """
        found = self.calibration[EVERYTHING if self.group is None else self.group[i].item()]
        if self.status[i] == Status.INFEASIBLE:
            return f"default action: {found.summary}"
        if self.covered is not None and not bool(self.covered[i]):
            return (
                f"default action: this input lies {float(self.distance[i]):.4g} from the nearest internal "
                f"test case, beyond the coverage radius {self.coverage_radius:.4g}; the bound is not "
                "trusted there"
            )
        margin, tau = float(self.margin[i]), float(self.tau[i])
        if not bool(self.accepted[i]):
            return (
                f"default action: margin {margin:.6g} is not below {tau:.6g}, the threshold for r_t = "
                f"{self.threshold:g}; this case would be accepted from r_t = {float(self.bound[i]):.3g} on"
            )
        chosen = f"candidate {int(self.index[i])} " if found.selected_risk is not None else ""
        return f"{chosen}accepted: margin {margin:.6g} is below {tau:.6g}; {found.summary}"

    @property
    def reason(self) -> list[str]:
        """:meth:`explain` for every action."""
        return [self.explain(i) for i in range(len(self.status))]
