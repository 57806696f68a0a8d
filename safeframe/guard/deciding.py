"""Which action is taken, from what the models said and the thresholds in force."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from safeframe.guard.looked import Looked
from safeframe.optimisation.candidates import DEFAULT, ranked
from safeframe.types import BoolArray, FloatArray, IntArray, SafeframeError


@dataclass(frozen=True, eq=False)
class Decided:
    """What was decided for n measurements.

    Attributes:
        action: (n, ...) the chosen actions, the default action elsewhere.
        accepted: (n,) bool.
        index: (n,) chosen candidate, 0 without candidates, -1 where rejected.
        margin: (n,) of the action taken, or the least one where all were rejected; +inf in error.
    """

    action: np.ndarray
    accepted: BoolArray
    index: IntArray
    margin: FloatArray


def decide(
    looked: Looked, default_action: np.ndarray, tau: FloatArray | float, inside: BoolArray | None
) -> Decided:
    """Take the action, or the best-scored candidate, whose margin is below its threshold.

    Args:
        looked: what the models said; rows in error have margin +inf and are never accepted.
        default_action: broadcast to one action.
        tau: threshold of all rows, or (n,) of each.
        inside: (n,) bool, rows that coverage accepts; None: all.

    Returns:
        What is done.

    Raises:
        SafeframeError: where the default action is no such action, by its shape or its type.
    """
    n = len(looked.margin)
    if looked.action is None:  # nothing came back from the models
        action = np.broadcast_to(default_action, (n, *default_action.shape)).copy()
        return Decided(action, np.zeros(n, bool), np.full(n, DEFAULT), np.full(n, np.inf))
    action, default = with_default(default_action, looked.action, looked.score)
    if looked.score is None:
        margin = looked.margin
        accepted = margin < tau
        if inside is not None:
            accepted &= inside
        taken = action if action is not looked.action else action.copy()
        taken[~accepted] = default
        return Decided(taken, accepted, accepted.astype(np.int64) - 1, margin)
    each = np.reshape(tau, (-1, 1))
    allowed = looked.margin < each
    if inside is not None:
        allowed &= inside[:, None]
    decisions = ranked(allowed, looked.score)
    accepted, index = decisions.accepted, decisions.index
    shown = index
    if not accepted.all():
        least = np.argmin(np.where(looked.score > -np.inf, looked.margin, np.inf), axis=1)
        shown = np.where(accepted, index, least)
    margin = looked.margin[np.arange(n), shown]
    return Decided(decisions.take(action, default), accepted, index, margin)


def with_default(
    default_action: np.ndarray, action: np.ndarray, score: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Actions and the default action in one type.

    Args:
        default_action: broadcast to one action.
        action: (n, ...) actions, or (n, c, ...) candidates where there are scores.
        score: (n, c), or None.

    Returns:
        Two arrays, the actions and the default action (...).

    Raises:
        SafeframeError: where the default is no such action, by its shape or its type.
    """
    shape, default = action.shape[1:] if score is None else action.shape[2:], default_action
    if default.shape != shape:
        try:
            default = np.broadcast_to(default, shape)
        except ValueError as error:
            raise SafeframeError(
                f"default_action has shape {default_action.shape}; one action has shape {shape}"
            ) from error
    if default.dtype == action.dtype:
        return action, default
    if action.dtype.kind in "UO":
        kind = np.result_type(action, default)
        return action.astype(kind), default.astype(kind)
    if default.dtype.kind in "biuf" and action.dtype.kind == "f":
        return action, default.astype(action.dtype)
    if default.dtype.kind not in "biuf" or not (default.astype(action.dtype) == default).all():
        raise SafeframeError(f"default_action {default!r} is no value of the actions' type {action.dtype}")
    return action, default.astype(action.dtype)
