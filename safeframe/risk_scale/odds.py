"""Log odds: the common scale of risk, on which margins of several models and groups are compared."""

from __future__ import annotations

import numpy as np

from safeframe.types import FloatArray, Floats

_ONE = 1.0 - 2.0**-53


def log_odds(probability: FloatArray) -> FloatArray:
    """The common scale: the log odds of probabilities, finite also where they are 0 or 1.

    Args:
        probability: in [0, 1], of any shape.

    Returns:
        Log odds, of the same shape.
    """
    p = np.clip(probability, 1e-300, _ONE)
    return np.log(p) - np.log1p(-p)


def from_log_odds(value: Floats) -> FloatArray:
    """Probabilities of log odds.

    Args:
        value: log odds of any shape, infinite ones too.

    Returns:
        Probabilities, of the same shape.
    """
    with np.errstate(over="ignore"):
        return 1.0 / (1.0 + np.exp(-np.asarray(value, np.float64)))
