"""The Car's dynamics for a batch: compiled for this robot on the bare floor, MuJoCo elsewhere.

Robot state (24): qpos 13 (position 3, quaternion 4, left and right wheel, quaternion of the rear ball 4)
and qvel 11 (velocity of the origin 3 in world axes, angular velocity 3 in body axes, wheels 2, ball 3).
Vase state (13): qpos 7 and qvel 6 of the free box. A control step is ten of MuJoCo's steps of 4 ms and a
function of state and action alone. `steps.py` does it where only wheels and ball can touch anything; where
the vase is in play or the chassis may touch the floor, MuJoCo does (the first of the ten steps without
solver history, warm start 0).
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from mujoco.rollout import Rollout

from experiments.safetygym.sim.car.mjcf import START_HEIGHT, car_model
from experiments.safetygym.sim.car.steps import DONE, step_rows
from experiments.safetygym.sim.car.vase import vase_moves, vase_near
from experiments.safetygym.sim.task import FRAMESKIP
from safeframe.types import SafeframeError

ROBOT_SIZE, ROBOT_QPOS, VASE_SIZE, VASE_QPOS, SENSOR_SIZE = 24, 13, 13, 7, 24


class CarDynamics:
    """Steps many Cars.

    Args:
        vase: "faithful" simulates the vase where the robot can reach it or it moves; "fixed" lets the robot
            through.
        compiled: False leaves everything to MuJoCo.

    Raises:
        SafeframeError: for another word than these.
    """

    def __init__(self, vase: str = "faithful", compiled: bool = True):
        if vase not in ("faithful", "fixed"):
            raise SafeframeError(f"vase={vase!r}; known: faithful, fixed")
        self.vase, self.compiled = vase, compiled
        self.in_mujoco = 0
        """environment-steps that went to MuJoCo so far"""
        self._open()

    def _open(self) -> None:
        self._rollout = Rollout(nthread=0)
        self._models = {with_vase: car_model(with_vase) for with_vase in (True, False)}
        self._data = {with_vase: mujoco.MjData(model) for with_vase, model in self._models.items()}

    def __getstate__(self) -> dict[str, Any]:
        """For pickles and deep copies: without MuJoCo's objects, which hold nothing between two steps."""
        return {k: v for k, v in self.__dict__.items() if k not in ("_rollout", "_models", "_data")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def initial(self, robot_xy: np.ndarray, heading: np.ndarray) -> np.ndarray:
        """States (n, 24) at rest; robot_xy (n, 2) in m, heading (n,) in radians."""
        robot = np.zeros((len(robot_xy), ROBOT_SIZE))
        robot[:, :2], robot[:, 2] = robot_xy, START_HEIGHT
        robot[:, 3], robot[:, 6] = np.cos(heading / 2), np.sin(heading / 2)
        robot[:, 9] = 1.0
        return robot

    def step(self, robot: np.ndarray, vase: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """One control step of n environments. robot (n, 24) and vase (n, 13) are updated in place; actions
        (n, 2) are the wheels' motors, clipped to [-1, 1]. Returns the sensors (n, 24) in the observation's
        order without the lidars. Raises SafeframeError if anything is not finite, before or after."""
        actions = np.ascontiguousarray(actions, dtype=np.float64)
        _check(robot, vase, actions)
        sensors = np.empty((len(robot), SENSOR_SIZE))
        near = np.zeros(len(robot), bool)
        if self.vase == "faithful":
            near = vase_moves(vase) | vase_near(robot, vase)
        by_mujoco = near.copy()
        alone = np.flatnonzero(~near)
        before = robot[alone]
        if self.compiled:
            by_mujoco[alone] = step_rows(alone, robot, actions, sensors, True) != DONE
        else:
            sensors[alone] = self._step_rows(False, alone, robot, vase, actions)
        if self.vase == "faithful":  # they have met, or may have
            late = vase_near(robot[alone], vase[alone])
            robot[alone[late]] = before[late]
            near[alone[late]] = by_mujoco[alone[late]] = True
        for with_vase in (True, False):
            rows = np.flatnonzero(by_mujoco & (near == with_vase))
            if len(rows):
                sensors[rows] = self._step_rows(with_vase, rows, robot, vase, actions)
                self.in_mujoco += len(rows)
        _check(robot, vase, actions)
        return sensors

    def observe(self, robot: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Sensors (n, 24) in the given states (n, 24), motors at `actions` (n, 2); the vase is left out."""
        rows, sensors = np.arange(len(robot)), np.empty((len(robot), SENSOR_SIZE))
        actions = np.ascontiguousarray(actions, dtype=np.float64)
        if self.compiled:
            status = step_rows(rows, np.array(robot, dtype=np.float64), actions, sensors, False)
            rows = rows[status != DONE]
        if len(rows):
            nowhere = np.zeros((len(robot), VASE_SIZE))
            sensors[rows] = self._roll(False, rows, robot, nowhere, actions, 1)[1][:, -1]
        return sensors

    def _step_rows(self, with_vase, rows, robot, vase, actions) -> np.ndarray:
        # Sensors of a rollout belong to the state before the step: one step more, whose state is dropped.
        states, sensors = self._roll(with_vase, rows, robot, vase, actions, FRAMESKIP + 1)
        nq = self._models[with_vase].nq
        after = states[:, FRAMESKIP - 1, 1:]
        robot[rows, :ROBOT_QPOS], robot[rows, ROBOT_QPOS:] = after[:, :ROBOT_QPOS], after[:, nq : nq + 11]
        if with_vase:
            vase[rows, :VASE_QPOS], vase[rows, VASE_QPOS:] = after[:, ROBOT_QPOS:nq], after[:, nq + 11 :]
        return sensors[:, -1]

    def _roll(self, with_vase, rows, robot, vase, actions, steps) -> tuple[np.ndarray, np.ndarray]:
        model = self._models[with_vase]
        parts = [np.zeros((len(rows), 1)), robot[rows, :ROBOT_QPOS], robot[rows, ROBOT_QPOS:]]
        if with_vase:
            parts[2:2] = [vase[rows, :VASE_QPOS]]
            parts.append(vase[rows, VASE_QPOS:])
        control = np.repeat(actions[rows, None], steps, axis=1)
        states, sensors = self._rollout.rollout(
            [model],
            [self._data[with_vase]],
            np.concatenate(parts, axis=1),
            control,
            nstep=steps,
            initial_warmstart=np.zeros((len(rows), model.nv)),
        )
        return states, in_observation_order(sensors)


def in_observation_order(sensors: np.ndarray) -> np.ndarray:
    """MuJoCo's sensordata (..., 19) as in the observation (..., 24): the ball's quaternion becomes the nine
    entries of its rotation matrix, row by row."""
    w, x, y, z = np.moveaxis(sensors[..., 6:10], -1, 0)
    matrix = [
        [w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z],
    ]
    rotation = np.stack([entry for row in matrix for entry in row], axis=-1)
    return np.concatenate([sensors[..., :6], rotation, sensors[..., 10:]], axis=-1)


def _check(robot: np.ndarray, vase: np.ndarray, actions: np.ndarray) -> None:
    for name, value, width in (
        ("robot", robot, ROBOT_SIZE),
        ("vase", vase, VASE_SIZE),
        ("actions", actions, 2),
    ):
        if value.shape != (len(robot), width):
            raise SafeframeError(f"{name} has shape {value.shape}; ({len(robot)}, {width}) is needed")
        if not np.isfinite(value).all():
            row = int(np.argmin(np.isfinite(value).all(axis=1)))
            raise SafeframeError(f"Car: {name} is not finite in environment {row}")
