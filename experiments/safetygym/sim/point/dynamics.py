"""The Point robot in closed form: three joints with a constant mass matrix in the body frame.

Between contacts with the vase nothing else acts: the floor never loads the robot. Semi-implicit Euler with
implicit joint damping, as MuJoCo's default integrator (https://mujoco.readthedocs.io, "Computation").
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from experiments.safetygym.sim.lidar import MOST_SEEN, fill, fill_one, locate
from experiments.safetygym.sim.task import FRAMESKIP
from experiments.safetygym.sim.vase_contact import NEIGHBOURS, REACH, overlaps, vase_axis, vase_moves

MASS = 0.005188790204786391  # kg
MASS_ARM = 1e-4  # kg m: mass times distance of the centre of mass ahead of the origin
INERTIA = 2.8421827485812386e-5  # kg m^2, about the origin
DAMPING, DAMPING_TURN = 0.01, 0.005
GEAR, FORCE_LIMIT = 0.3, 0.05
TIMESTEP = 0.002  # s
GRAVITY = 9.81
MAX_SPIN = 40.0
"""rad/s; beyond it (the servo holds 5) the series in `turn_by` would not do."""
LANES = 16
WORK = 10 * LANES
"""Length of the scratch that `control_step_rows` and `observe` need."""
_GOAL_LIDAR, _GYRO, _HAZARDS_LIDAR, _MAGNETOMETER, _VASES_LIDAR, _VELOCIMETER = 3, 19, 22, 38, 41, 57
_LINEAR = MASS + TIMESTEP * DAMPING
_TURN = INERTIA + TIMESTEP * DAMPING_TURN
_DET = _LINEAR * _TURN - MASS_ARM * MASS_ARM
_STEP_LINEAR, _STEP_DET = TIMESTEP / _LINEAR, TIMESTEP / _DET
_DET_EXPLICIT = MASS * INERTIA - MASS_ARM * MASS_ARM


@njit(cache=True, inline="always")
def forces(turn: float, thrust: float, u: float, v: float, omega: float) -> tuple[float, float, float]:
    """Generalised forces in body axes (N, N, N m) at body velocity (u, v) and angular velocity omega."""
    servo = min(max(turn - GEAR * omega, -FORCE_LIMIT), FORCE_LIMIT) * GEAR
    return thrust + MASS_ARM * omega * omega - DAMPING * u, -DAMPING * v, servo - DAMPING_TURN * omega


@njit(cache=True, inline="always")
def turn_by(c: float, s: float, angle: float) -> tuple[float, float]:
    """(cos, sin) of a heading turned by an angle below .1 rad, by Taylor series: exact to rounding there."""
    q = angle * angle
    dc = 1.0 - q * (0.5 - q * (1 / 24.0 - q * (1 / 720.0 - q / 40320.0)))
    ds = angle * (1.0 - q * (1 / 6.0 - q * (1 / 120.0 - q * (1 / 5040.0 - q / 362880.0))))
    return c * dc - s * ds, s * dc + c * ds


@njit(cache=True, inline="always")
def substep(thrust, turn, x, y, heading, vx, vy, omega, c, s):
    """2 ms of motion under a thrust (N) and a turning command; c, s are cos and sin of the heading; |omega|
    is below 50 rad/s. Returns the new (x, y, heading, vx, vy, omega, c, s)."""
    fx, fy, torque = forces(turn, thrust, c * vx + s * vy, c * vy - s * vx, omega)
    ax = fx * _STEP_LINEAR
    ay = (_TURN * fy - MASS_ARM * torque) * _STEP_DET
    omega += (_LINEAR * torque - MASS_ARM * fy) * _STEP_DET
    vx += c * ax - s * ay
    vy += s * ax + c * ay
    c, s = turn_by(c, s, TIMESTEP * omega)
    return x + TIMESTEP * vx, y + TIMESTEP * vy, heading + TIMESTEP * omega, vx, vy, omega, c, s


@njit(cache=True)
def control_step(robot: np.ndarray, a0: float, a1: float) -> None:
    """Advance robot (6,) by one control step (10 substeps of 2 ms) under action (a0 thrust, a1 turn)."""
    thrust = min(max(a0, -FORCE_LIMIT), FORCE_LIMIT) * GEAR
    turn = min(max(a1, -1.0), 1.0)
    x, y, heading, vx, vy, omega = robot[0], robot[1], robot[2], robot[3], robot[4], robot[5]
    c, s = math.cos(heading), math.sin(heading)
    spins = abs(omega) > MAX_SPIN
    for _ in range(FRAMESKIP):
        x, y, heading, vx, vy, omega, c, s = substep(thrust, turn, x, y, heading, vx, vy, omega, c, s)
        if spins:
            c, s = math.cos(heading), math.sin(heading)
    robot[0], robot[1], robot[2], robot[3], robot[4], robot[5] = x, y, heading, vx, vy, omega


@njit(cache=True)
def control_step_rows(robot: np.ndarray, actions: np.ndarray, work: np.ndarray) -> None:
    """`control_step` of every row of robot (n, 6) under actions (n, 2), to the same bits, LANES rows side by
    side in vector registers; work (WORK,) is scratch."""
    n = robot.shape[0]
    for first in range(0, n, LANES):
        m = min(LANES, n - first)
        spins = False
        for k in range(LANES):
            i = first + min(k, m - 1)
            spins = spins or abs(robot[i, 5]) > MAX_SPIN
            for j in range(6):
                work[j * LANES + k] = robot[i, j]
            work[6 * LANES + k], work[7 * LANES + k] = math.cos(robot[i, 2]), math.sin(robot[i, 2])
            work[8 * LANES + k] = min(max(actions[i, 0], -FORCE_LIMIT), FORCE_LIMIT) * GEAR
            work[9 * LANES + k] = min(max(actions[i, 1], -1.0), 1.0)
        if spins:
            for i in range(first, first + m):
                control_step(robot[i], actions[i, 0], actions[i, 1])
            continue
        for _ in range(FRAMESKIP):
            for k in range(LANES):
                x, y, heading, vx, vy, omega, c, s = substep(
                    work[8 * LANES + k], work[9 * LANES + k],
                    work[k], work[LANES + k], work[2 * LANES + k], work[3 * LANES + k],
                    work[4 * LANES + k], work[5 * LANES + k], work[6 * LANES + k], work[7 * LANES + k],
                )  # fmt: skip
                work[k], work[LANES + k], work[2 * LANES + k], work[3 * LANES + k] = x, y, heading, vx
                work[4 * LANES + k], work[5 * LANES + k] = vy, omega
                work[6 * LANES + k], work[7 * LANES + k] = c, s
        for k in range(m):
            for j in range(6):
                robot[first + k, j] = work[j * LANES + k]


@njit(cache=True)
def meets_vase(robot: np.ndarray, a0: float, a1: float, vase: np.ndarray) -> bool:
    """May robot (6,) touch vase (13,) before the end of a control step under (a0, a1), or does the vase move?
    False means that `control_step` is exact. The state does not change."""
    if vase_moves(vase):
        return True
    dx, dy = robot[0] - vase[0], robot[1] - vase[1]
    if dx * dx + dy * dy > REACH * REACH:
        return False
    ux, uy, flat = vase_axis(vase)
    if not flat:
        return True
    thrust = min(max(a0, -FORCE_LIMIT), FORCE_LIMIT) * GEAR
    turn = min(max(a1, -1.0), 1.0)
    x, y, heading, vx, vy, omega = robot[0], robot[1], robot[2], robot[3], robot[4], robot[5]
    c, s = math.cos(heading), math.sin(heading)
    for _ in range(FRAMESKIP):
        if overlaps(x - vase[0], y - vase[1], c, s, ux, uy):
            return True
        x, y, heading, vx, vy, omega, c, s = substep(thrust, turn, x, y, heading, vx, vy, omega, c, s)
    return overlaps(x - vase[0], y - vase[1], c, s, ux, uy)


@njit(cache=True)
def meets_vases(robot: np.ndarray, a0: float, a1: float, vases: np.ndarray) -> bool:
    """`meets_vase` for any of vases (V, 13)."""
    for v in range(vases.shape[0]):  # noqa: SIM110 - compiled
        if meets_vase(robot, a0, a1, vases[v]):
            return True
    return False


@njit(cache=True, nogil=True)
def vases_in_play(robot: np.ndarray, actions: np.ndarray, vases: np.ndarray) -> np.ndarray:
    """(k, V) bool: which of vases (k, V, 13) something may happen to in a control step of robot (k, 6)
    under actions (k, 2): those that `meets_vase` names, with them all within the robot's reach, and all
    neighbours of such a vase, which it may be pushed into. The rest stay at rest."""
    play = np.zeros(vases.shape[:2], np.bool_)
    for i in range(robot.shape[0]):
        some = False
        for v in range(vases.shape[1]):
            play[i, v] = meets_vase(robot[i], actions[i, 0], actions[i, 1], vases[i, v])
            some = some or play[i, v]
        if some:
            for v in range(vases.shape[1]):
                dx, dy = vases[i, v, 0] - robot[i, 0], vases[i, v, 1] - robot[i, 1]
                play[i, v] = play[i, v] or dx * dx + dy * dy <= REACH * REACH
        while some:
            some = False
            for v in range(vases.shape[1]):
                for w in range(vases.shape[1]):
                    dx, dy = vases[i, v, 0] - vases[i, w, 0], vases[i, v, 1] - vases[i, w, 1]
                    if play[i, w] and not play[i, v] and dx * dx + dy * dy <= NEIGHBOURS * NEIGHBOURS:
                        play[i, v] = some = True
    return play


@njit(cache=True, inline="always")
def observe(
    robot: np.ndarray,
    a0: float,
    a1: float,
    goal: np.ndarray,
    hazards: np.ndarray,
    vases: np.ndarray,
    obs: np.ndarray,
    work: np.ndarray,
) -> None:
    """Fill obs (60,) float32 for robot (6,), goal (2,), hazards (H, 2), vases (V, 13); work (WORK,)
    is scratch; the accelerometer reads the explicit acceleration under the action that is still applied."""
    c, s = math.cos(robot[2]), math.sin(robot[2])
    u, v, omega = c * robot[3] + s * robot[4], c * robot[4] - s * robot[3], robot[5]
    thrust = min(max(a0, -FORCE_LIMIT), FORCE_LIMIT) * GEAR
    fx, fy, torque = forces(min(max(a1, -1.0), 1.0), thrust, u, v, omega)
    obs[0] = fx * (1.0 / MASS)
    obs[1] = (INERTIA * fy - MASS_ARM * torque) * (1.0 / _DET_EXPLICIT)
    obs[2] = GRAVITY
    obs[_GYRO], obs[_GYRO + 1], obs[_GYRO + 2] = 0.0, 0.0, omega
    obs[_MAGNETOMETER], obs[_MAGNETOMETER + 1], obs[_MAGNETOMETER + 2] = -0.5 * s, -0.5 * c, 0.0
    obs[_VELOCIMETER], obs[_VELOCIMETER + 1], obs[_VELOCIMETER + 2] = u, v, 0.0
    look(robot, goal, hazards, vases, c, s, obs, work)


@njit(cache=True)
def observe_sensors(robot, sensors, goal, hazards, vases, obs, work) -> None:
    """Fill obs (60,) float32 from MuJoCo's sensors (12,) and the lidars."""
    for j in range(3):
        obs[j] = sensors[j]
        obs[_VELOCIMETER + j] = sensors[3 + j]
        obs[_GYRO + j] = sensors[6 + j]
        obs[_MAGNETOMETER + j] = sensors[9 + j]
    look(robot, goal, hazards, vases, math.cos(robot[2]), math.sin(robot[2]), obs, work)


@njit(cache=True, inline="always")
def look(robot, goal, hazards, vases, c, s, obs, work) -> None:
    """Enter goal, hazards and vases into the lidars of obs (60,); (c, s) is the heading."""
    x, y, n_hazards, n_vases = robot[0], robot[1], hazards.shape[0], vases.shape[0]
    for h in range(n_hazards):
        work[h], work[MOST_SEEN + h] = hazards[h, 0] - x, hazards[h, 1] - y
    work[n_hazards], work[MOST_SEEN + n_hazards] = goal[0] - x, goal[1] - y
    first = n_hazards + 1
    for v in range(n_vases):
        work[first + v], work[MOST_SEEN + first + v] = vases[v, 0] - x, vases[v, 1] - y
    locate(work, first + n_vases, c, s)
    fill(work, 0, n_hazards, obs, _HAZARDS_LIDAR)
    fill_one(work, n_hazards, obs, _GOAL_LIDAR)
    if n_vases == 1:
        fill_one(work, first, obs, _VASES_LIDAR)
    else:
        fill(work, first, first + n_vases, obs, _VASES_LIDAR)
