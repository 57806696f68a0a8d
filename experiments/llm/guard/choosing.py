"""The optimisation stage: which of the feasible candidates is given, or the default answer.

Rules: "rank" takes the highest reward. "sample" is the paper's u ~ pi^d: a draw of the AI model's own
distribution restricted to what is feasible. The candidates are draws of that distribution already, so the
first feasible one is such a draw; weighting them by their probabilities would count these twice.
"""

from __future__ import annotations

import numpy as np

from experiments.llm.answers.pools import Pool
from safeframe.optimisation.candidates import Decisions, choose
from safeframe.types import SafeframeError

RULES = ("rank", "sample")


def scores(pool: Pool, rule: str) -> np.ndarray:
    """(n, k) what the rule maximises, -inf where there is no candidate."""
    if rule not in RULES:
        raise SafeframeError(f"rule is {rule!r}; it must be one of {', '.join(RULES)}")
    place = -np.broadcast_to(np.arange(pool.shape[1], dtype=float), pool.shape)
    return np.where(pool.mask, pool.reward if rule == "rank" else place, -np.inf)


def decide(
    margin: np.ndarray, tau: float, pool: Pool, rule: str = "rank", covered: np.ndarray | None = None
) -> Decisions:
    """The answer to every prompt: the best-scored candidate with margin (n, k) < tau, else the default.

    covered: bool, (n,) prompts or (n, k) candidates that are like the internal test data (a coverage guard);
    the others are not given. None: all are.
    """
    return choose(accepted(margin, tau, pool, covered), scores(pool, rule), "rank")


def accepted(margin: np.ndarray, tau: float, pool: Pool, covered: np.ndarray | None = None) -> np.ndarray:
    """(n, k) bool: which candidates may be given; as `decide`."""
    feasible = (margin < tau) & pool.mask
    if covered is not None:
        feasible &= covered if covered.ndim == 2 else covered[:, None]
    return feasible
