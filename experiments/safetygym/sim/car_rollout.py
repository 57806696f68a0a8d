"""What the Car would do: positions under given actions, and how near it comes to a hazard when it brakes.

The Car brakes by doing nothing: joint damping (.001 N m s) is strong against its inertia, so that wheels
and ball act as brakes near the limit of friction. From 1 m/s it stands within 7 control steps and .08 m;
more torque against the motion gains nothing and makes the light wheels spin back.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from experiments.safetygym.sim.car import CarDynamics, vase_in_play
from experiments.safetygym.sim.car_numba import DONE, control_step, torque, turn_ball, workspace
from experiments.safetygym.sim.task import HAZARD_RADIUS
from safeframe.types import SafeframeError

BRAKE = (0.0, 0.0)
"""action"""
BRAKE_STEPS = 100
"""control steps after which a braking Car certainly stands"""
STANDSTILL = 2e-3
"""m/s; of speed plus .1 m times turning rate, below which the Car counts as standing"""
CREEP = 3e-4
"""m; what a standing Car can still move"""
CLEARANCE_LOW, CLEARANCE_HIGH = -0.1, 0.15
"""m"""


@njit(cache=True)
def roll_rows(rows, start, robot, actions, xy):
    """Roll rows (k,) of robot (n, 24), in place, under actions (n, T, 2) from step start (n,) on; fills xy
    (n, T, 2). start is advanced to T, or to the first step that this model cannot do."""
    work, masks, state, before = workspace(), np.zeros(5, np.int64), np.empty(24), np.empty(24)
    for row in rows:
        masks[:] = 1023
        state[:] = robot[row]
        turn_ball(state, False)
        while start[row] < actions.shape[1]:
            t = start[row]
            before[:] = state
            if (
                control_step(state, torque(actions[row, t, 0]), torque(actions[row, t, 1]), work, masks)
                != DONE
            ):
                state[:] = before
                break
            xy[row, t, 0], xy[row, t, 1] = state[0], state[1]
            start[row] += 1
        turn_ball(state, True)
        robot[row] = state


def rollout_positions(robot: np.ndarray, actions: np.ndarray, vase: np.ndarray | None = None) -> np.ndarray:
    """Where n Cars are after each of T control steps: xy (n, T, 2) in m.

    robot (n, 24) stays as it is; actions (n, T, 2). With vase (n, 13) the vase is simulated where it is in
    play, without it the robot passes through. Raises SafeframeError for wrong shapes or what is not finite.
    """
    n = len(robot)
    actions = np.ascontiguousarray(actions, dtype=np.float64)
    if actions.ndim != 3 or actions.shape[0] != n or actions.shape[2] != 2:
        raise SafeframeError(f"actions have shape {actions.shape}; ({n}, T, 2) is needed")
    if not (np.isfinite(actions).all() and np.isfinite(robot).all()):
        raise SafeframeError("rollout: a state or an action is not finite")
    steps = actions.shape[1]
    robot, start, xy = np.array(robot, dtype=np.float64), np.zeros(n, np.int64), np.empty((n, steps, 2))
    dynamics = CarDynamics("fixed" if vase is None else "faithful")
    objects = np.zeros((n, 13)) if vase is None else np.array(vase, dtype=np.float64)
    if vase is None:
        roll_rows(np.arange(n), start, robot, actions, xy)
    while len(rows := np.flatnonzero(start < steps)):
        # one step of those that need MuJoCo (or whose vase may come into play), then on
        now, there = robot[rows], objects[rows]
        dynamics.step(now, there, actions[rows, start[rows]])
        robot[rows], objects[rows] = now, there
        xy[rows, start[rows]] = now[:, :2]
        start[rows] += 1
        if vase is None:
            roll_rows(rows, start, robot, actions, xy)
    return xy


@njit(cache=True, inline="always")
def braking_reach(state):
    """Metres that a braking Car in `state` (24,) can still get away from where it is, bounded above.

    Fitted, not proved: over 2e5 states of random driving nothing went beyond .1 v + .01 |turning rate| +
    .006; the slack here is .02 m.
    """
    return 0.1 * math.hypot(state[13], state[14]) + 0.01 * abs(state[18]) + 0.02


@njit(cache=True, inline="always")
def nearest(x, y, hazards):
    """Distance in m from (x, y) to the nearest edge of hazards (8, 2); negative inside."""
    least = 1e18
    for h in range(hazards.shape[0]):
        dx, dy = x - hazards[h, 0], y - hazards[h, 1]
        least = min(least, dx * dx + dy * dy)
    return math.sqrt(least) - HAZARD_RADIUS


@njit(cache=True, nogil=True)
def clearance_rows(robot, hazards, candidates, out):
    """Fill out (n, k) as `braking_clearances`; NaN where this model does not apply."""
    work, masks, state, start = workspace(), np.zeros(5, np.int64), np.empty(24), np.empty(24)
    for row in range(robot.shape[0]):
        start[:] = robot[row]
        # one step of any action adds at most .555 m/s (the corner of the friction pyramid) and .0132 m
        far = 0.04 * math.hypot(start[13], start[14]) + 0.1 * 0.56 + braking_reach(start) + 0.014 + 0.03
        if nearest(start[0], start[1], hazards[row]) - far >= CLEARANCE_HIGH:
            out[row] = CLEARANCE_HIGH
            continue
        turn_ball(start, False)
        masks[:] = 1023
        for k in range(candidates.shape[0]):
            state[:] = start
            left, right = torque(candidates[k, 0]), torque(candidates[k, 1])
            least = CLEARANCE_HIGH
            for _ in range(BRAKE_STEPS):
                if control_step(state, left, right, work, masks) != DONE:
                    least = math.nan
                    break
                left, right = 0.0, 0.0
                distance = nearest(state[0], state[1], hazards[row])
                if math.hypot(state[13], state[14]) + 0.1 * abs(state[18]) < STANDSTILL:
                    least = min(least, distance - CREEP)
                    break
                least = min(least, distance)
                if least <= CLEARANCE_LOW or distance - braking_reach(state) >= least:
                    break
            out[row, k] = least if math.isnan(least) else max(least, CLEARANCE_LOW)


def braking_clearances(
    robot: np.ndarray, hazards: np.ndarray, candidates: np.ndarray, vase: np.ndarray | None = None
) -> np.ndarray:
    """Least distance in m to a hazard's edge at the ends of control steps, candidate first, then braking:
    (n, k) float32 in [CLEARANCE_LOW, CLEARANCE_HIGH], for robot (n, 24), hazards (n, 8, 2), candidates (k,
    2).

    With vase (n, 13) the vase is simulated where it is in play. Raises SafeframeError if a state is not
    finite.
    """
    if not np.isfinite(robot).all():
        raise SafeframeError("braking: a state of the Car is not finite")
    out = np.empty((len(robot), len(candidates)), np.float32)
    clearance_rows(robot, hazards, candidates, out)
    again = np.isnan(out)
    if vase is not None:
        again |= vase_in_play(robot, vase)[:, None] & (out < CLEARANCE_HIGH)
    rows, columns = np.nonzero(again)
    if len(rows):
        actions = np.zeros((len(rows), BRAKE_STEPS, 2))
        actions[:, 0] = candidates[columns]
        xy = rollout_positions(robot[rows], actions, None if vase is None else vase[rows])
        distance = np.linalg.norm(xy[:, :, None] - hazards[rows][:, None], axis=3).min(axis=(1, 2))
        out[rows, columns] = np.clip(distance - HAZARD_RADIUS, CLEARANCE_LOW, CLEARANCE_HIGH)
    return out
