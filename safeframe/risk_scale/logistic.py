"""The logistic risk scale: penalised maximum likelihood by Newton steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from safeframe.risk_scale.scale import FAR, checked, queried
from safeframe.types import FloatArray, LabelArray, SafeframeError

_STEPS = 100
_HALVINGS = 40


@dataclass(frozen=True, eq=False)
class LogisticRisk:
    """P(unsafe) = 1 / (1 + exp(-(intercept + slope . standardised score))).

    Attributes:
        intercept: log odds at the mean score.
        slope: (k,) change of the log odds by one standard deviation of each score.
        mean: (k,) means of the scores.
        deviation: (k,) their standard deviations, 1 where a score is constant.
        single: whether scores come as one number a case.
    """

    intercept: float
    slope: FloatArray
    mean: FloatArray
    deviation: FloatArray
    single: bool

    @classmethod
    def fit(
        cls,
        score: Any,
        label: LabelArray,
        weight: FloatArray | None = None,
        ridge: float = 0.01,
        monotone: bool = True,
    ) -> LogisticRisk:
        """Penalised maximum likelihood: the sum of the log losses + ridge/2 |slope|^2, slopes >= 0.

        Projected Newton steps, halved until the objective falls (Bertsekas (1982), doi:10.1137/0320018). The
        intercept is not penalised; the penalty keeps slopes finite where a score separates the classes.

        Args:
            score: (n,), or (n, k) with several scores a case, finite; a larger one is riskier.
            label: (n,) 0 safe, 1 unsafe (ints or bools); both occur.
            weight: (n,) weights >= 0 of the cases; None: 1 each.
            ridge: > 0, in units of cases on standardised scores.
            monotone: keep every slope >= 0. False: slopes of any sign, for several scores of which some may
                be safer where larger.

        Returns:
            The scale.

        Raises:
            SafeframeError: on shapes that differ, NaN, labels other than 0/1, a class without a case of
                positive weight, or a ridge that is not positive.
        """
        values, unsafe, weights = checked(score, label, weight)
        if not 0.0 < ridge < np.inf:
            raise SafeframeError(f"ridge is {ridge}; it must be positive and finite")
        table = values.reshape(len(values), -1)
        total = weights.sum()
        mean = weights @ table / total
        deviation = np.sqrt(weights @ np.square(table - mean) / total)
        deviation[deviation <= 1e-12 * np.abs(mean)] = 1.0
        design = np.column_stack([np.ones(len(table)), (table - mean) / deviation])
        found = _newton(design, unsafe, weights, ridge, monotone)
        return cls(float(found[0]), found[1:], mean, deviation, values.ndim == 1)

    def probability(self, score: Any) -> FloatArray:
        """P(unsafe) of cases; it never is exactly 0.

        Args:
            score: of any shape, or (..., k) where k scores a case were fitted; may be infinite.

        Returns:
            Probabilities, shaped like ``score`` (without its last axis where there are k).

        Raises:
            SafeframeError: on NaN, or another number of scores.
        """
        values = queried(score)
        if self.single:
            logit = self.slope[0] * np.clip((values - self.mean[0]) / self.deviation[0], -FAR, FAR)
        else:
            if values.shape[-1:] != self.slope.shape:
                raise SafeframeError(
                    f"score has shape {values.shape}; the scale was fitted on {len(self.slope)} scores a "
                    f"case, expected (..., {len(self.slope)})"
                )
            logit = np.clip((values - self.mean) / self.deviation, -FAR, FAR) @ self.slope
        return _expit(np.asarray(logit + self.intercept))


def _newton(
    design: FloatArray, unsafe: FloatArray, weight: FloatArray, ridge: float, monotone: bool
) -> FloatArray:
    """Coefficients (1 + k,), the intercept first, of the penalised fit with slopes >= 0 where monotone."""
    penalty = np.full(design.shape[1], ridge)
    penalty[0] = 0.0
    low = np.full(design.shape[1], -np.inf)
    if monotone:
        low[1:] = 0.0
    share = weight @ unsafe / weight.sum()
    found = np.zeros(design.shape[1])
    found[0] = np.log(share / (1.0 - share))

    def objective(at: FloatArray) -> float:
        logit = design @ at
        loss = np.logaddexp(0.0, logit) - unsafe * logit
        return float(weight @ loss + 0.5 * penalty @ np.square(at))

    value = objective(found)
    for _ in range(_STEPS):
        risk = _expit(design @ found)
        gradient = design.T @ (weight * (risk - unsafe)) + penalty * found
        free = (found > low) | (gradient < 0.0)
        if not free.any() or np.abs(gradient[free]).max() <= 1e-10 * weight.sum():
            break
        curvature = (design * (weight * risk * (1.0 - risk))[:, None]).T @ design + np.diag(penalty)
        curvature[0, 0] += 1e-12 * weight.sum()  # where all risks round to 0 or 1
        step = np.zeros_like(found)
        step[free] = np.linalg.solve(curvature[np.ix_(free, free)], gradient[free])
        for halving in range(_HALVINGS):
            trial = np.maximum(found - step * 0.5**halving, low)
            reached = objective(trial)
            if reached < value:
                break
        else:
            break  # to the last bit
        found, value = trial, reached
    return found


def _expit(logit: FloatArray) -> FloatArray:
    return 1.0 / (1.0 + np.exp(-np.clip(logit, -700.0, 700.0)))
