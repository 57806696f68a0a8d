"""From a classifier to calibrated risk: what is joined, and on which cases of the calibration quarter.

The scores of a product are joined by a logistic regression (`guard.service.risk_scale`), and thresholds count
only cases whose probability was fitted on others:

- halves: the regression is fitted on the odd weeks of the calibration quarter, the even weeks are counted;
- crossed: one regression is fitted on each half; a case of the calibration quarter has the probability of the
  one that has not seen it, so that all of them are counted, and a case in use has the mean of both log odds.
  What is counted is then, for each half, a rule near the one in use and not that rule itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.production.demand.series import UNSAFE_BELOW, DemandData
from experiments.production.guard.calibration import odd_weeks
from experiments.production.guard.service import risk_scale
from experiments.production.models.history import days_below, recent_errors
from experiments.production.models.safety import Heads
from safeframe.risk_scale.odds import from_log_odds, log_odds


@dataclass(frozen=True)
class Calibrated:
    """Calibrated risk, and the cases that may bear thresholds on it.

    Attributes:
        probability: (n, p) of s < 3, of all cases.
        counted: (k,) cases of the calibration quarter whose probability was fitted on others.
    """

    probability: np.ndarray
    counted: np.ndarray


def joined_scores(heads: Heads, data: DemandData, days: int) -> list[np.ndarray]:
    """What the safety score is made of, each (n, p): both heads and `beside_law`."""
    return [heads.law, heads.ordinal, *beside_law(heads.error, data, days)]


def beside_law(error: np.ndarray, data: DemandData, days: int) -> list[np.ndarray]:
    """What is joined with a law of demand, each (n, p): four of its recent errors, and how far the same hour
    of the last known days lies below 3.

    Args:
        error: (n, p) standardised errors of the law.
        data: the cases.
        days: `score.days`; 0 joins the errors alone.
    """
    errors = recent_errors(error, data.target_hour, data.lead)
    return [*errors, days_below(data, UNSAFE_BELOW, days)] if days else errors


def calibrated(scores: list[np.ndarray], data: DemandData, test: np.ndarray, crossed: bool) -> Calibrated:
    """From scores (n, p), larger is riskier, to probabilities.

    Args:
        scores: that are joined.
        data: the cases.
        test: (k,) cases of the calibration quarter, in order of time.
        crossed: both halves fit and are counted; else the odd weeks fit and the even weeks are counted.
    """
    odd = odd_weeks(data.target_hour[test])
    first = risk_scale(scores, data.unsafe, test[odd])
    if not crossed:
        return Calibrated(first, test[~odd])
    second = risk_scale(scores, data.unsafe, test[~odd])
    both = from_log_odds((log_odds(first) + log_odds(second)) / 2)
    both[test[~odd]] = first[test[~odd]]
    both[test[odd]] = second[test[odd]]
    return Calibrated(np.clip(both, 1e-12, 1.0), test)
