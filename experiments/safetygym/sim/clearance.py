"""Distance to the nearest hazard's edge, and the range that clearances are clipped to."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from experiments.safetygym.sim.task import HAZARD_RADIUS

CLEARANCE_LOW, CLEARANCE_HIGH = -0.1, 0.15
"""m"""


@njit(cache=True)
def nearest(x: float, y: float, hazards: np.ndarray) -> float:
    """Distance in m from (x, y) to the nearest edge of hazards (8, 2); negative inside."""
    least = 1e18
    for h in range(hazards.shape[0]):
        dx, dy = x - hazards[h, 0], y - hazards[h, 1]
        least = min(least, dx * dx + dy * dy)
    return math.sqrt(least) - HAZARD_RADIUS
