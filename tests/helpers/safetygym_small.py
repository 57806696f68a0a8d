"""Small things that the Safety Gym tests share: untrained agents, states near hazards, simple policies."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from front_door import typed

from experiments.safetygym.agents.agent import Agent, new_agent
from experiments.safetygym.agents.grid import default_candidates
from experiments.safetygym.agents.settings import AgentSettings
from experiments.safetygym.sim.state import State
from experiments.safetygym.sim.task import get_task
from experiments.safetygym.sim.vector import SafetyGymVector
from experiments.safetygym.states.backup import DefaultAction

POINT, CAR = "Safexp-PointGoal1-v0", "Safexp-CarGoal1-v0"


def untrained(task: str = POINT, candidates: np.ndarray | None = None, seed: int = 0) -> Agent:
    """A small categorical agent with random weights; nearly uniform over its candidates."""
    settings = AgentSettings(task=task, seed=seed, hidden=(16,))
    size = get_task(task).observation_size
    grid = default_candidates(task) if candidates is None else candidates
    return new_agent(settings, grid, size, size, ("reward",))


class Driver:
    """Holds a random candidate for a while: gets about and into hazards. Stands in for a GuardedPolicy."""

    def __init__(self, task: str, change: float = 0.05, seed: int = 0):
        self.agent = SimpleNamespace(task=task, candidates=default_candidates(task), wrap=lambda env: env)
        self.guard = None
        self.generator = np.random.default_rng(seed)
        self.change = change
        self.candidate = np.empty(0, np.int64)

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        n = len(observation)
        fresh = self.generator.integers(0, len(self.agent.candidates), n)
        if len(self.candidate) != n:
            self.candidate = fresh
        self.candidate = np.where(self.generator.random(n) < self.change, fresh, self.candidate)
        return self.agent.candidates[self.candidate]


class Braking(Driver):
    """Brakes, always."""

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        return DefaultAction(get_task(self.agent.task))(observation)


def driven(task: str, n: int, steps: int, seed: int, layout: str = "fast") -> SafetyGymVector:
    """n environments after `steps` of a Driver."""
    env, policy = SafetyGymVector(task, n, seed=seed, vase="fixed", layout=layout), Driver(task, 0.1, seed)
    observation, _ = env.reset()
    for _ in range(steps):
        observation, *_ = env.step(policy(observation))
    return env


def near_hazards(n: int, seed: int) -> State:
    """Points at any speed that they reach, three hazards within 1 m, five far away."""
    rng = np.random.default_rng(seed)
    robot = np.zeros((n, 6))
    robot[:, :2] = rng.uniform(-1.5, 1.5, (n, 2))
    robot[:, 2] = heading = rng.uniform(-np.pi, np.pi, n)
    forward, side = rng.uniform(-1.5, 1.5, n), rng.normal(0, 0.15, n)
    robot[:, 3] = np.cos(heading) * forward - np.sin(heading) * side
    robot[:, 4] = np.sin(heading) * forward + np.cos(heading) * side
    robot[:, 5] = rng.uniform(-5, 5, n)
    angle, distance = rng.uniform(-np.pi, np.pi, (n, 8)), rng.uniform(0.15, 1.0, (n, 8))
    distance[:, 3:] = 50.0
    hazards = robot[:, None, :2] + distance[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    vase = np.tile([60.0, 60.0, 0.1, 1.0] + [0.0] * 9, (n, 1, 1))
    goal = np.full((n, 2), 70.0)
    return State(robot, goal, hazards, vase, np.zeros(n, np.int64), np.arange(n, dtype=np.uint64))


def edge_distance(state: State) -> np.ndarray:
    """(n,) m from the robot to the nearest hazard's edge, negative inside."""
    return np.linalg.norm(state.hazards - state.robot[:, None, :2], axis=2).min(axis=1) - 0.2


def safetygym(*overrides: str) -> int:
    """Exit code of `python run.py experiment=safetygym ...` typed in this process."""
    return typed("experiment=safetygym", "preset=smoke", "progress=false", "threads=1", *overrides)


def lone_hazard(env: SafetyGymVector, distance: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Leave one hazard to each of n environments, at distance (n,) m from the robot in a random direction.

    Returns its place seen from the robot, (n, 2) m in world axes; the other hazards are far away.
    """
    angle = generator.uniform(-np.pi, np.pi, len(distance))
    offset = distance[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    state = env.get_state()
    state.hazards[:] = 50.0
    state.hazards[:, 0] = state.robot[:, :2] + offset
    env.set_state(state)
    return offset
