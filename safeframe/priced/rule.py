"""The rule of :mod:`safeframe.threshold_rule` where risk is priced: from labelled cases to prices.

The three parts are the same. The radius is measured between halves of the cases, for margins up to the
largest one that is acted on at the price which r_t leads to at radius 0; the mass that it leaves out is added
to the bound. The prior moves the odds of an unsafe action. One unsafe action more is counted than was seen.

A few measurements of high reward are acted on at margins far beyond the others, and a measured radius would
have to reach to them. So the rule is then also tried with gates: the threshold that a gate alone has at r_t,
and quantiles of the margins acted on (``REACHES``).

By Lagrange candidates are charged from the risk that the constraint allows. That is r_t less what the three
parts add, and less where p understates the risk. So a few levels c r_t, c <= 1, are tried, each with its own
least price. Of all levels and gates the one that earns most on the cases is taken. From too high a level,
safe candidates are paid so much for their safety that they are taken although they earn less than the default
action; where the rule as a whole earns less than taking the default action always, that is done.

What is safe enough at a stricter r_t is so at a looser one: of the rules found for all r_t up to one, that of
most reward counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from safeframe.certificates.cases import cases_needed
from safeframe.chance_constraint import validate_threshold
from safeframe.priced.curve import PricedRiskCurve
from safeframe.priced.sweep import Price
from safeframe.risk_scale import RiskScale
from safeframe.threshold_rule import Conservative, Prior, Rule, ThresholdRule
from safeframe.types import BoolArray, FloatArray, LabelArray, SafeframeError, number

CHARGES = (1.0, 0.5, 0.25)
"""Shares of r_t that candidates may be charged from, where none are given."""
REACHES = (0.99, 0.9, 0.7)
"""Quantiles of the margins acted on at radius 0 that are tried as gates, where the radius is measured."""


@dataclass(frozen=True)
class PricedChoice:
    """What the rule chose for one r_t.

    Attributes:
        price: with the bound as the rule computes it, and the r_t that candidates are charged from.
        radius: xi that was used, in logit units.
        slack: mass that was added: what the radius leaves out.
        refused: why nothing is done, where that is not for the bound; else empty.
    """

    price: Price
    radius: float
    slack: float = 0.0
    refused: str = ""


class PriceRule:
    """The prices that a rule gives on one set of measurements.

    Args:
        margin: (n, c) margins f_1 - f_0 of the candidates of n measurements, finite where present.
        reward: (n, c) R, the higher the better; -inf marks an absent candidate.
        label: (n, c) 0 safe, 1 unsafe.
        scale: from margins to probabilities, fitted on other cases.
        rule: radius, mass and one case more, or the plug-in rule.
        odd: (n,) bool, the half of each row, between which a radius is measured; None: rows alternate.
        default_reward: R of the default action, finite; one, or (n,).
        gate: only candidates with margin < gate are considered.
        prior: P(unsafe) as :func:`safeframe.threshold_rule.prior_interval` takes it.
        block: (n,) ids of periods or sites, for prior "observed".
        charges: shares of r_t, in (0, 1], that candidates may be charged from.

    Raises:
        SafeframeError: on shapes that differ, NaN, charges outside (0, 1] or none, or labels other than 0/1.
            Where a class is absent, from the cases or from a half that measures, nothing is raised:
            ``refused`` says so.
    """

    def __init__(
        self,
        margin: FloatArray,
        reward: FloatArray,
        label: LabelArray,
        scale: RiskScale,
        rule: Rule,
        odd: BoolArray | None = None,
        default_reward: FloatArray | float = 0.0,
        gate: float = np.inf,
        prior: Prior = None,
        block: np.ndarray | None = None,
        charges: Sequence[float] = CHARGES,
    ) -> None:
        self.charges = check_charges(charges)
        self.rule, self.n = rule, len(margin)
        self._base = ThresholdRule(margin, label, rule, odd, reward, "selected", prior, block, few=True)
        self.refused = self._base.refused
        """Which class is absent, so that nothing may be done; "" if none."""
        self._margin, self._default = np.asarray(margin, np.float64), default_reward
        self._reward, self._scale, self._gate = np.asarray(reward, np.float64), scale, gate
        self._label = np.asarray(label)
        self._plain: dict[tuple[float, float], PricedRiskCurve] = {}
        self._alone: dict[float, float] = {}
        if not self.refused:
            self.prior = self._base.prior

    def plain(self, charged_from: float, gate: float | None = None) -> PricedRiskCurve:
        """The curve at radius 0, with the prior's odds.

        Args:
            charged_from: risk that candidates are charged from, in (0, 1].
            gate: only candidates with margin < gate are considered; None: the gate that was given.

        Returns:
            The curve; the last that was asked for is kept.

        Raises:
            SafeframeError: where a class is absent, or on a level outside (0, 1].
        """
        if self.refused:
            raise SafeframeError(self.refused)
        key = charged_from, self._gate if gate is None else gate
        if key not in self._plain:
            made = PricedRiskCurve(
                self._margin, self._reward, self._label, key[0], self._scale, self._default, key[1],
                odds=self._base.odds,
            )  # fmt: skip
            self._plain = {key: made}
        return self._plain[key]

    def _acted_on(self, r_t: float, charged_from: float, gate: float | None = None) -> FloatArray:
        """(a,) margins that are acted on at radius 0."""
        curve = self.plain(charged_from, gate)
        found = curve.least_price(r_t)
        if not found.feasible:
            return np.empty(0)
        index = curve.chosen(found.mu)
        acted = np.flatnonzero(index >= 0)
        return self._margin[acted, index[acted]]

    def _gates(self, r_t: float, charged_from: float) -> list[float]:
        """The gate that was given; where the radius is measured also stricter ones, in descending order."""
        if self.rule.radius != "measured":
            return [self._gate]
        margin = self._acted_on(r_t, charged_from)
        if r_t not in self._alone:
            self._alone[r_t] = self._base.calibrate(r_t).tau
        tried = {self._alone[r_t]} - {-np.inf}
        if len(margin):
            tried |= set(np.nextafter(np.quantile(margin, REACHES), np.inf).tolist())
        return [self._gate, *sorted((gate for gate in tried if gate < self._gate), reverse=True)]

    def radius(self, r_t: float, charged_from: float, gate: float | None = None) -> float:
        """xi for one r_t: given, or measured for the margins that are acted on at radius 0.

        Args:
            r_t: threshold on the probability, in (0, 1].
            charged_from: risk that candidates are charged from, in (0, 1].
            gate: only candidates with margin < gate are considered; None: the gate that was given.

        Returns:
            xi, in logit units; 0 where no price is within reach.

        Raises:
            SafeframeError: where a class is absent, or on a level outside (0, 1].
        """
        reach = -np.inf
        if self.rule.radius == "measured":
            margin = self._acted_on(r_t, charged_from, gate)
            reach = float(np.nextafter(margin.max(), np.inf)) if len(margin) else -np.inf
        return self._base.radius_within(reach, r_t)

    def curve(self, r_t: float, charged_from: float, gate: float | None = None) -> PricedRiskCurve:
        """The curve that r_t is read off: radius, mass and one case more are in its bound.

        Args:
            r_t: threshold on the probability, in (0, 1].
            charged_from: risk that candidates are charged from, in (0, 1].
            gate: only candidates with margin < gate are considered; None: the gate that was given.

        Returns:
            The curve.

        Raises:
            SafeframeError: where a class is absent, or on a level outside (0, 1].
        """
        more = isinstance(self.rule, Conservative)
        plain, radius = self.plain(charged_from, gate), self.radius(r_t, charged_from, gate)
        return plain.adjusted(radius, self._base.mass(r_t), more)

    def _nothing(self, r_t: float) -> Price:
        """The price where none qualifies: infinite, not feasible."""
        default, few = float(np.mean(self._default)), cases_needed(r_t, 0.05)
        return Price(np.inf, 1.0, False, self.n, 0, 0, default, few, r_t, r_t, self._gate)

    def calibrate(self, r_t: float) -> PricedChoice:
        """The price, level and gate of most reward whose bound is at most r_t, judged at r_t alone.

        Args:
            r_t: threshold on the probability, in (0, 1].

        Returns:
            The price, and what was added to come to it.

        Raises:
            SafeframeError: on an r_t outside (0, 1].
        """
        r_t = validate_threshold(r_t)
        if self.refused:
            given = 0.0 if self.rule.radius == "measured" else float(self.rule.radius)
            return PricedChoice(self._nothing(r_t), given, refused=self.refused)
        best: PricedChoice | None = None
        for level in (share * r_t for share in self.charges):
            for gate in self._gates(r_t, level):
                curve = self.curve(r_t, level, gate)
                choice = PricedChoice(curve.least_price(r_t), curve.radius, curve.slack)
                if best is None or earns_more(choice.price, best.price):
                    best = choice
        assert best is not None
        price, default = best.price, float(np.mean(self._default))
        if not price.feasible or price.mean_reward >= default:
            return best
        why = (
            f"the best price that qualifies, {price.mu:.4g}, earns {price.mean_reward:.4g} on average, less "
            f"than the default action's {default:.4g}"
        )
        return PricedChoice(self._nothing(r_t), best.radius, best.slack, why)

    def prices(self, levels: Sequence[float]) -> list[PricedChoice]:
        """One choice for each r_t: of all found up to it, that of most reward on these cases.

        Args:
            levels: ascending r_t in (0, 1].

        Returns:
            The choices, in the order of the levels. Where that of a stricter r_t earns at least as much, it
                is taken with its own r_t, bound and radius.

        Raises:
            SafeframeError: as :meth:`calibrate`.
        """
        found: list[PricedChoice] = []
        for r_t in levels:
            choice = self.calibrate(r_t)
            found.append(choice if not found or earns_more(choice.price, found[-1].price) else found[-1])
        return found

    def parts(self, price: Price) -> dict[str, float]:
        """What each part of the rule adds to the bound at a price.

        Args:
            price: as it was found.

        Returns:
            The bound by the share seen, with the upper end of the prior, with the radius, and with mass and
                one case more, each with those before it; at most 1 each.

        Raises:
            SafeframeError: where a class is absent.
        """
        plain = self.plain(price.charged_from, price.gate)
        full = self.curve(price.r_t, price.charged_from, price.gate)
        steps = {
            "seen": plain.adjusted(odds=1.0),
            "prior": plain,
            "radius": full.adjusted(slack=0.0, one_more=False),
            "few cases": full,
        }
        return {name: min(float(step.bound(price.mu)), 1.0) for name, step in steps.items()}


def earns_more(price: Price, former: Price) -> bool:
    """Whether a price is to be taken instead of another.

    Args:
        price: the one.
        former: the other.

    Returns:
        True where it qualifies and earns more, or where the other does not qualify.
    """
    if not former.feasible:
        return True
    return price.feasible and price.mean_reward > former.mean_reward


def check_charges(charges: Sequence[float]) -> tuple[float, ...]:
    """Check shares of r_t that candidates are charged from.

    Args:
        charges: at least one, each in (0, 1].

    Returns:
        The same.

    Raises:
        SafeframeError: on others.
    """
    if isinstance(charges, str) or not hasattr(charges, "__iter__"):
        raise SafeframeError(f"charges are {charges!r}; expected shares of r_t in (0, 1], at least one")
    found = tuple(number(share, "a share of charges") for share in charges)
    if not found or not all(0.0 < share <= 1.0 for share in found):
        raise SafeframeError(f"charges are {charges!r}; expected shares of r_t in (0, 1], at least one")
    return found
