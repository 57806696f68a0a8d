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
from experiments.production.models.history import (
    DAYS,
    HOURS_PER_DAY,
    days_below,
    recent_errors,
    roughness,
)
from experiments.production.models.safety import Heads
from safeframe.risk_scale.odds import from_log_odds, log_odds

LOGISTIC_SPREAD = float(np.pi / np.sqrt(3.0))
"""Standard deviation of the logistic law of scale 1."""


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
    return [heads.law, heads.ordinal, *beside_law(heads.law, heads.error, LOGISTIC_SPREAD, data, days)]


def beside_law(
    law: np.ndarray, error: np.ndarray, usual: float, data: DemandData, days: int
) -> list[np.ndarray]:
    """What is joined with a law of demand, each (n, p): four of its recent errors; how rough the last day and
    week were; the law itself over the roughness of the last three days, of the product and of all products
    in equal parts; and how far the same hour of the last known days lies below 3.

    Args:
        law: (n, p) what the law says of s < 3, larger is riskier and 0 is even.
        error: (n, p) its standardised errors.
        usual: the root mean square of these where the law holds.
        data: the cases.
        days: `score.days`; 0 leaves the days out.
    """

    def rough(hours: int) -> np.ndarray:
        return roughness(error, data.target_hour, data.lead, hours, usual)

    lately = rough(3 * HOURS_PER_DAY)
    of_all = np.sqrt(np.square(lately).mean(axis=1, keepdims=True))
    return [
        *recent_errors(error, data.target_hour, data.lead),
        *(np.log(rough(hours)) for hours in (HOURS_PER_DAY, DAYS * HOURS_PER_DAY)),
        law / np.sqrt(lately * of_all),
        *([days_below(data, UNSAFE_BELOW, days)] if days else []),
    ]


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
