"""Safety Gym's pseudo-lidar (`engine.py`: `obs_lidar_pseudo`): 16 bins, aliased into both neighbours."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from experiments.safetygym.sim.task import LIDAR_BINS, LIDAR_RANGE

_BIN = 2.0 * math.pi / LIDAR_BINS


@njit(cache=True, inline="always")
def add_to_lidar(bins: np.ndarray, offset: int, dx: float, dy: float, cos: float, sin: float) -> None:
    """Enter an object at (dx, dy) from the robot (world axes) into bins[offset : offset + 16]; (cos, sin) is
    the robot's heading."""
    enter(bins, offset, cos * dx + sin * dy, cos * dy - sin * dx)


@njit(cache=True, inline="always")
def enter(bins: np.ndarray, offset: int, ex: float, ey: float) -> None:
    """Enter an object at (ex, ey), in the robot's own axes, into bins[offset : offset + 16]."""
    strength = (LIDAR_RANGE - math.sqrt(ex * ex + ey * ey)) / LIDAR_RANGE
    if strength <= 0.0:
        return
    angle = math.atan2(ey, ex)
    if angle < 0.0:
        angle += 2.0 * math.pi
    bin_ = int(angle / _BIN)
    if bin_ >= LIDAR_BINS:
        bin_ = LIDAR_BINS - 1
    alias = angle / _BIN - bin_
    above, below = offset + (bin_ + 1) % LIDAR_BINS, offset + (bin_ - 1) % LIDAR_BINS
    bins[offset + bin_] = max(bins[offset + bin_], strength)
    bins[above] = max(bins[above], alias * strength)
    bins[below] = max(bins[below], (1.0 - alias) * strength)


@njit(cache=True)
def look_flat(robot: np.ndarray, x: float, y: float, bins: np.ndarray) -> None:
    """Enter an object at (x, y) into bins (16,) of an upright robot: x, y, heading, ..."""
    add_to_lidar(bins, 0, x - robot[0], y - robot[1], math.cos(robot[2]), math.sin(robot[2]))
