"""Many Cars at once: task and observation in compiled code around MuJoCo's dynamics (`car.py`).

The lidar looks along the chassis, which pitches and rolls: objects on the floor are seen through the whole
rotation matrix, of which the pseudo-lidar takes x and y (Safety Gym `engine.py`: `ego_xy`).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from experiments.safetygym.sim.episode import score, start
from experiments.safetygym.sim.layout import sample_goal
from experiments.safetygym.sim.lidar import angle_in_bins, enter, strength
from experiments.safetygym.sim.task import LIDAR_BINS

_GOAL_LIDAR, _HAZARDS_LIDAR, _VASES_LIDAR = 15, 34, 53


@njit(cache=True)
def look(robot: np.ndarray, x: float, y: float, bins: np.ndarray) -> None:
    """Enter an object at (x, y) into bins (16,) of the lidar of robot (24,)."""
    qw, qx, qy, qz = robot[3], robot[4], robot[5], robot[6]
    norm = 1.0 / (qw * qw + qx * qx + qy * qy + qz * qz)
    dx, dy, dz = x - robot[0], y - robot[1], -robot[2]
    ex = (1 - 2 * norm * (qy * qy + qz * qz)) * dx + 2 * norm * (
        (qx * qy + qw * qz) * dy + (qx * qz - qw * qy) * dz
    )
    ey = (1 - 2 * norm * (qx * qx + qz * qz)) * dy + 2 * norm * (
        (qx * qy - qw * qz) * dx + (qy * qz + qw * qx) * dz
    )
    enter(bins, 0, angle_in_bins(ex, ey), strength(ex, ey))


@njit(cache=True)
def observe(robot, sensors, goal, hazards, vases, obs) -> None:
    """Fill obs (72,) float32 for robot (24,), its sensors (24,), goal (2,), hazards (H, 2), vases (V, 13)."""
    obs[:] = 0.0
    obs[0:15] = sensors[0:15]
    obs[31:34] = sensors[15:18]
    obs[50:53] = sensors[18:21]
    obs[69:72] = sensors[21:24]
    look(robot, goal[0], goal[1], obs[_GOAL_LIDAR : _GOAL_LIDAR + LIDAR_BINS])
    for h in range(hazards.shape[0]):
        look(robot, hazards[h, 0], hazards[h, 1], obs[_HAZARDS_LIDAR : _HAZARDS_LIDAR + LIDAR_BINS])
    for v in range(vases.shape[0]):
        look(robot, vases[v, 0], vases[v, 1], obs[_VASES_LIDAR : _VASES_LIDAR + LIDAR_BINS])


@njit(cache=True)
def start_cars(index, extent, goal, hazards, vases, step, rng, pose) -> None:
    """Begin an episode in environments `index` (k,), all but the robots, whose pose (k, 3) is filled."""
    for j in range(index.shape[0]):
        pose[j, 0], pose[j, 1], pose[j, 2] = start(index[j], extent, goal, hazards, vases, step, rng)


@njit(cache=True)
def observe_cars(index, robot, goal, hazards, vases, sensors, obs) -> None:
    """Observations of environments `index` (k,) from sensors (k, 24)."""
    for j in range(index.shape[0]):
        i = index[j]
        observe(robot[i], sensors[j], goal[i], hazards[i], vases[i], obs[i])


@njit(cache=True)
def finish_cars(
    robot,
    goal,
    hazards,
    vases,
    step,
    rng,
    sensors,
    obs,
    reward,
    cost,
    goal_met,
    truncated,
    draw,
    extent,
    before,
) -> None:
    """Task and observation of all environments after MuJoCo's step; before (n,) are the distances to the
    goal a step ago. Arrays as in `point/batch.py`; episodes that end are only marked."""
    for i in range(robot.shape[0]):
        x, y = robot[i, 0], robot[i, 1]
        score(i, x, y, before[i], goal, hazards, step, reward, cost, goal_met, truncated)
        if goal_met[i] and draw and not sample_goal(rng, i, extent, x, y, vases, hazards, goal):
            truncated[i] = True
        observe(robot[i], sensors[i], goal[i], hazards[i], vases[i], obs[i])


def distances(robot: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """(n,) metres from robot (n, R) to goal (n, 2)."""
    return np.sqrt((goal[:, 0] - robot[:, 0]) ** 2 + (goal[:, 1] - robot[:, 1]) ** 2)


def headings(robot: np.ndarray) -> np.ndarray:
    """(n,) headings in radians of robot (n, 24): where the chassis' x axis points, seen from above."""
    w, x, y, z = robot[:, 3:7].T
    return np.arctan2(2 * (x * y + w * z), 1 - 2 * (y * y + z * z))
