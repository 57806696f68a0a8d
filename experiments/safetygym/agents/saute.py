"""Sauté RL: the share of the safety budget that is left joins the observation, and rewards end with it.

Source: Sootla et al. 2022, "Sauté RL: Almost Surely Safe Reinforcement Learning Using State Augmentation",
arXiv 2202.06558, equations 3-5: z_0 = 1, z_{t+1} = (z_t - c_t / d) / discount; the reward is the task's
while z_{t+1} >= 0, else a constant. Any learner may then be used; here PPO, unchanged. Departures: (1) the
constant is -.1 per step, a little below what standing still earns (the source uses 0, -.2, -1 and more, by
task); (2) the budget's discount is 1, so that the budget is a number of unsafe steps per episode; (3) z is
shown as max(z, -1), a bounded input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.safetygym.agents.methods import Method
from safeframe.types import FloatArray

_LOWEST = -1.0


@dataclass
class SauteState:
    """The wrapped environment's state and the shares left (n,)."""

    inner: Any
    left: FloatArray


class SauteVector:
    """A vector environment with the share of the budget left as its last input, (n, d + 1).

    budget: unsafe steps allowed per episode. Rewards are the task's until the budget is overdrawn; the
    task's own are in info["task_reward"].
    """

    def __init__(self, env: Any, budget: float, unsafe_reward: float, discount: float) -> None:
        self.env, self.num_envs = env, env.num_envs
        self.budget, self.unsafe_reward, self.discount = budget, unsafe_reward, discount
        self.left = np.ones(self.num_envs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    def _augment(self, observations: FloatArray, left: FloatArray) -> FloatArray:
        share = np.maximum(left, _LOWEST).astype(np.float32)[:, None]
        return np.concatenate([np.asarray(observations, np.float32), share], axis=1)

    def reset(self, **options: Any) -> tuple[FloatArray, dict[str, Any]]:
        """As the environment's, with the whole budget left."""
        observations, info = self.env.reset(**options)
        self.left = np.ones(self.num_envs)
        return self._augment(observations, self.left), info

    def step(
        self, actions: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, dict[str, Any]]:
        """As the environment's; final observations carry the share at the end of their episode."""
        observations, rewards, terminated, truncated, info = self.env.step(actions)
        left = (self.left - np.asarray(info["cost"]) / self.budget) / self.discount
        info = info | {"task_reward": rewards}
        over = terminated | truncated
        if over.any():
            final = np.zeros((self.num_envs, observations.shape[1]), np.float32)
            for i in np.flatnonzero(over):
                final[i] = info["final_obs"][i]
            info["final_obs"] = self._augment(final, left)
        shaped = np.where(left >= -1e-9, rewards, self.unsafe_reward)
        self.left = np.where(over, 1.0, left)
        return self._augment(observations, self.left), shaped, terminated, truncated, info

    def get_state(self) -> SauteState:
        """A copy of both states."""
        return SauteState(self.env.get_state(), self.left.copy())

    def set_state(self, state: SauteState) -> FloatArray:
        """Restore both; the augmented observations."""
        observations = self.env.set_state(state.inner)
        self.left = np.array(state.left, dtype=np.float64)
        return self._augment(observations, self.left)


class Saute(Method):
    """Sauté PPO: see the module."""

    def wrap(self, env: Any) -> SauteVector:
        """The environment with the budget."""
        s = self.settings
        return SauteVector(env, s.cost_limit, s.saute_unsafe_reward, s.saute_discount)
