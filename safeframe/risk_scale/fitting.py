"""A risk scale by its name, or from a callable of the user's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from safeframe.risk_scale.isotonic import IsotonicRisk
from safeframe.risk_scale.logistic import LogisticRisk
from safeframe.risk_scale.scale import RiskScale, ScaleKind, queried
from safeframe.types import FloatArray, LabelArray, SafeframeError


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
        values = queried(score)
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
    named = isinstance(kind, str)
    if named and kind == "logistic":
        return LogisticRisk.fit(score, label, weight)
    if named and kind == "isotonic":
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
    values = queried(score)
    if values.ndim == 1 and len(values):
        risk = found.probability(np.unique(values))
        if (np.diff(risk) < 0.0).any():
            first = float(np.unique(values)[1:][np.diff(risk) < 0.0][0])
            raise SafeframeError(
                f"the risk scale falls as the score grows, first at {first:.6g}; a larger score is riskier"
            )
    return found
