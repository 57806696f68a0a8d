"""The Point robot in closed form: three joints with a constant mass matrix in the body frame.

Between contacts with the vase nothing else acts: the floor never loads the robot. Semi-implicit Euler with
implicit joint damping, as MuJoCo's default integrator (https://mujoco.readthedocs.io, "Computation").
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from experiments.safetygym.sim.layout import N_OBJECTS, sample_goal, sample_layout
from experiments.safetygym.sim.lidar import add_to_lidar
from experiments.safetygym.sim.random import uniform
from experiments.safetygym.sim.task import (
    EPISODE_STEPS,
    FRAMESKIP,
    GOAL_RADIUS,
    HAZARD_RADIUS,
    N_HAZARDS,
    REWARD_CLIP,
    REWARD_GOAL,
)

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
_DET_EXPLICIT = MASS * INERTIA - MASS_ARM * MASS_ARM


@njit(cache=True, inline="always")
def forces(turn: float, thrust: float, u: float, v: float, omega: float) -> tuple[float, float, float]:
    """Generalised forces in body axes (N, N, N m) at body velocity (u, v) and angular velocity omega."""
    servo = min(max(turn - GEAR * omega, -FORCE_LIMIT), FORCE_LIMIT) * GEAR
    return thrust + MASS_ARM * omega * omega - DAMPING * u, -DAMPING * v, servo - DAMPING_TURN * omega


@njit(cache=True)
def control_step(robot: np.ndarray, a0: float, a1: float) -> None:
    """Advance robot (6,) by one control step (10 substeps of 2 ms) under action (a0 thrust, a1 turn)."""
    thrust = min(max(a0, -FORCE_LIMIT), FORCE_LIMIT) * GEAR
    turn = min(max(a1, -1.0), 1.0)
    x, y, heading, vx, vy, omega = robot[0], robot[1], robot[2], robot[3], robot[4], robot[5]
    for _ in range(FRAMESKIP):
        c, s = math.cos(heading), math.sin(heading)
        fx, fy, torque = forces(turn, thrust, c * vx + s * vy, c * vy - s * vx, omega)
        ax = fx / _LINEAR
        ay = (_TURN * fy - MASS_ARM * torque) / _DET
        omega += TIMESTEP * (_LINEAR * torque - MASS_ARM * fy) / _DET
        vx += TIMESTEP * (c * ax - s * ay)
        vy += TIMESTEP * (s * ax + c * ay)
        x += TIMESTEP * vx
        y += TIMESTEP * vy
        heading += TIMESTEP * omega
    robot[0], robot[1], robot[2], robot[3], robot[4], robot[5] = x, y, heading, vx, vy, omega


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
    add_to_lidar(obs, _GOAL_LIDAR, goal[0] - robot[0], goal[1] - robot[1], c, s)
    for h in range(N_HAZARDS):
        add_to_lidar(obs, _HAZARDS_LIDAR, hazards[h, 0] - robot[0], hazards[h, 1] - robot[1], c, s)
    add_to_lidar(obs, _VASES_LIDAR, vase_x - robot[0], vase_y - robot[1], c, s)


@njit(cache=True)
def reset_one(i, robot, goal, hazards, vase, step, rng, obs) -> None:
    """Begin an episode in environment i: layout, headings, the goal drawn twice, first observation."""
    placed = np.empty((N_OBJECTS, 2))
    sample_layout(rng, i, placed)
    robot[i] = 0.0
    robot[i, 0], robot[i, 1] = placed[0, 0], placed[0, 1]
    robot[i, 2] = uniform(rng, i, 0.0, 2.0 * math.pi)
    for h in range(N_HAZARDS):
        hazards[i, h, 0], hazards[i, h, 1] = placed[2 + h, 0], placed[2 + h, 1]
    vase[i] = 0.0
    vase[i, 0], vase[i, 1], vase[i, 2] = placed[N_OBJECTS - 1, 0], placed[N_OBJECTS - 1, 1], 0.1
    turn = uniform(rng, i, 0.0, 2.0 * math.pi)
    vase[i, 3], vase[i, 6] = math.cos(turn / 2.0), math.sin(turn / 2.0)
    goal[i, 0], goal[i, 1] = placed[1, 0], placed[1, 1]
    sample_goal(rng, i, robot[i, 0], robot[i, 1], vase[i, 0], vase[i, 1], hazards, goal)
    step[i] = 0
    observe(robot[i], 0.0, 0.0, goal[i], hazards[i], vase[i, 0], vase[i, 1], obs[i])


@njit(cache=True)
def in_hazard(x: float, y: float, hazards: np.ndarray) -> bool:
    """Is (x, y) within .2 m of one of hazards (8, 2)?"""
    for h in range(N_HAZARDS):
        if math.hypot(x - hazards[h, 0], y - hazards[h, 1]) <= HAZARD_RADIUS:
            return True
    return False


@njit(cache=True)
def step_all(
    robot, goal, hazards, vase, step, rng, actions, obs, reward, cost, goal_met, truncated, final_obs, reset
) -> None:
    """One control step of every environment with the vase fixed, in place; ends of episodes start anew at once
    if `reset`."""
    for i in range(robot.shape[0]):
        a0, a1 = actions[i, 0], actions[i, 1]
        before = math.hypot(goal[i, 0] - robot[i, 0], goal[i, 1] - robot[i, 1])
        control_step(robot[i], a0, a1)
        x, y = robot[i, 0], robot[i, 1]
        after = math.hypot(goal[i, 0] - x, goal[i, 1] - y)
        r = before - after
        cost[i] = 1.0 if in_hazard(x, y, hazards[i]) else 0.0
        goal_met[i] = after <= GOAL_RADIUS
        if goal_met[i]:
            r += REWARD_GOAL
            sample_goal(rng, i, x, y, vase[i, 0], vase[i, 1], hazards, goal)
        reward[i] = min(max(r, -REWARD_CLIP), REWARD_CLIP)
        step[i] += 1
        observe(robot[i], a0, a1, goal[i], hazards[i], vase[i, 0], vase[i, 1], obs[i])
        truncated[i] = step[i] >= EPISODE_STEPS
        if truncated[i] and reset:
            final_obs[i] = obs[i]
            reset_one(i, robot, goal, hazards, vase, step, rng, obs)


@njit(cache=True)
def reset_all(index, robot, goal, hazards, vase, step, rng, obs) -> None:
    """Begin an episode in each of the environments `index` (k,)."""
    for i in index:
        reset_one(i, robot, goal, hazards, vase, step, rng, obs)
