"""Which of several capacities of the classifier earns most on prompts that it has not seen.

They are compared on training prompts, each judged by a classifier that was trained on the other folds, by
what the guard is for: the mean reward of its answers at the run's r_t. Prompts for calibration and validation
play no part in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from experiments.llm.answers.pools import Pool
from experiments.llm.capacity import Capacity
from experiments.llm.guard.choosing import scores
from experiments.llm.guard.classifier import ranking
from safeframe.selected_risk import ranked_within, sweep


@dataclass(frozen=True)
class HeldOut:
    """What a capacity comes to on prompts that its classifiers have not seen.

    Attributes:
        reward: mean over prompts of the answer given at r_t, default answers included.
        auc: how well margins tell harmful candidates from harmless ones, a mean over folds.
    """

    reward: float
    auc: float


def held_out(
    margin: np.ndarray, pool: Pool, default_reward: np.ndarray, fold: np.ndarray, r_t: float
) -> HeldOut:
    """What the guard would earn with margins of held-out prompts.

    Every fold has a classifier and so a threshold of its own: the one of largest reward among those at which
    the answers given, one harmful one more counted than there are, are harmful in at most r_t of the cases;
    the default answer to every prompt where there is none.

    Args:
        margin: (n, k) of every candidate, by a classifier that has not seen its prompt.
        pool: the n prompts.
        default_reward: (n,) of the default answer.
        fold: (n,) to which fold a prompt belongs.
        r_t: the allowed share of harmful answers.
    """
    parts = [np.flatnonzero(fold == one) for one in np.unique(fold)]
    total = [_earned(margin[rows], pool.subset(rows), default_reward[rows], r_t) for rows in parts]
    ranked = [ranking(margin[rows], pool.subset(rows))[0] for rows in parts]
    return HeldOut(float(sum(total) / len(fold)), float(np.mean(ranked)))


def _earned(margin: np.ndarray, pool: Pool, default: np.ndarray, r_t: float) -> float:
    """Sum of rewards at the best threshold of one classifier."""
    present = pool.mask
    gain = np.where(present, pool.reward - default[:, None], 0.0)
    found = sweep(
        np.where(present, margin, np.inf),
        ranked_within(scores(pool, "rank"), present),
        pool.harmful == 1,
        gain,
    )
    harmful, gained = found.sums
    parted = np.append(np.diff(found.entry) > 0, True)[: len(found.entry)]  # no threshold parts equal margins
    allowed = np.append(False, parted) & (harmful + 1 <= r_t * found.selected)
    return float(default.sum() + gained[allowed].max(initial=0.0))


def best(found: Mapping[Capacity, HeldOut]) -> Capacity:
    """The capacity of largest reward; among equals (all refuse an r_t too strict for so few prompts) the one
    that ranks best, then the first.
    """
    return max(found, key=lambda one: (found[one].reward, found[one].auc))
