"""The optimisation stage with risk priced: one rule for all measurements, the candidate of largest worth.

Gated (:func:`safeframe.optimisation.candidates.choose`), all candidates below a threshold on risk are alike
and the best-rewarded is taken. Priced, every candidate is charged for its risk, as the penalty
-beta min(c, 0) of arXiv 2504.20924, eq. (9), does. A gate may be joined: it is then what is allowed.
"""

from __future__ import annotations

import numpy as np

from safeframe.optimisation.candidates import DEFAULT, Decisions
from safeframe.priced.envelope import chosen
from safeframe.types import BoolArray, FloatArray, SafeframeError


def choose_priced(
    risk: FloatArray,
    reward: FloatArray,
    price: FloatArray | float,
    r_t: FloatArray | float,
    default_reward: FloatArray | float = 0.0,
    allowed: BoolArray | None = None,
) -> Decisions:
    """The candidate of largest R(u) - mu (p(u) - r_t), or the default action where that is below its reward.

    Among equals the lowest index, and a candidate before the default action. It is the rule whose risk
    :class:`safeframe.priced.curve.PricedRiskCurve` counts, in the same arithmetic.

    Args:
        risk: (n, c) p(u) in [0, 1], of the candidates that are present; c >= 1.
        reward: (n, c) R(u), the higher the better; -inf marks an absent candidate.
        price: mu >= 0, one or (n,); may be infinite (the least risk, if it is at most r_t).
        r_t: threshold on the probability in (0, 1], one or (n,).
        default_reward: R of the default action, finite, one or (n,).
        allowed: (n, c) bool, candidates that may be taken (a gate); None: all that are present.

    Returns:
        The choice for every case; ``n_feasible`` counts what is present and allowed.

    Raises:
        SafeframeError: on shapes that differ, NaN, risks outside [0, 1], a price below 0, an r_t outside
            (0, 1] or a default reward that is not finite.
    """
    p, value = np.asarray(risk, np.float64), np.asarray(reward, np.float64)
    if p.ndim != 2 or p.shape[1] == 0 or value.shape != p.shape:
        raise SafeframeError(f"risk {p.shape} and reward {value.shape}: expected (n, c) twice with c >= 1")
    if np.isnan(value).any() or (value == np.inf).any():
        raise SafeframeError("reward holds NaN or +inf")
    there = value > -np.inf
    if allowed is not None:
        may = np.asarray(allowed)
        if may.shape != p.shape or may.dtype != np.bool_:
            raise SafeframeError(f"allowed is {may.dtype} {may.shape}; expected bools, {p.shape}")
        there &= may
    if not ((p[there] >= 0.0) & (p[there] <= 1.0)).all():
        raise SafeframeError("risk must lie in [0, 1] for every candidate that is present")
    for name, given, good in (
        ("price", price, lambda x: x >= 0.0),
        ("r_t", r_t, lambda x: (x > 0.0) & (x <= 1.0)),
        ("default_reward", default_reward, np.isfinite),
    ):
        array = np.asarray(given, np.float64)
        if array.shape not in ((), (len(p),)) or not np.all(good(array)):
            raise SafeframeError(
                f"{name} has shape {array.shape}; expected one or ({len(p)},): prices >= 0, r_t in (0, 1], "
                "rewards finite"
            )
    index = chosen(p, np.where(there, value, -np.inf), price, r_t, default_reward)
    return Decisions(np.where(index == p.shape[1], DEFAULT, index), there.sum(axis=1))
