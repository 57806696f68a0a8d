"""The curves of the guard: what is promised, how it is chosen, and whether thresholds are renewed.

All count calibrated probabilities on cases that did not fit them (`guard.score`). Gated, a
product may be made where its probability is below a threshold: one of its own (`per_product`), one for all
products at which every product's own bound holds (`worst_product`), or at which that of all together does
(`pooled`). Priced (`safeframe.priced`), a product is made where the revenue that it adds is worth
its risk, mu (p - r_t), with one price mu for all products and hours, and the share over all products
together is what is promised. Static thresholds stand the largest share of unsafe hours of any known quarter;
renewed ones are counted anew every week, from labels that came a day late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from experiments.production.config import ServiceConfig
from experiments.production.demand.series import DemandData
from experiments.production.guard.calibration import odd_weeks
from experiments.production.guard.score import Calibrated
from experiments.production.guard.service import STRICT, Clock, InService, Service
from experiments.production.planning import PlanTable
from experiments.production.records import CALIBRATIONS, CONSTRAINTS
from safeframe.groups.constraint import Constraint
from safeframe.optimisation.priced import choose_priced
from safeframe.priced.rule import PriceRule
from safeframe.risk_scale import GivenRisk
from safeframe.risk_scale.odds import from_log_odds, log_odds
from safeframe.shrinkage import Shrinkage
from safeframe.threshold_rule import Conservative, PlugIn, Rule

RULES: dict[str, Rule] = {
    "strict": STRICT,
    "shrinkage": Shrinkage(),
    "conservative": Conservative(),
    "plug_in": PlugIn(),
}
"""By the name of the setting."""
_GROUPS: dict[str, Constraint] = {
    "per_product": "per_group",
    "pooled": "pooled",
    "worst_product": "worst_group",
}


@dataclass(frozen=True)
class Curve:
    """One way from calibrated risk to gates: settings `evaluation.{constraint,choice,calibration}`."""

    constraint: str
    choice: str
    calibration: str

    @property
    def name(self) -> str:
        """What its rows are called, after `ours_`."""
        first = self.constraint if self.choice == "gated" else "priced"
        return f"{first}_{self.calibration}"


def all_curves() -> list[Curve]:
    """The curves of figure 2: every constraint, static and weekly, and the priced choice, which promises the
    share over all products; static, since renewing prices takes a minute of a core where thresholds take one
    second.
    """
    gated = [Curve(c, "gated", k) for c in CONSTRAINTS for k in CALIBRATIONS]
    return [*gated, Curve("pooled", "priced", "static")]


def in_service(
    risk: Calibrated, data: DemandData, use: np.ndarray, known: Sequence[np.ndarray], service: ServiceConfig
) -> InService:
    """Thresholds and gates of a calibrated risk; the arguments are those of `Guarded`."""
    clock = Clock(data.lead, service.delay, service.renew, service.window)
    return InService(risk.probability, data.unsafe, data.target_hour, risk.counted, use, known, clock)


class Guarded:
    """The guard of one score on the validation quarter.

    Args:
        risk: calibrated.
        data: the cases.
        use: (h,) the cases in use.
        known: cases of each known quarter, whose shares of unsafe hours make the prior interval.
        service: when labels come and thresholds are renewed.
        table: plans of all cases.
    """

    def __init__(
        self,
        risk: Calibrated,
        data: DemandData,
        use: np.ndarray,
        known: Sequence[np.ndarray],
        service: ServiceConfig,
        table: PlanTable,
    ) -> None:
        self.table, self.use = table, use
        self.served = in_service(risk, data, use, known, service)

    def gates(self, curve: Curve, rule: str, levels: Sequence[float]) -> np.ndarray:
        """(levels, h, p) bool, what may be made.

        Args:
            curve: which.
            rule: of `RULES`; the priced choice takes the conservative rule in the place of both shrinkage
                bounds, which price nothing.
            levels: ascending r_t.
        """
        renewed = curve.calibration == "weekly"
        chosen = RULES[rule]
        if curve.choice == "priced":
            chosen = Conservative() if isinstance(chosen, Shrinkage) else chosen
            return self._priced(chosen, levels, renewed)
        prior = not renewed and not isinstance(chosen, PlugIn)
        return self.served.gates(Service(chosen, _GROUPS[curve.constraint], renewed, prior), levels)

    def _priced(self, rule: Rule, levels: Sequence[float], renewed: bool) -> np.ndarray:
        served, products = self.served, self.served.unsafe.shape[1]
        gain = np.stack([self.table.gain(i) for i in range(products)], axis=1)
        clock = served.clock if renewed else replace(served.clock, renew=None)
        gate = np.zeros((len(levels), len(self.use), products), dtype=bool)
        for stretch, last in clock.periods(served.hour[self.use]):
            index = served.known(last) if renewed else served.calibration
            found = PriceRule(
                _column(log_odds(served.probability[index])),
                _column(gain[index]),
                _column(served.unsafe[index]).astype(np.int64),
                GivenRisk(from_log_odds),
                rule,
                np.repeat(odd_weeks(np.arange(len(index))), products),
                prior=None if renewed else served.prior_of_all(index),
            ).prices(levels)
            rows = self.use[stretch]
            for i, choice in enumerate(found):
                price = choice.price
                if not price.feasible:
                    continue
                odds = _column(log_odds(served.probability[rows]))
                made = choose_priced(
                    from_log_odds(odds),
                    _column(gain[rows]),
                    price.mu,
                    price.charged_from,
                    allowed=odds < price.gate,
                )
                gate[i, stretch] = (made.index == 0).reshape(len(rows), products)
        return gate


def _column(values: np.ndarray) -> np.ndarray:
    """(n p, 1): every product of every hour is a measurement with one candidate, to make it."""
    return values.reshape(-1, 1)
