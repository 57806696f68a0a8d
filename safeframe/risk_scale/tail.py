"""Small risks, judged by their own slope: a scale that is right on the whole may be too sure where it is low.

A fitted scale serves the many cases in the middle. Far below them its log odds run on along the same line,
although the risk may fall more slowly there: on synthetic demand, hours that a logistic scale gave 1e-5 were
unsafe 26 times as often. What few unsafe cases lie below a level tell one number, the slope of the log odds
(Platt scaling there alone), and it is only ever used to flatten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from safeframe.risk_scale.logistic import LogisticRisk
from safeframe.risk_scale.odds import from_log_odds, log_odds
from safeframe.risk_scale.scale import queried
from safeframe.types import FloatArray, LabelArray, SafeframeError, number


@dataclass(frozen=True)
class TailScale:
    """Below a level l, log odds of p̂ count as log odds of l + slope * (log odds of p̂ - log odds of l).

    It is continuous, monotone, leaves p̂ above l as it is, and never makes a risk smaller.

    Attributes:
        below: l, in (0, 1).
        slope: in [0, 1]; 1 changes nothing.
    """

    below: float
    slope: float

    @classmethod
    def fit(cls, probability: Any, label: LabelArray, below: float = 0.2) -> TailScale:
        """The slope of maximum likelihood, with a level of its own, among cases with p̂ <= below; at most 1.

        Args:
            probability: p̂ in [0, 1], of any number of groups together, fitted on other cases.
            label: as many, 0 safe, 1 unsafe (ints or bools).
            below: l, in (0, 1).

        Returns:
            The scale; slope 1 where no unsafe or no safe case lies below, since then nothing is known of it.

        Raises:
            SafeframeError: on shapes that differ, probabilities outside [0, 1], other labels, or a level
                outside (0, 1).
        """
        if not 0.0 < number(below, "below") < 1.0:
            raise SafeframeError(f"below is {below}; the level of small risks must lie in (0, 1)")
        chance = _probabilities(probability).reshape(-1)
        state = np.asarray(label).reshape(-1)
        if chance.shape != state.shape:
            raise SafeframeError(f"probability has {chance.size} cases, label {state.size}; give as many")
        low = chance <= below
        if len(np.unique(state[low])) < 2:
            return cls(float(below), 1.0)
        found = LogisticRisk.fit(log_odds(chance[low]), state[low])
        return cls(float(below), float(min(found.slope[0] / found.deviation[0], 1.0)))

    def probability(self, score: Any) -> FloatArray:
        """P(unsafe) of cases.

        Args:
            score: p̂ in [0, 1], of any shape.

        Returns:
            Probabilities, of the same shape, nowhere below p̂.

        Raises:
            SafeframeError: on NaN, or a p̂ outside [0, 1].
        """
        chance = _probabilities(score)
        edge = log_odds(np.asarray(self.below))
        flat = from_log_odds(edge + self.slope * (log_odds(chance) - edge))
        return np.where(chance < self.below, np.maximum(flat, chance), chance)


def _probabilities(values: Any) -> FloatArray:
    chance = queried(values)
    if ((chance < 0.0) | (chance > 1.0)).any():
        raise SafeframeError("probability holds values outside [0, 1]; give calibrated probabilities")
    return chance
