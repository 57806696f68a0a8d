"""A trained agent: what it needs to act, to be judged and to be saved."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from experiments.safetygym.agents.grid import grid_of
from experiments.safetygym.agents.networks import Networks, forward_in_chunks
from experiments.safetygym.agents.normalisation import Normaliser
from experiments.safetygym.agents.policies import sample_gaussian, sample_masked
from experiments.safetygym.agents.settings import AgentSettings
from safeframe.types import BoolArray, FloatArray, SafeframeError


@dataclass
class Agent:
    """Networks, normalisation, candidate actions (k, 2), settings, and figures of its training (`record`).

    observation_size is the task's; the networks see `inputs` numbers (one more with Sauté's budget).
    """

    settings: AgentSettings
    candidates: FloatArray
    observation_size: int
    networks: Networks
    normaliser: Normaliser
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """Safety Gym's name of the task it was trained on."""
        return self.settings.task

    @property
    def inputs(self) -> int:
        """Numbers in the observation it acts on."""
        return len(self.normaliser.mean)

    def wrap(self, env: Any) -> Any:
        """The environment as this agent sees it (Sauté adds the budget); others as they are."""
        from experiments.safetygym.agents.methods.register import make_method

        return make_method(self.settings, self.observation_size).wrap(env, training=False)

    def output(self, observations: FloatArray) -> FloatArray:
        """The actor's output, float32: logits (n, k) or means (n, 2); SafeframeError for other inputs."""
        observations = np.asarray(observations, dtype=np.float32)
        if observations.ndim != 2 or observations.shape[1] != self.inputs:
            raise SafeframeError(
                f"observations have shape {observations.shape}; an agent of {self.task}"
                f" ({self.settings.method}) acts on (n, {self.inputs})"
            )
        return forward_in_chunks(self.networks.actor, self.normaliser(observations)).numpy()

    def candidate_probabilities(self, observations: FloatArray) -> FloatArray:
        """Probability of each candidate, float64 (n, k): softmax, or the mass of its bin for a Gaussian."""
        output = self.output(observations).astype(np.float64)
        if self.settings.policy == "gaussian":
            std = np.exp(self._log_std()).astype(np.float64)
            return grid_of(self.candidates).gaussian_mass(output, std)
        weights = np.exp(output - output.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    def _log_std(self) -> FloatArray:
        return self.networks.log_std.detach().numpy()

    def act(self, observations: FloatArray, generator: np.random.Generator) -> FloatArray:
        """Actions (n, 2) drawn from the policy as it was trained (a Gaussian's are not candidates)."""
        output = self.output(observations)
        if self.settings.policy == "gaussian":
            return sample_gaussian(output, self._log_std(), generator)[0]
        free = np.empty((0, len(self.candidates)), bool)
        return self.candidates[sample_masked(output, generator.random(len(output)), free)[0]]

    def choose(
        self,
        observations: FloatArray,
        feasible: BoolArray,
        generator: np.random.Generator,
        charge: FloatArray | None = None,
    ) -> tuple[FloatArray, BoolArray]:
        """Candidates (n, 2) drawn from the policy within `feasible` (n, k), and where there was one (n,).

        `charge` (n, k) is taken off the logarithms of the policy's probabilities. Rows without a feasible
        candidate hold 0 and False; the caller takes the default action there.
        """
        if feasible.shape != (len(observations), len(self.candidates)):
            raise SafeframeError(
                f"feasible has shape {feasible.shape}; it must be {(len(observations), len(self.candidates))}"
            )
        logits = self.output(observations)
        if self.settings.policy == "gaussian":
            logits = np.log(np.maximum(self.candidate_probabilities(observations), 1e-300))
        if charge is not None:
            logits = (logits - charge).astype(logits.dtype)
        index, _, active = sample_masked(logits, generator.random(len(logits)), feasible)
        return np.where(active[:, None], self.candidates[index], 0.0), active

    def values(self, observations: FloatArray, critic: str = "reward") -> FloatArray:
        """A critic's values (n,). SafeframeError if the agent was saved without it."""
        if critic not in self.networks.critics:
            raise SafeframeError(f"this agent has no critic {critic!r}; it has {list(self.networks.critics)}")
        inputs = self.normaliser(np.asarray(observations, np.float32))
        return forward_in_chunks(self.networks.critics[critic], inputs).numpy()[:, 0]


def new_agent(
    settings: AgentSettings,
    candidates: FloatArray,
    observation_size: int,
    inputs: int,
    critics: tuple[str, ...],
) -> Agent:
    """An untrained agent whose weights depend on the seed alone."""
    state = torch.random.get_rng_state()
    torch.manual_seed(settings.seed)
    networks = Networks(
        inputs, settings.hidden, len(candidates), settings.policy, critics, settings.initial_log_std
    )
    torch.random.set_rng_state(state)
    normaliser = Normaliser(inputs, settings.observation_clip)
    return Agent(settings, candidates, observation_size, networks, normaliser)
