"""Safety Gym end to end: collect, learn, calibrate, run (arXiv 2504.20924, section 5.2; figure 3).

1. Training data in rounds: first the agent without a guard, then under the guard of the round before. Each
   round fits the classifier on all data so far.
2. The approximate loss at r_t (`classifier.tailored`).
3. Internal test data, never trained on: n_t cases, half under the unguarded agent and under guards at
   several provisional thresholds, half under the guards that come out; for every r_t the most permissive
   tau whose bound holds for these behaviours.
4. Fresh data under the guard for r_t: the gap between its bound and the calibrated one is reported.
5. Episodes at every threshold, and of the agents without a guard.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from experiments.safetygym import (
    backup,
    backup_point,
    collection,
    decoding,
    geometry,
    guarding,
    learning,
    measured,
    sim,
)
from experiments.safetygym import classifier as classifiers
from experiments.safetygym.agents.checkpoints import load_agent
from experiments.safetygym.calibration import Calibrated, Calibration, measured_radius
from experiments.safetygym.classifier import CLASSIFIERS, Classifier
from experiments.safetygym.collection import collect
from experiments.safetygym.config import SafetyGymConfig
from experiments.safetygym.evaluation import summarise
from experiments.safetygym.guarding import Guard, GuardedPolicy
from experiments.safetygym.internal_data import InternalData, Shard, pool
from experiments.safetygym.jobs import Job, blocks, spread
from experiments.safetygym.learning import Paths, tailor, warm_up
from experiments.safetygym.rendering import guarded_episode
from experiments.safetygym.report import report_text
from experiments.safetygym.sim.task import get_task
from experiments.support.runs import RunContext
from experiments.support.stages import Stage
from safeframe import approximate_loss, relaxed_bound

LADDER = (1e-1, 1e-3, 1e-5)
"""Provisional thresholds under whose guards internal test data are collected, beside the unguarded
agent's."""
AGREEMENT = 2
"""Rounds of data under the guards that came out."""
_DATA_CODE = (backup, backup_point, classifiers, collection, decoding, geometry, guarding, sim)
_FIT_CODE = (classifiers, decoding, geometry, learning, approximate_loss, relaxed_bound)


