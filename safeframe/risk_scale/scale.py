"""The interface of risk scales, and the scores that they are asked for."""

from __future__ import annotations

from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from safeframe.types import SAFE, UNSAFE, FloatArray, LabelArray, SafeframeError, numbers, states

ScaleKind = Literal["logistic", "isotonic"]
"""Kinds that are fitted by their names."""
FAR = 1e6
"""Standard deviations: scores beyond, infinite ones too, count as that."""


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


def queried(score: Any) -> FloatArray:
    """Scores as numbers.

    Args:
        score: of any shape.

    Returns:
        The same as float64.

    Raises:
        SafeframeError: on NaN.
    """
    values = numbers(score, "score")
    if np.isnan(values).any():
        raise SafeframeError(f"score holds {int(np.isnan(values).sum())} NaN; every case needs a number")
    return values


def checked(
    score: Any, label: LabelArray, weight: FloatArray | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Cases that a scale may be fitted on.

    Args:
        score: (n,) or (n, k).
        label: (n,) 0 safe, 1 unsafe.
        weight: (n,) finite, >= 0; None: 1 each.

    Returns:
        Scores, labels as 0.0 and 1.0, and weights.

    Raises:
        SafeframeError: on shapes that differ, values that are not finite, other labels, or where cases of a
            class are absent.
    """
    values, state = queried(score), states(label)
    if values.ndim not in (1, 2) or state.shape != values.shape[:1] or 0 in values.shape[1:]:
        raise SafeframeError(
            f"score {values.shape} and label {state.shape}: expected (n,) or (n, k), and (n,)"
        )
    if not np.isfinite(values).all():
        raise SafeframeError("score holds infinite values; a scale is fitted on finite ones")
    if not np.isin(state, (SAFE, UNSAFE)).all():
        raise SafeframeError("label must hold 0 (safe) and 1 (unsafe) only")
    weights = np.ones(len(values)) if weight is None else numbers(weight, "weight")
    if weights.shape != state.shape or not (np.isfinite(weights) & (weights >= 0.0)).all():
        raise SafeframeError(f"weight has shape {weights.shape}; expected finite weights >= 0, {state.shape}")
    unsafe = (state == UNSAFE).astype(np.float64)
    for name, mass in (("safe", weights @ (1.0 - unsafe)), ("unsafe", weights @ unsafe)):
        if not mass > 0.0:
            raise SafeframeError(f"no {name} case among {len(values)}: a risk scale needs both classes")
    return values, unsafe, weights
