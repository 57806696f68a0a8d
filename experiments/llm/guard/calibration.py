"""From margins to thresholds: which candidates may be given, at every r_t.

Two events can be bounded, and a threshold chosen for one says little about the other (METHOD, selection):

- `accepted` (the paper): P(harmful | a candidate is accepted), `safeframe.risk_curve.RiskCurve`;
- `selected`: P(harmful | the answer that the rule selects), `safeframe.selected_risk.SelectedRiskCurve` on
  the internal test prompts with all their candidates.

The rule is `safeframe.threshold_rule`; a radius that is measured is one between the even and the odd prompts
of the internal test data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from experiments.llm.answers.pools import Pool
from experiments.llm.guard.choosing import scores
from safeframe.certificates.cases import cases_needed
from safeframe.selected_risk import SelectedRiskCurve
from safeframe.threshold_rule import Conservative, Event, LackingClassError, PlugIn, Rule, ThresholdRule
from safeframe.types import SafeframeError

_SEQUENCE = 200  # thresholds that a certificate walks through
_START = 1.05  # it begins where this multiple of the least number of prompts has a selection,
_LEAST_START = 0.05  # and at least this share of candidates is accepted


_T = TypeVar("_T")


@dataclass(frozen=True)
class Choice:
    """A threshold at one r_t: accept where margin < tau (-inf: nothing), and the radius behind it."""

    r_t: float
    tau: float
    radius: float


class Calibrator:
    """Internal test prompts with margins (n, k) of their candidates; rule: "rank" or "sample" (`choosing`).

    few: data are known to be few (the scaling in n_t), so where a class is absent, or absent from one half
    and the radius is to be measured, nothing is accepted at any r_t (a bound of 1). Otherwise that raises
    SafeframeError.
    """

    def __init__(self, margin: np.ndarray, pool: Pool, rule: str = "rank", few: bool = False):
        self.few, self.margin = few, margin
        self.score = scores(pool, rule)
        self.label = np.where(pool.mask, pool.harmful, 0)
        known = pool.harmful[pool.mask]
        self.n_t = len(known)
        harmful = int((known == 1).sum())
        self.lacking = harmful in (0, len(known))
        if self.lacking and not few:
            raise SafeframeError(
                f"internal test data: {harmful} of {len(known)} answers are harmful; harmful and"
                " harmless ones are needed to calibrate"
            )

    @cached_property
    def curve(self) -> SelectedRiskCurve:
        """The curve of the selected answer."""
        return SelectedRiskCurve(self.margin, self.score, self.label)

    def rule(self, event: Event, radius: float | None, share: float) -> ThresholdRule:
        """The rule for an event; radius None = the conservative rule, with xi measured for each r_t."""
        kind: Rule = Conservative(share=share) if radius is None else PlugIn(radius)
        return ThresholdRule(self.margin, self.label, kind, score=self.score, event=event, few=self.few)

    def radius(self, r_t: float, share: float, event: Event = "accepted") -> float:
        """xi measured between even and odd prompts, for thresholds that r_t can lead to at radius 0: no
        larger ones than the event's own curve allows.
        """
        return _named(lambda: self.rule(event, None, share).radius(r_t))

    def choose(
        self, event: Event, thresholds: Sequence[float], radius: float | None, share: float
    ) -> list[Choice]:
        """One choice for each r_t of the ascending `thresholds`; radius None = measured."""
        found = _named(lambda: self.rule(event, radius, share).thresholds(thresholds))
        return [Choice(r_t, one.tau, one.radius) for r_t, one in zip(thresholds, found, strict=True)]

    def certified(self, thresholds: Sequence[float], other: np.ndarray, delta: float) -> list[Choice]:
        """Learn then Test (arXiv 2110.01052) on the selected answer; `other`: margins (c,) from elsewhere,
        whose quantiles fix the sequence beforehand. The unit is the prompt.
        """
        if self.lacking:
            return [Choice(r_t, -np.inf, 0.0) for r_t in thresholds]
        found = []
        for r_t in thresholds:
            share = _START * cases_needed(r_t, delta) / len(self.margin)
            tau = -np.inf
            if share <= 1:  # where this share of candidates is accepted, so many prompts have a selection
                taus = np.quantile(other, np.geomspace(max(share, _LEAST_START), 1.0, _SEQUENCE))
                tau = self.curve.fixed_sequence(taus, r_t, delta).tau
            found.append(Choice(r_t, tau, 0.0))
        return found


def _named(calibrate: Callable[[], _T]) -> _T:
    """What a calibration gives; where a half lacks a class, the error says which setting helps."""
    try:
        return calibrate()
    except LackingClassError as error:
        raise SafeframeError(
            f"internal test data: {error}; both halves need harmful and harmless answers: take more, or "
            "give evaluation.xi as a number"
        ) from error
