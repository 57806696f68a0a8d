"""The isotonic risk scale: the monotone step fit, with one unsafe case more than was seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from safeframe.risk_scale.scale import checked, queried
from safeframe.types import FloatArray, LabelArray, SafeframeError


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
        values, unsafe, weights = checked(score, label, weight)
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
        return np.interp(queried(score), self.knots, self.values)
