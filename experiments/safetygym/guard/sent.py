"""What is sent to workers of the engine: a policy as file, weights and thresholds; shards collected there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.safetygym.agents.checkpoints import load_agent
from experiments.safetygym.config import SafetyGymConfig
from experiments.safetygym.guard.classifier import new_classifier
from experiments.safetygym.guard.guarding import Guard, GuardedPolicy
from experiments.safetygym.guard.priced import PricedGuard, guard_of
from experiments.safetygym.learning_settings import ChoiceSettings
from experiments.safetygym.sim.task import get_task
from experiments.safetygym.states.collection import collect_shard
from experiments.safetygym.states.internal_data import PARTS, Shard
from experiments.support.engine.tasks import Form, Task


@dataclass(frozen=True)
class Sent:
    """A policy that another process can build.

    Attributes:
        config: of the run: task, kind and size of the classifier.
        agent: its file.
        weights: the guard's classifier; None without a guard.
        tau: the guard's threshold, or one for each candidate.
    """

    config: SafetyGymConfig
    agent: Path
    weights: dict[str, torch.Tensor] | None
    tau: float | np.ndarray

    def policy(self, seed: int | list[int]) -> GuardedPolicy:
        """The policy, with draws from this seed."""
        config, task = self.config, get_task(self.config.task)
        agent = load_agent(self.agent, task=config.task)
        guard = None
        if self.weights is not None:
            classifier = new_classifier(config, task, len(agent.candidates))
            classifier.load_state_dict(self.weights)
            guard = guard_of(config, classifier, self.tau)
        return GuardedPolicy(agent, guard, seed, task)


def sent(config: SafetyGymConfig, agent: Path, guard: Guard | None) -> Sent:
    """A policy as it is sent."""
    if not isinstance(guard, PricedGuard):  # a run that prices risk has gates while it learns
        config = replace(config, choice=ChoiceSettings())
    weights = None if guard is None else dict(guard.classifier.state_dict())
    return Sent(config, agent, weights, np.inf if guard is None else guard.tau)


def collection_tasks(policy: Sent, plan: list[tuple[int, int]], about: dict[str, Any]) -> list[Task]:
    """Shards to collect as tasks; `about`: the other arguments of `collect_shard`."""
    return [
        Task(_collected, (policy, index, cases, about), {"shard": index, "cases": cases}, f"shard {index}")
        for index, cases in plan
    ]


def _collected(policy: Sent, index: int, cases: int, about: dict[str, Any]) -> Shard:
    return collect_shard(policy.policy(0), index, cases, **about)


def _save(shard: Shard, path: Path) -> None:
    np.savez(path, **{part: value for part, value in vars(shard).items() if value is not None})


def _load(path: Path) -> Shard:
    with np.load(path, allow_pickle=False) as content:
        return Shard(**{part: content[part] for part in PARTS if part in content})


SHARD = Form(_save, _load, ".npz")
"""How a shard is kept until it is part of the data."""
