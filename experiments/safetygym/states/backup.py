"""The backup policy of either robot: maximum braking. What it makes of a candidate, and the default action.

A candidate is safe if taking it and braking from then on never enters a hazard nor, where vases cost, comes
as near to one as might be touching it. If the last action taken was
safe in this sense, braking now is safe: safety by induction (shielding by a backup policy; Bastani 2021,
arXiv 1905.10691)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from experiments.safetygym.sim.car.batch import headings
from experiments.safetygym.sim.car.rollout import braking_clearances, rollout_positions
from experiments.safetygym.sim.clearance import costly
from experiments.safetygym.sim.state import State
from experiments.safetygym.sim.task import HAZARD_RADIUS, LIDAR_BINS, LIDAR_RANGE, Task
from experiments.safetygym.states import backup_point

__all__ = ["PATH_STEPS", "DefaultAction", "clearances", "paths", "random_paths"]

PATH_STEPS = {"point": (1, 3, 5, 8, 12, 17, 25, 40, 80), "car": (1, 2, 3, 5, 8, 14)}
"""Control steps after which a braking path is recorded; the last point is where the robot comes to rest."""
_CAR_ESCAPE = 0.02
STANDING = 0.1
"""m/s; a slower robot with nothing feasible takes the way out."""


def clearances(task: Task, state: State, candidates: np.ndarray) -> np.ndarray:
    """Least distance to a hazard's edge (m, clipped to [-.1, .15]) of every candidate (k, 2) in every state,
    then braking: (n, k) float32. Unsafe where it is not positive.

    Where vases cost, the disc of radius `VASE_KEEP` about each counts like a hazard; where they do not, the
    Point passes through the vase, as in `vase="fixed"`; it weighs a six-hundredth of the robot."""
    if task.robot == "car":
        return braking_clearances(state.robot, state.hazards, candidates)
    out = np.empty((len(state), len(candidates)), np.float32)
    vases = np.ascontiguousarray(costly(task.level, state.vases))
    backup_point.clearances(state.robot, state.hazards, vases, candidates, out)
    return out


def paths(task: Task, state: State, candidates: np.ndarray) -> np.ndarray:
    """Positions after `PATH_STEPS` of every candidate, then braking: (n, k, T, 2) float32, m, in the body
    axes of the present."""
    steps = np.array(PATH_STEPS[task.robot])
    n, k = len(state), len(candidates)
    if task.robot == "point":
        velocity = np.stack([*_rotated(state.robot[:, 3:5], -state.robot[:, 2]).T, state.robot[:, 5]], axis=1)
        out = np.empty((n, k, len(steps), 2), np.float32)
        backup_point.braking_paths(np.ascontiguousarray(velocity), candidates, steps, out)
        return out
    heading = headings(state.robot)
    plan = np.zeros((n * k, int(steps[-1]), 2))
    plan[:, 0] = np.tile(candidates, (n, 1))
    xy = rollout_positions(np.repeat(state.robot, k, axis=0), plan)[:, steps - 1]
    moved = xy.reshape(n, k, len(steps), 2) - state.robot[:, None, None, :2]
    return _rotated(moved, -heading[:, None, None]).astype(np.float32)


def random_paths(
    task: Task, candidates: np.ndarray, n: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray] | None:
    """Body velocities (n, 3) all over what a Point can reach, and the braking paths (n, k, T, 2) from them;
    None for the Car, whose wheels and ball have velocities of their own."""
    if task.robot == "car":
        return None
    wide = np.stack(
        [
            generator.uniform(-1.55, 1.55, n),
            generator.normal(0.0, 0.4, n) * generator.uniform(0.0, 1.5, n),
            generator.uniform(-3.1, 3.1, n),
        ],
        axis=1,
    )
    slow = generator.random(n) < 0.3
    wide[slow, :2] *= generator.random(int(slow.sum()))[:, None]
    steps = np.array(PATH_STEPS["point"])
    out = np.empty((n, len(candidates), len(steps), 2), np.float32)
    backup_point.braking_paths(wide, candidates, steps, out)
    return wide.astype(np.float32), out


def _rotated(xy: np.ndarray, angle: np.ndarray) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([c * xy[..., 0] - s * xy[..., 1], s * xy[..., 0] + c * xy[..., 1]], axis=-1)


class DefaultAction:
    """What is done where no candidate is feasible, from observations (n, d) to actions (n, 2).

    Maximum braking; of a robot that stands (or is inside a hazard, where braking would stay) the way out: the
    candidate that `margin` (observations -> (n, k)) finds least risky, or without one driving to the side on
    which the nearest hazard's centre is not.
    """

    def __init__(
        self,
        task: Task,
        candidates: np.ndarray | None = None,
        margin: Callable[[np.ndarray], np.ndarray] | None = None,
    ):
        self.task, self.candidates, self.margin = task, candidates, margin

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        action = np.zeros((len(observation), 2))
        start = self.task.block("velocimeter").start
        point = self.task.robot == "point"
        forward, axis = (observation[:, start], 0.0) if point else (observation[:, start + 1], np.pi / 2)
        if point:
            action[:, 0] = np.clip(-backup_point.BRAKE_GAIN * forward, -0.05, 0.05)
        lidar = observation[:, self.task.block("hazards_lidar")]
        inside = LIDAR_RANGE * (1.0 - lidar.max(axis=1)) <= HAZARD_RADIUS
        ahead = np.cos((lidar.argmax(axis=1) + 0.5) * 2 * np.pi / LIDAR_BINS - axis) > 0
        away = np.where(ahead, -1.0, 1.0)[inside]
        if point:
            action[inside, 0] = 0.05 * away
        else:
            action[inside] = -_CAR_ESCAPE * away[:, None]  # positive torque drives backwards
        speed = np.hypot(observation[:, start], observation[:, start + 1])
        stuck = ~inside & (speed < STANDING)
        if self.margin is not None and self.candidates is not None and stuck.any():
            action[stuck] = self.candidates[self.margin(observation[stuck]).argmin(axis=1)]
        return action
