"""The thresholds that a rule gives on one set of labelled margins."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import numpy as np

from safeframe.certificates.cases import cases_needed
from safeframe.chance_constraint import validate_threshold
from safeframe.informativeness import HalvesRadius
from safeframe.margins import check_cases
from safeframe.risk_curve import RiskCurve
from safeframe.selected_risk import SelectedRiskCurve
from safeframe.shrinkage import Shrinkage, ShrinkageCurve
from safeframe.threshold_rule.calibrated import Calibrated, most_permissive
from safeframe.threshold_rule.prior import Prior, prior_interval
from safeframe.threshold_rule.rules import Conservative, LackingClassError, PlugIn, one_more
from safeframe.types import SAFE, UNSAFE, BoolArray, FloatArray, LabelArray, SafeframeError, Threshold, states

Event = Literal["accepted", "selected"]
Rule = PlugIn | Conservative | Shrinkage
Curve = RiskCurve | SelectedRiskCurve | ShrinkageCurve


class ThresholdRule:
    """The thresholds that a rule gives on one set of cases.

    Args:
        margin: (n,) finite margins f_1 - f_0, or (n, c) of the candidates of n measurements.
        label: shaped like ``margin``, 0 safe and 1 unsafe.
        rule: which rule.
        odd: (n,) bool, the half of each row, between which a radius is measured; None: rows alternate.
        score: (n, c) for event "selected": the best-scored accepted candidate is taken; -inf where absent.
        event: "accepted" bounds P(unsafe | accepted), "selected" P(unsafe | selected).
        prior: P(unsafe) as :func:`prior_interval` takes it; for "selected" it moves the odds of an unsafe
            selected candidate.
        block: (n,) ids of periods or sites, for prior "observed".
        few: the cases are known to be few: where a class is absent, nothing is accepted, with the reason.
        probability: shaped like ``margin``, calibrated P(unsafe) of the cases in (0, 1], fitted on others
            (:mod:`safeframe.risk_scale`); only the rule ``Shrinkage`` takes it, and needs it.

    Raises:
        SafeframeError: on shapes that differ, NaN, labels other than 0/1; where a class is absent, unless
            ``few`` (``Shrinkage`` needs both only where a prior is given).
    """

    def __init__(
        self,
        margin: FloatArray,
        label: LabelArray,
        rule: Rule,
        odd: BoolArray | None = None,
        score: FloatArray | None = None,
        event: Event = "accepted",
        prior: Prior = None,
        block: np.ndarray | None = None,
        few: bool = False,
        probability: FloatArray | None = None,
    ) -> None:
        if not isinstance(event, str) or event not in ("accepted", "selected"):
            raise SafeframeError(f"event is {event!r}; it must be one of accepted, selected")
        if event == "selected" and score is None:
            raise SafeframeError("event 'selected' needs the scores of the candidates")
        if (probability is not None) != isinstance(rule, Shrinkage):
            raise SafeframeError(
                "rule Shrinkage() needs the probabilities of the cases, and no other takes them"
            )
        self.rule, self.event = rule, event
        margins, labels = np.asarray(margin), states(label)
        if margins.ndim not in (1, 2) or labels.shape != margins.shape:
            raise SafeframeError(
                f"margin {margins.shape} and label {labels.shape}: expected one shape, (n,) or (n, c)"
            )
        self._chance = probability if probability is None else np.asarray(probability, np.float64)
        if self._chance is not None and self._chance.shape != margins.shape:
            raise SafeframeError(f"probability has shape {self._chance.shape}; expected {margins.shape}")
        present = np.ones(margins.shape, bool) if score is None else np.asarray(score) != -np.inf
        half = np.arange(len(margins)) % 2 == 1 if odd is None else np.asarray(odd, bool)
        self._odd = _by_case(half, margins.shape)[present]
        self._margin, self._label = margins[present], labels[present]
        own = None if block is None else _by_case(np.asarray(block), margins.shape)[present]
        self.lacking = self._lacking()
        """Which class is absent from the cases, or from a half where the radius is measured; "" if none."""
        if self.lacking:
            check_cases(self._margin, self._label)
        self.refused = self.lacking if few else ""
        self._candidates = (margins, score, labels, present)
        if self.refused:
            return
        self.prior = prior_interval(prior, self._label, own)
        by_odds = self.prior.given and self.prior.high != self.prior.mean
        by_odds = by_odds if isinstance(rule, Shrinkage) else event == "selected"
        if by_odds and self.prior.high in (0.0, 1.0):
            raise SafeframeError(
                f"prior is {self.prior.high:g}, but here it moves the odds of an unsafe case (event "
                "'selected', or rule Shrinkage): it must lie between 0 and 1, both excluded"
            )
        if by_odds and self.prior.mean in (0.0, 1.0):
            raise SafeframeError("a given prior moves the odds of an unsafe case, but the cases lack a class")
        self.plain = self._plain()
        self._halves: HalvesRadius | None = None

    def _plain(self) -> RiskCurve | ShrinkageCurve:
        """The curve of accepted cases: at radius 0, or of the shrinkage bound."""
        if not isinstance(self.rule, Shrinkage):
            return RiskCurve(self._margin, self._label, self.prior.high, form=self.rule.form)
        assert self._chance is not None
        chance = self._chance[self._candidates[3]]
        return ShrinkageCurve(self._margin, self._label, chance, self.rule, self.odds)

    def _lacking(self) -> str:
        if isinstance(self.rule, Shrinkage):
            return ""
        parts = {"the cases": self._label}
        if isinstance(self.rule, Conservative) and self.rule.radius == "measured":
            parts |= {"the even half": self._label[~self._odd], "the odd half": self._label[self._odd]}
        for where, part in parts.items():
            for state, name in ((UNSAFE, "unsafe"), (SAFE, "safe")):
                if not (part == state).any():
                    return f"there is no {name} case in {where} ({len(part):,} cases)"
        return ""

    @cached_property
    def plain_selected(self) -> SelectedRiskCurve | ShrinkageCurve:
        """The curve of the selected action at radius 0 (or of the shrinkage bound), with the prior's odds.

        Returns:
            The curve.
        """
        if not isinstance(self.rule, Shrinkage):
            return self._selected(0.0, 0.0, False)
        margins, score, labels, present = self._candidates
        assert score is not None
        assert self._chance is not None
        return ShrinkageCurve(
            margins, np.where(present, labels, 0), self._chance, self.rule, self.odds, score
        )

    def _selected(
        self, radius: float, slack: float, one_more: bool, odds: float | None = None
    ) -> SelectedRiskCurve:
        margins, score, labels, present = self._candidates
        assert score is not None
        odds = self.odds if odds is None else odds
        return SelectedRiskCurve(
            margins, score, np.where(present, labels, 0), radius, present, slack, one_more, odds
        )

    @property
    def odds(self) -> float:
        """Factor by which the prior moves the odds of an unsafe case from those of the cases."""
        mean, high = self.prior.mean, self.prior.high
        return 1.0 if not self.prior.given or high == mean else high * (1 - mean) / ((1 - high) * mean)

    @property
    def n_unsafe(self) -> int:
        """Unsafe cases, each candidate counted."""
        return int((self._label == UNSAFE).sum())

    @property
    def n_t(self) -> int:
        """Internal test cases: rows, that is measurements where there are candidates."""
        return len(self._candidates[0])

    def counts(self, tau: float) -> tuple[int, int]:
        """What the event counts at a threshold, also where nothing may be accepted for want of a class.

        Args:
            tau: threshold on the margin.

        Returns:
            Cases accepted, or measurements with a selected candidate, and unsafe ones among them.
        """
        margins, score, labels, present = self._candidates
        if self.event == "accepted":
            if not self.refused:
                n, k = self.plain.counts(tau)
                return int(n), int(k)
            below = self._margin < tau
            return int(below.sum()), int((self._label[below] == UNSAFE).sum())
        assert score is not None
        chosen = np.where(present & (margins < tau), score, -np.inf)
        row, best = np.arange(len(chosen)), np.argmax(chosen, axis=1)
        some = chosen[row, best] > -np.inf
        return int(some.sum()), int((labels[row, best][some] == UNSAFE).sum())

    def radius(self, r_t: float) -> float:
        """xi for one r_t: given, or measured for the thresholds that r_t can lead to at radius 0.

        Args:
            r_t: threshold on the probability, in (0, 1].

        Returns:
            xi, in logit units; 0 where no threshold is within reach.

        Raises:
            LackingClassError: where the radius is measured and a half lacks a class.
        """
        if self.rule.radius != "measured":
            return float(self.rule.radius)
        plain = self.plain if self.event == "accepted" else self.plain_selected
        return self.radius_within(plain.largest_threshold(r_t).tau, r_t)

    def radius_within(self, reach: float, r_t: float) -> float:
        """xi for one r_t, given or measured for thresholds within a reach.

        Args:
            reach: the largest threshold on the margin that counts; -inf: none is within reach.
            r_t: threshold on the probability, in (0, 1].

        Returns:
            xi, in logit units; 0 where no threshold is within reach and the radius is measured.

        Raises:
            LackingClassError: where the radius is measured and a half lacks a class.
        """
        if self.rule.radius != "measured":
            return float(self.rule.radius)
        if reach == -np.inf:
            return 0.0
        if self.lacking:
            raise LackingClassError(f"{self.lacking}, so the radius cannot be measured")
        if self._halves is None:
            self._halves = HalvesRadius(self._margin, self._label, self._odd)
        return self._halves.radius(reach, self.mass(r_t))

    def mass(self, r_t: float) -> float:
        """The mass that a measured radius leaves out for one r_t.

        Args:
            r_t: threshold on the probability, in (0, 1].

        Returns:
            share * r_t; 0 where the radius is given.
        """
        measured = isinstance(self.rule, Conservative) and self.rule.radius == "measured"
        return self.rule.share * r_t if isinstance(self.rule, Conservative) and measured else 0.0

    @property
    def fixed(self) -> bool:
        """Whether the curve is the same for every r_t: no radius is measured."""
        return self.rule.radius != "measured"

    def curve(self, r_t: float) -> Curve | None:
        """The curve that r_t is read off: radius, mass and one case more are in its bound.

        Args:
            r_t: threshold on the probability, in (0, 1].

        Returns:
            The curve; None where the mass that is added is 1 or more, so that nothing is promised.

        Raises:
            LackingClassError: where the radius is measured and a half lacks a class.
        """
        return self._accepted_curve(r_t) if self.event == "accepted" else self._selected_curve(r_t)

    def _accepted_curve(self, r_t: float) -> RiskCurve | ShrinkageCurve | None:
        if isinstance(self.plain, ShrinkageCurve):
            return self.plain
        slack = self.mass(r_t) + (one_more(self.n_unsafe) if isinstance(self.rule, Conservative) else 0.0)
        return self.plain.adjusted(radius=self.radius(r_t), slack=slack) if slack < 1.0 else None

    def _selected_curve(self, r_t: float) -> SelectedRiskCurve | ShrinkageCurve:
        if isinstance(self.rule, Shrinkage):
            return self.plain_selected
        return self._selected(self.radius(r_t), self.mass(r_t), isinstance(self.rule, Conservative))

    def calibrate(self, r_t: float) -> Calibrated:
        """The largest tau whose bound is at most r_t, judged at r_t alone.

        Args:
            r_t: threshold on the probability, in (0, 1].

        Returns:
            The threshold, and what was added to come to it.

        Raises:
            SafeframeError: on an r_t outside (0, 1], and as :meth:`radius`.
        """
        validate_threshold(r_t)
        nothing = Threshold(-np.inf, 1.0, 0.0, False, 0, 0, cases_needed(r_t, 0.05), r_t)
        if self.refused:
            given = 0.0 if self.rule.radius == "measured" else float(self.rule.radius)
            return Calibrated(nothing, given, refused=self.refused)
        curve = self.curve(r_t)
        if curve is None:
            why = f"one unsafe case more than the {self.n_unsafe} seen leaves nothing to accept"
            return Calibrated(nothing, self.radius(r_t), 1.0, why)
        return Calibrated(curve.largest_threshold(r_t), curve.radius, curve.slack)

    def thresholds(self, levels: Sequence[float]) -> list[Calibrated]:
        """One choice for each r_t: of all thresholds up to it, the most permissive.

        Args:
            levels: ascending r_t in (0, 1].

        Returns:
            The choices, in the order of the levels; tau never falls. Where that of a stricter r_t is the
                more permissive one, it is taken with its own r_t, bound and radius.

        Raises:
            SafeframeError: as :meth:`calibrate`.
        """
        return most_permissive(self.calibrate, levels)

    def risks(self, r_t: float, tau: float) -> tuple[float, float | None]:
        """The bounds of both events at a threshold, with the radius and the mass of one r_t.

        Args:
            r_t: threshold on the probability that the radius is measured for, in (0, 1].
            tau: threshold on the margin.

        Returns:
            The bound on P(unsafe | accepted), and on P(unsafe | selected) or None without scores; at most 1
                each, but in the paper's form.

        Raises:
            SafeframeError: as :meth:`radius`.
        """
        curve = self._accepted_curve(r_t)
        accepted = 1.0 if curve is None else float(curve.bound(tau))
        if self._candidates[1] is None:
            return accepted, None
        return accepted, min(float(self._selected_curve(r_t).bound(tau)), 1.0)

    def parts(self, r_t: float, tau: float) -> dict[str, float]:
        """What each part of the rule adds to the bound at a threshold.

        Args:
            r_t: threshold on the probability that the radius is measured for, in (0, 1].
            tau: threshold on the margin.

        Returns:
            The bound by the share seen, with the upper end of the prior, with the radius, and with mass and
                one case more, each with those before it. For ``Shrinkage`` the share seen, rho times the mean
                p̂ ("model"), the bound ("few cases"), and that with the prior.
        """
        curve = self.curve(r_t)
        if isinstance(curve, ShrinkageCurve):
            n, k = curve.counts(tau)
            bound = float(curve.bound(tau))
            return {
                "seen": float(k / n) if n else 1.0,
                "model": min(curve.ratio * float(curve.expected(tau)), 1.0),
                "few cases": bound / (curve.odds + (1.0 - curve.odds) * bound),
                "prior": bound,
            }
        assert isinstance(self.plain, RiskCurve)
        if self.event == "selected":
            plain, moved = self._selected(0.0, 0.0, False), self._selected(self.radius(r_t), 0.0, False)
            steps = {"seen": self._selected(0.0, 0.0, False, 1.0), "prior": plain, "radius": moved}
        else:
            steps = {
                "seen": self.plain.adjusted(self.prior.mean),
                "prior": self.plain,
                "radius": self.plain.adjusted(radius=self.radius(r_t)),
            }
        bounds = {name: float(step.bound(tau)) for name, step in steps.items()}
        return bounds | {"few cases": 1.0 if curve is None else min(float(curve.bound(tau)), 1.0)}


def _by_case(rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A value per row, for every case of the row."""
    if rows.shape != shape[:1]:
        raise SafeframeError(f"halves or blocks have shape {rows.shape}; expected one per row, {shape[:1]}")
    return np.broadcast_to(rows.reshape(-1, *[1] * (len(shape) - 1)), shape)
