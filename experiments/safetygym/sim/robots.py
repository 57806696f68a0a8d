"""The two robots behind one interface: what a batch of environments does in a control step.

All arrays of `State` and of `Outcome` are changed in place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from experiments.safetygym.sim import layout_reference, lidar
from experiments.safetygym.sim.car.batch import (
    distances,
    finish_cars,
    headings,
    look,
    observe_cars,
    start_cars,
)
from experiments.safetygym.sim.car.dynamics import CarDynamics
from experiments.safetygym.sim.point.batch import finish_points, observe_points, reset_points, step_points
from experiments.safetygym.sim.point.dynamics import vases_in_play
from experiments.safetygym.sim.state import State
from experiments.safetygym.sim.task import Task
from experiments.safetygym.sim.vase import VasePhysics


class Outcome(NamedTuple):
    """What a control step of n environments gives, in the order in which the compiled steps take it.

    obs and final_obs (n, d) float32, reward, cost of hazards and cost of vases (n,) float64, goal_met and
    truncated (n,) bool.
    """

    obs: np.ndarray
    reward: np.ndarray
    cost: np.ndarray
    goal_met: np.ndarray
    truncated: np.ndarray
    final_obs: np.ndarray
    vase_cost: np.ndarray

    @property
    def compiled(self) -> tuple[np.ndarray, ...]:
        """What compiled steps take: all but the cost of vases, which MuJoCo finds."""
        return self[:-1]

    @classmethod
    def into(cls, obs: np.ndarray, final_obs: np.ndarray) -> Outcome:
        """One that is not yet filled, for these observations (n, d)."""
        n = len(obs)
        met, truncated = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        return cls(obs, np.empty(n), np.empty(n), met, truncated, final_obs, np.zeros(n))


class Robot(Protocol):
    """What `SafetyGymVector` needs of a robot."""

    def begin(self, state: State, index: np.ndarray, obs: np.ndarray) -> None:
        """Start episodes in rows `index` (k,)."""

    def observe(self, state: State, index: np.ndarray, actions: np.ndarray, obs: np.ndarray) -> None:
        """Observations of rows `index` while actions (n, 2) act."""

    def advance(self, state: State, actions: np.ndarray, out: Outcome, reset: bool) -> None:
        """One control step of all rows; if `reset`, episodes that end start anew."""

    def heading(self, state: State) -> np.ndarray:
        """(n,) radians."""


class Point:
    """The Point; `faithful` hands it to MuJoCo where a vase is in play, else vases are air."""

    def __init__(self, task: Task, faithful: bool, reference: bool):
        self.task, self.faithful, self.reference = task, faithful, reference
        self.physics = VasePhysics()
        self.handed_over = 0  # control steps that MuJoCo made

    def heading(self, state: State) -> np.ndarray:
        return state.robot[:, 2]

    def begin(self, state: State, index: np.ndarray, obs: np.ndarray) -> None:
        if not self.reference:
            reset_points(index, self.task.level.extent, *state.arrays, obs)
            return
        for i in index:
            state.robot[i] = (*layout_reference.begin(state, i, self.task.level), 0.0, 0.0, 0.0)
        self.observe(state, index, np.zeros((len(state), 2)), obs)

    def observe(self, state: State, index: np.ndarray, actions: np.ndarray, obs: np.ndarray) -> None:
        observe_points(index, *state.arrays[:4], actions, obs)

    def advance(self, state: State, actions: np.ndarray, out: Outcome, reset: bool) -> None:
        n, draw, extent = len(state), not self.reference, self.task.level.extent
        pending, before = np.empty(n, np.int64), np.empty(n)
        k = step_points(
            *state.arrays, actions, *out.compiled, self.faithful, draw, reset, extent, pending, before
        )
        if k:
            self.handed_over += k
            rows = pending[:k]
            robot, vases = state.robot[rows], state.vases[rows]
            play = vases_in_play(robot, actions[rows], vases) if vases.shape[1] > 1 else None
            sensors, out.vase_cost[rows] = self.physics.step(robot, vases, actions[rows], play)
            state.robot[rows], state.vases[rows] = robot, vases
            finish_points(*state.arrays, sensors, *out.compiled, draw, reset, extent, rows, before[:k])
        if self.reference:
            draw_reference(state, out, lidar.look_flat, self.task)
            if reset:
                begin_anew(self, state, out)


class Car:
    """The Car (`CarDynamics`): compiled, in MuJoCo where the vase or the chassis may touch something."""

    def __init__(self, task: Task, faithful: bool, reference: bool):
        self.task, self.reference = task, reference
        self.dynamics = CarDynamics("faithful" if faithful else "fixed")

    def heading(self, state: State) -> np.ndarray:
        return headings(state.robot)

    def begin(self, state: State, index: np.ndarray, obs: np.ndarray) -> None:
        if self.reference:
            pose = np.array([layout_reference.begin(state, i, self.task.level) for i in index])
        else:
            pose = np.empty((len(index), 3))
            start_cars(index, self.task.level.extent, *state.arrays[1:], pose)
        state.robot[index] = self.dynamics.initial(pose[:, :2], pose[:, 2])
        self.observe(state, index, np.zeros((len(state), 2)), obs)

    def observe(self, state: State, index: np.ndarray, actions: np.ndarray, obs: np.ndarray) -> None:
        sensors = self.dynamics.observe(state.robot[index], actions[index])
        observe_cars(index, *state.arrays[:4], sensors, obs)

    def advance(self, state: State, actions: np.ndarray, out: Outcome, reset: bool) -> None:
        before = distances(state.robot, state.goal)
        sensors = self.dynamics.step(state.robot, state.vases[:, 0], actions)
        extent = self.task.level.extent
        finish_cars(*state.arrays, sensors, *out[:5], not self.reference, extent, before)
        if self.reference:
            draw_reference(state, out, look, self.task)
        if reset:
            begin_anew(self, state, out)


ROBOTS: dict[str, type[Point] | type[Car]] = {"point": Point, "car": Car}


def draw_reference(state: State, out: Outcome, see: Callable[..., None], task: Task) -> None:
    """Goals by the original's generator, after a step; see: enters an object into a robot's lidar."""
    state.rng += np.uint64(1)  # the binomial that chose the frameskip
    block = task.block("goal_lidar")
    for i in np.flatnonzero(out.goal_met):
        if not layout_reference.next_goal(state, i, task.level):
            out.truncated[i] = True
        out.obs[i, block] = 0.0
        see(state.robot[i], *state.goal[i], out.obs[i, block])


def begin_anew(robot: Robot, state: State, out: Outcome) -> None:
    """Start episodes where one has ended, whose last observation is kept."""
    ended = np.flatnonzero(out.truncated)
    if len(ended):
        out.final_obs[ended] = out.obs[ended]
        robot.begin(state, ended, out.obs)
