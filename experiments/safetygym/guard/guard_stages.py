"""Stages that make a guard: data collected under a behaviour, classifiers fitted on them.

Each is cached by everything that it depends on: settings, the stages before it, the code that does it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.safetygym.agents.checkpoints import load_agent
from experiments.safetygym.config import SafetyGymConfig
from experiments.safetygym.guard.classifier import Classifier, new_classifier
from experiments.safetygym.guard.guarding import Guard, GuardedPolicy
from experiments.safetygym.guard.learning import Paths, split_states, tailor, warm_up
from experiments.safetygym.guard.priced import PricedGuard
from experiments.safetygym.guard.sent import SHARD, Sent, collection_tasks, sent
from experiments.safetygym.sim.task import get_task
from experiments.safetygym.states import backup
from experiments.safetygym.states.collection import collect, planned, shards_of
from experiments.safetygym.states.internal_data import InternalData, Shard
from experiments.support.runs.ahead import Part, ahead
from experiments.support.runs.running import RunContext
from experiments.support.runs.stages import Stage
from experiments.support.tailoring_settings import measurements
from experiments.support.weights import save_weights


class GuardStages:
    """Task and agent of a run, and the stages from labelled states to a classifier."""

    def __init__(self, config: SafetyGymConfig, context: RunContext):
        self.config, self.context = config, context
        self.task = get_task(config.task)
        self.path = Path(config.inputs()["agent.path"])
        self.agent = load_agent(self.path, task=config.task, observation_size=self.task.observation_size)

    # -- data

    def data(
        self, name: str, guard: Guard | None, cases: int, stages: list[Stage], paths: bool
    ) -> tuple[Shard, Stage]:
        """Cases under a guard, collected or found; the stage's hash stands for everything they depend on."""
        c = self.config.internal_test
        keys = [
            "task",
            "seed",
            "agent.path",
            *(f"internal_test.{k}" for k in ("label", "window", "every", "vase")),
        ]
        depends = {key: self.context.value(key) for key in keys}
        depends |= {f"stage:{s.name}": s.hash for s in stages} | {
            "cases": cases,
            "paths": paths,
            "tau": None if guard is None else np.asarray(guard.tau, dtype=float).tolist(),
        }
        if isinstance(guard, PricedGuard):
            depends["choice"] = self.context.value("choice")
        with self.context.stage(f"safetygym_{name}", depends, code=self.data) as stage:
            fingerprint = {
                "task": self.task.name,
                "candidates": self.agent.candidates.tolist(),
                "label": c.label,
                "behaviour": stage.hash,
            }

            def whole(place: Path) -> bool:
                return InternalData(place, fingerprint).n_t >= cases

            with stage.folder("data", whole, "data.json") as place:
                store = InternalData(place, fingerprint)
                stage.reused = store.n_t >= cases
                self._collect(name, stage, store, guard, cases, paths)
        return store.load(), stage

    def data_ahead(self, wanted: Sequence[tuple[str, Guard | None]], cases: int, stages: list[Stage]) -> None:
        """Collect data under several behaviours on an engine's workers; more than a shard of each is tasks of
        its own stage, and waits for `data`.
        """
        if shards_of(cases, self.config.internal_test.label, len(self.agent.candidates)) == 1:
            ahead(
                self.context,
                [
                    Part(name, _collect_part, (name, sent(self.config, self.path, guard), cases, stages))
                    for name, guard in wanted
                ],
            )

    def _collect(
        self, name: str, stage: Stage, store: InternalData, guard: Guard | None, cases: int, paths: bool
    ) -> None:
        """Collect what `store` lacks of its cases."""
        c = self.config.internal_test
        about = {
            "label": c.label,
            "seed": self.context.seeds.integer(name),
            "vase": c.vase,
            "every": c.every,
            "window": c.window,
            "with_paths": paths,
        }
        plan = planned(store, cases, c.label, len(self.agent.candidates))
        if len(plan) > 1:  # shards are tasks: the same on every engine
            todo = collection_tasks(sent(self.config, self.path, guard), plan, about)
            for shard in stage.spread(self.context.engine, todo, SHARD, name):
                store.append(shard)
            stage.clear()
        else:
            policy = GuardedPolicy(self.agent, guard, 0, self.task)
            bar = self.context.progress(None, name, total=cases)
            bar.update(store.n_t)
            collect(store, policy, cases, progress=lambda done: bar.update(done - bar.n), **about)
            bar.close()

    # -- classifier

    def fit(
        self, name: str, data: Shard, stages: list[Stage], start: Classifier | None
    ) -> tuple[Classifier, Stage]:
        """A classifier after the warm-up on `data`, or `start` after the approximate loss."""
        keys = [
            "classifier.kind",
            "classifier.hidden",
            "learning",
            "seed",
            *([] if start is None else ["r_t"]),
        ]
        depends: dict[str, Any] = {key: self.context.value(key) for key in keys}
        depends |= {f"stage:{s.name}": s.hash for s in stages}
        depends["xi"] = None if start is None else self.config.fixed_radius()
        for later in ("tailoring", "path_error"):
            if self.context.has(later):
                depends[later] = self.context.value(later)
        with self.context.stage(f"safetygym_{name}", depends, code=self.fit) as stage:
            return stage.cached(
                lambda: self._train(name, data, start), _save, self._load_classifier, ".pt"
            ), stage

    def _new(self) -> Classifier:
        return new_classifier(self.config, self.task, len(self.agent.candidates))

    def _train(self, name: str, data: Shard, start: Classifier | None) -> Classifier:
        c, seed = self.config, self.context.seeds.integer(name)
        total = c.learning.steps if start is None else c.learning.tailored_steps
        bar = self.context.progress(None, name, total=total)

        def report(done: int, loss: float) -> None:
            bar.update(done - bar.n)
            self.context.trained(name, done, loss)

        data, held_out = split_states(data, c.tailoring)
        if start is None:
            torch.manual_seed(seed)
            classifier = self._new()
            warm_up(classifier, data, c.learning, seed, report, self.random_paths())
        else:
            classifier = self._new()
            classifier.load_state_dict(start.state_dict())
            found = tailor(
                classifier,
                data,
                c.r_t,
                c.fixed_radius() or 0.0,
                c.learning,
                seed,
                report,
                c.tailoring,
                held_out,
            )
            for key, value in ({} if found is None else measurements(found)).items():
                self.context.measured(key, value)
        bar.close()
        return classifier

    def random_paths(self) -> Paths | None:
        """Paths from random velocities, collected once; None for the Car and classifiers without paths."""
        if self.config.robot == "car" or self.config.classifier.kind != "path":
            return None
        keys = ("task", "seed", "agent.path", "learning.random_paths")
        with self.context.stage("safetygym_random_paths", keys, code=self.random_paths) as stage:

            def compute() -> Paths:
                generator = self.context.seeds.generator("random_paths")
                found = backup.random_paths(
                    self.task, self.agent.candidates, self.config.learning.random_paths, generator
                )
                assert found is not None
                return found

            return stage.cached(compute, _save_paths, _load_paths, ".npz")

    def _load_classifier(self, path: Path) -> Classifier:
        classifier = self._new()
        classifier.load_state_dict(torch.load(path, weights_only=True))
        return classifier


def _collect_part(
    config: SafetyGymConfig, context: RunContext, name: str, behaviour: Sent, cases: int, stages: list[Stage]
) -> None:
    """In a worker: data under one behaviour, into the cache."""
    guard = behaviour.policy(0).guard
    GuardStages(config, context).data(name, guard, cases, stages, False)


def _save(classifier: Classifier, path: Path) -> None:
    save_weights(classifier.state_dict(), path)


def _save_paths(value: Paths, path: Path) -> None:
    with open(path, "wb") as file:
        np.savez(file, velocity=value[0], path=value[1])


def _load_paths(path: Path) -> Paths:
    with np.load(path) as content:
        return content["velocity"], content["path"]
