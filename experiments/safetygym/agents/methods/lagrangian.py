"""PPO-Lagrangian: a multiplier on the cost, learned from the mean cost per episode.

Source: Ray, Achiam, Amodei 2019, "Benchmarking Safe Exploration in Deep Reinforcement Learning", section 5,
and safety-starter-agents: multiplier softplus(p), p by Adam on the loss -p (cost - limit) before each
policy update; cost advantages by GAE with a critic of their own, centred but not rescaled; objective
divided by 1 + multiplier. Departures: (1) the reward's and the cost's advantages are combined before
clipping, (A_r - m A_c) / (1 + m), where the original clips the reward's term only: with several minibatches
an unclipped term drifts; (2) the mean cost per episode is the epoch's mean cost per step times 1,000, which
equals it (episodes have 1,000 steps) without the lag of waiting for episodes to end; (3) with a guard,
steps of the default action carry no policy gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from experiments.safetygym.agents.methods.method import Method, Signals
from experiments.safetygym.agents.networks import Networks
from experiments.safetygym.agents.ppo import standardise
from experiments.safetygym.agents.rollout import Rollout
from experiments.safetygym.agents.settings import AgentSettings

EPISODE_STEPS = 1000


class Multiplier:
    """softplus(p) >= 0, raised while the cost is above its limit and lowered below; p by Adam."""

    def __init__(self, initial: float, rate: float, largest: float = float("inf")) -> None:
        start = torch.log(torch.expm1(torch.tensor(float(initial), dtype=torch.float64)).clamp(min=1e-8))
        self.parameter = start.requires_grad_()
        self.optimiser = torch.optim.Adam([self.parameter], lr=rate)
        self.largest = largest

    @property
    def value(self) -> float:
        """The multiplier."""
        return float(softplus(self.parameter.detach()))

    def step(self, excess: float) -> None:
        """One step of gradient ascent on p times `excess` (cost - limit); none beyond `largest`."""
        if excess > 0 and self.value > self.largest:
            return
        self.optimiser.zero_grad()
        (-self.parameter * excess).backward()
        self.optimiser.step()

    def state_dict(self) -> dict[str, Any]:
        """Parameter and optimiser."""
        return {"parameter": self.parameter.detach().clone(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        with torch.no_grad():
            self.parameter.copy_(state["parameter"])
        self.optimiser.load_state_dict(state["optimiser"])


class Lagrangian(Method):
    """PPO-Lag: see the module."""

    critics = ("reward", "cost")

    def __init__(self, settings: AgentSettings, inputs: int) -> None:
        super().__init__(settings, inputs)
        self.multiplier = Multiplier(settings.lagrange_initial, settings.lagrange_rate)

    def signals(self, rollout: Rollout, networks: Networks, inputs: Tensor, ends: Tensor) -> Signals:
        """Combined advantages; the multiplier is updated first, as in the source."""
        self.multiplier.step(float(rollout.costs.mean()) * EPISODE_STEPS - self.settings.cost_limit)
        gain, returns = self.estimate("reward", rollout, networks, inputs, ends)
        harm, cost_returns = self.estimate("cost", rollout, networks, inputs, ends)
        weights = torch.from_numpy(rollout.active.reshape(-1)).float()
        m = self.multiplier.value
        combined = (standardise(gain, weights) - m * standardise(harm, weights, rescale=False)) / (1 + m)
        return Signals(combined, None, {"reward": returns, "cost": cost_returns})

    def after(self, rollout: Rollout, inputs: Tensor, generator: torch.Generator) -> dict[str, float]:
        """The multiplier."""
        return {"multiplier": self.multiplier.value}

    def state_dict(self) -> dict[str, Any]:
        """The multiplier's state."""
        return self.multiplier.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the multiplier's state."""
        self.multiplier.load_state_dict(state)
