"""Acting on a price: the terms in force, what they decide on a batch, and why, in words."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from safeframe.risk_scale import RiskScale
from safeframe.types import FloatArray


@dataclass(frozen=True)
class PricedTerms:
    """The terms on which a priced guard acts at one r_t (in one group).

    Attributes:
        price: mu, in units of reward for a probability of 1; inf where none qualifies.
        r_t: the r_t that it was found for: that of the calibration, or a stricter one that earns more.
        charged_from: risk that candidates are charged from, at most r_t.
        bound: on P(unsafe | acted); with certificates r_t.
        scale: from margins to probabilities; None where it could not be fitted.
        default_reward: R of the default action.
        gate: only candidates with margin < gate are considered.
        mean_reward: of all measurements of the curve, the default action's included.
        n_scale: cases that fitted the scale.
    """

    price: float
    r_t: float
    charged_from: float
    bound: float
    scale: RiskScale | None = field(compare=False)
    default_reward: float = 0.0
    gate: float = math.inf
    mean_reward: float = 0.0
    n_scale: int = 0

    @property
    def feasible(self) -> bool:
        """Whether a price qualifies; where none does, the default action is always taken."""
        return self.price < math.inf


@dataclass(frozen=True, eq=False)
class PricedBatch:
    """What decided on a batch of n measurements where risk is priced.

    Attributes:
        risk: (n, c) p of the candidates, 1 where absent or beyond the gate.
        reward: (n, c) R, -inf there.
        price: (n,) prices in force.
        charged_from: (n,) risk that candidates are charged from.
        default_reward: R of the default action.
        bound: (n,) on P(unsafe | acted) at the price in force where a candidate is taken, inf elsewhere.
    """

    risk: FloatArray
    reward: FloatArray
    price: FloatArray
    charged_from: FloatArray
    default_reward: float
    bound: FloatArray

    def explain(self, i: int, index: int) -> str:
        """What the price was, what was taken, and which candidate lost to it.

        Args:
            i: position of the measurement.
            index: the candidate that was taken, -1 for the default action.

        Returns:
            One sentence, without its end.
        """
        risk, reward, price = self.risk[i], self.reward[i], float(self.price[i])
        with np.errstate(invalid="ignore"):
            worth = reward - price * (risk - self.charged_from[i])
        there = np.flatnonzero(reward > -np.inf)
        default = f"the default action's {self.default_reward:.4g}"
        if not len(there):
            return "default action: no candidate is there (or has a margin below the gate)"

        def told(k: int) -> str:
            return f"reward {reward[k]:.4g}, risk {risk[k]:.3g}, worth {worth[k]:.4g}"

        most = int(there[np.argmax(reward[there])])
        if index < 0:
            best = int(there[np.argmax(worth[there])])
            also = "" if best == most else f"; so does candidate {most}, of the largest reward ({told(most)})"
            return (
                f"default action: at the price {price:.4g} of risk candidate {best} ({told(best)}) loses to "
                f"{default}{also}"
            )
        others = there[there != index]
        better = others[reward[others] > reward[index]]
        if len(better):
            lost = int(better[np.argmax(reward[better])])
            beside = f"candidate {lost} of more reward ({told(lost)}) lost to it"
        elif len(others):
            lost = int(others[np.argmax(worth[others])])
            beside = f"no other has more reward; candidate {lost} ({told(lost)}) lost to it"
        else:
            beside = "it is the only one"
        return (
            f"candidate {index} taken at the price {price:.4g} of risk: {told(index)}, not below {default}; "
            f"{beside}"
        )
