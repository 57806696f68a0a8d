"""Safety Gym's pseudo-lidar (`engine.py`: `obs_lidar_pseudo`): 16 bins, aliased into both neighbours."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from experiments.safetygym.sim.task import LIDAR_BINS, LIDAR_RANGE

ARCTAN = (
    2.5464790884887236,
    -0.8488261169706454,
    0.5092855264051288,
    -0.3636129821132435,
    0.2814823173506355,
    -0.2239912943482728,
    0.17087164977039873,
    -0.11274197071671763,
    0.05654063389038172,
    -0.018248489182295203,
    0.0027616381395286693,
)  # fmt: skip
"""Coefficients of arctan(t) / t * 8 / pi in t^2 on [0, 1] (Chebyshev fit, error 7e-10 bins): the arc tangent
in bins, in a form that runs in vector registers."""
MOST_SEEN = 24
"""Objects that a robot may see: hazards, goal, vases."""
_C0, _C1, _C2, _C3, _C4, _C5 = ARCTAN[:6]
_C6, _C7, _C8, _C9, _C10 = ARCTAN[6:]


@njit(cache=True, inline="always")
def angle_in_bins(ex: float, ey: float) -> float:
    """The angle of (ex, ey) from the x axis, in bins: from 0 to 16, exact to 1e-9. 0 at the origin."""
    ax, ay = abs(ex), abs(ey)
    low, high = (ax if ax < ay else ay), (ay if ax < ay else ax)
    t = low / (high + 1e-300)
    q = t * t
    p = _C6 + q * (_C7 + q * (_C8 + q * (_C9 + q * _C10)))
    p = t * (_C0 + q * (_C1 + q * (_C2 + q * (_C3 + q * (_C4 + q * (_C5 + q * p))))))
    p = 4.0 - p if ay > ax else p
    p = 8.0 - p if ex < 0.0 else p
    return 16.0 - p if ey < 0.0 else p


@njit(cache=True, inline="always")
def strength(ex: float, ey: float) -> float:
    """What a bin reads of an object at (ex, ey) m: 1 here, 0 from 3 m on."""
    reading = 1.0 - math.sqrt(ex * ex + ey * ey) * (1.0 / LIDAR_RANGE)
    return reading if reading > 0.0 else 0.0


@njit(cache=True, error_model="numpy")
def locate(work: np.ndarray, n: int, c: float, s: float) -> None:
    """work[:n] and work[24 : 24 + n] hold n objects (x and y from the robot, m, world axes), seen under
    heading (c, s): writes their angles in bins to work[48:] and their strengths to work[72:]."""
    for k in range(n):
        dx, dy = work[k], work[MOST_SEEN + k]
        ex, ey = c * dx + s * dy, c * dy - s * dx
        work[2 * MOST_SEEN + k], work[3 * MOST_SEEN + k] = angle_in_bins(ex, ey), strength(ex, ey)


@njit(cache=True, inline="always")
def fill(work: np.ndarray, first: int, last: int, obs: np.ndarray, offset: int) -> None:
    """Write the 16 bins of objects `first` to `last` (left out), which `locate` has seen, to obs[offset:]."""
    bins = 4 * MOST_SEEN
    for b in range(bins, bins + LIDAR_BINS):
        work[b] = 0.0
    for k in range(first, last):
        enter(work, bins, work[2 * MOST_SEEN + k], work[3 * MOST_SEEN + k])
    for b in range(LIDAR_BINS):
        obs[offset + b] = work[bins + b]


@njit(cache=True, inline="always")
def fill_one(work: np.ndarray, k: int, obs: np.ndarray, offset: int) -> None:
    """Write the 16 bins of object k alone, which `locate` has seen, to obs[offset:]."""
    angle, reading = work[2 * MOST_SEEN + k], work[3 * MOST_SEEN + k]
    for b in range(offset, offset + LIDAR_BINS):
        obs[b] = 0.0
    b = int(angle)
    above = (angle - b) * reading
    obs[offset + (b & (LIDAR_BINS - 1))] = reading
    obs[offset + ((b + 1) & (LIDAR_BINS - 1))] = above
    obs[offset + ((b - 1) & (LIDAR_BINS - 1))] = reading - above


@njit(cache=True, inline="always")
def enter(bins: np.ndarray, offset: int, angle: float, reading: float) -> None:
    """Enter an object at an angle (in bins) into bins[offset : offset + 16]: the largest reading counts."""
    b = int(angle)
    above = (angle - b) * reading
    b &= LIDAR_BINS - 1
    left, right = offset + ((b + 1) & (LIDAR_BINS - 1)), offset + ((b - 1) & (LIDAR_BINS - 1))
    bins[offset + b] = max(bins[offset + b], reading)
    bins[left] = max(bins[left], above)
    bins[right] = max(bins[right], reading - above)


@njit(cache=True)
def look_flat(robot: np.ndarray, x: float, y: float, bins: np.ndarray) -> None:
    """Enter an object at (x, y) into bins (16,) of an upright robot: x, y, heading, ..."""
    dx, dy, c, s = x - robot[0], y - robot[1], math.cos(robot[2]), math.sin(robot[2])
    ex, ey = c * dx + s * dy, c * dy - s * dx
    enter(bins, 0, angle_in_bins(ex, ey), strength(ex, ey))
