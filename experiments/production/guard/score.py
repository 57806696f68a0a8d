"""From a classifier to calibrated risk: what is joined, and on which cases of the calibration quarter.

The scores of a product are joined by a logistic regression (`guard.service.risk_scale`) on the odd weeks of
the calibration quarter; thresholds are counted on its even weeks. So the rule that is judged is fixed before
its cases are seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.production.demand.series import DemandData
from experiments.production.guard.calibration import odd_weeks
from experiments.production.guard.service import risk_scale
from experiments.production.models.history import recent_errors
from experiments.production.models.safety import Heads


@dataclass(frozen=True)
class Halves:
    """The calibration quarter in two: `fitted` (k,) joins scores, `counted` (l,) bears thresholds."""

    fitted: np.ndarray
    counted: np.ndarray

    @classmethod
    def of(cls, test: np.ndarray, target_hour: np.ndarray) -> Halves:
        """Odd and even weeks of the cases `test`; target_hour of all cases."""
        odd = odd_weeks(target_hour[test])
        return cls(test[odd], test[~odd])


def joined_scores(heads: Heads, data: DemandData) -> list[np.ndarray]:
    """What the safety score is made of, six times (n, p): both heads and four recent errors of the law."""
    return [heads.law, heads.ordinal, *recent_errors(heads.error, data.target_hour, data.lead)]


def calibrated(scores: list[np.ndarray], data: DemandData, halves: Halves) -> np.ndarray:
    """(n, p) calibrated probabilities of s < 3 from scores (n, p)."""
    return risk_scale(scores, data.unsafe, halves.fitted)
