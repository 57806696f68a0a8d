"""Distance to the nearest edge of what must not be entered, and the range that clearances are clipped to.

Hazards are discs. So are vases where they cost, as the lidar does not show how one is turned: while the
robot's origin keeps VASE_KEEP from the centre of a vase that stands on the floor, the two do not touch."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from experiments.safetygym.sim.task import HAZARD_RADIUS, VASE_HALF_SIZE, Level
from experiments.safetygym.sim.vase_contact import ROBOT_OUTERMOST

CLEARANCE_LOW, CLEARANCE_HIGH = -0.1, 0.15
"""m"""
VASE_KEEP = math.ceil(1e3 * (ROBOT_OUTERMOST + math.sqrt(2.0) * VASE_HALF_SIZE) + 2.0) / 1e3
"""m, .302: the outermost points of robot and vase, and 2 mm more, as the label looks at the ends of control
steps and a way of .03 m between two of them may come .4 mm nearer."""


@njit(cache=True, inline="always")
def nearest(x: float, y: float, centres: np.ndarray, radius: float) -> float:
    """Distance in m from (x, y) to the nearest edge of the discs about centres (k, 2 or more); negative
    inside, 1e9 without a disc."""
    least = 1e18
    for k in range(centres.shape[0]):
        dx, dy = x - centres[k, 0], y - centres[k, 1]
        least = min(least, dx * dx + dy * dy)
    return math.sqrt(least) - radius


@njit(cache=True, inline="always")
def nearest_of(x: float, y: float, hazards: np.ndarray, vases: np.ndarray) -> float:
    """Distance in m from (x, y) to the nearest edge of a hazard or of what is to be kept from a vase, for
    hazards (H, 2) and those vases (V, 2 or more) that cost; negative inside."""
    least = nearest(x, y, hazards, HAZARD_RADIUS)
    if vases.shape[0] == 0:
        return least
    return min(least, nearest(x, y, vases, VASE_KEEP))


def costly(level: Level, vases: np.ndarray) -> np.ndarray:
    """The vases (n, V, 13) that cost in a level: all of them, or none of them (n, 0, 13)."""
    return vases if level.vases_cost else vases[:, :0]
