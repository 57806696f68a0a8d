"""Where objects are placed: rejection sampling in the original's order (Safety Gym `engine.py`)."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from experiments.safetygym.sim.random import uniform
from experiments.safetygym.sim.task import (
    EXTENT,
    GOAL_KEEPOUT,
    HAZARD_KEEPOUT,
    N_HAZARDS,
    PLACEMENT_TRIES,
    ROBOT_KEEPOUT,
    VASE_KEEPOUT,
)

GOAL_TRIES = 10_000
KEEPOUTS = (ROBOT_KEEPOUT, GOAL_KEEPOUT, *[HAZARD_KEEPOUT] * N_HAZARDS, VASE_KEEPOUT)
"""m, of every object, in the order in which they are placed: robot, goal, hazards, vase"""
N_OBJECTS = len(KEEPOUTS)


@njit(cache=True)
def sample_layout(rng: np.ndarray, i: int, placed: np.ndarray) -> None:
    """Fill placed (11, 2): robot, goal, eight hazards, vase. Starts anew when an object finds no place."""
    while True:
        complete = True
        for k in range(N_OBJECTS):
            keepout, found = KEEPOUTS[k], False
            for _ in range(PLACEMENT_TRIES):
                x = uniform(rng, i, -EXTENT + keepout, EXTENT - keepout)
                y = uniform(rng, i, -EXTENT + keepout, EXTENT - keepout)
                found = True
                for j in range(k):
                    if math.hypot(x - placed[j, 0], y - placed[j, 1]) < keepout + KEEPOUTS[j]:
                        found = False
                        break
                if found:
                    placed[k, 0], placed[k, 1] = x, y
                    break
            if not found:
                complete = False
                break
        if complete:
            return


@njit(cache=True)
def sample_goal(
    rng: np.ndarray,
    i: int,
    x: float,
    y: float,
    vase_x: float,
    vase_y: float,
    hazards: np.ndarray,
    goal: np.ndarray,
) -> bool:
    """Draw goal[i] anew, clear of the robot at (x, y), the vase and hazards[i]. False after 10,000 tries in
    vain, as the original counts them: the old goal stays, and the episode has to end."""
    low, high = -EXTENT + GOAL_KEEPOUT, EXTENT - GOAL_KEEPOUT
    for _ in range(GOAL_TRIES):
        gx, gy = uniform(rng, i, low, high), uniform(rng, i, low, high)
        if math.hypot(gx - x, gy - y) < GOAL_KEEPOUT + ROBOT_KEEPOUT:
            continue
        if math.hypot(gx - vase_x, gy - vase_y) < GOAL_KEEPOUT + VASE_KEEPOUT:
            continue
        clear = True
        for h in range(N_HAZARDS):
            if math.hypot(gx - hazards[i, h, 0], gy - hazards[i, h, 1]) < GOAL_KEEPOUT + HAZARD_KEEPOUT:
                clear = False
                break
        if clear:
            goal[i, 0], goal[i, 1] = gx, gy
            return True
    return False
