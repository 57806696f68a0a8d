"""A guard in service: thresholds that are renewed while labels come in late, and a budget of violations.

Time is the target hour of a plan. What is decided for hour t is decided `lead` hours earlier, and the demand
of an hour is known `delay` hours after it. So the plan of hour t may rest on hours up to t - lead - delay.

Scores are calibrated probabilities p̂ of every product (`risk_scale`), fitted once; what is renewed are the
thresholds on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.production.guard.calibration import odd_weeks
from safeframe.groups.constraint import Constraint, GroupConstraint
from safeframe.risk_scale import LogisticRisk
from safeframe.risk_scale.odds import log_odds
from safeframe.risk_scale.tail import TailScale
from safeframe.service.ledger import BudgetLedger
from safeframe.service.monitor import RiskMonitor
from safeframe.shrinkage import Shrinkage
from safeframe.threshold_rule import Conservative, PlugIn, Rule

HOURS_PER_DAY = 24
LADDER = np.geomspace(1e-6, 1.0, 73)
"""Levels that a budget may lower r_t to, twelve a decade."""
STRICT = Shrinkage(dispersion=8.0, z=1.645)
"""The shrinkage bound in the form that kept the promise on other years."""
OVERSPENT = 0.02
"""Reserve of a budget, as a share of the violations that r_t allows in the year in use."""


@dataclass(frozen=True)
class Clock:
    """When the demand of an hour is known, and when thresholds are renewed.

    Attributes:
        lead: hours from the decision to the hour that is planned.
        delay: hours from a planned hour until its demand is known.
        renew: hours between renewals; None: never.
        window: the newest known hours that a renewal counts; None: all.
    """

    lead: int
    delay: int
    renew: int | None = None
    window: int | None = None

    def known(self, target: int) -> int:
        """The last hour that is known where `target` is planned."""
        return target - self.lead - self.delay

    def periods(self, hour: np.ndarray) -> Iterator[tuple[slice, int]]:
        """Stretches of planned hours (n,), ascending, with the last hour known to all of a stretch."""
        if self.renew is None:
            yield slice(0, len(hour)), self.known(int(hour[0]))
            return
        edges = np.arange(hour[0], hour[-1] + self.renew, self.renew)
        cuts = np.searchsorted(hour, edges)
        for first, last in zip(cuts, np.append(cuts[1:], len(hour)), strict=True):
            if last > first:
                yield slice(first, last), self.known(int(hour[first]))


@dataclass(frozen=True)
class Service:
    """How a guard in service comes to its thresholds.

    Attributes:
        rule: from cases to a bound.
        constraint: whose bound has to be within r_t: every product's own, with a threshold of its own or one
            for all, or that of all products together.
        renewed: whether thresholds are renewed as labels come in.
        prior: whether the bound has to stand the largest share of unsafe hours of any known year.
        budget: whether a `BudgetLedger` of every product lowers the level by what was overspent.
    """

    rule: Rule
    constraint: Constraint = "per_group"
    renewed: bool = False
    prior: bool = False
    budget: bool = False


SERVICES = {
    "static_plug_in": Service(PlugIn()),
    "rolling_plug_in": Service(PlugIn(), renewed=True),
    "static": Service(Conservative()),
    "static_prior": Service(Conservative(), prior=True),
    "rolling": Service(Conservative(), renewed=True),
    "rolling_prior": Service(Conservative(), renewed=True, prior=True),
    "shrinkage": Service(Shrinkage(), renewed=True),
    "strict": Service(STRICT, renewed=True),
    "worst_product_static": Service(Shrinkage(), "worst_group"),
    "worst_product": Service(Shrinkage(), "worst_group", renewed=True),
    "worst_product_strict": Service(STRICT, "worst_group", renewed=True),
    "pooled": Service(Shrinkage(), "pooled", renewed=True),
    "budget": Service(PlugIn(), budget=True),
    "shrinkage_budget": Service(Shrinkage(), renewed=True, budget=True),
    "worst_product_budget": Service(Shrinkage(), "worst_group", renewed=True, budget=True),
}
"""By the name of the method."""


def risk_scale(scores: Sequence[np.ndarray], unsafe: np.ndarray, fitted_on: np.ndarray) -> np.ndarray:
    """Calibrated probabilities of every product: a logistic regression of several scores for each of them.
    Small risks are then flattened by one slope of all products (`TailScale`), as each has too few unsafe
    hours there for its own.

    Args:
        scores: each (n, p), larger is riskier.
        unsafe: (n, p) bool.
        fitted_on: index of the cases that it is fitted on.

    Returns:
        (n, p) probabilities p̂.

    Raises:
        SafeframeError: where a product has no unsafe or no safe hour there.
    """
    found = np.empty(unsafe.shape)
    for i in range(unsafe.shape[1]):
        table = np.column_stack([score[:, i] for score in scores])
        scale = LogisticRisk.fit(table[fitted_on], unsafe[fitted_on, i].astype(np.int64))
        found[:, i] = scale.probability(table)
    tail = TailScale.fit(found[fitted_on], unsafe[fitted_on])
    return np.clip(tail.probability(found), 1e-12, 1.0)


class InService:
    """Thresholds and gates through the hours in use.

    Args:
        probability: (n, p) p̂ of all cases, in order of time within each year.
        unsafe: (n, p) bool, what is known later.
        hour: (n,) target hours.
        calibration: index of the cases that are known at the start, ascending in time.
        use: index of the hours in use, ascending in time.
        years: index arrays of the known years, whose shares of unsafe hours make the prior interval.
        clock: when what is known.
    """

    def __init__(
        self,
        probability: np.ndarray,
        unsafe: np.ndarray,
        hour: np.ndarray,
        calibration: np.ndarray,
        use: np.ndarray,
        years: Sequence[np.ndarray],
        clock: Clock,
    ) -> None:
        self.probability, self.unsafe, self.hour, self.clock = probability, unsafe, hour, clock
        self.calibration, self.use, self.years = calibration, use, list(years)
        self.scale = log_odds(probability)

    def prior(self, known: np.ndarray) -> dict[int, tuple[float, float]]:
        """(lowest, highest) share of unsafe hours of a product in any known year or among `known`."""
        shares = np.array([self.unsafe[index].mean(axis=0) for index in [*self.years, known]])
        return {i: (float(each.min()), float(each.max())) for i, each in enumerate(shares.T)}

    def prior_of_all(self, known: np.ndarray) -> tuple[float, float]:
        """(lowest, highest) share of unsafe hours of all products in any known year or among `known`."""
        shares = [float(self.unsafe[index].mean()) for index in [*self.years, known]]
        return min(shares), max(shares)

    def known(self, last: int) -> np.ndarray:
        """The newest known cases: those of the calibration year, then hours in use up to `last`."""
        lived = self.use[self.hour[self.use] <= last]
        found = np.concatenate([self.calibration, lived])
        return found if self.clock.window is None else found[-self.clock.window :]

    def thresholds(self, service: Service, index: np.ndarray, levels: Sequence[float]) -> np.ndarray:
        """(levels, p) thresholds on the log odds of p̂, from known cases."""
        n, p = len(index), self.unsafe.shape[1]
        product = np.tile(np.arange(p), n)
        odd = np.repeat(odd_weeks(np.arange(n)), p)
        together = service.constraint == "pooled"
        constraint = GroupConstraint(
            self.probability[index].reshape(-1),
            self.unsafe[index].reshape(-1).astype(np.int64),
            product,
            service.rule,
            service.constraint,
            odd,
            prior=(self.prior_of_all(index) if together else self.prior(index)) if service.prior else None,
        )
        return np.array([[one.tau[i] for i in range(p)] for one in constraint.thresholds(levels)])

    def gates(self, service: Service, levels: Sequence[float]) -> np.ndarray:
        """(levels, hours in use, p) bool, what may be made."""
        clock = self.clock if service.renewed else Clock(self.clock.lead, self.clock.delay)
        scale = self.scale[self.use]
        gate = np.zeros((len(levels), *scale.shape), dtype=bool)
        ledgers = [_Ledgers(self, r_t) if service.budget and r_t < 1.0 else None for r_t in levels]
        asked = sorted({*levels, *LADDER.tolist()}) if service.budget else list(levels)
        for stretch, last in clock.periods(self.hour[self.use]):
            index = self.known(last) if service.renewed else self.calibration
            taus = self.thresholds(service, index, asked)
            for i, (r_t, ledger) in enumerate(zip(levels, ledgers, strict=True)):
                if ledger is None:
                    gate[i, stretch] = scale[stretch] < taus[asked.index(r_t)]
                else:
                    gate[i, stretch] = ledger.spend(stretch, np.array(asked), taus)
        return gate


class _Ledgers:
    """A budget of violations for every product at one r_t; a day's hours are decided at once, a day ahead.

    The reserve is OVERSPENT of what r_t allows in a year, at least one violation.
    """

    def __init__(self, served: InService, r_t: float) -> None:
        self.served, self.r_t = served, r_t
        hour = served.hour[served.use]
        waiting = HOURS_PER_DAY + served.clock.lead + served.clock.delay
        reserve = max(1.0, OVERSPENT * r_t * len(hour))
        self.ledgers = [BudgetLedger(r_t, reserve, late=waiting) for _ in range(served.unsafe.shape[1])]
        self.told = 0

    def spend(self, stretch: slice, levels: np.ndarray, taus: np.ndarray) -> np.ndarray:
        """(hours of the stretch, p) bool, what may be made.

        Args:
            stretch: of the hours in use.
            levels: (k,) ascending levels, r_t among them.
            taus: (k, p) their thresholds.
        """
        served = self.served
        hour, scale = served.hour[served.use], served.scale[served.use][stretch]
        unsafe = served.unsafe[served.use].astype(np.int64)
        day = Clock(served.clock.lead, served.clock.delay, HOURS_PER_DAY)
        at_r_t, gate = int(np.searchsorted(levels, self.r_t)), np.zeros(scale.shape, dtype=bool)
        for part, last in day.periods(hour[stretch]):
            seen = int(np.searchsorted(hour, last, side="right"))
            for i, ledger in enumerate(self.ledgers):
                if seen > self.told:
                    ledger.learn(np.arange(self.told, seen), unsafe[self.told : seen, i])
                at = int(np.searchsorted(levels, ledger.level * (1 + 1e-9), side="right")) - 1
                wanted = scale[part, i] < (taus[at, i] if at >= 0 else -np.inf)
                _, gate[part, i] = ledger.take(wanted, (scale[part, i] < taus[at_r_t, i]) & ~wanted)
            self.told = max(self.told, seen)
        return gate


@dataclass(frozen=True)
class Alarm:
    """What a monitor of one product and threshold found.

    Attributes:
        hour: in use, from 0, at which the label came that raised the alarm; None without one.
        labels: how many labels of accepted hours it had seen then; None without an alarm.
    """

    hour: int | None
    labels: int | None


def watched(gate: np.ndarray, unsafe: np.ndarray, r_t: float, alpha: float) -> Alarm:
    """A monitor over the labels of one product's accepted hours (n,), in order of time."""
    accepted = np.flatnonzero(gate)
    if r_t >= 1.0:
        return Alarm(None, None)
    monitor = RiskMonitor(r_t, alpha)
    if len(accepted):
        monitor.update(unsafe[accepted].astype(np.int64))
    at = monitor.alarm_at
    return Alarm(None, None) if at is None else Alarm(int(accepted[at - 1]), int(at))
