"""Safety Gym end to end: collect, learn, calibrate, run (arXiv 2504.20924, section 5.2; figure 3).

1. Training data in rounds: first the agent without a guard, then under the guard of the round before (always
   a gate). Each round fits the classifier on all data so far.
2. The approximate loss at r_t (`classifier.tailored`).
3. Internal test data, never trained on: n_t cases, half under the unguarded agent and under guards at
   several provisional thresholds, half under the guards that come out; for every r_t the most permissive
   tau whose bound holds for these behaviours, and, on a quarter as many cases more, for its own.
4. Fresh data under the guard for r_t: the gap between its bound and the calibrated one is reported.
5. Episodes at every threshold, and of the agents without a guard.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.safetygym import records
from experiments.safetygym.agents.agent import Agent
from experiments.safetygym.config import SafetyGymConfig
from experiments.safetygym.evaluation import entries
from experiments.safetygym.evaluation.episodes import summarise
from experiments.safetygym.evaluation.jobs import FORM, Job, blocks, tasks
from experiments.safetygym.evaluation.rendering import LAYOUTS, guarded_episode, pair_of_episodes
from experiments.safetygym.guard.calibration import Calibration
from experiments.safetygym.guard.candidate_calibration import CandidateCalibration
from experiments.safetygym.guard.choices import Calibrated, agreed
from experiments.safetygym.guard.classifier import Classifier
from experiments.safetygym.guard.guard_stages import GuardStages
from experiments.safetygym.guard.guarding import Guard, GuardedPolicy
from experiments.safetygym.guard.priced import PRICES, PricedCalibration, bound_at, guard_of
from experiments.safetygym.reporting.report import report_text
from experiments.safetygym.states.internal_data import Shard, pool
from experiments.support.runs.running import RunContext
from experiments.support.runs.stages import Stage
from safeframe.threshold_rule import Conservative, PlugIn, Rule

LADDER = (1e-1, 1e-3, 1e-5)
"""Provisional thresholds under whose guards internal test data are collected, beside the unguarded
agent's."""
AGREEMENT = 2
"""Rounds of data under the guards that came out."""


