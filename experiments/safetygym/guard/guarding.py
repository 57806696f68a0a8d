"""A guard around an agent: which candidates are feasible, and what is done."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.safetygym.agents.agent import Agent
from experiments.safetygym.guard.classifier import Classifier
from experiments.safetygym.states.backup import DefaultAction
from safeframe.types import SafeframeError


@dataclass(frozen=True)
class Guard:
    """Feasible are the candidates whose margin is below tau.

    Called with observations (n, d) it returns feasible (n, k) bool: what training under a guard takes.

    Attributes:
        classifier: gives the margins.
        tau: a number, or one for each candidate (k,).
    """

    classifier: Classifier
    tau: float | np.ndarray

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        return self.classifier.margin(observation) < self.tau

    def charge(self, observation: np.ndarray) -> np.ndarray | None:
        """What a candidate loses of the logarithm of its probability (n, k); None: a gate charges nothing."""
        return None


class GuardedPolicy:
    """The optimisation stage: a feasible candidate, or the default action where there is none.

    The candidate is drawn from the agent's own distribution restricted to the feasible ones (u ~ pi^d, arXiv
    2504.20924). Without a guard: the agent as it is.

    `candidate` (n,) of the last call: index of what was chosen, -1 the default, -2 without a guard.
    """

    def __init__(self, agent: Agent, guard: Guard | None, seed: int | list[int], task):
        """Raises SafeframeError if classifier and agent do not belong to the same task and candidates."""
        if agent.task != task.name:
            raise SafeframeError(f"the agent was trained on {agent.task}; this run is of {task.name}")
        if guard is not None and guard.classifier.task.name != task.name:
            raise SafeframeError(
                f"the classifier belongs to {guard.classifier.task.name}, not to {task.name}"
            )
        if guard is not None and guard.classifier.n_candidates != len(agent.candidates):
            raise SafeframeError(
                f"the classifier judges {guard.classifier.n_candidates} candidates, the agent has "
                f"{len(agent.candidates)}"
            )
        self.agent, self.guard = agent, guard
        self.generator = np.random.default_rng(seed)
        self.default_action = DefaultAction(
            task, agent.candidates, None if guard is None else guard.classifier.way_out
        )
        self.size = task.observation_size
        self.candidate = np.empty(0, np.int64)

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        if self.guard is None:
            self.candidate = np.full(len(observation), -2)
            return self.agent.act(observation, self.generator)
        seen = observation[:, : self.size]
        feasible, charge = self.guard(seen), self.guard.charge(seen)
        action, active = self.agent.choose(observation, feasible, self.generator, charge)
        rest = ~active
        if rest.any():
            action[rest] = self.default_action(observation[rest, : self.size])
        match = (action[:, None, :] == self.agent.candidates[None]).all(axis=2).argmax(axis=1)
        self.candidate = np.where(active, match, -1)
        return action
