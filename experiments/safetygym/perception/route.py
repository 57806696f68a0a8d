"""A route around what must not be entered, read off an observation: the goal is shown where the route begins.

An agent that is trained by reward drives straight at its goal. Where a hazard lies between them a guard stops
it at the edge, and there it stays for a hundred steps or more: the way out begins with a detour that it never
tries. So the goal that the agent sees is moved: its distance stays, its direction becomes that of the first
corner of a route that keeps some room from every disc in the way. Directions that a disc blocks form an
interval; overlapping ones join, so that the route passes discs too near to each other on one side; of the two
free edges next to the goal's direction the one nearer to it is taken (as in the tangent bug of Kamon, Rimon
and Rivlin 1998, doi:10.1177/027836499801700903, with the range sensor replaced by decoded places).

Nothing but the observation is used: places come from the lidar (`decoding`). It promises nothing about
safety, which is the guard's part; only the goal's lidar changes, which no guard that predicts paths reads.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from experiments.safetygym.perception.decoding import decoded
from experiments.safetygym.sim.lidar import enter
from experiments.safetygym.sim.task import LIDAR_BINS, LIDAR_RANGE, Task
from safeframe.types import FloatArray

_BIN = 2.0 * math.pi / LIDAR_BINS


@njit(cache=True, nogil=True)
def bearings(lidar: np.ndarray, out: np.ndarray) -> None:
    """Fill out (n, 2) with angle (rad, body axes) and distance (m) of the one object in lidar (n, 16);
    distance inf where none is within the lidar's range."""
    for i in range(lidar.shape[0]):
        best = 0
        for b in range(LIDAR_BINS):
            if lidar[i, b] > lidar[i, best]:
                best = b
        reading = lidar[i, best]
        if reading <= 0.0:
            out[i, 0], out[i, 1] = 0.0, np.inf
            continue
        above = lidar[i, (best + 1) % LIDAR_BINS] / reading
        out[i, 0], out[i, 1] = _BIN * (best + above), LIDAR_RANGE * (1.0 - reading)


@njit(cache=True, nogil=True)
def turns(goal: np.ndarray, places: np.ndarray, keep: np.ndarray, out: np.ndarray) -> None:
    """Fill out (n,) with how far (rad, positive to the left) a route begins beside the direction of the goal.

    goal (n, 2): angle and distance; places (n, m, 2): centres of discs, m, body axes; keep (m,): m that the
    route keeps from each centre. Inside that distance the route leaves at a right angle to the centre.
    """
    low, high = np.empty(places.shape[1]), np.empty(places.shape[1])
    for i in range(len(out)):
        count = 0
        for j in range(places.shape[1]):
            x, y = places[i, j, 0], places[i, j, 1]
            distance = math.hypot(x, y)
            tangent = math.sqrt(max(distance * distance - keep[j] * keep[j], 0.0))
            if tangent >= goal[i, 1]:
                continue  # behind the goal
            half = math.asin(keep[j] / distance) if distance > keep[j] else 0.5 * math.pi
            middle = math.atan2(y, x) - goal[i, 0]
            middle -= 2.0 * math.pi * math.floor(middle / (2.0 * math.pi) + 0.5)
            low[count], high[count] = middle - half, middle + half
            count += 1
        left, right, moved = 0.0, 0.0, True
        while moved:
            moved = False
            for j in range(count):
                if low[j] < left < high[j]:
                    left, moved = high[j], True
                if low[j] < right < high[j]:
                    right, moved = low[j], True
        out[i] = left if left < -right else right


@njit(cache=True, nogil=True)
def show(goal: np.ndarray, turn: np.ndarray, lidar: np.ndarray) -> None:
    """Enter every goal (n, 2) with its turn (n,) into lidar (n, 16), in the place of what is there."""
    for i in range(len(turn)):
        if turn[i] == 0.0 or not goal[i, 1] < LIDAR_RANGE:
            continue
        for b in range(LIDAR_BINS):
            lidar[i, b] = 0.0
        angle = (goal[i, 0] + turn[i]) / _BIN
        angle -= LIDAR_BINS * math.floor(angle / LIDAR_BINS)
        enter(lidar[i], 0, angle, 1.0 - goal[i, 1] / LIDAR_RANGE)


def routed(task: Task, observations: FloatArray, room: float) -> FloatArray:
    """Observations (n, d) with the goal where the route begins.

    Args:
        task: whose observations they are; later columns are left as they are.
        room: m, > 0, from the edges of hazards (and, where vases cost, of what is kept from a vase).

    Returns:
        A copy; rows whose way is free are the same to the bit.
    """
    out = np.array(observations, dtype=np.float32)
    block = task.block("goal_lidar")
    lidar = np.ascontiguousarray(out[:, block])
    goal, turn = np.empty((len(out), 2)), np.empty(len(out))
    bearings(lidar, goal)
    found = [(places.reshape(len(out), -1, 2), radius + room) for places, radius in decoded(task, out)]
    keep = np.concatenate([np.full(places.shape[1], least) for places, least in found])
    turns(goal, np.concatenate([places for places, _ in found], axis=1), keep, turn)
    show(goal, turn, lidar)
    out[:, block] = lidar
    return out


class RoutedVector:
    """A vector environment whose observations are `routed`; else it is the one that it wraps."""

    def __init__(self, env: Any, task: Task, room: float) -> None:
        self.env, self.task, self.room = env, task, room
        self.num_envs = env.num_envs

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    def _seen(self, observations: FloatArray) -> FloatArray:
        return routed(self.task, observations, self.room)

    def reset(self, **options: Any) -> tuple[FloatArray, dict[str, Any]]:
        """As the environment's."""
        observations, info = self.env.reset(**options)
        return self._seen(observations), info

    def step(self, actions: FloatArray) -> tuple[FloatArray, FloatArray, np.ndarray, np.ndarray, dict]:
        """As the environment's; the final observations of episodes are routed too."""
        observations, rewards, terminated, truncated, info = self.env.step(actions)
        if "final_obs" in info:
            final = info["final_obs"].copy()
            rows = np.flatnonzero(terminated | truncated)
            final[rows] = self._seen(final[rows])
            info = info | {"final_obs": final}
        return self._seen(observations), rewards, terminated, truncated, info

    def set_state(self, state: Any, indices: np.ndarray | None = None) -> FloatArray:
        """As the environment's."""
        return self._seen(self.env.set_state(state, indices))
