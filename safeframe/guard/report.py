"""What a SafetyGuard reports: how its thresholds were calibrated, and what it did with a batch and why."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from safeframe.certificates.cases import Certificate
from safeframe.groups.constraint import GroupShare
from safeframe.priced.terms import PricedBatch, PricedTerms
from safeframe.tensors import to_numpy
from safeframe.types import Status

EVERYTHING: Hashable = "all"


@dataclass(frozen=True)
class GuardCalibration:
    """One threshold r_t calibrated (for one group), with every probability by the event it belongs to.

    Attributes:
        r_t: threshold on the probability, in (0, 1].
        group: id of the group, or ``EVERYTHING``.
        tau: accept iff margin < tau; -inf rejects everything. With risk priced, the gate.
        feasible: whether some tau (or price) qualifies.
        accepted_risk: bound on P(unsafe | accepted); NaN with risk priced, where nothing is accepted or not.
        selected_risk: bound on P(unsafe | selected); None where there are no candidates to select from. With
            risk priced, that on P(unsafe | acted).
        acceptance: share of cases accepted.
        selection_rate: share of measurements with an accepted candidate.
        n_accepted: internal test cases that the calibrated event counts: accepted ones, or measurements with
            a selected candidate.
        n_unsafe_accepted: unsafe ones among them.
        n_t: internal test cases that calibrated.
        radius: xi, in logit units.
        cases_needed: accepted cases, none of them unsafe, that would certify r_t.
        certificate: from cases that had no part in the choice of tau, or None.
        event: the probability that is bounded.
        prior: P(unsafe): lower end, share in the cases, and the upper end that the bound is computed with.
        parts: the bound at tau as the parts of the rule come in one by one: "seen", "prior", "radius", "few
            cases"; empty where tau was certified or nothing is accepted.
        refused: why nothing may be accepted, where that is not for the bound; else empty.
        members: what each of the groups that are pooled has of what is accepted; empty where none are.
        binding: with a threshold common to all groups, that of which the bound is the largest there, or of
            which the least bound is the largest where no threshold qualifies; else None.
        priced: the terms where risk is priced; else None.
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
    event: str = "P(unsafe | accepted)"
    prior: tuple[float, float, float] = (math.nan, math.nan, math.nan)
    parts: dict[str, float] = field(default_factory=dict)
    refused: str = ""
    members: dict[Hashable, GroupShare] = field(default_factory=dict)
    binding: Hashable = None
    priced: PricedTerms | None = None

    @property
    def shares(self) -> dict[Hashable, GroupShare]:
        """What each group has of what is accepted: this one alone, or every one that is pooled here."""
        if self.members:
            return self.members
        bound = (
            self.accepted_risk
            if "accepted" in self.event or self.selected_risk is None
            else self.selected_risk
        )
        own = GroupShare(self.tau, self.n_t, self.n_accepted, self.n_unsafe_accepted, bound)
        return {} if self.group == EVERYTHING else {self.group: own}

    @property
    def summary(self) -> str:
        """One sentence, also for the case that nothing qualifies."""
        where = "" if self.group == EVERYTHING else f" in group {self.group!r}"
        if self.priced is not None:
            return self._priced_summary(where, self.priced)
        if self.refused:
            return (
                f"nothing is accepted at r_t = {self.r_t:g}{where}: {self.refused}; the default action is "
                "always taken"
            )
        if not self.feasible and self.binding is not None:
            return (
                f"no threshold qualifies for r_t = {self.r_t:g} in every group at once, least of all in "
                f"group {self.binding!r}: the default action is always taken"
            )
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
        worst = "" if self.binding is None else f"; the worst group is {self.binding!r}"
        return (
            f"r_t = {self.r_t:g}{where}: accept margin < {self.tau:.6g}; bounds P(unsafe | accepted) <= "
            f"{self.accepted_risk:.3g}{selected}; accepts {self.acceptance:.1%} of {self.n_t:,} cases"
            f"{few}{worst}"
        )

    def _priced_summary(self, where: str, terms: PricedTerms) -> str:
        if not self.feasible:
            why = self.refused or (
                f"at least {self.cases_needed:,} measurements acted on, none unsafely, would be needed to "
                f"certify it (there are {self.n_t:,} in all)"
            )
            return (
                f"no price of risk qualifies for r_t = {self.r_t:g}{where}: the default action is always "
                f"taken; {why}"
            )
        gate = "" if terms.gate == math.inf else f" among margins < {terms.gate:.6g}"
        level = "" if terms.r_t == self.r_t else f", found for r_t = {terms.r_t:g}"
        return (
            f"r_t = {self.r_t:g}{where}: price {terms.price:.6g} of risk{gate}{level}; bounds "
            f"P(unsafe | acted) <= {terms.bound:.3g}; acts on {self.selection_rate:.1%} of {self.n_t:,} "
            f"measurements, mean reward {terms.mean_reward:.4g}"
        )


