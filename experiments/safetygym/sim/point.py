"""The Point robot in closed form: three joints with a constant mass matrix in the body frame.

Between contacts with the vase nothing else acts: the floor never loads the robot. Semi-implicit Euler with
implicit joint damping, as MuJoCo's default integrator (https://mujoco.readthedocs.io, "Computation").
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from experiments.safetygym.sim.lidar import add_to_lidar
from experiments.safetygym.sim.task import FRAMESKIP, N_HAZARDS
from experiments.safetygym.sim.vase_contact import REACH, overlaps, vase_axis, vase_moves

MASS = 0.005188790204786391  # kg
MASS_ARM = 1e-4  # kg m: mass times distance of the centre of mass ahead of the origin
INERTIA = 2.8421827485812386e-5  # kg m^2, about the origin
DAMPING, DAMPING_TURN = 0.01, 0.005
GEAR, FORCE_LIMIT = 0.3, 0.05
TIMESTEP = 0.002  # s
GRAVITY = 9.81
_ROBOT = 6
_GOAL_LIDAR, _GYRO, _HAZARDS_LIDAR, _MAGNETOMETER, _VASES_LIDAR, _VELOCIMETER = 3, 19, 22, 38, 41, 57
_LINEAR = MASS + TIMESTEP * DAMPING
_TURN = INERTIA + TIMESTEP * DAMPING_TURN
_DET = _LINEAR * _TURN - MASS_ARM * MASS_ARM
_INV_LINEAR, _INV_DET = 1.0 / _LINEAR, 1.0 / _DET
_DET_EXPLICIT = MASS * INERTIA - MASS_ARM * MASS_ARM


@njit(cache=True, inline="always")
def forces(turn: float, thrust: float, u: float, v: float, omega: float) -> tuple[float, float, float]:
    """Generalised forces in body axes (N, N, N m) at body velocity (u, v) and angular velocity omega."""
    servo = min(max(turn - GEAR * omega, -FORCE_LIMIT), FORCE_LIMIT) * GEAR
    return thrust + MASS_ARM * omega * omega - DAMPING * u, -DAMPING * v, servo - DAMPING_TURN * omega


@njit(cache=True, inline="always")
def turn_by(c: float, s: float, angle: float) -> tuple[float, float]:
    """(cos, sin) of a heading turned by a small angle, by Taylor series: exact to 1e-17 below .02 rad."""
    q = angle * angle
    if q > 4e-4:
        dc, ds = math.cos(angle), math.sin(angle)
    else:
        dc = 1.0 - q * (0.5 - q * (1.0 / 24.0 - q / 720.0))
        ds = angle * (1.0 - q * (1.0 / 6.0 - q * (1.0 / 120.0 - q / 5040.0)))
    return c * dc - s * ds, s * dc + c * ds


@njit(cache=True, inline="always")
def substep(thrust, turn, x, y, heading, vx, vy, omega, c, s):
    """2 ms of motion under a thrust (N) and a turning command; c, s are cos and sin of the heading. Returns
    the new (x, y, heading, vx, vy, omega, c, s)."""
    fx, fy, torque = forces(turn, thrust, c * vx + s * vy, c * vy - s * vx, omega)
    ax = fx * _INV_LINEAR
    ay = (_TURN * fy - MASS_ARM * torque) * _INV_DET
    omega += TIMESTEP * (_LINEAR * torque - MASS_ARM * fy) * _INV_DET
    vx += TIMESTEP * (c * ax - s * ay)
    vy += TIMESTEP * (s * ax + c * ay)
    c, s = turn_by(c, s, TIMESTEP * omega)
    return x + TIMESTEP * vx, y + TIMESTEP * vy, heading + TIMESTEP * omega, vx, vy, omega, c, s


@njit(cache=True)
def control_step(robot: np.ndarray, a0: float, a1: float) -> None:
    """Advance robot (6,) by one control step (10 substeps of 2 ms) under action (a0 thrust, a1 turn)."""
    thrust = min(max(a0, -FORCE_LIMIT), FORCE_LIMIT) * GEAR
    turn = min(max(a1, -1.0), 1.0)
    x, y, heading, vx, vy, omega = robot[0], robot[1], robot[2], robot[3], robot[4], robot[5]
    c, s = math.cos(heading), math.sin(heading)
    for _ in range(FRAMESKIP):
        x, y, heading, vx, vy, omega, c, s = substep(thrust, turn, x, y, heading, vx, vy, omega, c, s)
    robot[0], robot[1], robot[2], robot[3], robot[4], robot[5] = x, y, heading, vx, vy, omega


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
def observe(
    robot: np.ndarray,
    a0: float,
    a1: float,
    goal: np.ndarray,
    hazards: np.ndarray,
    vase_x: float,
    vase_y: float,
    obs: np.ndarray,
) -> None:
    """Fill obs (60,) float32 for robot (6,), goal (2,), hazards (8, 2); the accelerometer reads the explicit
    acceleration under the action that is still applied."""
    c, s = math.cos(robot[2]), math.sin(robot[2])
    u, v, omega = c * robot[3] + s * robot[4], c * robot[4] - s * robot[3], robot[5]
    thrust = min(max(a0, -FORCE_LIMIT), FORCE_LIMIT) * GEAR
    fx, fy, torque = forces(min(max(a1, -1.0), 1.0), thrust, u, v, omega)
    obs[:] = 0.0
    obs[0] = fx / MASS
    obs[1] = (INERTIA * fy - MASS_ARM * torque) / _DET_EXPLICIT
    obs[2] = GRAVITY
    obs[_GYRO + 2] = omega
    obs[_MAGNETOMETER] = -0.5 * s
    obs[_MAGNETOMETER + 1] = -0.5 * c
    obs[_VELOCIMETER] = u
    obs[_VELOCIMETER + 1] = v
    look(robot, goal, hazards, vase_x, vase_y, c, s, obs)


@njit(cache=True)
def observe_sensors(robot, sensors, goal, hazards, vase_x, vase_y, obs) -> None:
    """Fill obs (60,) float32 from MuJoCo's sensors (12,) and the lidars."""
    obs[:] = 0.0
    for j in range(3):
        obs[j] = sensors[j]
        obs[_VELOCIMETER + j] = sensors[3 + j]
        obs[_GYRO + j] = sensors[6 + j]
        obs[_MAGNETOMETER + j] = sensors[9 + j]
    look(robot, goal, hazards, vase_x, vase_y, math.cos(robot[2]), math.sin(robot[2]), obs)


@njit(cache=True, inline="always")
def look(robot, goal, hazards, vase_x, vase_y, c, s, obs) -> None:
    """Enter goal, hazards and vase into the lidars of obs (60,), which are zero before; (c, s) is the
    heading."""
    add_to_lidar(obs, _GOAL_LIDAR, goal[0] - robot[0], goal[1] - robot[1], c, s)
    for h in range(N_HAZARDS):
        add_to_lidar(obs, _HAZARDS_LIDAR, hazards[h, 0] - robot[0], hazards[h, 1] - robot[1], c, s)
    add_to_lidar(obs, _VASES_LIDAR, vase_x - robot[0], vase_y - robot[1], c, s)
