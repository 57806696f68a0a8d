"""Generalised advantage estimation (Schulman et al. 2016, arXiv 1506.02438); time limits bootstrapped."""

from __future__ import annotations

import numba
import numpy as np

from safeframe.types import BoolArray, FloatArray


@numba.njit(cache=True, error_model="numpy")
def gae(
    rewards: FloatArray, values: FloatArray, ended: BoolArray, ends: FloatArray, discount: float, decay: float
) -> tuple[FloatArray, FloatArray]:
    """Advantages and returns, both (T, n) float32.

    rewards (T, n); values (T + 1, n), of the observation before each step and after the last; ended (T, n)
    where an episode ended with the step; ends (T, n), the value of the final observation there: V(final_obs)
    at a time limit (Pardo et al. 2018, arXiv 1712.00378), 0 at a true end. Formula 16 of the paper with
    lambda = `decay`, cut at ends.
    """
    horizon, n = rewards.shape
    advantages = np.empty((horizon, n), np.float32)
    returns = np.empty((horizon, n), np.float32)
    running = np.zeros(n)
    for step in range(horizon - 1, -1, -1):
        for env in range(n):
            if ended[step, env]:
                following, carried = ends[step, env], 0.0
            else:
                following, carried = values[step + 1, env], running[env]
            error = rewards[step, env] + discount * following - values[step, env]
            running[env] = error + discount * decay * carried
            advantages[step, env] = running[env]
            returns[step, env] = running[env] + values[step, env]
    return advantages, returns
