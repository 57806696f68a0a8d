"""What rules in one group of a guard where risk is priced, and its certificates along the price.

The cases of the group fall into two parts: one fits the risk scale, the other has the curve. Each r_t that is
listed has its own price. Another r_t is served by the listed one
that is next below it, which is stricter; below all of them the default action is taken.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np

from safeframe.certificates.cases import Certificate, cases_needed, certify, first_failure
from safeframe.chance_constraint import validate_threshold
from safeframe.guard.evidence import Evidence, halves, split_for_price
from safeframe.guard.report import GuardCalibration
from safeframe.guard.settings import Certified, GuardSettings, Priced
from safeframe.priced.rule import PricedChoice, PriceRule, earns_more
from safeframe.priced.sweep import Price, present_risk, sweep
from safeframe.priced.terms import PricedTerms
from safeframe.risk_scale import RiskScale, fit_risk_scale
from safeframe.threshold_rule import PlugIn
from safeframe.types import FloatArray, Floats, SafeframeError

_GRID = 40


class PricedRuling:
    """What one group of evidence rules where risk is priced.

    Args:
        evidence: of the cases of the group, with scores.
        settings: of the guard; its choice is Priced.
        group: id of the group.

    Raises:
        SafeframeError: where the cases lack a class or the model returns no candidates, values are not
            finite, cases are too few to be parted, or the settings' prior lacks the group.
    """

    def __init__(self, evidence: Evidence, settings: GuardSettings, group: Hashable) -> None:
        assert isinstance(settings.choice, Priced)
        self.group, self.choice = group, settings.choice
        if evidence.score is None:
            raise SafeframeError("choice 'priced' needs a model that returns (candidates, score)")
        _check_classes(evidence)
        fits, counts = split_for_price(evidence, self.choice.share, settings.seed)
        part = evidence.subset(counts)
        assert part.score is not None
        self.n_t, self.n_scale = len(counts), len(fits)
        self.scale, self.refused = self._fitted(evidence.subset(fits))
        self.rule: PriceRule | None = None
        self.prior = (math.nan, math.nan, math.nan)
        if self.scale is not None:
            rule = PlugIn() if isinstance(settings.rule, Certified) else settings.rule
            self.rule = PriceRule(
                part.margin, part.score, part.label, self.scale, rule, halves(part, settings.blocks),
                self.choice.default_reward, self.choice.gate, settings.prior_of(group), part.block,
                self.choice.charges,
            )  # fmt: skip
            self.refused = self.rule.refused
            if not self.refused:
                self.prior = (self.rule.prior.low, self.rule.prior.mean, self.rule.prior.high)
        self.levels = sorted(set(settings.threshold))
        self._found: dict[float, GuardCalibration] = {}
        if not isinstance(settings.rule, Certified):
            found = [self._nothing(r_t) for r_t in self.levels]
            if self.rule is not None and not self.refused:
                found = self.rule.prices(self.levels)
            self._found = {
                r_t: self._calibration(r_t, one) for r_t, one in zip(self.levels, found, strict=True)
            }

    def _fitted(self, part: Evidence) -> tuple[RiskScale | None, str]:
        """The scale, or why there is none: few cases, of which this part has none of one class."""
        margin, label, _ = part.flat
        named = isinstance(self.choice.scale, str)
        for state, name in ((1, "unsafe"), (0, "safe")):
            if named and not (label == state).any():
                where = f"in the part that fits the risk scale ({len(label):,} cases)"
                return None, f"there is no {name} case {where}"
        return fit_risk_scale(self.choice.scale, margin, label), ""

    def _nothing(self, r_t: float) -> PricedChoice:
        few, default = cases_needed(r_t, 0.05), self.choice.default_reward
        price = Price(math.inf, 1.0, False, self.n_t, 0, 0, default, few, r_t, r_t, self.choice.gate)
        return PricedChoice(price, 0.0, refused=self.refused)

    def _calibration(self, r_t: float, one: PricedChoice, certified: bool = False) -> GuardCalibration:
        price, choice = one.price, self.choice
        parts = {}
        if price.feasible and not certified:
            assert self.rule is not None
            parts = self.rule.parts(price)
        terms = PricedTerms(
            price=price.mu,
            r_t=price.r_t,
            charged_from=price.charged_from,
            bound=price.bound,
            scale=self.scale,
            default_reward=choice.default_reward,
            gate=price.gate,
            mean_reward=price.mean_reward,
            n_scale=self.n_scale,
        )
        return GuardCalibration(
            r_t=r_t,
            group=self.group,
            tau=price.gate if price.feasible else -math.inf,
            feasible=price.feasible,
            accepted_risk=math.nan,
            selected_risk=price.bound,
            acceptance=price.action_rate,
            selection_rate=price.action_rate,
            n_accepted=price.n_acted,
            n_unsafe_accepted=price.n_unsafe_acted,
            n_t=self.n_t,
            radius=one.radius,
            cases_needed=cases_needed(r_t, 0.05),
            event="P(unsafe | acted)",
            prior=self.prior,
            parts=parts,
            refused=one.refused,
            priced=terms,
        )

    def level(self, margin: Floats) -> FloatArray:
        """Nothing: where risk is priced no margin is accepted by itself.

        Args:
            margin: margins of any shape.

        Returns:
            inf, shaped like ``margin``.
        """
        return np.full(np.shape(margin), np.inf)

    def calibration(self, r_t: float, brief: bool = False) -> GuardCalibration:
        """What serves one r_t.

        Args:
            r_t: threshold on the probability, in (0, 1].
            brief: of no effect here: all that is reported was computed in the calibration.

        Returns:
            Its calibration. Where r_t is not listed, that of the next stricter one that is, reported for r_t;
                below all of them one that takes the default action always.

        Raises:
            SafeframeError: on an r_t outside (0, 1].
        """
        validate_threshold(r_t)
        below = [level for level in self._found if level <= r_t]
        if not below:
            none = f"listed are {', '.join(f'{level:g}' for level in self.levels)}, all of them looser"
            return self._calibration(r_t, replace(self._nothing(r_t), refused=self.refused or none))
        return replace(self._found[max(below)], r_t=r_t, cases_needed=cases_needed(r_t, 0.05))

    def certified(
        self, fresh: Evidence, levels: Sequence[float], delta: float, choose: bool
    ) -> list[GuardCalibration]:
        """Calibrations with certificates on P(unsafe | acted) from fresh cases; the unit is the measurement.

        Where there is a test for unlike inputs, only covered cases count, and the event says so.

        Args:
            fresh: evidence of cases that had no part in the choice of prices, nor in the scale.
            levels: ascending r_t.
            delta: allowed probability of failure of each certificate.
            choose: also choose the price by fixed-sequence testing, from strict to permissive (Learn then
                Test).

        Returns:
            One calibration per level.
        """
        if choose:
            return self._certified_choice(fresh, levels, delta)
        found = []
        for r_t in levels:
            one = self.calibration(r_t)
            assert one.priced is not None
            terms = one.priced
            (made,) = self._certificates(
                np.array([terms.price]), terms.charged_from, terms.gate, fresh, delta
            )
            found.append(replace(one, certificate=made))
        return found

    def _certified_choice(
        self, fresh: Evidence, levels: Sequence[float], delta: float
    ) -> list[GuardCalibration]:
        """Prices chosen by testing; of all certified up to an r_t the one of most reward counts."""
        found: list[GuardCalibration] = []
        best: tuple[PricedChoice, Certificate] | None = None
        for r_t in levels:
            choice, made = self._tested(fresh, r_t, delta)
            if best is None or earns_more(choice.price, best[0].price):
                best = choice, made
            one = self._calibration(r_t, best[0], certified=True)
            one = replace(one, certificate=best[1], event=best[1].event)
            found.append(replace(one, cases_needed=cases_needed(r_t, delta)))
        self._found = dict(zip(levels, found, strict=True))
        return found

    def _tested(self, fresh: Evidence, r_t: float, delta: float) -> tuple[PricedChoice, Certificate]:
        """The most permissive price certified, charging from the level at which the rule would earn most."""
        nothing, gate = self._nothing(r_t), self.choice.gate
        (none,) = self._certificates(np.array([np.inf]), r_t, gate, fresh, delta)
        if self.rule is None or self.refused:
            return nothing, none
        # The level is chosen without the fresh cases, so that there is one sequence to test.
        plug_in = self.rule.calibrate(r_t).price
        level = plug_in.charged_from
        curve = self.rule.plain(level)
        sequence = _sequence(curve.prices, *curve.counts(curve.prices), r_t, len(fresh.margin) / self.n_t)
        made = self._certificates(sequence, level, gate, fresh, delta)
        length = first_failure(np.array([one.value <= r_t for one in made], dtype=bool))
        if not length:
            return nothing, none
        best, mu = made[length - 1], float(sequence[length - 1])
        earned = float(curve.mean_reward(mu))
        if earned < self.choice.default_reward:
            why = f"the certified price {mu:.4g} earns {earned:.4g} on average, less than the default action"
            return replace(nothing, refused=why), none
        acted, unsafe = (int(count) for count in curve.counts(mu))
        few = cases_needed(r_t, delta)
        price = Price(mu, r_t, True, self.n_t, acted, unsafe, earned, few, r_t, level, gate)
        assumed = best.assumed.replace("the price was fixed", "the sequence of prices was fixed")
        return PricedChoice(price, 0.0), replace(best, value=r_t, assumed=assumed)

    def _certificates(
        self, price: FloatArray, charged_from: float, gate: float, fresh: Evidence, delta: float
    ) -> list[Certificate]:
        """An upper limit on the risk at each price, chosen without the fresh cases; inf: nothing is done."""
        acted, unsafe = np.zeros((2, len(price)), np.int64)
        if self.scale is not None and len(fresh.margin):
            assert fresh.score is not None
            score = fresh.score
            if fresh.covered is not None:
                score = np.where(fresh.covered[:, None], score, -np.inf)
            risk, reward = present_risk(fresh.margin, score, self.scale, gate)
            counted = sweep(risk, reward, fresh.label == 1, charged_from, self.choice.default_reward)
            acted, unsafe = counted.at(price)
            acted, unsafe = (np.where(price < np.inf, count, 0) for count in (acted, unsafe))
        event = f"P(unsafe | acted{'' if fresh.covered is None else ' and covered'})"
        made = [certify(n, k, delta, event) for n, k in zip(acted.tolist(), unsafe.tolist(), strict=True)]
        return [replace(one, assumed=one.assumed.replace("the threshold", "the price")) for one in made]


def _sequence(
    price: FloatArray, acted: np.ndarray, unsafe: np.ndarray, r_t: float, scale: float
) -> FloatArray:
    """Prices to test, from the choosing cases: from where the test is likeliest to pass, downwards."""
    from scipy import stats

    grid = np.unique(np.linspace(0, len(price) - 1, _GRID).round().astype(np.int64))[::-1]
    expected = stats.binom.cdf(np.ceil(unsafe[grid] * scale), np.floor(acted[grid] * scale), r_t)
    return price[grid][int(np.argmin(expected)) :]


def _check_classes(evidence: Evidence) -> None:
    _, label, _ = evidence.flat
    for state, name in ((1, "unsafe"), (0, "safe")):
        if not (label == state).any():
            raise SafeframeError(f"no {name} internal test case: the bound needs a case of each class")
