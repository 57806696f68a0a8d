"""The rule of :mod:`safeframe.threshold_rule` where risk is priced: from labelled cases to prices.

The three parts are the same. The radius is measured between halves of the cases, for margins up to the
largest one that is acted on at the price which r_t leads to at radius 0; the mass that it leaves out is added
to the bound. The prior moves the odds of an unsafe action. One unsafe action more is counted than was seen.

A price belongs to its r_t, since candidates are charged from r_t on. What is safe enough at a stricter r_t is
so at a looser one: of the rules found for all r_t up to one, that of most reward counts. A price may be so
high that safe candidates are taken for their safety although they earn less than the default action; where
the rule as a whole earns less than taking the default action always, that is done.
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

    Raises:
        SafeframeError: on shapes that differ, NaN, or labels other than 0/1. Where a class is absent, from
            the cases or from a half that measures, nothing is raised: ``refused`` says so.
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
    ) -> None:
        self.rule, self.n = rule, len(margin)
        self._base = ThresholdRule(margin, label, rule, odd, reward, "selected", prior, block, few=True)
        self.refused = self._base.refused
        """Which class is absent, so that nothing may be done; "" if none."""
        self._margin, self._default = np.asarray(margin, np.float64), default_reward
        self._reward, self._scale, self._gate = np.asarray(reward, np.float64), scale, gate
        self._label = np.asarray(label)
        self._plain: tuple[float, PricedRiskCurve] | None = None
        if not self.refused:
            self.prior = self._base.prior

    def plain(self, r_t: float) -> PricedRiskCurve:
        """The curve at radius 0, with the prior's odds.

        Args:
            r_t: threshold on the probability, in (0, 1].

        Returns:
            The curve; that of the last r_t asked for is kept.

        Raises:
            SafeframeError: where a class is absent, or on an r_t outside (0, 1].
        """
        if self.refused:
            raise SafeframeError(self.refused)
        if self._plain is None or self._plain[0] != r_t:
            made = PricedRiskCurve(
                self._margin, self._reward, self._label, r_t, self._scale, self._default, self._gate,
                odds=self._base.odds,
            )  # fmt: skip
            self._plain = (r_t, made)
        return self._plain[1]

    def radius(self, r_t: float) -> float:
        """xi for one r_t: given, or measured for the margins that are acted on at radius 0.

        Args:
            r_t: threshold on the probability, in (0, 1].

        Returns:
            xi, in logit units; 0 where no price is within reach.

        Raises:
            SafeframeError: where a class is absent, or on an r_t outside (0, 1].
        """
        reach, curve = -np.inf, self.plain(r_t)
        if self.rule.radius == "measured":
            found = curve.least_price()
            if found.feasible:
                index = curve.chosen(found.mu)
                acted = np.flatnonzero(index >= 0)
                reach = float(np.nextafter(self._margin[acted, index[acted]].max(), np.inf))
        return self._base.radius_within(reach, r_t)

    def curve(self, r_t: float) -> PricedRiskCurve:
        """The curve that r_t is read off: radius, mass and one case more are in its bound.

        Args:
            r_t: threshold on the probability, in (0, 1].

        Returns:
            The curve.

        Raises:
            SafeframeError: where a class is absent, or on an r_t outside (0, 1].
        """
        more = isinstance(self.rule, Conservative)
        return self.plain(r_t).adjusted(self.radius(r_t), self._base.mass(r_t), more)

    def nothing(self, r_t: float) -> Price:
        """The price where none qualifies.

        Args:
            r_t: threshold on the probability, in (0, 1].

        Returns:
            An infinite price that is not feasible.
        """
        default = float(np.mean(self._default))
        return Price(np.inf, 1.0, False, self.n, 0, 0, default, cases_needed(r_t, 0.05), float(r_t))

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
        curve = self.curve(r_t)
        price, default = curve.least_price(), float(np.mean(self._default))
        if price.feasible and price.mean_reward < default:
            why = (
                f"the least price that qualifies, {price.mu:.4g}, earns {price.mean_reward:.4g} on average, "
                f"less than the default action's {default:.4g}"
            )
            return PricedChoice(self.nothing(r_t), curve.radius, curve.slack, why)
        return PricedChoice(price, curve.radius, curve.slack)

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
            former = found[-1] if found else None
            keep = (
                former is not None
                and former.price.feasible
                and (not choice.price.feasible or former.price.mean_reward >= choice.price.mean_reward)
            )
            found.append(former if keep and former is not None else choice)
        return found

    def parts(self, r_t: float, mu: float) -> dict[str, float]:
        """What each part of the rule adds to the bound at a price.

        Args:
            r_t: threshold on the probability, in (0, 1].
            mu: price >= 0.

        Returns:
            The bound by the share seen, with the upper end of the prior, with the radius, and with mass and
                one case more, each with those before it; at most 1 each.

        Raises:
            SafeframeError: where a class is absent, or on an r_t outside (0, 1].
        """
        plain, full = self.plain(r_t), self.curve(r_t)
        steps = {
            "seen": plain.adjusted(odds=1.0),
            "prior": plain,
            "radius": full.adjusted(slack=0.0, one_more=False),
            "few cases": full,
        }
        return {name: min(float(step.bound(mu)), 1.0) for name, step in steps.items()}
