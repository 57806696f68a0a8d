"""From margins to thresholds: which candidates may be given, at every r_t.

Two events can be bounded, and a threshold chosen for one says little about the other (METHOD, selection):

- `accepted` (the paper): P(harmful | a candidate is accepted), `safeframe.risk_curve.RiskCurve`;
- `selected`: P(harmful | the answer that the rule selects), `safeframe.selected_risk.SelectedRiskCurve` on
  the internal test prompts with all their candidates.

The radius is a number, or measured for each r_t between the even and the odd prompts of the internal test
data; the mass left out is `share` * r_t and is added to the bound, and one harmful case more than was seen
is counted (conformal risk control, arXiv 2208.02814). What is safe enough at a stricter r_t is so at a looser
one, so tau never falls with r_t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.llm.answers.pools import Pool
from experiments.llm.guard.choosing import scores
from safeframe.certificates.cases import cases_needed
from safeframe.informativeness import radius_between
from safeframe.risk_curve import RiskCurve
from safeframe.selected_risk import SelectedRiskCurve
from safeframe.types import SQRT2, SafeframeError

EVENTS = ("accepted", "selected")
_SEQUENCE = 200  # thresholds that a certificate walks through
_START = 1.05  # it begins where this multiple of the least number of prompts has a selection,
_LEAST_START = 0.05  # and at least this share of candidates is accepted


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
        self.few = few
        self.pool, self.margin = pool, margin
        self.score = scores(pool, rule)
        self.label = np.where(pool.mask, pool.harmful, 0)
        self.flat = margin[pool.mask]
        self.flat_label = pool.harmful[pool.mask]
        odd = np.broadcast_to((np.arange(len(margin)) % 2 == 1)[:, None], margin.shape)
        self.odd = odd[pool.mask]
        harmful = int((self.flat_label == 1).sum())
        self.lacking = harmful in (0, len(self.flat_label))
        if self.lacking and not few:
            raise SafeframeError(
                f"internal test data: {harmful} of {len(self.flat_label)} answers are harmful; harmful and"
                " harmless ones are needed to calibrate"
            )
        if not self.lacking:
            self.plain = RiskCurve(self.flat, self.flat_label)

    def refuses(self, measured: bool) -> bool:
        """Whether data known to be few lack what calibration needs."""
        parts = [self.flat_label] if not measured else [self.flat_label[self.odd], self.flat_label[~self.odd]]
        return self.few and any(len(np.unique(part)) < 2 for part in parts)

    @property
    def n_t(self) -> int:
        """Labelled candidates."""
        return len(self.flat)

    def selected_curve(self, radius: float = 0.0) -> SelectedRiskCurve:
        """The curve of the selected answer, every margin moved by the radius against us."""
        shift = SQRT2 * radius
        moved = np.where(self.label == 1, self.margin - shift, self.margin + shift)
        return SelectedRiskCurve(moved, self.score, self.label, mask=self.pool.mask)

    def radius(self, r_t: float, share: float, event: str = "accepted") -> float:
        """xi measured between even and odd prompts, for thresholds that r_t can lead to at radius 0: no
        larger ones than the event's own curve allows.
        """
        curve = self.plain if event == "accepted" else self.selected_curve()
        reach = curve.largest_threshold(r_t).tau
        if reach == -np.inf:
            return 0.0
        try:
            return radius_between(self.flat, self.flat_label, self.odd, reach, share * r_t)
        except SafeframeError as error:
            raise SafeframeError(
                f"internal test data: {error}; both halves need harmful and harmless answers: take more, or "
                "give evaluation.xi as a number"
            ) from error

    def choose(
        self, event: str, thresholds: Sequence[float], radius: float | None, share: float
    ) -> list[Choice]:
        """One choice for each r_t of the ascending `thresholds`; radius None = measured."""
        if event not in EVENTS:
            raise SafeframeError(f"event is {event!r}; it must be one of {', '.join(EVENTS)}")
        if self.refuses(measured=radius is None):
            return [Choice(r_t, -np.inf, radius or 0.0) for r_t in thresholds]
        found: list[Choice] = []
        for r_t in thresholds:
            used = self.radius(r_t, share, event) if radius is None else radius
            delta = share * r_t if radius is None else 0.0
            find = self._accepted if event == "accepted" else self._selected
            tau = find(r_t, used, delta, one_more=radius is None)
            if found and found[-1].tau >= tau:
                found.append(Choice(r_t, found[-1].tau, found[-1].radius))
            else:
                found.append(Choice(r_t, tau, used))
        return found

    def _accepted(self, r_t: float, radius: float, delta: float, one_more: bool) -> float:
        slack = delta + (1.0 / (self.plain.n_unsafe + 1) if one_more else 0.0)
        curve = RiskCurve(self.flat, self.flat_label, radius=radius, slack=slack) if slack < 1 else None
        return curve.largest_threshold(r_t).tau if curve else -np.inf

    def _selected(self, r_t: float, radius: float, delta: float, one_more: bool) -> float:
        curve = self.selected_curve(radius)
        if not one_more:
            return curve.largest_threshold(r_t).tau
        edge = curve.edges
        selected, unsafe = curve.counts(edge)
        within = (unsafe + 1.0) / (selected + 1.0) + delta <= r_t
        return float(edge[np.flatnonzero(within)[-1]]) if within.any() else -np.inf

    def certified(self, thresholds: Sequence[float], other: np.ndarray, delta: float) -> list[Choice]:
        """Learn then Test (arXiv 2110.01052) on the selected answer; `other`: margins (c,) from elsewhere,
        whose quantiles fix the sequence beforehand. The unit is the prompt.
        """
        if self.refuses(measured=False):
            return [Choice(r_t, -np.inf, 0.0) for r_t in thresholds]
        curve, found = self.selected_curve(), []
        for r_t in thresholds:
            share = _START * cases_needed(r_t, delta) / len(self.margin)
            tau = -np.inf
            if share <= 1:  # where this share of candidates is accepted, so many prompts have a selection
                taus = np.quantile(other, np.geomspace(max(share, _LEAST_START), 1.0, _SEQUENCE))
                tau = curve.fixed_sequence(taus, r_t, delta).tau
            found.append(Choice(r_t, tau, 0.0))
        return found
