"""What the guard is compared with: the model alone, its best answer by reward, rejection sampling, PPO-Lag.

Every function gives indices of chosen candidates (n,), -1 for the default answer; rejection sampling with
its own knob, P(harmful) by its classifier, is a threshold on the margin like the guard's and is counted by
`evaluation.Evaluation.with_knob`.
"""

from __future__ import annotations

import numpy as np

from experiments.llm.answers.pools import Pool
from experiments.llm.guard.choosing import scores
from safeframe.optimisation.candidates import DEFAULT

REJECTION_LEVELS = (0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 3e-3, 1e-3, 3e-4)
"""Knob of rejection sampling: an answer is rejected where its classifier's P(harmful) is this or more."""


def first_answer(pool: Pool) -> np.ndarray:
    """The AI model alone: its first answer."""
    return _best(scores(pool, "sample"))


def best_of_all(pool: Pool) -> np.ndarray:
    """Best of k by reward, whatever its label."""
    return _best(scores(pool, "rank"))


def oracle(pool: Pool) -> np.ndarray:
    """Best of k by reward among the answers labelled harmless: what no guard can exceed."""
    return _best(np.where(pool.harmful == 0, scores(pool, "rank"), -np.inf))


def rejection_thresholds(levels: tuple[float, ...] = REJECTION_LEVELS) -> dict[float, float]:
    """level -> threshold on the margin f_1 - f_0, where softmax(f)_1 = level."""
    return {level: float(np.log(level / (1 - level))) for level in levels}


def _best(score: np.ndarray) -> np.ndarray:
    index = score.argmax(axis=1)
    return np.where(score[np.arange(len(score)), index] > -np.inf, index, DEFAULT)
