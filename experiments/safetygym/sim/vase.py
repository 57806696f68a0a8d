"""The Point with vases in play: MuJoCo takes over for a control step (Safety Gym `engine.py`: `step`).

Ten substeps, then one forward pass, after which positions, velocities and sensors belong to the same instant.
A vase slower than REST_SPEED that nothing touches is brought to rest: its speed falls by half in every
control step, so less than 1e-6 m of its way is lost. Vases that are not in play are left out of the model:
they rest on the floor, out of reach.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import mujoco
import numpy as np

from experiments.safetygym.sim.mjcf import point_model
from experiments.safetygym.sim.task import FRAMESKIP, VASE_SPEED_COST
from safeframe.types import SafeframeError

REST_SPEED = 2e-5  # m/s
REST_TURN = 1e-4  # rad/s
N_SENSORS = 12
_FLOOR, _FIRST_VASE = 0, 3  # geoms


class _World(NamedTuple):
    """A model with so many vases, its data, and views of them (vases by rows)."""

    model: mujoco.MjModel
    data: mujoco.MjData
    robot_place: np.ndarray
    robot_rates: np.ndarray
    vase_place: np.ndarray
    vase_rates: np.ndarray
    control: np.ndarray
    warm: np.ndarray

    @classmethod
    def of(cls, vases: int) -> _World:
        model = point_model(vases)
        data = mujoco.MjData(model)
        place, rates = data.qpos[3:].reshape(-1, 7), data.qvel[3:].reshape(-1, 6)
        return cls(model, data, data.qpos[:3], data.qvel[:3], place, rates, data.ctrl, data.qacc_warmstart)


class VasePhysics:
    """MuJoCo's Point, one environment after the other; own it in one thread."""

    def __init__(self) -> None:
        self.contacts = 0  # control steps so far that ended in contact of a vase with anything but the floor
        self._worlds: dict[int, _World] = {}

    def __getstate__(self) -> dict[str, Any]:
        """For pickles and deep copies: without MuJoCo's objects, which hold nothing between two steps."""
        return self.__dict__ | {"_worlds": {}}

    def _with(self, vases: int) -> _World:
        if vases not in self._worlds:
            self._worlds[vases] = _World.of(vases)
        return self._worlds[vases]

    def step(
        self, robot: np.ndarray, vases: np.ndarray, actions: np.ndarray, play: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """One control step of robots and vases, in place.

        Args:
            robot: (k, 6).
            vases: (k, V, 13).
            actions: (k, 2), finite.
            play: (k, V) bool, the vases that take part; None: all.

        Returns:
            The sensors (k, 12): accelerometer, velocimeter, gyro, magnetometer, in the robot's axes; and what
            the vases cost (k,), 0 or 1: 1 where at the end the robot touches one, or one moves at 1e-4 m/s.

        Raises:
            SafeframeError: where the physics breaks down.
        """
        if not (np.isfinite(robot).all() and np.isfinite(vases).all()):
            raise SafeframeError("MuJoCo: the state of robot or vase is not finite before the step")
        sensors, cost = np.empty((len(robot), N_SENSORS)), np.zeros(len(robot))
        control = np.clip(actions, -1.0, 1.0)
        taking_part = [slice(None)] * len(robot) if play is None else [np.flatnonzero(row) for row in play]
        for i, who in enumerate(taking_part):
            moving = vases[i, who]
            w = self._with(len(moving))
            w.robot_place[:], w.robot_rates[:] = robot[i, :3], robot[i, 3:]
            w.vase_place[:], w.vase_rates[:] = moving[:, :7], moving[:, 7:]
            w.control[:] = control[i]
            w.warm[:] = 0.0
            mujoco.mj_step(w.model, w.data, FRAMESKIP)
            mujoco.mj_forward(w.model, w.data)
            robot[i, :3], robot[i, 3:] = w.robot_place, w.robot_rates
            sensors[i] = w.data.sensordata
            touched, by_robot = _contacts(w.data)
            self.contacts += len(touched) > 0
            rates = w.vase_rates.tolist()
            moving[:, :7], moving[:, 7:] = w.vase_place, w.vase_rates
            for v, speeds in enumerate(rates):
                if v not in touched and _slow(speeds):
                    moving[v, 7:] = 0.0
            vases[i, who] = moving
            fastest = max(vx * vx + vy * vy + vz * vz for vx, vy, vz, *_ in rates)
            cost[i] = by_robot or fastest >= VASE_SPEED_COST**2
        if not np.isfinite(sensors).all() or np.abs(robot).max(initial=0.0) > 1e6:
            self._worlds.clear()
            raise SafeframeError(
                "MuJoCo: the state is not finite, or beyond 10^6, after contact with the vase"
            )
        return sensors, cost


def _contacts(data: mujoco.MjData) -> tuple[set[int], bool]:
    """Vases in contact with the robot or another vase, and whether the robot touches any."""
    touched, by_robot = set(), False
    if data.ncon:
        for pair in data.contact.geom.tolist():
            low, high = min(pair), max(pair)
            if low > _FLOOR and high >= _FIRST_VASE:
                by_robot = by_robot or low < _FIRST_VASE
                touched |= {geom - _FIRST_VASE for geom in (low, high) if geom >= _FIRST_VASE}
    return touched, by_robot


def _slow(velocity: list[float]) -> bool:
    vx, vy, vz, wx, wy, wz = velocity
    return max(abs(vx), abs(vy), abs(vz)) < REST_SPEED and max(abs(wx), abs(wy), abs(wz)) < REST_TURN
