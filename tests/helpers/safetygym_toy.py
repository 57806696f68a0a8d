"""A tiny vector environment with the interface of the Safety Gym one: walk along a line, the middle costs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from types import SimpleNamespace

import numpy as np

SIZE = 60  # as PointGoal1's, so that agents of the task fit


@dataclass
class ToyState:
    """Place on the line (n,), steps (n,), generator state (n,) uint64."""

    place: np.ndarray
    step: np.ndarray
    rng: np.ndarray


class ToyVector:
    """Reward: the second action's value (its best is the last candidate); cost 1 where it is above .6.

    Episodes of `length` steps; observation: place, clock, then zeros.
    """

    def __init__(self, num_envs: int = 8, length: int = 20, size: int = SIZE) -> None:
        self.num_envs, self.length = num_envs, length
        self.single_observation_space = SimpleNamespace(shape=(size,))
        self.size = size
        self.state = ToyState(np.zeros(num_envs), np.zeros(num_envs, np.int64), np.zeros(num_envs, np.uint64))

    def _observe(self) -> np.ndarray:
        observations = np.zeros((self.num_envs, self.size), np.float32)
        observations[:, 0] = self.state.place
        observations[:, 1] = self.state.step / self.length
        return observations

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        self.state.place[:] = 0.0
        self.state.rng[:] = np.uint64(seed or 0)
        self.state.step[:] = 0
        if options and options.get("stagger"):
            self.state.step[:] = np.arange(self.num_envs) * self.length // self.num_envs
        return self._observe(), {}

    def step(self, actions: np.ndarray):
        state = self.state
        state.rng[:] = state.rng * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        noise = (state.rng >> np.uint64(40)).astype(np.float64) / 2**24 - 0.5
        state.place[:] = np.clip(state.place + actions[:, 0] + 0.1 * noise, -1, 1)
        state.step += 1
        reward = actions[:, 1].astype(np.float64)
        cost = (actions[:, 1] > 0.6).astype(np.float64)
        truncated = state.step >= self.length
        info = {"cost": cost}
        if truncated.any():
            info |= {"final_obs": self._observe(), "_final_obs": truncated.copy()}
            state.step[truncated] = 0
            state.place[truncated] = 0.0
        return self._observe(), reward, np.zeros(self.num_envs, bool), truncated, info

    @property
    def episode_steps(self) -> int:
        return self.length

    def get_state(self, indices: np.ndarray | None = None) -> ToyState:
        rows = slice(None) if indices is None else indices
        return ToyState(*(getattr(self.state, f.name)[rows].copy() for f in fields(ToyState)))

    def set_state(self, state: ToyState, indices: np.ndarray | None = None) -> np.ndarray:
        rows = slice(None) if indices is None else indices
        for f in fields(ToyState):
            getattr(self.state, f.name)[rows] = getattr(state, f.name)
        return self._observe()[rows]
