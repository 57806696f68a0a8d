"""The risk of the action that is taken where risk is priced, at every price.

For every price mu >= 0 the rule "take the candidate that maximises R(u) - mu (p(u) - r_t), and the default
action where that is below R(default)" is fixed, so its risk P(unsafe | acted) is counted on the internal test
data, as that of the selected action is (:mod:`safeframe.selected_risk`). By Lagrange the best rule under
P(unsafe | acted) <= r_t over all measurements has this form, with p the true probability; it is the penalised
choice that eq. (9) of arXiv 2504.20924 contains, used for acting. The promise does not rest on p: with a bad
one (fitted on other cases, :mod:`safeframe.risk_scale`) the rule is valid and earns less.

The choice of a measurement changes at the breaks of an upper envelope of lines
(:mod:`safeframe.priced.envelope`). One sweep over the sorted breaks of all measurements gives the counts at
every price: exact, piecewise constant and NOT monotone. Reward only falls as the price grows, so the smallest
price whose bound is at most r_t is the best one that qualifies.

A gate may be joined: only candidates with margin < gate are there. A gate of +inf and a price of 0 are the
two pure rules.

Conservative testing carries over. Every candidate's margin may move by sqrt(2) xi on its own. A candidate is
worth less the larger its margin, so the worst case lowers all unsafe margins and raises all safe ones: then
the action is unsafe exactly where some perturbation makes it so, and where none can, a measurement counts as
acted on only if every perturbation acts.

The event is per action taken; measurements with all their candidates are assumed drawn like those in use.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from safeframe.certificates.cases import CertifiedThreshold, cases_needed, certify_counts
from safeframe.chance_constraint import validate_radius, validate_threshold
from safeframe.margins import as_query, check_candidates
from safeframe.priced.envelope import chosen
from safeframe.priced.sweep import Price, Sweep, present_risk, sweep
from safeframe.risk_scale import RiskScale
from safeframe.selected_risk import check_corrections, share_of_unsafe
from safeframe.types import (
    SQRT2,
    BoolArray,
    FloatArray,
    Floats,
    IntArray,
    LabelArray,
    SafeframeError,
    number,
    numbers,
)


class PricedRiskCurve:
    """The exact curve mu -> bound on P(unsafe | acted) of the rule that prices risk.

    The rule takes the candidate of largest R(u) - mu (p(u) - r_t), and the default action where that is below
    its own reward; among equals the lowest index, a candidate before the default action. Where no measurement
    is acted on the bound is 1.

    Args:
        margin: (g, c) margins f_1 - f_0 of every candidate of every measurement, finite where present.
        reward: (g, c) R, the higher the better, finite where present; -inf marks an absent candidate.
        label: (g, c) 0 safe, 1 unsafe; both occur.
        r_t: risk that candidates are charged from, in (0, 1]: the threshold on the probability, or less.
        scale: p as a map of the margin, fitted on other cases; None: the margins are p already.
        default_reward: R of the default action, finite; one, or (g,).
        gate: only candidates with margin < gate are considered.
        radius: xi >= 0, in logit units.
        mask: (g, c) bool, False where absent; None: all that have a reward are there.
        slack: mass in [0, 1) that the bound adds to the share.
        one_more: count one unsafe action more than was seen.
        odds: factor > 0 on the odds of an unsafe action, for a prior that is not that of the measurements.

    Raises:
        SafeframeError: on shapes that differ, NaN, labels other than 0/1, no measurement, no candidate of one
            class, or another argument outside its range.
    """

    def __init__(
        self,
        margin: FloatArray,
        reward: FloatArray,
        label: LabelArray,
        r_t: float,
        scale: RiskScale | None = None,
        default_reward: FloatArray | float = 0.0,
        gate: float = np.inf,
        radius: float = 0.0,
        mask: BoolArray | None = None,
        slack: float = 0.0,
        one_more: bool = False,
        odds: float = 1.0,
    ) -> None:
        self.r_t, self.scale = validate_threshold(r_t), scale
        self._set(radius, slack, one_more, odds)
        if np.isnan(number(gate, "gate")):
            raise SafeframeError("gate is NaN; it is a threshold on the margin, +inf for none")
        values, rewards, unsafe, present = check_candidates(
            margin, reward, label, mask, "reward", "of any measurement"
        )
        default = numbers(default_reward, "default_reward")
        if default.shape not in ((), (len(values),)) or not np.isfinite(default).all():
            raise SafeframeError(
                f"default_reward has shape {default.shape}; expected one finite number or ({len(values)},)"
            )
        self.n = len(values)
        self._parts = (np.where(present, values, np.inf), np.where(present, rewards, -np.inf), unsafe)
        self._rule = (float(gate), default)
        self._worst  # noqa: B018 - risks are checked at once

    def adjusted(
        self,
        radius: float | None = None,
        slack: float | None = None,
        one_more: bool | None = None,
        odds: float | None = None,
    ) -> PricedRiskCurve:
        """The curve of the same measurements under another radius, slack, one case more or prior.

        Args:
            radius: xi >= 0, in logit units; None: as it is, and so with the others.
            slack: mass in [0, 1) that the bound adds to the share.
            one_more: count one unsafe action more than was seen.
            odds: factor > 0 on the odds of an unsafe action.

        Returns:
            The curve; what does not depend on the change is not computed again.

        Raises:
            SafeframeError: on an argument outside its range, or a radius on probabilities.
        """
        other = copy.copy(self)
        if radius is not None and radius != self.radius:
            self._actual  # noqa: B018 - shared
            other = copy.copy(self)
            other.__dict__.pop("_worst", None)
        other._set(
            self.radius if radius is None else radius,
            self.slack if slack is None else slack,
            self.one_more if one_more is None else one_more,
            self.odds if odds is None else odds,
        )
        return other

    def _set(self, radius: float, slack: float, one_more: bool, odds: float) -> None:
        self.radius = validate_radius(radius)
        check_corrections(slack, odds)
        if self.scale is None and self.radius > 0.0:
            raise SafeframeError("a radius moves margins: give them with their scale, not probabilities")
        self.slack, self.one_more, self.odds = float(slack), bool(one_more), float(odds)

    def _swept(self, shift: float) -> Sweep:
        margin, reward, unsafe = self._parts
        gate, default = self._rule
        moved = np.where(unsafe, margin - shift, margin + shift) if shift else margin
        risk, reward = present_risk(moved, reward, self.scale, gate)
        return sweep(risk, reward, unsafe, self.r_t, default)

    @cached_property
    def _actual(self) -> Sweep:
        return self._swept(0.0)

    @cached_property
    def _worst(self) -> Sweep:
        return self._actual if self.radius == 0.0 else self._swept(SQRT2 * self.radius)

    def chosen(self, mu: float) -> IntArray:
        """What the rule takes at a price (no radius).

        Args:
            mu: price >= 0; may be infinite.

        Returns:
            (g,) indices of candidates, -1 for the default action.

        Raises:
            SafeframeError: on a price that is NaN or negative.
        """
        margin, reward, _ = self._parts
        risk, reward = present_risk(margin, reward, self.scale, self._rule[0])
        index = chosen(risk, reward, float(_as_price(mu)[0]), self.r_t, self._rule[1])
        return np.where(index == risk.shape[1], -1, index)

    @property
    def prices(self) -> FloatArray:
        """(e,) ascending prices, 0 first, at which the bound may change: it is constant between them."""
        return self._worst.price

    def bound(self, mu: Floats) -> FloatArray:
        """Share of unsafe actions among those taken, worst case over the balls; 1 if none is taken.

        With ``one_more`` or ``slack`` it is at least what these add; it can then exceed 1.

        Args:
            mu: prices >= 0, of any shape; may be infinite.

        Returns:
            Probabilities, shaped like ``mu``.

        Raises:
            SafeframeError: on a price that is NaN or negative.
        """
        return self._bound(*self._worst.at(_as_price(mu))).reshape(np.shape(mu))

    def _bound(self, acted: IntArray, unsafe: IntArray) -> FloatArray:
        return share_of_unsafe(acted, unsafe, self.one_more, self.odds) + self.slack

    def counts(self, mu: Floats) -> tuple[IntArray, IntArray]:
        """How many measurements are acted on (no radius).

        Args:
            mu: prices >= 0, of any shape; may be infinite.

        Returns:
            Two integer arrays shaped like ``mu``, the measurements acted on and those among them whose action
                is unsafe.

        Raises:
            SafeframeError: on a price that is NaN or negative.
        """
        acted, unsafe = self._actual.at(_as_price(mu))
        return acted.reshape(np.shape(mu)), unsafe.reshape(np.shape(mu))

    def action_rate(self, mu: Floats) -> FloatArray:
        """Share of measurements that are acted on (no radius).

        Args:
            mu: prices >= 0, of any shape; may be infinite.

        Returns:
            Shares in [0, 1], shaped like ``mu``.

        Raises:
            SafeframeError: on a price that is NaN or negative.
        """
        return self.counts(mu)[0] / self.n

    def mean_reward(self, mu: Floats) -> FloatArray:
        """Mean reward of all measurements, the default action's included (no radius); it never rises in mu.

        Args:
            mu: prices >= 0, of any shape; may be infinite.

        Returns:
            Rewards, shaped like ``mu``.

        Raises:
            SafeframeError: on a price that is NaN or negative.
        """
        index = np.searchsorted(self._actual.price, _as_price(mu), side="right") - 1
        return (self._actual.reward[index] / self.n).reshape(np.shape(mu))

    def least_price(self, limit: float | None = None) -> Price:
        """The smallest price whose bound is at most r_t: the most permissive.

        The curve is not monotone, so a price found here is a plug-in choice among many. Pair it with
        :meth:`fixed_sequence`.

        Args:
            limit: on the bound, in (0, 1]; None: r_t itself.

        Returns:
            The price; where none qualifies it is infinite and not feasible, and the default action is always
                to be taken.

        Raises:
            SafeframeError: on a limit outside (0, 1].
        """
        wanted = self.r_t if limit is None else validate_threshold(limit)
        bound = self._bound(self._worst.acted, self._worst.unsafe)
        within = bound <= wanted
        first = int(np.argmax(within))
        if not within[first]:
            default = float(np.mean(self._rule[1]))
            few = cases_needed(wanted, 0.05)
            return Price(np.inf, 1.0, False, self.n, 0, 0, default, few, wanted, self.r_t, self._rule[0])
        mu = float(self._worst.price[first])
        acted, unsafe = self.counts(mu)
        return Price(
            mu=mu,
            bound=float(bound[first]),
            feasible=True,
            n=self.n,
            n_acted=int(acted),
            n_unsafe_acted=int(unsafe),
            mean_reward=float(self.mean_reward(mu)),
            cases_needed=cases_needed(wanted, 0.05),
            r_t=wanted,
            charged_from=self.r_t,
            gate=self._rule[0],
        )

    def fixed_sequence(
        self, mus: FloatArray | Sequence[float], delta: float, limit: float | None = None
    ) -> CertifiedThreshold:
        """The most permissive price certified for the action taken (Learn then Test; unit: the measurement).

        Args:
            mus: (t,) prices fixed before these measurements were seen, strict (large) ones first.
            delta: allowed probability of failure, in (0, 1).
            limit: on the risk, in (0, 1]; None: r_t itself.

        Returns:
            The certificate on P(unsafe | acted), with the index of the price in ``mus``, None where none is
                certified. Its ``tau`` is minus the price (a larger one is more permissive), -inf where none
                is certified.

        Raises:
            SafeframeError: on a price that is NaN or negative, a limit outside (0, 1] or a delta outside
                (0, 1).
        """
        sequence = _as_price(np.asarray(mus, np.float64))
        acted, unsafe = self.counts(sequence)
        wanted = self.r_t if limit is None else validate_threshold(limit)
        return certify_counts(acted, unsafe, -sequence, wanted, delta, event="P(unsafe | acted)")


def _as_price(mu: Floats) -> FloatArray:
    query = as_query(mu)
    if (query < 0.0).any():
        raise SafeframeError(f"price {float(query.min()):g}: a price of risk is not negative")
    return query
