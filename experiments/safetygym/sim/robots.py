"""The two robots behind one interface: what a batch of environments does in a control step.

`scores` are reward, cost (n,) float64, goal_met, truncated (n,) bool; obs and final_obs are (n, d) float32.
All are changed in place, like the arrays of `State`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from experiments.safetygym.sim import layout_reference, lidar
from experiments.safetygym.sim.car import batch
from experiments.safetygym.sim.car.dynamics import CarDynamics
from experiments.safetygym.sim.point import batch as point_batch
from experiments.safetygym.sim.state import State
from experiments.safetygym.sim.task import Task
from experiments.safetygym.sim.vase import VasePhysics

Scores = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class Robot(Protocol):
    """What `SafetyGymVector` needs of a robot."""

    def begin(self, state: State, index: np.ndarray, obs: np.ndarray) -> None:
        """Start episodes in rows `index` (k,)."""

    def observe(self, state: State, index: np.ndarray, actions: np.ndarray, obs: np.ndarray) -> None:
        """Observations of rows `index` while actions (n, 2) act."""

    def advance(
        self,
        state: State,
        actions: np.ndarray,
        obs: np.ndarray,
        scores: Scores,
        final: np.ndarray,
        reset: bool,
    ) -> None:
        """One control step of all rows; if `reset`, episodes that end go to `final` and start anew."""

    def heading(self, state: State) -> np.ndarray:
        """(n,) radians."""


class Point:
    """The Point; `faithful` hands it to MuJoCo where the vase is in play, else the vase is air."""

    def __init__(self, task: Task, faithful: bool, reference: bool):
        self.task, self.faithful, self.reference = task, faithful, reference
        self.physics = VasePhysics()
        self.handed_over = 0  # control steps that MuJoCo made

    def heading(self, state: State) -> np.ndarray:
        return state.robot[:, 2]

    def begin(self, state: State, index: np.ndarray, obs: np.ndarray) -> None:
        if not self.reference:
            point_batch.reset_rows(
                index, state.robot, state.goal, state.hazards, state.vase, state.step, state.rng, obs
            )
            return
        for i in index:
            state.robot[i] = (*layout_reference.begin(state, i), 0.0, 0.0, 0.0)
        self.observe(state, index, np.zeros((len(state), 2)), obs)

    def observe(self, state: State, index: np.ndarray, actions: np.ndarray, obs: np.ndarray) -> None:
        point_batch.observe_rows(index, state.robot, state.goal, state.hazards, state.vase, actions, obs)

    def advance(
        self,
        state: State,
        actions: np.ndarray,
        obs: np.ndarray,
        scores: Scores,
        final: np.ndarray,
        reset: bool,
    ) -> None:
        n, draw = len(state), not self.reference
        arrays = (state.robot, state.goal, state.hazards, state.vase, state.step, state.rng)
        pending, before = np.empty(n, np.int64), np.empty(n)
        k = point_batch.step_all(
            *arrays, actions, obs, *scores, final, self.faithful, draw, reset, pending, before
        )
        if k:
            self.handed_over += k
            rows = pending[:k]
            robot, vase = state.robot[rows], state.vase[rows]
            sensors = self.physics.step(robot, vase, actions[rows])
            state.robot[rows], state.vase[rows] = robot, vase
            point_batch.finish_rows(*arrays, sensors, obs, *scores, final, draw, reset, rows, before[:k])
        if self.reference:
            _draw_reference(self, state, obs, scores, final, reset)


class Car:
    """The Car (`CarDynamics`): compiled, in MuJoCo where the vase or the chassis may touch something."""

    def __init__(self, task: Task, faithful: bool, reference: bool):
        self.task, self.reference = task, reference
        self.dynamics = CarDynamics("faithful" if faithful else "fixed")

    def heading(self, state: State) -> np.ndarray:
        return batch.heading(state.robot)

    def begin(self, state: State, index: np.ndarray, obs: np.ndarray) -> None:
        if self.reference:
            pose = np.array([layout_reference.begin(state, i) for i in index])
        else:
            pose = np.empty((len(index), 3))
            batch.start_rows(index, state.goal, state.hazards, state.vase, state.step, state.rng, pose)
        state.robot[index] = self.dynamics.initial(pose[:, :2], pose[:, 2])
        self.observe(state, index, np.zeros((len(state), 2)), obs)

    def observe(self, state: State, index: np.ndarray, actions: np.ndarray, obs: np.ndarray) -> None:
        sensors = self.dynamics.observe(state.robot[index], actions[index])
        batch.observe_rows(index, state.robot, state.goal, state.hazards, state.vase, sensors, obs)

    def advance(
        self,
        state: State,
        actions: np.ndarray,
        obs: np.ndarray,
        scores: Scores,
        final: np.ndarray,
        reset: bool,
    ) -> None:
        before = batch.distances(state.robot, state.goal)
        sensors = self.dynamics.step(state.robot, state.vase, actions)
        batch.finish_all(
            state.robot, state.goal, state.hazards, state.vase, state.step, state.rng, sensors, obs, *scores,
            not self.reference, before,
        )  # fmt: skip
        if self.reference:
            _draw_reference(self, state, obs, scores, final, reset)
            return
        ended = np.flatnonzero(scores[3])
        if reset and len(ended):
            final[ended] = obs[ended]
            self.begin(state, ended, obs)


ROBOTS: dict[str, type[Point] | type[Car]] = {"point": Point, "car": Car}


def _draw_reference(robot: Robot, state: State, obs, scores: Scores, final, reset: bool) -> None:
    """Goals and starts by the original's generator, after a step."""
    state.rng += np.uint64(1)  # the binomial that chose the frameskip
    _, _, met, truncated = scores
    task: Task = robot.task  # type: ignore[attr-defined]
    block = task.block("goal_lidar")
    for i in np.flatnonzero(met):
        if not layout_reference.next_goal(state, i):
            truncated[i] = True
        obs[i, block] = 0.0
        look = batch.look if task.robot == "car" else lidar.look_flat
        look(state.robot[i], *state.goal[i], obs[i, block])
    ended = np.flatnonzero(truncated)
    if reset and len(ended):
        final[ended] = obs[ended]
        robot.begin(state, ended, obs)
