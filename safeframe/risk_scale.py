"""A common scale of risk: from scores to P(unsafe), comparable between models, groups and candidates.

A margin says which of two cases is riskier, not by how much, and margins of two groups (or of two
classifiers) cannot be compared. A risk scale maps them to probabilities. It is fitted on cases that no risk
curve counts: then the rule that a curve judges is fixed before its cases are seen, and no promise rests on
how good the scale is. A bad one is valid and earns less.

Three kinds come under one interface (:class:`RiskScale`), made by :func:`fit_risk_scale`:

- :class:`LogisticRisk`, of one score or several: penalised maximum likelihood by Newton steps (iteratively
  reweighted least squares), every slope >= 0 unless asked otherwise;
- :class:`IsotonicRisk`, of one score: the monotone step fit (pool adjacent violators), of scikit-learn, with
  one unsafe case more than was seen;
- :class:`GivenRisk`: any callable of the user's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from safeframe.types import SAFE, UNSAFE, FloatArray, LabelArray, SafeframeError

_FAR = 1e6  # standard deviations: scores beyond, infinite ones too, count as that
_STEPS = 100
_HALVINGS = 40


@runtime_checkable
class RiskScale(Protocol):
    """A monotone map from scores to P(unsafe)."""

    def probability(self, score: Any, /) -> FloatArray:
        """P(unsafe) of cases.

        Args:
            score: one score a case, of any shape; or with several scores a case (..., k).

        Returns:
            Probabilities in [0, 1], shaped like ``score`` (without its last axis where there are several).

        Raises:
            SafeframeError: on NaN.
        """
        ...


ScaleKind = Literal["logistic", "isotonic"]
"""Kinds that are fitted by their names."""


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
        values, unsafe, weights = _checked(score, label, weight)
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
        values = _queried(score)
        if self.single:
            logit = self.slope[0] * np.clip((values - self.mean[0]) / self.deviation[0], -_FAR, _FAR)
        else:
            if values.shape[-1:] != self.slope.shape:
                raise SafeframeError(
                    f"score has shape {values.shape}; the scale was fitted on {len(self.slope)} scores a "
                    f"case, expected (..., {len(self.slope)})"
                )
            logit = np.clip((values - self.mean) / self.deviation, -_FAR, _FAR) @ self.slope
        return _expit(np.asarray(logit + self.intercept))


@dataclass(frozen=True, eq=False)
class IsotonicRisk:
    """The monotone map of least squares, linear between its knots and constant beyond them.

    One unsafe case is added at the lowest score, so the lowest step is (k + 1) / (n + 1) for k unsafe among
    its n cases (conformal risk control, arXiv 2208.02814) and never 0.

    Attributes:
        knots: (j,) ascending scores.
        values: (j,) ascending probabilities at them.
    """

    knots: FloatArray
    values: FloatArray

    @classmethod
    def fit(cls, score: Any, label: LabelArray, weight: FloatArray | None = None) -> IsotonicRisk:
        """Pool adjacent violators (Barlow et al., 1972), by scikit-learn.

        Args:
            score: (n,) finite; a larger one is riskier.
            label: (n,) 0 safe, 1 unsafe (ints or bools); both occur.
            weight: (n,) weights >= 0 of the cases; None: 1 each.

        Returns:
            The scale.

        Raises:
            SafeframeError: as :meth:`LogisticRisk.fit`, on several scores a case, and where scikit-learn is
                not installed.
        """
        values, unsafe, weights = _checked(score, label, weight)
        if values.ndim != 1:
            raise SafeframeError(
                f"score has shape {values.shape}; an isotonic scale takes one score a case, (n,)"
            )
        try:
            from sklearn.isotonic import IsotonicRegression
        except ImportError as error:
            raise SafeframeError(
                "an isotonic scale needs scikit-learn: pip install scikit-learn, or take 'logistic'"
            ) from error
        kept = weights > 0.0
        values, unsafe, weights = values[kept], unsafe[kept], weights[kept]
        fitted = IsotonicRegression(out_of_bounds="clip").fit(
            np.append(values.min(), values), np.append(1.0, unsafe), np.append(1.0, weights)
        )
        return cls(
            np.asarray(fitted.X_thresholds_, np.float64), np.clip(np.asarray(fitted.y_thresholds_), 0.0, 1.0)
        )

    def probability(self, score: Any) -> FloatArray:
        """P(unsafe) of cases; it never is 0.

        Args:
            score: of any shape; may be infinite.

        Returns:
            Probabilities, shaped like ``score``.

        Raises:
            SafeframeError: on NaN.
        """
        return np.interp(_queried(score), self.knots, self.values)


@dataclass(frozen=True, eq=False)
class GivenRisk:
    """A scale of the user's own.

    Attributes:
        function: scores -> probabilities of the same shape; it must not fall where one score a case grows.
    """

    function: Callable[[Any], Any]

    def probability(self, score: Any) -> FloatArray:
        """P(unsafe) of cases, checked.

        Args:
            score: of any shape.

        Returns:
            Probabilities, as the function returns them.

        Raises:
            SafeframeError: on NaN, or where the function returns another shape or no probabilities.
        """
        values = _queried(score)
        found = np.asarray(self.function(values), dtype=np.float64)
        if found.shape not in (values.shape, values.shape[:-1]):
            raise SafeframeError(
                f"the risk scale returned shape {found.shape} for scores {values.shape}; expected one "
                "probability a case"
            )
        if not ((found >= 0.0) & (found <= 1.0)).all():
            raise SafeframeError("the risk scale returned values outside [0, 1], or NaN")
        return found


def fit_risk_scale(
    kind: ScaleKind | Callable[[Any], Any] | RiskScale,
    score: Any,
    label: LabelArray,
    weight: FloatArray | None = None,
) -> RiskScale:
    """A scale of risk, fitted on cases that no curve counts.

    Args:
        kind: "logistic", "isotonic", a callable from scores to probabilities, or a scale that is there
            already; the last two are not fitted, and are checked on these cases to be monotone.
        score: (n,), or (n, k) with several scores a case, finite.
        label: (n,) 0 safe, 1 unsafe; both occur (where something is fitted).
        weight: (n,) weights >= 0 of the cases; None: 1 each.

    Returns:
        The scale.

    Raises:
        SafeframeError: on an unknown kind, as :meth:`LogisticRisk.fit`, and where a given scale falls as its
            one score grows.
    """
    if kind == "logistic":
        return LogisticRisk.fit(score, label, weight)
    if kind == "isotonic":
        return IsotonicRisk.fit(score, label, weight)
    if isinstance(kind, RiskScale):
        found = kind
    elif callable(kind):
        found = GivenRisk(kind)
    else:
        raise SafeframeError(
            f"the risk scale is {kind!r}; it must be 'logistic', 'isotonic', or a callable from scores to "
            "probabilities"
        )
    values = _queried(score)
    if values.ndim == 1 and len(values):
        risk = found.probability(np.unique(values))
        if (np.diff(risk) < 0.0).any():
            first = float(np.unique(values)[1:][np.diff(risk) < 0.0][0])
            raise SafeframeError(
                f"the risk scale falls as the score grows, first at {first:.6g}; a larger score is riskier"
            )
    return found


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


def _queried(score: Any) -> FloatArray:
    values = np.asarray(score, dtype=np.float64)
    if np.isnan(values).any():
        raise SafeframeError(f"score holds {int(np.isnan(values).sum())} NaN; every case needs a number")
    return values


def _checked(
    score: Any, label: LabelArray, weight: FloatArray | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Scores (n,) or (n, k), labels as 0.0 and 1.0, and weights, fit to be fitted on."""
    values, state = _queried(score), np.asarray(label)
    if values.ndim not in (1, 2) or state.shape != values.shape[:1] or 0 in values.shape[1:]:
        raise SafeframeError(
            f"score {values.shape} and label {state.shape}: expected (n,) or (n, k), and (n,)"
        )
    if not np.isfinite(values).all():
        raise SafeframeError("score holds infinite values; a scale is fitted on finite ones")
    if not np.isin(state, (SAFE, UNSAFE)).all():
        raise SafeframeError("label must hold 0 (safe) and 1 (unsafe) only")
    weights = np.ones(len(values)) if weight is None else np.asarray(weight, dtype=np.float64)
    if weights.shape != state.shape or not (np.isfinite(weights) & (weights >= 0.0)).all():
        raise SafeframeError(f"weight has shape {weights.shape}; expected finite weights >= 0, {state.shape}")
    unsafe = (state == UNSAFE).astype(np.float64)
    for name, mass in (("safe", weights @ (1.0 - unsafe)), ("unsafe", weights @ unsafe)):
        if not mass > 0.0:
            raise SafeframeError(f"no {name} case among {len(values)}: a risk scale needs both classes")
    return values, unsafe, weights
