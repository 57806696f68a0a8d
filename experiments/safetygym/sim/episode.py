"""What the goal task is, whatever the robot: starts, rewards, costs and clocks (Safety Gym `engine.py`)."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from experiments.safetygym.sim.layout import sample_goal, sample_layout
from experiments.safetygym.sim.random import uniform
from experiments.safetygym.sim.task import (
    EPISODE_STEPS,
    GOAL_RADIUS,
    HAZARD_RADIUS,
    REWARD_CLIP,
    REWARD_GOAL,
)

VASE_HEIGHT = 0.09995638
"""m, of the centre of a settled vase (MuJoCo's soft floor). Safety Gym starts it at .09996 and it settles
within ten steps, out of the robot's reach and without a trace in any observation."""


@njit(cache=True, inline="always")
def in_hazard(x: float, y: float, hazards: np.ndarray) -> bool:
    """Is (x, y) within .2 m of one of hazards (H, 2)?"""
    for h in range(hazards.shape[0]):
        dx, dy = x - hazards[h, 0], y - hazards[h, 1]
        if math.sqrt(dx * dx + dy * dy) <= HAZARD_RADIUS:
            return True
    return False


@njit(cache=True, inline="always")
def distance_to_goal(x: float, y: float, goal: np.ndarray) -> float:
    """Metres from (x, y) to goal (2,)."""
    dx, dy = goal[0] - x, goal[1] - y
    return math.sqrt(dx * dx + dy * dy)


@njit(cache=True)
def start(i, extent, goal, hazards, vases, step, rng) -> tuple[float, float, float]:
    """Begin an episode in environment i, all but the robot, whose (x, y, heading) is returned: layout,
    headings of robot and vases, and the goal drawn a second time."""
    n_hazards = hazards.shape[1]
    placed = np.empty((2 + n_hazards + vases.shape[1], 2))
    sample_layout(rng, i, extent, n_hazards, placed)
    x, y, heading = placed[0, 0], placed[0, 1], uniform(rng, i, 0.0, 2.0 * math.pi)
    for h in range(n_hazards):
        hazards[i, h, 0], hazards[i, h, 1] = placed[2 + h, 0], placed[2 + h, 1]
    for v in range(vases.shape[1]):
        turn = uniform(rng, i, 0.0, 2.0 * math.pi)
        set_vase(vases[i, v], placed[2 + n_hazards + v, 0], placed[2 + n_hazards + v, 1], turn)
    goal[i, 0], goal[i, 1] = placed[1, 0], placed[1, 1]
    sample_goal(rng, i, extent, x, y, vases, hazards, goal)
    step[i] = 0
    return x, y, heading


@njit(cache=True)
def set_vase(vase: np.ndarray, x: float, y: float, turn: float) -> None:
    """Put vase (13,) down at (x, y), turned by `turn` radians, at rest."""
    vase[:] = 0.0
    vase[0], vase[1], vase[2] = x, y, VASE_HEIGHT
    vase[3], vase[6] = math.cos(turn / 2.0), math.sin(turn / 2.0)


@njit(cache=True, inline="always")
def score(i, x, y, before, goal, hazards, step, reward, cost, goal_met, truncated) -> None:
    """Reward, cost of hazards, hit and clock of environment i, whose robot, `before` metres from the goal a
    step ago, is at (x, y) now."""
    after = distance_to_goal(x, y, goal[i])
    reward[i] = min(max(before - after, -REWARD_CLIP), REWARD_CLIP)
    cost[i] = 1.0 if in_hazard(x, y, hazards[i]) else 0.0
    goal_met[i] = after <= GOAL_RADIUS
    if goal_met[i]:
        reward[i] += REWARD_GOAL
    step[i] += 1
    truncated[i] = step[i] >= EPISODE_STEPS
