"""What the Car would do: positions under given actions, and how near it comes to a hazard when it brakes.

The Car brakes by doing nothing: joint damping (.001 N m s) is strong against its inertia, so that wheels
and ball act as brakes near the limit of friction. From 1 m/s it stands within 7 control steps and .08 m;
more torque against the motion gains nothing and makes the light wheels spin back.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from experiments.safetygym.sim.car.dynamics import CarDynamics
from experiments.safetygym.sim.car.lanes import LANES, OUTSIDE, ROWS, STATE, TORQUE
from experiments.safetygym.sim.car.steps import act, batch, control_step, load, unload
from experiments.safetygym.sim.car.vase import gaps, vase_moves
from experiments.safetygym.sim.clearance import CLEARANCE_HIGH, CLEARANCE_LOW, nearest
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
_L, _S = LANES, STATE


@batch
def roll_rows(rows, start, robot, actions, xy):
    """Roll rows (k,) of robot (n, 24), in place, under actions (n, T, 2) from step start (n,) on; fills xy
    (n, T, 2). start is advanced to T, or to the first step that this model cannot do."""
    w, before, going = np.zeros(ROWS * _L), np.empty(24 * _L), np.zeros(_L, np.bool_)
    for first in range(0, len(rows), _L):
        count = min(_L, len(rows) - first)
        going[:] = False
        for lane in range(count):
            row = rows[first + lane]
            if start[row] < actions.shape[1]:
                load(w, lane, robot[row], actions[row, start[row]])
                going[lane] = True
        while going.any():
            before[:] = w[_S : _S + 24 * _L]
            control_step(w)
            for lane in range(count):
                if not going[lane]:
                    continue
                row = rows[first + lane]
                if w[OUTSIDE + lane] == 0.0:
                    xy[row, start[row], 0], xy[row, start[row], 1] = w[_S + lane], w[_S + _L + lane]
                    start[row] += 1
                    if start[row] < actions.shape[1]:
                        act(w, lane, actions[row, start[row]])
                        continue
                else:
                    for i in range(24):
                        w[_S + i * _L + lane] = before[i * _L + lane]
                unload(w, lane, robot[row])
                going[lane] = False


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


@njit(cache=True)
def braking_reach(vx, vy, turning):
    """Metres that a braking Car at velocity (vx, vy) in m/s and turning rate in rad/s can still get away
    from where it is, bounded above.

    Fitted, not proved: in random driving nothing went beyond .1 v + .01 |turning rate| + .006; here .02.
    """
    return 0.1 * math.hypot(vx, vy) + 0.01 * abs(turning) + 0.02


@njit(cache=True)
def farthest(state):
    """Metres that a Car in state (24) can get away from where it is, whatever its action, braking after it.

    One step of any action adds at most .555 m/s (the corner of the friction pyramid, sqrt(2) g dt) and .0132
    m.
    """
    speed = math.hypot(state[13], state[14])
    return 0.04 * speed + 0.014 + braking_reach(speed + 0.56, 0.0, abs(state[18]) + 3.0)


@njit(cache=True)
def may_reach(robot, gap):
    """(n,) bool: what is gap (n,) m away from robot (n, 24) may be reached by an action and braking.

    Turning is allowed for by .05 m.
    """
    reached = np.zeros(len(robot), np.bool_)
    for row in range(len(robot)):
        reached[row] = gap[row] < farthest(robot[row]) + 0.05
    return reached


@batch
def clearance_rows(robot, hazards, candidates, out):
    """Fill out (n, k) as `braking_clearances`; NaN where this model does not apply."""
    w, k = np.zeros(ROWS * _L), candidates.shape[0]
    task, age, least = np.full(_L, -1), np.zeros(_L, np.int64), np.zeros(_L)
    upcoming, last, going = 0, robot.shape[0] * k, 1
    while going > 0:
        going = 0
        for lane in range(_L):
            while task[lane] < 0 and upcoming < last:
                row = upcoming // k
                far = nearest(robot[row, 0], robot[row, 1], hazards[row], HAZARD_RADIUS) - farthest(
                    robot[row]
                )
                if far >= CLEARANCE_HIGH and upcoming % k == 0:
                    out[row] = CLEARANCE_HIGH
                    upcoming += k
                    continue
                load(w, lane, robot[row], candidates[upcoming % k])
                task[lane], age[lane], least[lane] = upcoming, 0, CLEARANCE_HIGH
                upcoming += 1
            going += task[lane] >= 0
        if going == 0:
            break
        control_step(w)
        for lane in range(_L):
            if task[lane] < 0:
                continue
            row = task[lane] // k
            if w[OUTSIDE + lane] == 0.0:
                vx, vy, turning = w[_S + 13 * _L + lane], w[_S + 14 * _L + lane], w[_S + 18 * _L + lane]
                distance = nearest(w[_S + lane], w[_S + _L + lane], hazards[row], HAZARD_RADIUS)
                least[lane] = min(least[lane], distance)
                age[lane] += 1
                stands = math.hypot(vx, vy) + 0.1 * abs(turning) < STANDSTILL
                if stands:
                    least[lane] = min(least[lane], distance - CREEP)
                beyond = (
                    distance - braking_reach(vx, vy, turning) >= least[lane] or least[lane] <= CLEARANCE_LOW
                )
                if not (stands or beyond or age[lane] == BRAKE_STEPS):
                    w[TORQUE + lane], w[TORQUE + _L + lane] = 0.0, 0.0
                    continue
                out[row, task[lane] % k] = max(least[lane], CLEARANCE_LOW)
            else:
                out[row, task[lane] % k] = math.nan
            task[lane] = -1


def braking_clearances(
    robot: np.ndarray, hazards: np.ndarray, candidates: np.ndarray, vase: np.ndarray | None = None
) -> np.ndarray:
    """Least distance in m to a hazard's edge at the ends of control steps, candidate first, then braking.

    Args:
        robot: (n, 24).
        hazards: (n, 8, 2).
        candidates: (k, 2).
        vase: (n, 13), simulated where it is in play; None: no vase.

    Returns:
        (n, k) float32 in [CLEARANCE_LOW, CLEARANCE_HIGH].

    Raises:
        SafeframeError: if a state is not finite.
    """
    if not np.isfinite(robot).all():
        raise SafeframeError("braking: a state of the Car is not finite")
    robot, hazards = np.ascontiguousarray(robot), np.ascontiguousarray(hazards)
    candidates = np.ascontiguousarray(candidates, dtype=np.float64)
    out = np.empty((len(robot), len(candidates)), np.float32)
    clearance_rows(robot, hazards, candidates, out)
    again = np.isnan(out)
    if vase is not None:
        again |= (vase_moves(vase) | may_reach(robot, gaps(robot, vase)))[:, None]
    rows, columns = np.nonzero(again)
    if len(rows):
        actions = np.zeros((len(rows), BRAKE_STEPS, 2))
        actions[:, 0] = candidates[columns]
        xy = rollout_positions(robot[rows], actions, None if vase is None else vase[rows])
        distance = np.linalg.norm(xy[:, :, None] - hazards[rows][:, None], axis=3).min(axis=(1, 2))
        out[rows, columns] = np.clip(distance - HAZARD_RADIUS, CLEARANCE_LOW, CLEARANCE_HIGH)
    return out
