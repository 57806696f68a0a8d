"""Sauté RL: the share of the safety budget that is left joins the observation, and rewards end with it.

Source: Sootla et al. 2022, "Sauté RL: Almost Surely Safe Reinforcement Learning Using State Augmentation",
arXiv 2202.06558, equations 3-5: z_0 = 1, z_{t+1} = (z_t - c_t / d) / discount; the reward is the task's
while z_{t+1} >= 0, else a constant n. Any learner may then be used; here PPO, unchanged.

Departures: (1) in training, overdrawing costs n / (1 - g) at once (the value of the source's constant
rewards, g being the reward's discount), then n per step inside the hazard, and the episode ends when the
robot is outside again. In the source every later reward is n whatever is done: such steps teach nothing, at
first they are nearly all steps, and the agent never learns to leave a hazard. (2) z is shown as max(z, -1)
in training and as max(z, 0) afterwards: an agent that has overdrawn goes on as one with nothing left, where
the source leaves open what it does. (3) n is -.1 (the source: 0 to -200 by task), the budget's discount 1:
the budget is a number of unsafe steps per episode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.safetygym.agents.methods.method import Method
from experiments.safetygym.sim.task import EPISODE_STEPS
from safeframe.types import BoolArray, FloatArray

_ROUNDING = 1e-9


@dataclass
class SauteState:
    """The wrapped environment's state, the shares left (n,), which overdrawn ones are outside again (n,)."""

    inner: Any
    left: FloatArray
    outside: BoolArray


class SauteVector:
    """A vector environment with the share of the budget left as its last input, (n, d + 1).

    budget: unsafe steps allowed per episode. Rewards are the task's until the budget is overdrawn; the
    task's own are in info["task_reward"]. With `training` the changes 1 and 2 above apply; the step after
    the one that brought the robot outside again ends the episode truly (`terminated`), with reward 0.
    """

    def __init__(
        self,
        env: Any,
        budget: float,
        unsafe_reward: float,
        discount: float = 1.0,
        reward_discount: float = 0.99,
        training: bool = True,
    ) -> None:
        self.env, self.num_envs = env, env.num_envs
        self.budget, self.unsafe_reward, self.discount = budget, unsafe_reward, discount
        self.stream = unsafe_reward / (1.0 - reward_discount)
        self.training = training
        self.last_step = getattr(env, "episode_steps", EPISODE_STEPS) - 1
        self.left = np.ones(self.num_envs)
        self.outside = np.zeros(self.num_envs, bool)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    def _augment(self, observations: FloatArray, left: FloatArray) -> FloatArray:
        share = np.maximum(left, -1.0 if self.training else 0.0).astype(np.float32)[:, None]
        return np.concatenate([np.asarray(observations, np.float32), share], axis=1)

    def reset(self, **options: Any) -> tuple[FloatArray, dict[str, Any]]:
        """As the environment's, with the whole budget left."""
        observations, info = self.env.reset(**options)
        self.left = np.ones(self.num_envs)
        self.outside = np.zeros(self.num_envs, bool)
        return self._augment(observations, self.left), info

    def step(
        self, actions: FloatArray
    ) -> tuple[FloatArray, FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        """As the environment's; final observations carry the share at the end of their episode."""
        observations, rewards, terminated, truncated, info = self.env.step(actions)
        info = info | {"task_reward": rewards}
        left = (self.left - np.asarray(info["cost"]) / self.budget) / self.discount
        overdrawn = left < -_ROUNDING
        over = terminated | truncated
        if over.any():
            final = np.zeros((self.num_envs, observations.shape[1]), np.float32)
            for i in np.flatnonzero(over):
                final[i] = info["final_obs"][i]
            info["final_obs"] = self._augment(final, left)
        shaped = np.where(overdrawn, self.unsafe_reward, rewards)
        if self.training:
            shaped = np.where(overdrawn & (self.left >= -_ROUNDING), self.stream, shaped)
            finished = over & self.outside
            shaped = np.where(finished, 0.0, shaped)
            terminated, truncated = terminated | finished, truncated & ~finished
            self.outside = overdrawn & (np.asarray(info["cost"]) == 0) & ~over
            ending = np.flatnonzero(self.outside)
            if len(ending):
                state = self.env.get_state(ending)
                state.step[:] = self.last_step
                self.env.set_state(state, ending)
        self.left = np.where(over, 1.0, left)
        return self._augment(observations, self.left), shaped, terminated, truncated, info

    def get_state(self) -> SauteState:
        """A copy of all states."""
        return SauteState(self.env.get_state(), self.left.copy(), self.outside.copy())

    def set_state(self, state: SauteState) -> FloatArray:
        """Restore them; the augmented observations."""
        observations = self.env.set_state(state.inner)
        self.left = np.array(state.left, dtype=np.float64)
        self.outside = np.array(state.outside, dtype=bool)
        return self._augment(observations, self.left)


class Saute(Method):
    """Sauté PPO: see the module."""

    def wrap(self, env: Any, training: bool = True) -> SauteVector:
        """The environment with the budget."""
        s, env = self.settings, super().wrap(env, training)
        return SauteVector(env, s.cost_limit, s.saute_unsafe_reward, s.saute_discount, s.discount, training)
