"""Where objects are placed: rejection sampling in the original's order (Safety Gym `engine.py`)."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from experiments.safetygym.sim.random import uniform
from experiments.safetygym.sim.task import (
    GOAL_KEEPOUT,
    HAZARD_KEEPOUT,
    PLACEMENT_TRIES,
    ROBOT_KEEPOUT,
    VASE_KEEPOUT,
    Level,
)

GOAL_TRIES = 10_000


@njit(cache=True, inline="always")
def keepout_of(k: int, n_hazards: int) -> float:
    """m, of the k-th object in the order in which they are placed: robot, goal, hazards, vases."""
    if k == 0:
        return ROBOT_KEEPOUT
    if k == 1:
        return GOAL_KEEPOUT
    return HAZARD_KEEPOUT if k < 2 + n_hazards else VASE_KEEPOUT


def keepouts(level: Level) -> tuple[float, ...]:
    """m, of all objects of a level, in the order in which they are placed."""
    return (
        ROBOT_KEEPOUT,
        GOAL_KEEPOUT,
        *[HAZARD_KEEPOUT] * level.hazards,
        *[VASE_KEEPOUT] * level.vases,
    )


@njit(cache=True)
def sample_layout(rng: np.ndarray, i: int, extent: float, n_hazards: int, placed: np.ndarray) -> None:
    """Fill placed (n, 2): robot, goal, hazards, vases. Starts anew when an object finds no place."""
    while True:
        complete = True
        for k in range(placed.shape[0]):
            keepout, found = keepout_of(k, n_hazards), False
            for _ in range(PLACEMENT_TRIES):
                x = uniform(rng, i, -extent + keepout, extent - keepout)
                y = uniform(rng, i, -extent + keepout, extent - keepout)
                found = True
                for j in range(k):
                    if math.hypot(x - placed[j, 0], y - placed[j, 1]) < keepout + keepout_of(j, n_hazards):
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


@njit(cache=True, inline="always")
def clear_of(x: float, y: float, objects: np.ndarray, keepout: float) -> bool:
    """Is (x, y) at least `keepout` m from all of objects (k, 2 or more)?"""
    for k in range(objects.shape[0]):  # noqa: SIM110 - compiled
        if math.hypot(x - objects[k, 0], y - objects[k, 1]) < keepout:
            return False
    return True


@njit(cache=True)
def sample_goal(
    rng: np.ndarray,
    i: int,
    extent: float,
    x: float,
    y: float,
    vases: np.ndarray,
    hazards: np.ndarray,
    goal: np.ndarray,
) -> bool:
    """Draw goal[i] anew, clear of the robot at (x, y), of vases[i] and hazards[i]. False after 10,000 tries
    in vain, as the original counts them: the old goal stays, and the episode has to end."""
    low, high = -extent + GOAL_KEEPOUT, extent - GOAL_KEEPOUT
    for _ in range(GOAL_TRIES):
        gx, gy = uniform(rng, i, low, high), uniform(rng, i, low, high)
        if math.hypot(gx - x, gy - y) < GOAL_KEEPOUT + ROBOT_KEEPOUT:
            continue
        if not clear_of(gx, gy, vases[i], GOAL_KEEPOUT + VASE_KEEPOUT):
            continue
        if clear_of(gx, gy, hazards[i], GOAL_KEEPOUT + HAZARD_KEEPOUT):
            goal[i, 0], goal[i, 1] = gx, gy
            return True
    return False
