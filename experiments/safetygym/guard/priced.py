"""Risk priced instead of gated: a draw from pi(a) exp(-mu p(a)), calibrated by its price mu.

A gate walks along the edge of what it accepts: an agent that stands there tries again at every step. A price
leaves every candidate to be taken and makes it the rarer the riskier it is: with log pi plus Gumbel noise as
the reward, the candidate of largest reward less mu p is a draw from these probabilities (`safeframe.priced`).
p is 1 / (1 + exp(-margin / width)), a map that is fixed beforehand; the promise does not rest on it, since
the risk of the rule itself is counted at every price. A price stands where a gate has its threshold, with
its sign turned, so that larger is more permissive: tau = -mu. The default action is taken only where no price
keeps r_t.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from scipy.special import expit

from experiments.safetygym.agents.agent import Agent
from experiments.safetygym.config import SafetyGymConfig
from experiments.safetygym.guard.calibration import gumbel_scores, reliability
from experiments.safetygym.guard.choices import Calibrated
from experiments.safetygym.guard.classifier import Classifier
from experiments.safetygym.guard.guarding import Guard
from experiments.safetygym.states.internal_data import Shard
from safeframe.priced.curve import PricedRiskCurve
from safeframe.risk_scale import GivenRisk
from safeframe.threshold_rule import Conservative, Rule
from safeframe.types import SafeframeError

PRICES = (*np.geomspace(40.0, 1.0, 19).tolist(), 0.0)
"""Prices tried, strict ones first. They are high, because an agent trained under a gate leaves it to the gate
to forbid: where only some candidates are safe, it can prefer an unsafe one by e^17."""
NEVER = -1e9
"""Reward of the default action: below what any price leaves of a candidate's, so it is never the choice."""


def priced_risk(margin: np.ndarray, width: float) -> np.ndarray:
    """p of margins of any shape, in (0, 1): .73 at a margin of `width`, .27 at minus `width`."""
    return expit(np.asarray(margin, np.float64) / width)


@dataclass(frozen=True)
class PricedGuard(Guard):
    """Everything may be taken, at a price: tau is minus the price; -inf allows nothing.

    Attributes:
        width: of the map from margins to p.
    """

    width: float

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        return np.full((len(observation), self.classifier.n_candidates), self.tau > -np.inf)

    def charge(self, observation: np.ndarray) -> np.ndarray | None:
        """mu p (n, k), which the logarithms of the policy's probabilities lose."""
        if self.tau == -np.inf:
            return None
        return -self.tau * priced_risk(self.classifier.margin(observation), self.width)


def bound_at(
    price: float, classifier: Classifier, agent: Agent, shard: Shard, rule: Rule, width: float, seed: int = 0
) -> float:
    """Bound on P(unsafe | acted) at a price, on the data of one behaviour with every candidate labelled.

    rule: `PlugIn(xi)` or `Conservative(xi)` with a given radius; seed: of the draws. 1 where the data lack a
    class: they say nothing about risk. SafeframeError for candidates that are not labelled.
    """
    unsafe = np.asarray(shard.unsafe)
    if (unsafe < 0).any():
        raise SafeframeError("risk is priced where every candidate is labelled: use backup labels")
    if not ((unsafe == 1).any() and (unsafe == 0).any()):
        return 1.0
    observation = np.asarray(shard.observation)
    curve = PricedRiskCurve(
        classifier.margin(observation), gumbel_scores(agent, observation, seed), unsafe, 1.0,
        GivenRisk(partial(priced_risk, width=width)), NEVER, radius=float(rule.radius),
        one_more=isinstance(rule, Conservative),
    )  # fmt: skip
    return float(curve.bound(price))


class PricedCalibration:
    """Prices by one rule, each judged on the data of its own guard (a fixed sequence, strict prices first).

    A gate is judged on the data of other behaviours too. A price cannot be: an agent that is inside a hazard
    has unsafe candidates alone, whatever they cost, and only those go there who paid less before.

    Args:
        classifier: gives the margins.
        agent: its probabilities, with Gumbel noise, are the rewards.
        data: by price, what was collected under its guard.
        rule: as of `bound_at`.
        width: of the map from margins to p.
        seed: of the draws.
    """

    def __init__(
        self,
        classifier: Classifier,
        agent: Agent,
        data: Mapping[float, Shard],
        rule: Rule,
        width: float,
        seed: int = 0,
    ):
        self.width, self._radius = width, float(rule.radius)
        self.prices = np.array(sorted(data, reverse=True))
        shards = [data[price] for price in self.prices]
        self.bounds = np.array(
            [
                bound_at(price, classifier, agent, shard, rule, width, seed + i)
                for i, (price, shard) in enumerate(zip(self.prices, shards, strict=True))
            ]
        )
        self._margins = [classifier.margin(np.asarray(shard.observation)) for shard in shards]
        self._unsafe = [np.asarray(shard.unsafe) for shard in shards]

    def threshold(self, r_t: float) -> Calibrated:
        """The least price up to which, from the strictest on, every bound is at most r_t."""
        above = np.flatnonzero(self.bounds > r_t)
        kept = int(above[0]) if len(above) else len(self.bounds)
        if kept == 0:
            return Calibrated(r_t, -np.inf, 1.0, 0.0, False, self._radius)
        tau, bound = -float(self.prices[kept - 1]), float(self.bounds[kept - 1])
        return Calibrated(r_t, tau, bound, 1.0, True, self._radius)

    def thresholds(self, levels: Sequence[float]) -> dict[float, Calibrated]:
        """One choice for each r_t, ascending."""
        return {r_t: self.threshold(r_t) for r_t in sorted(levels)}

    def level(self, margin: np.ndarray, r_t: float = 1.0) -> np.ndarray:
        """p of each candidate: what it is charged for."""
        return priced_risk(margin, self.width)

    def reliability(self) -> pd.DataFrame:
        """Labelled candidates by margin (`calibration.reliability`)."""
        return reliability(self._margins, self._unsafe)


def guard_of(config: SafetyGymConfig, classifier: Classifier, tau: float | np.ndarray) -> Guard:
    """The guard of a run's kind at a threshold, or at minus a price."""
    if config.choice.rule == "priced":
        return PricedGuard(classifier, float(tau), config.choice.width)
    return Guard(classifier, tau)
