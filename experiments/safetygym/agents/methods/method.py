"""What distinguishes the methods: which critics there are, and what advantage the policy sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.safetygym.agents.advantages import gae
from experiments.safetygym.agents.networks import Networks, forward_in_chunks
from experiments.safetygym.agents.ppo import standardise
from experiments.safetygym.agents.rollout import Labeller, Rollout
from experiments.safetygym.agents.settings import AgentSettings
from experiments.safetygym.perception.route import RoutedVector
from experiments.safetygym.sim.task import get_task


@dataclass
class Signals:
    """What a method derives from a rollout: advantages, penalties (or None), returns per critic, (T n,)."""

    advantages: Tensor
    penalties: Tensor | None
    returns: dict[str, Tensor]


class Method:
    """Plain PPO, and the base of the others."""

    critics: tuple[str, ...] = ("reward",)
    labeller: Labeller | None = None

    def __init__(self, settings: AgentSettings, inputs: int) -> None:
        self.settings, self.inputs = settings, inputs

    def wrap(self, env: Any, training: bool = True) -> Any:
        """The environment as the agent sees it."""
        room = self.settings.route_room
        return RoutedVector(env, get_task(self.settings.task), room) if room else env

    def signals(self, rollout: Rollout, networks: Networks, inputs: Tensor, ends: Tensor) -> Signals:
        """Advantages, penalties and returns of an epoch; inputs ((T + 1) n, d), ends (m, d)."""
        advantages, returns = self.estimate("reward", rollout, networks, inputs, ends)
        weights = torch.from_numpy(rollout.active.reshape(-1)).float()
        return Signals(standardise(advantages, weights), None, {"reward": returns})

    def estimate(
        self, critic: str, rollout: Rollout, networks: Networks, inputs: Tensor, ends: Tensor
    ) -> tuple[Tensor, Tensor]:
        """GAE advantages and returns, each (T n,), of the rewards (`reward`) or the costs (`cost`)."""
        horizon, n = rollout.rewards.shape
        network = networks.critics[critic]
        values = forward_in_chunks(network, inputs).numpy().reshape(horizon + 1, n)
        ending = np.zeros((horizon, n), np.float32)
        if len(ends):
            ending[rollout.ends[0], rollout.ends[1]] = forward_in_chunks(network, ends).numpy()[:, 0]
        s = self.settings
        if critic == "reward":
            signal, discount, decay = rollout.rewards, s.discount, s.gae_lambda
        else:
            signal, discount, decay = rollout.costs, s.cost_discount, s.cost_gae_lambda
        advantages, returns = gae(signal, values, rollout.ended, ending, discount, decay)
        return torch.from_numpy(advantages.reshape(-1)), torch.from_numpy(returns.reshape(-1))

    def after(self, rollout: Rollout, inputs: Tensor, generator: torch.Generator) -> dict[str, float]:
        """Update what the method learns besides actor and critics; figures to report."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes; empty for plain PPO."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved state."""
