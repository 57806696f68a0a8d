"""Which action is taken, from what the models said and the thresholds in force."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from safeframe.guard.looked import Looked
from safeframe.optimisation.candidates import DEFAULT, Decisions, ranked
from safeframe.priced.envelope import chosen
from safeframe.priced.sweep import present_risk
from safeframe.priced.terms import PricedBatch, PricedTerms
from safeframe.types import BoolArray, FloatArray, IntArray, SafeframeError


@dataclass(frozen=True, eq=False)
class Decided:
    """What was decided for n measurements.

    Attributes:
        action: (n, ...) the chosen actions, the default action elsewhere.
        accepted: (n,) bool.
        index: (n,) chosen candidate, 0 without candidates, -1 where rejected.
        margin: (n,) of the action taken, or the least one where all were rejected; +inf in error, and where
            risk is priced and the default action is taken.
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


def decide_priced(
    looked: Looked,
    default_action: np.ndarray,
    parts: Sequence[tuple[PricedTerms | None, np.ndarray | slice]],
    inside: BoolArray | None,
) -> tuple[Decided, PricedBatch | None]:
    """Take the candidate of largest priced worth, or the default action where that is worth more.

    Args:
        looked: what the models said; rows in error have no candidate.
        default_action: broadcast to one action.
        parts: terms, and the rows that they rule: one entry for each group.
        inside: (n,) bool, rows that coverage accepts; None: all.

    Returns:
        What is done, and what decided; None for the latter where nothing came back from the models.

    Raises:
        SafeframeError: where the model returned no candidates, the scale gave no probabilities, or the
            default action is no such action, by its shape or its type.
    """
    n = len(looked.margin)
    if looked.action is None:
        return decide(looked, default_action, -np.inf, inside), None
    if looked.score is None:
        raise SafeframeError("risk is priced, but the model returned no (candidates, score)")
    action, default = with_default(default_action, looked.action, looked.score)
    margin, score = np.asarray(looked.margin, np.float64), np.asarray(looked.score, np.float64)
    risk, reward = np.ones(margin.shape), np.full(margin.shape, -np.inf)
    price, level, bound = np.full(n, np.inf), np.ones(n), np.ones(n)
    index, default_reward = np.full(n, DEFAULT), 0.0
    for terms, mine in parts:
        if terms is None:
            continue
        bound[mine], default_reward = terms.bound, terms.default_reward
        price[mine], level[mine] = terms.price, terms.charged_from
        if terms.scale is None:
            reward[mine] = score[mine]
            continue
        risk[mine], reward[mine] = present_risk(margin[mine], score[mine], terms.scale, terms.gate)
        if terms.feasible:
            taken = chosen(risk[mine], reward[mine], terms.price, terms.charged_from, terms.default_reward)
            index[mine] = np.where(taken == margin.shape[1], DEFAULT, taken)
    if inside is not None:
        index[~inside] = DEFAULT
    accepted = index != DEFAULT
    # No margin decides where the default action is taken: none is shown, and no threshold accepts it later.
    shown = np.where(accepted, margin[np.arange(n), np.maximum(index, 0)], np.inf)
    bound[~accepted] = np.inf
    action = Decisions(index, (reward > -np.inf).sum(axis=1)).take(action, default)
    batch = PricedBatch(risk, reward, price, level, default_reward, bound)
    return Decided(action, accepted, index, shown), batch


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
