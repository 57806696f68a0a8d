"""Many environments at once: `gymnasium.vector.VectorEnv` with autoreset in the same step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from experiments.safetygym.sim import point
from experiments.safetygym.sim.state import State
from experiments.safetygym.sim.task import EPISODE_STEPS, N_HAZARDS, get_task
from safeframe.types import SafeframeError


@dataclass(frozen=True)
class Branch:
    """Copies of environments after other actions: obs (k, d), reward (k, T), cost (k, T), their state."""

    obs: np.ndarray
    reward: np.ndarray
    cost: np.ndarray
    state: State


class SafetyGymVector(VectorEnv):
    """num_envs copies of a Safety Gym task; see `State` for what one is.

    info of a step: cost (n,) 0 or 1, goal_met (n,), and where episodes ended final_obs (n, d) with the mask
    _final_obs. Raises SafeframeError for an unknown task, actions that are not finite or physics that is not.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}

    def __init__(
        self,
        task: str = "Safexp-PointGoal1-v0",
        num_envs: int = 1,
        seed: int | None = None,
        vase: str = "fixed",
    ):
        self.task = get_task(task)
        self.num_envs, self.vase = num_envs, vase
        self.single_observation_space = gymnasium.spaces.Box(
            -np.inf, np.inf, (self.task.observation_size,), np.float32
        )
        self.single_action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        n = num_envs
        self.state = State(
            np.zeros((n, self.task.robot_size)),
            np.zeros((n, 2)),
            np.zeros((n, N_HAZARDS, 2)),
            np.zeros((n, 13)),
            np.zeros(n, np.int64),
            np.zeros(n, np.uint64),
        )
        self._obs = np.zeros((n, self.task.observation_size), np.float32)
        self._seed(seed)

    def _seed(self, seed: int | None) -> None:
        self.state.rng[:] = np.random.SeedSequence(seed).generate_state(self.num_envs, np.uint64)

    def _arrays(self) -> tuple[np.ndarray, ...]:
        s = self.state
        return s.robot, s.goal, s.hazards, s.vase, s.step, s.rng

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """New episodes everywhere. options: stagger=True spreads the episodes' clocks over [0, 1000)."""
        if seed is not None:
            self._seed(seed)
        point.reset_all(np.arange(self.num_envs), *self._arrays(), self._obs)
        if options and options.get("stagger"):
            self.state.step[:] = np.arange(self.num_envs) * EPISODE_STEPS // self.num_envs
        return self._obs.copy(), {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One control step; actions (n, 2)."""
        actions = self._checked(actions, self.num_envs)
        n = self.num_envs
        reward, cost = np.empty(n), np.empty(n)
        goal_met, truncated = np.empty(n, np.bool_), np.empty(n, np.bool_)
        final = np.zeros_like(self._obs)
        point.step_all(*self._arrays(), actions, self._obs, reward, cost, goal_met, truncated, final, True)
        if not np.isfinite(self._obs).all():
            self.state.check("step")
            raise SafeframeError("step: an observation is not finite")
        info: dict[str, Any] = {"cost": cost, "goal_met": goal_met}
        if truncated.any():
            info |= {"final_obs": final, "_final_obs": truncated.copy()}
        return self._obs.copy(), reward, np.zeros(n, np.bool_), truncated, info

    def get_state(self, indices: np.ndarray | None = None) -> State:
        """A copy of the state of all environments or of `indices`."""
        return self.state.copy() if indices is None else self.state.select(np.asarray(indices))

    def set_state(self, state: State, indices: np.ndarray | None = None) -> np.ndarray:
        """Put environments into the given state; returns their observations (with zero action applied)."""
        index = np.arange(self.num_envs) if indices is None else np.asarray(indices)
        state.check("set_state")
        self.state.assign(index, state)
        s = self.state
        for i in index:
            point.observe(
                s.robot[i], 0.0, 0.0, s.goal[i], s.hazards[i], s.vase[i, 0], s.vase[i, 1], self._obs[i]
            )
        return self._obs[index].copy()

    def branch(self, indices: np.ndarray, actions: np.ndarray) -> Branch:
        """Step copies of environments `indices` (k,) under actions (k, 2) or (k, T, 2); nothing here changes."""
        state = self.get_state(np.asarray(indices))
        k = len(state)
        plan = np.asarray(actions, dtype=np.float64)
        plan = self._checked(plan.reshape(k, -1, 2).reshape(-1, 2), k * plan.size // (2 * k)).reshape(
            k, -1, 2
        )
        reward, cost = np.empty((k, plan.shape[1])), np.empty((k, plan.shape[1]))
        obs = np.zeros((k, self.task.observation_size), np.float32)
        met, ended = np.empty(k, np.bool_), np.empty(k, np.bool_)
        for t in range(plan.shape[1]):
            point.step_all(
                state.robot, state.goal, state.hazards, state.vase, state.step, state.rng,
                np.ascontiguousarray(plan[:, t]), obs, reward[:, t], cost[:, t], met, ended, obs, False,
            )  # fmt: skip
        return Branch(obs, reward, cost, state)

    def _checked(self, actions: np.ndarray, rows: int) -> np.ndarray:
        actions = np.ascontiguousarray(actions, dtype=np.float64)
        if actions.shape != (rows, 2):
            raise SafeframeError(f"actions have shape {actions.shape}; ({rows}, 2) is needed")
        if not np.isfinite(actions).all():
            raise SafeframeError(
                f"action of environment {int(np.argmin(np.isfinite(actions).all(1)))} is not finite"
            )
        return actions
