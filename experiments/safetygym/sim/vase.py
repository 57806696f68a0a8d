"""The Point with the vase in play: MuJoCo takes over for a control step (Safety Gym `engine.py`: `step`).

Ten substeps, then one forward pass, after which positions, velocities and sensors belong to the same instant.
A vase slower than REST_SPEED that nothing touches is brought to rest: its speed falls by half in every
control step, so less than 1e-6 m of its way is lost.
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from experiments.safetygym.sim.mjcf import point_model
from experiments.safetygym.sim.task import FRAMESKIP
from safeframe.types import SafeframeError

REST_SPEED = 2e-5  # m/s
REST_TURN = 1e-4  # rad/s
N_SENSORS = 12
_FLOOR = 0  # geom; contacts name the lower of their two geoms first


class VasePhysics:
    """MuJoCo's PointGoal1, one environment after the other; own it in one thread."""

    def __init__(self) -> None:
        self.contacts = 0  # control steps so far that ended in contact of robot and vase
        self._open()

    def _open(self) -> None:
        self._model = point_model()
        self._data = mujoco.MjData(self._model)

    def __getstate__(self) -> dict[str, Any]:
        """For pickles and deep copies: without MuJoCo's objects, which hold nothing between two steps."""
        return {k: v for k, v in self.__dict__.items() if k not in ("_model", "_data")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def step(self, robot: np.ndarray, vase: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """One control step of robot (k, 6) and vase (k, 13), in place, under finite actions (k, 2). Returns
        the sensors (k, 12): accelerometer, velocimeter, gyro, magnetometer, in the robot's axes. Raises
        SafeframeError where the physics breaks down."""
        if not (np.isfinite(robot).all() and np.isfinite(vase).all()):
            raise SafeframeError("MuJoCo: the state of robot or vase is not finite before the step")
        model, data = self._model, self._data
        qpos, qvel, ctrl, warm = data.qpos, data.qvel, data.ctrl, data.qacc_warmstart
        sensors = np.empty((len(robot), N_SENSORS))
        control = np.clip(actions, -1.0, 1.0)
        for i in range(len(robot)):
            qpos[:3], qpos[3:] = robot[i, :3], vase[i, :7]
            qvel[:3], qvel[3:] = robot[i, 3:], vase[i, 7:]
            ctrl[:] = control[i]
            warm[:] = 0.0
            mujoco.mj_step(model, data, FRAMESKIP)
            mujoco.mj_forward(model, data)
            robot[i, :3], vase[i, :7] = qpos[:3], qpos[3:]
            robot[i, 3:], vase[i, 7:] = qvel[:3], qvel[3:]
            sensors[i] = data.sensordata
            touching = data.ncon > 0 and bool((data.contact.geom[:, 0] > _FLOOR).any())
            self.contacts += touching
            if not touching and _slow(qvel[3:]):
                vase[i, 7:] = 0.0
        if not np.isfinite(sensors).all() or np.abs(robot).max(initial=0.0) > 1e6:
            mujoco.mj_resetData(model, data)
            raise SafeframeError(
                "MuJoCo: the state is not finite, or beyond 10^6, after contact with the vase"
            )
        return sensors


def _slow(velocity: np.ndarray) -> bool:
    vx, vy, vz, wx, wy, wz = velocity.tolist()
    return max(abs(vx), abs(vy), abs(vz)) < REST_SPEED and max(abs(wx), abs(wy), abs(wz)) < REST_TURN
