"""Many Points at once: dynamics, task and observation in one pass over the environments.

Arrays are those of `State` plus obs (n, 60) float32, reward, cost (n,) float64, goal_met, truncated (n,) bool
and final_obs (n, 60), all changed in place. `draw` says whether goals and starts are drawn here (fast
layout); `extent` is that of the level.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from experiments.safetygym.sim.episode import distance_to_goal, score, start
from experiments.safetygym.sim.layout import sample_goal
from experiments.safetygym.sim.point.dynamics import (
    WORK,
    control_step_rows,
    meets_vases,
    observe,
    observe_sensors,
)


@njit(cache=True)
def reset_one(i, extent, robot, goal, hazards, vases, step, rng, obs, work) -> None:
    """Begin an episode in environment i, with its first observation."""
    x, y, heading = start(i, extent, goal, hazards, vases, step, rng)
    robot[i] = 0.0
    robot[i, 0], robot[i, 1], robot[i, 2] = x, y, heading
    observe(robot[i], 0.0, 0.0, goal[i], hazards[i], vases[i], obs[i], work)


@njit(cache=True, nogil=True)
def reset_points(index, extent, robot, goal, hazards, vases, step, rng, obs) -> None:
    """Begin an episode in each of the environments `index` (k,)."""
    work = np.empty(WORK)
    for i in index:
        reset_one(i, extent, robot, goal, hazards, vases, step, rng, obs, work)


@njit(cache=True, nogil=True)
def observe_points(index, robot, goal, hazards, vases, actions, obs) -> None:
    """Observations of environments `index` (k,) while actions (n, 2) act."""
    work = np.empty(WORK)
    for i in index:
        observe(robot[i], actions[i, 0], actions[i, 1], goal[i], hazards[i], vases[i], obs[i], work)


@njit(cache=True, nogil=True, error_model="numpy")
def step_points(
    robot, goal, hazards, vases, step, rng, actions, obs, reward, cost, goal_met, truncated, final_obs,
    faithful, draw, reset, extent, pending, before,
) -> int:  # fmt: skip
    """One control step of every environment; ends of episodes start anew at once if `reset`.

    If `faithful`, environments in which a vase comes into play are left as they are: their number k is
    returned, pending[:k] names them, and before[:k] is their distance to the goal (m), for `finish_points`.
    """
    n, k, work = robot.shape[0], 0, np.empty(WORK)
    distance = np.empty(n)
    for i in range(n):
        distance[i] = distance_to_goal(robot[i, 0], robot[i, 1], goal[i])
        if faithful and meets_vases(robot[i], actions[i, 0], actions[i, 1], vases[i]):
            pending[k], before[k] = i, distance[i]
            k += 1
    kept = np.empty((k, robot.shape[1]))
    for j in range(k):
        kept[j] = robot[pending[j]]
    control_step_rows(robot, actions, work)
    for j in range(k):
        robot[pending[j]] = kept[j]
    j = 0
    for i in range(n):
        if j < k and pending[j] == i:
            j += 1
            continue
        x, y = robot[i, 0], robot[i, 1]
        score(i, x, y, distance[i], goal, hazards, step, reward, cost, goal_met, truncated)
        if goal_met[i] and draw and not sample_goal(rng, i, extent, x, y, vases, hazards, goal):
            truncated[i] = True
        a0, a1 = actions[i, 0], actions[i, 1]
        observe(robot[i], a0, a1, goal[i], hazards[i], vases[i], obs[i], work)
        if truncated[i] and reset and draw:
            final_obs[i] = obs[i]
            reset_one(i, extent, robot, goal, hazards, vases, step, rng, obs, work)
    return k


@njit(cache=True, nogil=True)
def finish_points(
    robot, goal, hazards, vases, step, rng, sensors, obs, reward, cost, goal_met, truncated, final_obs,
    draw, reset, extent, pending, before,
) -> None:  # fmt: skip
    """Task and observation of environments pending (k,) that MuJoCo has stepped: robot and vases are new,
    sensors (k, 12) are its readings, before (k,) the distances to the goal a step ago."""
    work = np.empty(WORK)
    for j in range(pending.shape[0]):
        i = pending[j]
        x, y = robot[i, 0], robot[i, 1]
        score(i, x, y, before[j], goal, hazards, step, reward, cost, goal_met, truncated)
        if goal_met[i] and draw and not sample_goal(rng, i, extent, x, y, vases, hazards, goal):
            truncated[i] = True
        observe_sensors(robot[i], sensors[j], goal[i], hazards[i], vases[i], obs[i], work)
        if truncated[i] and reset and draw:
            final_obs[i] = obs[i]
            reset_one(i, extent, robot, goal, hazards, vases, step, rng, obs, work)
