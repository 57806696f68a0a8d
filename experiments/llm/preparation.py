"""One run of language generation prepared: pools, texts as tables, classifiers and their margins."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from experiments.llm.answers import recorded
from experiments.llm.answers.features import save_array
from experiments.llm.answers.pools import SPLITS, Pool
from experiments.llm.answers.recorded_source import RecordedSource
from experiments.llm.assembly import backend_of, make_source
from experiments.llm.config import LLMConfig
from experiments.llm.guard import classifier, tailored, trained_weights
from experiments.llm.guard.backends import place_of, spread
from experiments.llm.guard.calibration import Calibrator
from experiments.llm.margins import spread_margins
from experiments.support.runs.ahead import Part, ahead
from experiments.support.runs.running import RunContext
from experiments.support.runs.stages import Stage
from experiments.support.tailoring_settings import measurements
from safeframe.training import loop
from safeframe.training.never_harm import SelectionFold
from safeframe.training.tailored import Fold, tailor
from safeframe.types import SQRT2

HELD_OUT = "held_out"
"""Training prompts that no training sees (`tailoring.selection_share`)."""
_KEYS = ("source", "data", "pools", "seed", "classifier", "models")


class Experiment:
    """One run: pools, tables and classifiers at hand."""

    def __init__(self, settings: LLMConfig, context: RunContext):
        self.config, self.context = settings, context
        with context.stage("pools"):
            self.source = make_source(settings, context)
            self.pool: dict[str, Pool] = {}
            for split in SPLITS:
                wanted = getattr(settings.pools, split)
                if isinstance(self.source, RecordedSource):
                    wanted = min(wanted, len(self.source.rows[split]))
                self.pool[split] = self.source.pool(split, wanted)
                found = self.pool[split]
                recorded.require_both(found.harmful[found.mask], f"prompts for {split}")
        out = settings.tailoring.held_out(np.arange(len(self.pool["train"].prompt)))
        if out.any():
            self.pool[HELD_OUT] = self.pool["train"].subset(out)
            self.pool["train"] = self.pool["train"].subset(~out)
        self.backend = backend_of(self.source, settings)
        tables = {split: self.backend.table(pool) for split, pool in self.pool.items()}
        self.table = {split: table for split, (table, _) in tables.items()}
        states = getattr(self.backend, "hidden", None)
        self.cut = states.cut if states is not None else sum(cut for _, cut in tables.values())

    def lora(self, name: str) -> bool:
        """Whether adapters of a classifier are trained, or all of its weights."""
        all_of_ours = self.config.classifier.fully_tuned and self.config.capacity.weights == "all"
        return name != "fully_tuned" and not (name == "ours" and all_of_ours)

    def classifier(self, name: str) -> nn.Module:
        """A classifier trained by cross-entropy on the training prompts, from the cache if there is one."""
        settings, pool, lora = self.config.classifier, self.pool["train"], self.lora(name)
        rate = settings.learning_rate if lora else settings.full_learning_rate
        steps = max(1, round(settings.epochs * len(self.table["train"]) / settings.batch))

        def compute(stage: Stage) -> nn.Module:
            loss = classifier.cross_entropy(self.table["train"], pool.harmful[pool.mask], settings.batch)
            schedule = loop.TrainingSettings(
                steps, rate, settings.weight_decay, checkpoint_every=settings.checkpoint_every
            )
            seed = self.context.seeds.integer(name)
            fresh = self.backend.new(lora, seed)
            watched = self.context.watched(name, loss)
            return loop.train(fresh, watched, schedule, seed, stage.checkpoint, self._progress(name))

        return self._cached(name, lora, compute, {})

    def tailored(self, warm: nn.Module, margin: np.ndarray) -> nn.Module:
        """The warm-up classifier trained on by the approximate loss at the run's r_t; margin (n, k): its own
        on the training prompts.
        """
        settings, pool = self.config.tailored, self.pool["train"]

        def compute(stage: Stage) -> nn.Module:
            default = self.source.default_reward(pool.prompt)
            actions = tailored.answer_actions(
                pool.reward, pool.harmful, pool.mask, default, settings.harm_cost
            )
            problem = tailored.AnswerProblem(
                self.table["train"], place_of(pool), pool.harmful[pool.mask], actions,
                self._relative_shift(margin), settings.inputs, settings.test_cases,
                self.config.tailoring.micro_batch,
            )  # fmt: skip
            schedule = loop.TrainingSettings(
                settings.steps, settings.learning_rate, one_cycle=False, average=settings.average,
                checkpoint_every=max(1, self.config.classifier.checkpoint_every // 10),
            )  # fmt: skip
            chosen = self.config.tailoring.of(
                self.config.r_t, schedule, settings.penalty, settings.perturbation, settings.temperature,
                settings.temperature_output, settings.anchor,
            )  # fmt: skip
            seed = self.context.seeds.integer("tailored")
            found = tailor(
                warm, problem, chosen, seed, self._fold(), stage.checkpoint, self._progress("tailored")
            )
            for key, value in measurements(found.report).items():
                self.context.measured(key, value)
            return found.module

        depends = {name: self.context.value(name) for name in ("r_t", "tailored")}
        depends |= {"xi": self.config.evaluation.xi, "xi_mass": self.config.evaluation.xi_mass}
        depends |= {"warm": trained_weights.digest(warm), "margin": margin}
        return self._cached("tailored", self.lora("ours"), compute, depends)

    def _fold(self) -> Fold | None:
        """Candidates of the prompts that no training saw, to choose among checkpoints; prompts are blocks."""
        if HELD_OUT not in self.pool:
            return None
        pool, table = self.pool[HELD_OUT], self.table[HELD_OUT]
        cases = SelectionFold(pool.harmful[pool.mask].astype(np.int64), block=np.nonzero(pool.mask)[0])
        return Fold(cases, lambda module: classifier.margins(module, table))

    def _relative_shift(self, margin: np.ndarray) -> float:
        """sqrt(2) xi over the spread of the warm-up margins on the training prompts."""
        fixed, pool = self.config.fixed_radius(), self.pool["train"]
        if fixed is None:
            fixed = Calibrator(margin, pool).radius(self.config.r_t, self.config.evaluation.xi_mass)
        return SQRT2 * fixed / float(margin[pool.mask].std())

    def margin(self, name: str, module: nn.Module, split: str) -> np.ndarray:
        """(n, k) margins of a split's candidates, +inf where there is none; from the cache if these weights
        have judged them before. The manifest says how many texts a second when it judges.
        """

        def compute(stage: Stage) -> np.ndarray:
            started, table = time.process_time(), self.table[split]
            if self.context.engine.elsewhere:
                lora, rows = self.lora(name), self.backend.rows
                return spread_margins(stage, self.context.engine, self.config, module, lora, table, rows)
            flat = classifier.margins(module, table, self.backend.rows, self._progress(f"{name}, {split}"))
            seconds = max(time.process_time() - started, 1e-9)
            if split == "validation":
                self.context.measured(f"texts_per_cpu_second.{name}", len(table) / seconds)
            return flat

        depends = self._keys() | {"split": split, "weights": trained_weights.digest(module)}
        flat = self.context.cache("margins", depends, compute, save_array, np.load, ".npy")
        return spread(flat, self.pool[split])

    def calibration_pool(self) -> Pool:
        """Internal test prompts, as many as have `evaluation.n_t` labelled candidates together."""
        pool, n_t = self.pool["internal_test"], self.config.evaluation.n_t
        if n_t is None:
            return pool
        counts = np.cumsum(pool.mask.sum(axis=1))
        return pool.subset(np.arange(max(2, int(np.searchsorted(counts, n_t, side="right")))))

    def _cached(self, name: str, lora: bool, compute: Any, depends: dict) -> nn.Module:
        keys = self._keys() | depends
        seed = self.context.seeds.integer("tailored" if name == "tailored" else name)

        def load(path: Path) -> nn.Module:
            return trained_weights.load_trained(self.backend.new(lora, seed), path)

        return self.context.cache(name, keys, compute, trained_weights.save_trained, load, ".pt")

    def _keys(self) -> dict[str, Any]:
        content = vars(self.config)
        later = [name for name in ("tailoring", "prepared", "frozen") if self.context.has(name)]
        return {key: self.context.value(key) for key in (*_KEYS, *later) if key in content}

    def _progress(self, name: str) -> Any:
        return lambda steps: self.context.progress(steps, name, total=len(steps))


def classifiers_ahead(this: Experiment) -> None:
    """Train the classifiers that begin from nothing on an engine's workers."""
    names = ["cross_entropy"] + ["fully_tuned"] * this.config.classifier.fully_tuned
    ahead(this.context, [Part(name, _train, (name,)) for name in names])


def tailored_ahead(this: Experiment) -> None:
    """Train ours on a worker, with one thread as the others."""
    ahead(this.context, [Part("tailored", _train, ("ours",))])


def _train(settings: LLMConfig, context: RunContext, name: str) -> None:
    """In a worker: one classifier, into the cache; what it begins with is there."""
    this = Experiment(settings, context)
    if name != "ours":
        this.classifier(name)
        return
    start = "cross_entropy" if this.lora("ours") else "fully_tuned"
    module = this.classifier(start)
    this.tailored(module, this.margin(start, module, "train"))