class Experiment:
    """One run: task, agent, and the stages in order."""

    def __init__(self, config: SafetyGymConfig, context: RunContext):
        self.config, self.context = config, context
        self.task = get_task(config.task)
        self.path = Path(config.inputs()["agent.path"])
        self.agent = load_agent(self.path, task=config.task, observation_size=self.task.observation_size)
        self.n_t = config.internal_test.n_t
        self.train_cases = min(config.internal_test.train_cases, self.n_t)

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
            "tau": None if guard is None else repr(float(guard.tau)),
        }
        with self.context.stage(f"safetygym_{name}", depends, code=_DATA_CODE) as stage:
            fingerprint = {
                "task": self.task.name,
                "candidates": self.agent.candidates.tolist(),
                "label": c.label,
            }
            store = InternalData(stage.directory / "data", fingerprint | {"behaviour": stage.hash})
            policy = GuardedPolicy(self.agent, guard, 0, self.task)
            bar = self.context.progress(None, name, total=cases)
            bar.update(store.n_t)
            collect(
                store,
                policy,
                cases,
                c.label,
                seed=self.context.seeds.integer(name),
                vase=c.vase,
                every=c.every,
                window=c.window,
                with_paths=paths,
                progress=lambda done: bar.update(done - bar.n),
            )
            bar.close()
        return store.load(), stage

    # -- classifier

    def fit(
        self, name: str, data: Shard, stages: list[Stage], start: Classifier | None
    ) -> tuple[Classifier, Stage]:
        """A classifier after the warm-up on `data`, or `start` after the approximate loss."""
        depends: dict[str, Any] = {
            key: self.context.value(key) for key in ("classifier", "learning", "seed", "r_t")
        }
        depends |= {f"stage:{s.name}": s.hash for s in stages}
        depends["xi"] = None if start is None else self.config.fixed_radius()
        with self.context.stage(f"safetygym_{name}", depends, code=_FIT_CODE) as stage:
            return stage.cached(
                lambda: self._train(name, data, start), _save, self._load_classifier, ".pt"
            ), stage

    def _new(self) -> Classifier:
        return CLASSIFIERS[self.config.classifier.kind](
            self.task, len(self.agent.candidates), self.config.classifier.hidden
        )

    def _train(self, name: str, data: Shard, start: Classifier | None) -> Classifier:
        c, seed = self.config, self.context.seeds.integer(name)
        total = c.learning.steps if start is None else c.learning.tailored_steps
        bar = self.context.progress(None, name, total=total)
        report = lambda done, loss: bar.update(done - bar.n)  # noqa: E731
        if start is None:
            torch.manual_seed(seed)
            classifier = self._new()
            warm_up(classifier, data, c.learning, seed, report, self.random_paths())
        else:
            classifier = self._new()
            classifier.load_state_dict(start.state_dict())
            tailor(classifier, data, c.r_t, c.fixed_radius() or 0.0, c.learning, seed, report)
        bar.close()
        return classifier

    def random_paths(self) -> Paths | None:
        """Paths from random velocities, collected once; None for the Car and for classifiers without
        paths."""
        if self.config.robot == "car" or self.config.classifier.kind != "path":
            return None
        keys = ("task", "seed", "agent.path", "learning.random_paths")
        with self.context.stage("safetygym_random_paths", keys, code=(backup, backup_point)) as stage:

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

    # -- the whole

    def run(self) -> None:
        """All stages."""
        c = self.config
        mode = c.evaluation.calibrate
        paths = c.classifier.kind == "path"
        shards: list[Shard] = []
        stages: list[Stage] = []
        guard, classifier = None, None
        for round_ in range(c.internal_test.rounds + 1):
            shard, stage = self.data(f"train_{round_}", guard, self.train_cases, stages, paths)
            shards.append(shard)
            stages.append(stage)
            classifier, fitted = self.fit(f"classifier_{round_}", pool(shards), stages, None)
            stages.append(fitted)
            found = Calibration(classifier, self.agent, shards, 0.0, mode).threshold(c.r_t)
            guard = Guard(classifier, found.tau)
        assert classifier is not None
        if c.classifier.tailored and c.internal_test.label == "backup":
            classifier, fitted = self.fit("tailored", pool(shards), stages, classifier)
            stages.append(fitted)
        calibration, radius = self.calibrate(
            classifier, Calibration(classifier, self.agent, shards, 0.0, mode), stages
        )
        thresholds = sorted({*c.evaluation.thresholds, c.r_t})
        found = {r_t: calibration.threshold(r_t) for r_t in thresholds}
        self.gap(classifier, found[c.r_t], radius, stages)
        self.evaluate(classifier, found, radius)
        policy = GuardedPolicy(self.agent, Guard(classifier, found[c.r_t].tau), [c.seed, 5], self.task)
        guarded_episode(
            policy, calibration, c.r_t, self.context.directory, self.context.seeds.integer("episode")
        )

    def calibrate(
        self, classifier: Classifier, provisional: Calibration, stages: list[Stage]
    ) -> tuple[Calibration, float]:
        """Curves of fresh internal test data, calibrated in rounds until guard and data agree.

        Half of n_t: an equal part under the unguarded agent and under guards at provisional thresholds. The
        rest, in AGREEMENT rounds: an equal part under the guard that each r_t has now."""
        c = self.config
        mode, rounds = c.evaluation.calibrate, AGREEMENT if c.internal_test.rounds else 0
        behaviours: list[Guard | None] = [None]
        if rounds:
            taus = {provisional.threshold(r).tau for r in LADDER}
            behaviours += [Guard(classifier, tau) for tau in sorted(taus, reverse=True) if np.isfinite(tau)]
        part = -(-self.n_t // (len(behaviours) * (2 if rounds else 1)))
        data = [
            self.data(f"internal_test_{i}", guard, part, stages, False)[0]
            for i, guard in enumerate(behaviours)
        ]
        radius = c.fixed_radius()
        if radius is None:
            radius = measured_radius(classifier, pool(data), 0.5 * c.r_t)
        found = Calibration(classifier, self.agent, data, radius, mode)
        for round_ in range(rounds):
            taus = {found.threshold(r).tau for r in (*c.evaluation.thresholds, c.r_t)}
            used = sorted(tau for tau in taus if np.isfinite(tau))
            part = -(-self.n_t // (2 * rounds * max(len(used), 1)))
            fresh = [
                self.data(f"agreement_{round_}_{i}", Guard(classifier, tau), part, stages, False)[0]
                for i, tau in enumerate(used)
            ]
            data += fresh
            found = Calibration(classifier, self.agent, data, radius, mode)
        self.note("n_behaviours", len(data), self.n_t, radius)
        return found, radius

    def gap(self, classifier: Classifier, found: Calibrated, radius: float, stages: list[Stage]) -> None:
        """The bound on fresh data under the calibrated guard, less the calibrated one."""
        if not found.feasible:
            return
        cases = max(self.n_t // 4, 2000)
        shard, _ = self.data("fresh", Guard(classifier, found.tau), cases, stages, False)
        plain = 0.0  # of data in which nothing is unsafe
        if (shard.unsafe == 1).any():
            fresh = Calibration(classifier, self.agent, [shard], 0.0, self.config.evaluation.calibrate)
            plain = float(fresh.bound(found.tau)[0])
        self.note("fresh_bound", plain, cases, radius, r_t=found.r_t)
        self.note("gap", plain - found.bound, cases, radius, r_t=found.r_t)

    def note(self, metric: str, value: float, n: int, radius: float, **more: Any) -> None:
        """One row about calibration."""
        constants = {"method": self.config.name, "n_t": self.n_t, "xi": radius}
        self.context.record([{**constants, **more, "metric": metric, "value": value, "n": n}])

    def evaluate(self, classifier: Classifier, found: dict[float, Calibrated], radius: float) -> None:
        """Episodes at every threshold, then the agents without a guard."""
        c = self.config.evaluation
        weights = dict(classifier.state_dict())
        seed = self.context.seeds.integer("episodes")
        jobs: list[Job] = []
        for r_t, calibrated in found.items():
            constants = {"method": self.config.name, "r_t": r_t, "n_t": self.n_t, "xi": radius}
            for metric in ("bound", "acceptance"):
                self.note(metric, getattr(calibrated, metric), self.n_t, radius, r_t=r_t)
            steps = c.steps_at_r_t if r_t == self.config.r_t else c.steps
            jobs += blocks(self.config, constants, steps, self.path, seed, weights, calibrated.tau)
        for name in self.config.baselines():
            knob = float(name.split("_")[-1]) if name.split("_")[-1].replace(".", "").isdigit() else np.nan
            method = name.removesuffix("_" + name.split("_")[-1]) if np.isfinite(knob) else name
            constants = {"method": method, "knob": knob}
            jobs += blocks(self.config, constants, c.baseline_steps, self.config.agent_file(name), seed)
        tables: dict[str, list[pd.DataFrame]] = {}
        with self.context.stage("safetygym_episodes"):
            bar = self.context.progress(None, "episodes", total=len(jobs))
            for job, table in zip(jobs, spread(jobs, self.config.threads), strict=True):
                tables.setdefault(job.group, []).append(table)
                bar.update(1)
            bar.close()
        constants = {job.group: job.constants for job in jobs}
        kept = []
        for group, parts in tables.items():
            table, about = pd.concat(parts), constants[group]
            self.context.record(summarise(table, about))
            kept.append(
                measured.episodes(table, **{k: about[k] for k in ("method", "r_t", "knob") if k in about})
            )
        measured.write(kept, self.context.directory)


def _save(classifier: Classifier, path: Path) -> None:
    torch.save(classifier.state_dict(), path)


def _save_paths(value: Paths, path: Path) -> None:
    with open(path, "wb") as file:
        np.savez(file, velocity=value[0], path=value[1])


def _load_paths(path: Path) -> Paths:
    with np.load(path) as content:
        return content["velocity"], content["path"]


def run(config: SafetyGymConfig, context: RunContext) -> None:
    """The experiment; its rows are recorded as they come."""
    Experiment(config, context).run()


def report(config: SafetyGymConfig, directory: Path, frame: pd.DataFrame) -> str:
    """What is printed at the end: the table of methods and where the pictures are."""
    return report_text(directory, {"guarded episode": directory / "episode.gif"}, config.robot)
