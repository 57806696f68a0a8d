"""The knob of a method without a promise, as a user would set it: on the calibration quarter.

For each r_t the setting that earns most there among those whose share of violations, over all products, is at
most r_t; where none is, nothing is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.production.planning import ProductionProblem, produced, revenue, violations


@dataclass(frozen=True)
class Tried:
    """What one setting of a knob led to on the calibration quarter.

    Attributes:
        knob: the setting.
        share: of violations among what was made; NaN where nothing was.
        revenue: of all hours.
    """

    knob: float
    share: float
    revenue: float


def tried(problem: ProductionProblem, knob: float, action: np.ndarray, demand: np.ndarray) -> Tried:
    """From amounts and true demand (n, p)."""
    made = int(produced(action).sum())
    share = float(violations(action, demand).sum() / made) if made else np.nan
    return Tried(float(knob), share, float(revenue(problem, action, demand).sum()))


def chosen(settings: Sequence[Tried], r_t: float) -> float | None:
    """The knob for r_t; None where no setting is within it."""
    fine = [one for one in settings if one.share <= r_t]
    return max(fine, key=lambda one: one.revenue).knob if fine else None