class Experiment(GuardStages):
    """One run: the stages in order."""

    def __init__(self, config: SafetyGymConfig, context: RunContext):
        super().__init__(config, context)
        self.n_t = config.internal_test.n_t
        self.train_cases = min(config.internal_test.train_cases, self.n_t)

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
            found = curves_of(classifier, self.agent, shards, PlugIn(), mode).threshold(c.r_t)
            guard = Guard(classifier, found.tau)
        assert classifier is not None
        some = any((shard.unsafe == 1).any() for shard in shards)
        if c.classifier.tailored and c.internal_test.label == "backup" and some:
            classifier, fitted = self.fit("tailored", pool(shards), stages, classifier)
            stages.append(fitted)
        if c.choice.rule == "priced":
            calibration = self.calibrate_prices(classifier, stages)
            found = calibration.thresholds(self.levels)
        else:
            provisional = curves_of(classifier, self.agent, shards, PlugIn(), mode)
            calibration = self.calibrate(classifier, provisional, stages)
            found = self.verify(classifier, calibration.thresholds(self.levels), stages)
        entries.write(calibration.reliability(), self.context.directory, records.RELIABILITY)
        self.gap(classifier, found[c.r_t], stages)
        self.evaluate(classifier, found)
        policy = GuardedPolicy(self.agent, self.guard(classifier, found[c.r_t].tau), [c.seed, 5], self.task)
        guarded_episode(
            policy, calibration, c.r_t, self.context.directory, self.context.seeds.integer("episode")
        )
        alone = GuardedPolicy(self.agent, None, [c.seed, 5], self.task)
        layouts = [self.context.seeds.integer("episodes shown", i) for i in range(LAYOUTS)]
        pair_of_episodes(policy, alone, calibration, c.r_t, self.context.directory, layouts)

    @property
    def levels(self) -> list[float]:
        """Thresholds r_t to evaluate at, ascending; the run's own is one of them."""
        return sorted({*self.config.evaluation.thresholds, self.config.r_t})

    @property
    def rule(self) -> Rule:
        """From margins to thresholds."""
        radius = self.config.fixed_radius()
        if radius is None:
            return Conservative()
        return PlugIn(radius) if self.config.evaluation.rule == "plug_in" else Conservative(radius)

    def guard(self, classifier: Classifier, tau: float | np.ndarray) -> Guard:
        """The guard that is calibrated and evaluated."""
        return guard_of(self.config, classifier, tau)

    def calibrate(self, classifier: Classifier, provisional: Curves, stages: list[Stage]) -> Curves:
        """Curves of fresh internal test data, calibrated in rounds until guard and data agree.

        Half of n_t: an equal part under the unguarded agent and under guards at provisional thresholds. The
        rest, in AGREEMENT rounds: an equal part under the guard that each r_t has now."""
        c = self.config
        mode, rounds = c.evaluation.calibrate, AGREEMENT if c.internal_test.rounds else 0
        behaviours: list[Guard | None] = [None]
        if rounds:
            taus = strictest_first(provisional.threshold(r).tau for r in LADDER)
            behaviours += [self.guard(classifier, tau) for tau in reversed(taus)]
        part = -(-self.n_t // (len(behaviours) * (2 if rounds else 1)))
        data = self.data_under("internal_test", behaviours, part, stages)
        found = curves_of(classifier, self.agent, data, self.rule, mode)
        for round_ in range(rounds):
            used = strictest_first(one.tau for one in found.thresholds(self.levels).values())
            part = -(-self.n_t // (2 * rounds * max(len(used), 1)))
            guards = [self.guard(classifier, tau) for tau in used]
            data += self.data_under(f"agreement_{round_}", guards, part, stages)
            found = curves_of(classifier, self.agent, data, self.rule, mode)
        self.note("n_behaviours", len(data), self.n_t, found.threshold(c.r_t).radius)
        return found

    def data_under(
        self,
        name: str,
        behaviours: Sequence[Guard | None],
        cases: int,
        stages: list[Stage],
        any_age: bool = False,
    ) -> list[Shard]:
        """So many cases under each of several guards, or none; stages `name`_0, `name`_1, ..."""
        under = [(f"{name}_{i}", guard) for i, guard in enumerate(behaviours)]
        self.data_ahead(under, cases, stages, any_age)
        return [self.data(one, guard, cases, stages, False, any_age)[0] for one, guard in under]

    def verify(
        self, classifier: Classifier, found: dict[float, Calibrated], stages: list[Stage]
    ) -> dict[float, Calibrated]:
        """Thresholds that hold on data of their own guards too, where those are enough to say so.

        The last data move the thresholds once more, so none were collected under those that come out. Where a
        guard is loose that matters: the agent stands at the edge of what is accepted, the longer an episode
        lasts the more, and may be at greater risk under a threshold than under a stricter or a looser one.
        """
        c = self.config
        used = strictest_first(one.tau for one in found.values())
        if not (c.internal_test.rounds and used):
            return found
        part = -(-self.n_t // (2 * AGREEMENT * len(used)))
        guards = [self.guard(classifier, tau) for tau in used]
        shards = self.data_under("verification", guards, part, stages, any_age=True)
        own = {same_tau(tau): shard for tau, shard in zip(used, shards, strict=True)}

        def holds(one: Calibrated) -> bool:
            shard = own.get(same_tau(one.tau))
            if shard is None or len(shard.unsafe) * one.r_t < 1:
                return True
            curves = curves_of(classifier, self.agent, [shard], self.rule, c.evaluation.calibrate)
            return bool((curves.bound(one.tau, one.r_t) <= one.r_t).all())

        return agreed(found, holds)

    def calibrate_prices(self, classifier: Classifier, stages: list[Stage]) -> PricedCalibration:
        """Prices on fresh internal test data: an equal part of n_t under the guard of every price."""
        part = -(-self.n_t // len(PRICES))
        guards = [self.guard(classifier, -mu) for mu in PRICES]
        data = dict(zip(PRICES, self.data_under("internal_test", guards, part, stages), strict=True))
        found = PricedCalibration(classifier, self.agent, data, self.rule, self.config.choice.width)
        self.note("n_behaviours", len(data), self.n_t, found.threshold(self.config.r_t).radius)
        return found

    def gap(self, classifier: Classifier, found: Calibrated, stages: list[Stage]) -> None:
        """The bound on fresh data under the calibrated guard, less the calibrated one."""
        if not found.feasible:
            return
        cases = max(self.n_t // 4, 2000)
        shard, _ = self.data("fresh", self.guard(classifier, found.tau), cases, stages, False)
        plain = 0.0  # of data in which nothing is unsafe
        c = self.config
        if c.choice.rule == "priced":
            plain = bound_at(-float(found.tau), classifier, self.agent, shard, PlugIn(), c.choice.width)
        elif (shard.unsafe == 1).any():
            fresh = curves_of(classifier, self.agent, [shard], PlugIn(), c.evaluation.calibrate)
            plain = float(fresh.bound(found.tau)[0])
        self.note("fresh_bound", plain, cases, found.radius, r_t=found.r_t)
        self.note("gap", plain - found.bound, cases, found.radius, r_t=found.r_t)

    def note(self, metric: str, value: float, n: int, radius: float, **more: Any) -> None:
        """One row about calibration."""
        constants = {"method": self.config.name, "n_t": self.n_t, "xi": radius}
        self.context.record([{**constants, **more, "metric": metric, "value": value, "n": n}])

    def evaluate(self, classifier: Classifier, found: dict[float, Calibrated]) -> None:
        """Episodes at every threshold, then the agents without a guard."""
        c = self.config.evaluation
        weights = dict(classifier.state_dict())
        seed = self.context.seeds.integer("episodes")
        jobs: list[Job] = []
        for r_t, calibrated in found.items():
            radius = calibrated.radius
            constants = {"method": self.config.name, "r_t": r_t, "n_t": self.n_t, "xi": radius}
            for metric in ("bound", "acceptance"):
                self.note(metric, getattr(calibrated, metric), self.n_t, radius, r_t=r_t)
            tau = np.asarray(calibrated.tau)
            if np.isfinite(tau).any():  # of one for every candidate, the mean of those in use
                self.note("tau", float(tau[np.isfinite(tau)].mean()), self.n_t, radius, r_t=r_t)
            steps = c.steps_at_r_t if r_t == self.config.r_t else c.steps
            jobs += blocks(self.config, constants, steps, self.path, seed, weights, calibrated.tau)
        for name in self.config.baselines():
            knob = float(name.split("_")[-1]) if name.split("_")[-1].replace(".", "").isdigit() else np.nan
            method = name.removesuffix("_" + name.split("_")[-1]) if np.isfinite(knob) else name
            constants = {"method": method, "knob": knob}
            jobs += blocks(self.config, constants, c.baseline_steps, self.config.agent_file(name), seed)
        tables: dict[str, list[pd.DataFrame]] = {}
        entered: list[pd.DataFrame] = []
        depends = {"blocks": [job.key for job in jobs]}
        with self.context.stage("safetygym_episodes", depends, code=self.evaluate) as stage:
            results = stage.spread(self.context.engine, tasks(jobs), FORM, "episodes")
            for job, (table, found_entries) in zip(jobs, results, strict=True):
                tables.setdefault(job.group, []).append(table)
                if job.weights is not None:
                    entered.append(
                        found_entries.assign(r_t=job.constants["r_t"], tau=float(np.mean(job.tau)))
                    )
        entries.write(pd.concat(entered), self.context.directory)
        constants = {job.group: job.constants for job in jobs}
        kept = []
        for group, parts in tables.items():
            table, about = pd.concat(parts), constants[group]
            self.context.record(summarise(table, about))
            kept.append(
                records.episodes(table, **{k: about[k] for k in ("method", "r_t", "knob") if k in about})
            )
        records.write(kept, self.context.directory)


Curves = Calibration | CandidateCalibration


def curves_of(classifier: Classifier, agent: Agent, data: list[Shard], rule: Rule, mode: str) -> Curves:
    """Calibrations on internal test data, for the event that `mode` names."""
    if mode == "candidate":
        return CandidateCalibration(classifier, agent, data, rule)
    return Calibration(classifier, agent, data, rule, mode)


def same_tau(tau: float | np.ndarray) -> tuple[float, ...]:
    """A threshold, or one for every candidate, as a key."""
    return tuple(np.atleast_1d(tau).tolist())


def strictest_first(taus: Iterable[float | np.ndarray]) -> list[float | np.ndarray]:
    """Different thresholds under which something, not everything, is accepted."""
    by_value = {same_tau(tau): tau for tau in taus if np.isfinite(tau).any()}
    return [by_value[key] for key in sorted(by_value, key=lambda key: (sum(np.clip(key, -1e9, 1e9)), key))]


def run(config: SafetyGymConfig, context: RunContext) -> None:
    """The experiment; its rows are recorded as they come."""
    Experiment(config, context).run()


def report(config: SafetyGymConfig, directory: Path, frame: pd.DataFrame) -> str:
    """What is printed at the end: the table of methods and where the pictures are."""
    return report_text(directory, {"guarded episode": directory / "episode.gif"}, config.agents_of)
