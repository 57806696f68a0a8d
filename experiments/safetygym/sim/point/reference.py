"""The Point in plain NumPy, as the equations are written: what the compiled code is tested against.

Let the body frame have its x axis along the heading, (u, v) be the origin's velocity in it, ω the angular
velocity, m the mass, c the distance of the centre of mass ahead of the origin, I the inertia about the
origin, d and d_ω the dampings, h the timestep. With thrust F and servo torque τ,

    M (u̇, v̇, ω̇)ᵀ = (F + m c ω² − d u,  −d v,  τ − d_ω ω)ᵀ,    M = [[m, 0, 0], [0, m, m c], [0, m c, I]],

where u̇, v̇ are components of the origin's acceleration in the inertial frame. The integrator replaces M by
M + h D, D = diag(d, d, d_ω), and takes positions from the new velocities (MuJoCo's Euler integrator:
https://mujoco.readthedocs.io/en/stable/computation/index.html#numerical-integration). The accelerometer reads
M⁻¹ f without the replacement, plus gravity.
"""

from __future__ import annotations

import numpy as np

MASS = 0.005188790204786391
MASS_ARM = 1e-4
INERTIA = 2.8421827485812386e-5
DAMPING = np.array([0.01, 0.01, 0.005])
MASS_MATRIX = np.array([[MASS, 0.0, 0.0], [0.0, MASS, MASS_ARM], [0.0, MASS_ARM, INERTIA]])
TIMESTEP, SUBSTEPS = 0.002, 10
GEAR, LIMIT = 0.3, 0.05
GRAVITY = 9.81
FIELD = np.array([0.0, -0.5, 0.0])  # MuJoCo's magnetic field, world axes
BINS, RANGE = 16, 3.0


def rotations(heading: np.ndarray) -> np.ndarray:
    """(n, 2, 2) from body to world axes."""
    c, s = np.cos(heading), np.sin(heading)
    return np.stack([np.stack([c, -s], axis=-1), np.stack([s, c], axis=-1)], axis=-2)


def body_velocity(robot: np.ndarray) -> np.ndarray:
    """(n, 3): u, v, ω of robot (n, 6)."""
    return np.column_stack([np.einsum("nij,ni->nj", rotations(robot[:, 2]), robot[:, 3:5]), robot[:, 5]])


def generalised_forces(robot: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """(n, 3) in body axes, for robot (n, 6) and actions (n, 2)."""
    velocity = body_velocity(robot)
    thrust = np.clip(np.clip(actions[:, 0], -1, 1), -LIMIT, LIMIT) * GEAR
    servo = np.clip(np.clip(actions[:, 1], -1, 1) - GEAR * velocity[:, 2], -LIMIT, LIMIT) * GEAR
    force = -DAMPING * velocity
    force[:, 0] += thrust + MASS_ARM * velocity[:, 2] ** 2
    force[:, 2] += servo
    return force


def control_step(robot: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """robot (n, 6) after one control step under actions (n, 2)."""
    robot = robot.copy()
    implicit = MASS_MATRIX + TIMESTEP * np.diag(DAMPING)
    for _ in range(SUBSTEPS):
        change = TIMESTEP * np.linalg.solve(implicit, generalised_forces(robot, actions).T).T
        robot[:, 3:5] += np.einsum("nij,nj->ni", rotations(robot[:, 2]), change[:, :2])
        robot[:, 5] += change[:, 2]
        robot[:, :3] += TIMESTEP * robot[:, 3:]
    return robot


def lidar(robot: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """(n, 16) pseudo-lidar of objects (n, k, 2) as Safety Gym defines it (`engine.py`:
    `obs_lidar_pseudo`)."""
    seen = np.zeros((len(robot), BINS))
    ego = np.einsum("nij,nki->nkj", rotations(robot[:, 2]), objects - robot[:, None, :2])
    strength = np.maximum(0.0, RANGE - np.linalg.norm(ego, axis=-1)) / RANGE
    position = np.mod(np.arctan2(ego[..., 1], ego[..., 0]), 2 * np.pi) / (2 * np.pi / BINS)
    middle = np.minimum(position.astype(int), BINS - 1)
    alias = position - middle
    rows = np.arange(len(robot))
    for k in range(objects.shape[1]):
        for offset, weight in ((0, 1.0), (1, alias[:, k]), (-1, 1.0 - alias[:, k])):
            bins = (middle[:, k] + offset) % BINS
            seen[rows, bins] = np.maximum(seen[rows, bins], weight * strength[:, k])
    return seen


def observe(
    robot: np.ndarray, actions: np.ndarray, goal: np.ndarray, hazards: np.ndarray, vase: np.ndarray
) -> np.ndarray:
    """Observations (n, 60).

    Of robot (n, 6) under actions (n, 2); goal (n, 2), hazards (n, 8, 2), vase (n, 2).
    """
    n, velocity = len(robot), body_velocity(robot)
    acceleration = np.linalg.solve(MASS_MATRIX, generalised_forces(robot, actions).T).T
    field = np.einsum("nij,i->nj", rotations(robot[:, 2]), FIELD[:2])
    still = np.zeros(n)
    return np.column_stack(
        [
            acceleration[:, :2],
            np.full(n, GRAVITY),
            lidar(robot, goal[:, None]),
            still,
            still,
            velocity[:, 2],
            lidar(robot, hazards),
            field,
            still,
            lidar(robot, vase[:, None]),
            velocity[:, :2],
            still,
        ]
    )