@dataclass(frozen=True)
class GuardedActions:
    """What a guard did with a batch of n measurements, and why.

    Attributes:
        action: (n, ...) actions, the default action where rejected.
        accepted: (n,) bool.
        bound: (n,) the smallest r_t at which the guard accepts the action: accepted exactly where bound <=
            threshold; inf where it accepts at none (no threshold qualifies, not covered, or in error). With
            risk priced, the bound on P(unsafe | acted) at the price in force where a candidate is taken, inf
            elsewhere: it still is at most ``threshold`` exactly where one is.
        threshold: r_t.
        tau: (n,) thresholds on the margin in force.
        margin: (n,) of the action taken, or the least one where all were rejected; with risk priced +inf
            where the default action is taken. With constraint "pooled" or "worst_group" margins and
            thresholds are log odds on the common scale of risk.
        index: (n,) chosen candidate, 0 without candidates, -1 where rejected.
        group: (n,) ids, or None.
        calibration: per group (all under ``EVERYTHING`` where groups are pooled), with the bounds per
            accepted and per selected action.
        distance: (n,) to the internal test data, in scaled features; None without a coverage guard.
        covered: (n,) bool, whether the distance is within ``coverage_radius``; None without a coverage guard.
        coverage_radius: distance beyond which a bound is not trusted; None without a coverage guard.
        error: (n,) why a row cannot be judged, "" where it can; None where all can.
        priced: what decided where risk is priced; else None.
    """

    action: Any
    accepted: Any
    bound: Any
    threshold: float
    tau: Any
    margin: Any
    index: Any
    group: np.ndarray | None
    calibration: dict[Hashable, GuardCalibration]
    distance: Any = None
    covered: Any = None
    coverage_radius: float | None = None
    error: np.ndarray | None = None
    priced: PricedBatch | None = None

    @cached_property
    def status(self) -> np.ndarray:
        """How each action came about.

        Returns:
            (n,) "optimal", "default" (rejected), "infeasible" (no threshold qualifies) or "error" (the row
                cannot be judged).
        """
        found = np.where(to_numpy(self.accepted), Status.OPTIMAL.value, Status.DEFAULT.value)
        found = np.where(to_numpy(self.tau) == -np.inf, Status.INFEASIBLE.value, found)
        return found if self.error is None else np.where(self.error == "", found, Status.ERROR.value)

    @property
    def counts(self) -> dict[str, int]:
        """How many actions have each status."""
        values, n = np.unique(self.status, return_counts=True)
        return dict(zip(values.tolist(), n.tolist(), strict=True))

    def explain(self, i: int) -> str:
        """Why an action was taken.

        Args:
            i: its position in the batch.

        Returns:
            One sentence.
        """
        if self.error is not None and self.error[i]:
            return f"default action: this input cannot be judged: {self.error[i]}"
        key = EVERYTHING if self.group is None else self.group[i].item()
        found = self.calibration[key if key in self.calibration else EVERYTHING]
        own = ""
        if key in found.members:
            own = f"; of group {key!r}, pooled with the others: {found.members[key]}"
        if self.status[i] == Status.INFEASIBLE:
            return f"default action: {found.summary}{own}"
        if self.covered is not None and not bool(self.covered[i]):
            return (
                f"default action: this input lies {float(self.distance[i]):.4g} from the nearest internal "
                f"test case, beyond the coverage radius {self.coverage_radius:.4g}; the bound is not "
                "trusted there"
            )
        if self.priced is not None:
            if not bool(self.accepted[i]) and self.priced.bound[i] < math.inf:
                return (
                    f"default action: margin {float(self.margin[i]):.6g} of the candidate that the price "
                    f"chose is not below {float(self.tau[i]):.6g}, the threshold since recalibrated; "
                    f"{found.summary}"
                )
            return f"{self.priced.explain(i, int(self.index[i]))}; {found.summary}"
        margin, tau = float(self.margin[i]), float(self.tau[i])
        if not bool(self.accepted[i]):
            level = float(self.bound[i])
            from_where = (
                f"would be accepted from r_t = {level:.3g} on"
                if level < math.inf
                else "is accepted at no r_t"
            )
            return (
                f"default action: margin {margin:.6g} is not below {tau:.6g}, the threshold for r_t = "
                f"{self.threshold:g}; this case {from_where}{own}"
            )
        chosen = f"candidate {int(self.index[i])} " if found.selected_risk is not None else ""
        return f"{chosen}accepted: margin {margin:.6g} is below {tau:.6g}; {found.summary}{own}"

    @property
    def shares(self) -> dict[Hashable, GroupShare]:
        """What each group has of what is accepted, in the internal test data: counts and its own bound."""
        return {key: share for found in self.calibration.values() for key, share in found.shares.items()}

    @property
    def reason(self) -> list[str]:
        """:meth:`explain` for every action."""
        return [self.explain(i) for i in range(len(self.status))]
