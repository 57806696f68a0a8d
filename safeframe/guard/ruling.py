"""What rules in one group of a guard: from a margin to the smallest r_t that accepts it, and back.

Three kinds of rule come under one interface (:class:`Ruling`): the exact curve where radius and slack do not
depend on r_t, a ladder of levels where the radius is measured for each of them, and the certified thresholds.
In all of them ``level(margin) <= r_t`` exactly where ``margin < tau(r_t)``.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Protocol

import numpy as np

from safeframe.certificates.cases import cases_needed
from safeframe.groups.constraint import share_of
from safeframe.groups.scales import GroupScales
from safeframe.groups.worst import WorstCurve, WorstRule
from safeframe.guard.evidence import Evidence, halves
from safeframe.guard.report import GuardCalibration
from safeframe.guard.settings import Certified, GuardSettings
from safeframe.risk_curve import RiskCurve
from safeframe.shrinkage import Shrinkage
from safeframe.threshold_rule import Calibrated, Event, PlugIn, Prior, ThresholdRule, one_more
from safeframe.threshold_rule import Curve as RuleCurve
from safeframe.types import FloatArray, Floats, SafeframeError

RUNGS_PER_DECADE = 8


class Ruling(Protocol):
    """From margins to levels and from levels to thresholds."""

    def level(self, margin: Floats) -> FloatArray:
        """The smallest r_t at which a case of this margin is accepted; inf where at none.

        Args:
            margin: margins of any shape.

        Returns:
            Levels, shaped like ``margin``.
        """
        ...

    def tau(self, r_t: float) -> float:
        """The threshold on the margin at one r_t.

        Args:
            r_t: threshold on the probability, in (0, 1].

        Returns:
            Accept iff margin < tau; -inf rejects everything.
        """
        ...


class Curve:
    """The ruling of a curve that does not depend on r_t.

    Args:
        curve: of accepted cases or of selected candidates, or the worst of several groups'.
    """

    def __init__(self, curve: RuleCurve | WorstCurve) -> None:
        self._curve = curve

    def level(self, margin: Floats) -> FloatArray:
        """The smallest r_t at which a case of this margin is accepted.

        Args:
            margin: margins of any shape.

        Returns:
            Levels, shaped like ``margin``.
        """
        return self._curve.level(margin)

    def tau(self, r_t: float) -> float:
        """The threshold on the margin at one r_t.

        Args:
            r_t: threshold on the probability, in (0, 1].

        Returns:
            Accept iff margin < tau.
        """
        return float(self._curve.largest_threshold(r_t).tau)


class Steps:
    """The ruling of finitely many levels: an r_t between two of them has the threshold of the lower one.

    Args:
        r_t: (k,) ascending levels.
        tau: (k,) their thresholds, not falling.
    """

    def __init__(self, r_t: Sequence[float], tau: Sequence[float]) -> None:
        self.levels, self.taus = np.array(r_t, dtype=np.float64), np.array(tau, dtype=np.float64)
        self._of = np.append(self.levels, np.inf)

    def level(self, margin: Floats) -> FloatArray:
        """The smallest of the levels at which a case of this margin is accepted; inf where at none.

        Args:
            margin: margins of any shape.

        Returns:
            Levels, shaped like ``margin``.
        """
        values = np.asarray(margin, dtype=np.float64)
        return self._of[np.searchsorted(self.taus, values, side="right")]

    def tau(self, r_t: float) -> float:
        """The threshold of the largest level that is at most r_t; -inf where there is none.

        Args:
            r_t: threshold on the probability, in (0, 1].

        Returns:
            Accept iff margin < tau.
        """
        last = int(np.searchsorted(self.levels, r_t, side="right")) - 1
        return float(self.taus[last]) if last >= 0 else -np.inf


class GroupRuling:
    """What one group of evidence rules.

    Args:
        evidence: of the cases of the group.
        settings: of the guard.
        group: id of the group.

    Raises:
        SafeframeError: where a class is absent, values are not finite, the settings' prior lacks the group,
            or event "selected" has no scores.
    """

    def __init__(self, evidence: Evidence, settings: GuardSettings, group: Hashable) -> None:
        self.group, self.n_t = group, len(evidence.margin)
        candidates = evidence.score is not None
        self.event: Event = settings.event or ("selected" if candidates else "accepted")
        if self.event == "selected" and not candidates:
            raise SafeframeError("event 'selected' needs a model that returns (candidates, score)")
        self.rule = self._rule(evidence, settings, settings.prior_of(group), False)
        self.prior = self.rule.prior
        self.refused = _measured(self.rule.lacking)
        self.candidates = candidates
        self.accepted = self.rule.plain
        self.scales: GroupScales | None = None
        """From margins to risk, where the guard needs it."""
        self.members: dict[Hashable, ThresholdRule] = {}
        """The rules on the groups' own cases, where this one pools them."""
        if settings.constraint == "pooled" and evidence.group is not None:
            for key in np.unique(evidence.group).tolist():
                own = evidence.subset(np.flatnonzero(evidence.group == key))
                self.members[key] = self._rule(own, settings, None, True)
        self.worst: WorstRule | None = None
        """What rules all groups together, where the thresholds are those of the worst."""
        self.rule_by(self.rule, self.refused, settings.threshold)

    def _rule(self, evidence: Evidence, settings: GuardSettings, prior: Prior, few: bool) -> ThresholdRule:
        rule = PlugIn() if isinstance(settings.rule, Certified) else settings.rule
        return ThresholdRule(
            evidence.margin, evidence.label, rule, halves(evidence, settings.blocks), evidence.score,
            self.event, prior, evidence.block, few,
            evidence.risk if isinstance(rule, Shrinkage) else None,
        )  # fmt: skip

    def rule_by(
        self,
        rule: ThresholdRule | WorstRule,
        refused: str,
        wanted: Sequence[float],
        least: float | None = None,
    ) -> None:
        """Set ladder and ruling.

        Args:
            rule: that of the group, or the worst of several.
            refused: why nothing may be accepted; else empty.
            wanted: r_t that must be on the ladder.
            least: a level below which everything is refused; None: that of the group.
        """
        self.ladder: dict[float, Calibrated] = {}
        self._curve: RuleCurve | WorstCurve | None = None
        self.refused = refused
        self.ruling: Ruling = Steps([], [])
        if refused:
            return
        if rule.fixed:
            self._curve = rule.curve(1.0)
            if self._curve is not None:
                self.ruling = Curve(self._curve)
            return
        rungs = 10.0 ** (-np.arange(0.0, 18.0, 1.0 / RUNGS_PER_DECADE))
        levels = sorted({*wanted, *rungs[rungs >= (self.least() if least is None else least)].tolist()})
        found = rule.thresholds(levels)
        self.ladder = dict(zip(levels, found, strict=True))
        # With probability at most 1 anything may be accepted.
        self.ruling = Steps(levels, [one.tau for one in found[:-1]] + [np.inf])

    def least(self) -> float:
        """A level below which one case more than was seen refuses everything.

        Returns:
            The level, in (0, 1].
        """
        if self.event == "selected":
            return 1.0 / (self.n_t + 1)
        slack = one_more(self.rule.n_unsafe)
        assert isinstance(self.accepted, RiskCurve)
        return float(self.accepted.adjusted(slack=slack).level(-np.inf)) if slack < 1.0 else 1.0

    def level(self, margin: Floats) -> FloatArray:
        """The smallest r_t at which a case of this margin is accepted; inf where at none.

        Args:
            margin: margins of any shape.

        Returns:
            Levels, shaped like ``margin``.
        """
        return self.ruling.level(margin)

    def calibration(self, r_t: float, tau: float | None = None, brief: bool = False) -> GuardCalibration:
        """Calibrate r_t, or report on a given tau.

        Args:
            r_t: threshold on the probability, in (0, 1].
            tau: threshold on the margin; None: that of the ruling.
            brief: leave out what takes more than a few binary searches: the parts of the bound.

        Returns:
            What that threshold accepts, and the bounds on its risks.

        Raises:
            SafeframeError: on an r_t outside (0, 1].
        """
        given = tau is not None
        tau = self.ruling.tau(r_t) if tau is None else tau
        rung = None if given else self._rung(r_t)
        at = r_t if rung is None else rung.r_t
        accepted_risk, selected_risk = 1.0, 1.0 if self.candidates else None
        radius, parts = 0.0, {}
        if not self.refused:
            radius = self.rule.radius(at) if rung is None or self.worst else rung.radius
        if not self.refused and tau > -np.inf:
            if self.candidates or given or self.worst:
                accepted_risk, selected_risk = self.rule.risks(at, tau)
            elif rung is not None:  # at r_t = 1 everything is accepted, whatever the bound
                accepted_risk = rung.threshold.bound if rung.tau == tau else 1.0
            elif self._curve is not None:
                accepted_risk = float(self._curve.bound(tau))
            parts = {} if given or brief else self.rule.parts(at, tau)
        counts = self.rule.plain_selected.counts if self.event == "selected" else self.accepted.counts
        counted, unsafe = counts(tau)
        acceptance = float(self.accepted.acceptance(tau))
        return GuardCalibration(
            r_t=r_t,
            group=self.group,
            tau=float(tau),
            feasible=tau > -np.inf,
            accepted_risk=accepted_risk,
            selected_risk=selected_risk,
            acceptance=acceptance,
            selection_rate=(
                float(self.rule.plain_selected.selection_rate(tau)) if self.candidates else acceptance
            ),
            n_accepted=int(counted),
            n_unsafe_accepted=int(unsafe),
            n_t=self.n_t,
            radius=radius,
            cases_needed=cases_needed(r_t, 0.05),
            event=f"P(unsafe | {self.event})",
            prior=(self.prior.low, self.prior.mean, self.prior.high),
            parts=parts,
            refused=self.refused,
            members={key: share_of(rule, at, tau) for key, rule in self.members.items()},
            binding=None if self.worst is None else self.worst.binding(at, tau),
        )

    def _rung(self, r_t: float) -> Calibrated | None:
        """The entry of the ladder that serves r_t; None without a ladder."""
        below = [level for level in self.ladder if level <= r_t]
        return self.ladder[max(below)] if below else None


def join(rulings: Mapping[Hashable, GroupRuling], wanted: Sequence[float]) -> None:
    """Let the worst of several groups rule in all of them, by one threshold.

    Args:
        rulings: of the groups, on a common scale; changed in place.
        wanted: r_t that must be on the ladder.
    """
    worst = WorstRule({key: one.rule for key, one in rulings.items()})
    first, *others = rulings.values()
    refused = _measured(worst.refused)
    least = None if worst.fixed or refused else max(one.least() for one in rulings.values())
    first.rule_by(worst, refused, wanted, least)
    for one in (first, *others):
        one.worst, one.refused = worst, first.refused
        one.ladder, one.ruling = first.ladder, first.ruling


def _measured(lacking: str) -> str:
    return f"{lacking}, so the radius cannot be measured" if lacking else ""
