"""The rule of :mod:`safeframe.threshold_rule` where risk is priced: from labelled cases to prices.

The three parts are the same. The radius is measured between halves of the cases, for margins up to the
largest one that is acted on at the price which r_t leads to at radius 0; the mass that it leaves out is added
to the bound. The prior moves the odds of an unsafe action. One unsafe action more is counted than was seen.

By Lagrange candidates are charged from the risk that the constraint allows. That is r_t less what the three
parts add, and less where p understates the risk. So a few levels c r_t, c <= 1, are tried, each with its own
least price, and the one that earns most on the cases is taken. From too high a level, safe candidates are
paid so much for their safety that they are taken although they earn less than the default action; where the
rule as a whole earns less than taking the default action always, that is done.

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
from safeframe.types import BoolArray, FloatArray, LabelArray, SafeframeError

CHARGES = (1.0, 0.5, 0.25)
"""Shares of r_t that candidates may be charged from, where none are given."""


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
        self._plain: dict[float, PricedRiskCurve] = {}
        if not self.refused:
            self.prior = self._base.prior

    def plain(self, charged_from: float) -> PricedRiskCurve:
        """The curve at radius 0, with the prior's odds.

        Args:
            charged_from: risk that candidates are charged from, in (0, 1].

        Returns:
            The curve; that of the last level asked for is kept.

        Raises:
            SafeframeError: where a class is absent, or on a level outside (0, 1].
        """
        if self.refused:
            raise SafeframeError(self.refused)
        if charged_from not in self._plain:
            made = PricedRiskCurve(
                self._margin, self._reward, self._label, charged_from, self._scale, self._default, self._gate,
                odds=self._base.odds,
            )  # fmt: skip
            self._plain = {charged_from: made}
        return self._plain[charged_from]

    def radius(self, r_t: float, charged_from: float) -> float:
        """xi for one r_t: given, or measured for the margins that are acted on at radius 0.

        Args:
            r_t: threshold on the probability, in (0, 1].
            charged_from: risk that candidates are charged from, in (0, 1].

        Returns:
            xi, in logit units; 0 where no price is within reach.

        Raises:
            SafeframeError: where a class is absent, or on a level outside (0, 1].
        """
        reach, curve = -np.inf, self.plain(charged_from)
        if self.rule.radius == "measured":
            found = curve.least_price(r_t)
            if found.feasible:
                index = curve.chosen(found.mu)
                acted = np.flatnonzero(index >= 0)
                reach = float(np.nextafter(self._margin[acted, index[acted]].max(), np.inf))
        return self._base.radius_within(reach, r_t)

    def curve(self, r_t: float, charged_from: float) -> PricedRiskCurve:
        """The curve that r_t is read off: radius, mass and one case more are in its bound.

        Args:
            r_t: threshold on the probability, in (0, 1].
            charged_from: risk that candidates are charged from, in (0, 1].

        Returns:
            The curve.

        Raises:
            SafeframeError: where a class is absent, or on a level outside (0, 1].
        """
        more = isinstance(self.rule, Conservative)
        plain = self.plain(charged_from)
        return plain.adjusted(self.radius(r_t, charged_from), self._base.mass(r_t), more)

    def nothing(self, r_t: float) -> Price:
        """The price where none qualifies.

        Args:
            r_t: threshold on the probability, in (0, 1].

        Returns:
            An infinite price that is not feasible.
        """
        default = float(np.mean(self._default))
        few = cases_needed(r_t, 0.05)
        return Price(np.inf, 1.0, False, self.n, 0, 0, default, few, float(r_t), float(r_t))

    def calibrate(self, r_t: float) -> PricedChoice:
        """The smallest price whose bound is at most r_t, judged at r_t alone.

        Args:
            r_t: threshold on the probability, in (0, 1].

        Returns:
            The price, and what was added to come to it.

        Raises:
            SafeframeError: on an r_t outside (0, 1].
        """
        validate_threshold(r_t)
        if self.refused:
            given = 0.0 if self.rule.radius == "measured" else float(self.rule.radius)
            return PricedChoice(self.nothing(r_t), given, refused=self.refused)
        best: PricedChoice | None = None
        for share in self.charges:
            curve = self.curve(r_t, share * r_t)
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
        return PricedChoice(self.nothing(r_t), best.radius, best.slack, why)

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
        plain, full = self.plain(price.charged_from), self.curve(price.r_t, price.charged_from)
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
    found = tuple(float(share) for share in charges)
    if not found or not all(0.0 < share <= 1.0 for share in found):
        raise SafeframeError(f"charges are {charges!r}; expected shares of r_t in (0, 1], at least one")
    return found
