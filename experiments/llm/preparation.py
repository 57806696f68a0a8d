"""One run of language generation prepared: pools, texts as tables, classifiers and their margins."""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from experiments.llm.answers import recorded
from experiments.llm.answers.features import save_array
from experiments.llm.answers.pools import SPLITS, Pool
from experiments.llm.answers.recorded_source import RecordedSource
from experiments.llm.assembly import backend_of, make_source
from experiments.llm.capacity import Capacity
from experiments.llm.config import LLMConfig
from experiments.llm.guard import classifier, tailored, trained_weights
from experiments.llm.guard.backends import place_of, spread
from experiments.llm.guard.calibration import Calibrator
from experiments.llm.guard.held_out import HeldOut, best, held_out
from experiments.llm.margins import spread_margins
from experiments.support.runs.ahead import Part, ahead
from experiments.support.runs.running import RunContext
from experiments.support.runs.stages import Stage
from experiments.support.tailoring_settings import measurements
from safeframe.training import loop
from safeframe.training.never_harm import SelectionFold
from safeframe.training.tailored import Fold, tailor
from safeframe.types import SQRT2

CHOSEN = "chosen"
"""The classifier of the best capacity (`capacity.weights=best`)."""
HELD_OUT = "held_out"
"""Training prompts that no training sees (`tailoring.selection_share`)."""
_KEYS = ("source", "data", "pools", "seed", "classifier", "models")


class Experiment:
    """One run: pools, tables and classifiers at hand.

    Attributes:
        chosen: the capacity of all classifiers, once `choose_capacity` has found it.
    """

    chosen: Capacity | None = None

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

    @property
    def start(self) -> str:
        """The classifier that ours begins with."""
        return {"lora": "cross_entropy", "all": "fully_tuned", "best": CHOSEN}[self.config.capacity.weights]

    def classifiers(self) -> dict[str, nn.Module]:
        """What is trained by cross-entropy alone: "cross_entropy" and, if it is wanted, "fully_tuned". Where
        the best capacity is wanted, both are the one of that capacity.
        """
        if self.start == CHOSEN:
            return dict.fromkeys((CHOSEN, "cross_entropy", "fully_tuned"), self.classifier(CHOSEN))
        names = ["cross_entropy"] + ["fully_tuned"] * self.config.classifier.fully_tuned
        return {name: self.classifier(name) for name in names}

    def capacity(self, name: str) -> Capacity:
        """What is trained of a classifier: "cross_entropy", "fully_tuned", `CHOSEN` or "ours"."""
        if self.config.capacity.weights == "best":
            assert self.chosen is not None, "choose_capacity comes first"
            return self.chosen
        name = self.start if name == "ours" else name
        return Capacity("all") if name == "fully_tuned" else Capacity("lora", self.config.classifier.rank)

    @cached_property
    def folds(self) -> np.ndarray:
        """(n,) to which fold a training prompt belongs, by chance and evenly."""
        n = len(self.pool["train"].prompt)
        return self.context.seeds.generator("folds").permutation(np.arange(n) % self.config.capacity.folds)

    def unseen(self, capacity: Capacity) -> np.ndarray:
        """(n, k) margins of the training prompts, by classifiers that were trained on the other folds."""
        modules = [self.of_fold(capacity, fold) for fold in range(self.config.capacity.folds)]
        table, mask = self.table["train"], self.pool["train"].mask

        def compute(stage: Stage) -> np.ndarray:
            flat, belongs = np.empty(len(table)), np.nonzero(mask)[0]
            for fold, module in enumerate(modules):
                rows = np.flatnonzero(self.folds[belongs] == fold)
                progress = self._progress(f"{capacity}, fold {fold}")
                flat[rows] = classifier.margins(module, table.take(rows), self.backend.rows, progress)
            return flat

        depends = self._keys() | {"weights": [trained_weights.digest(module) for module in modules]}
        flat = self.context.cache("held_out_margins", depends, compute, save_array, np.load, ".npy")
        return spread(flat, self.pool["train"])

    def of_fold(self, capacity: Capacity, fold: int) -> nn.Module:
        """A classifier of a capacity, trained on the training prompts of all folds but one."""
        return self._fitted(f"{capacity.slug}_without_fold_{fold}", capacity, self.folds != fold)

    def classifier(self, name: str) -> nn.Module:
        """A classifier trained by cross-entropy on the training prompts, from the cache if there is one."""
        return self._fitted(name, self.capacity(name))

    def _fitted(self, name: str, capacity: Capacity, prompts: np.ndarray | None = None) -> nn.Module:
        """A classifier trained by cross-entropy on some training prompts, (n,) bool; None: all of them."""
        if capacity.members > 1:
            each = [f"{name}_{member}" for member in range(capacity.members)]
            return classifier.Ensemble([self._fitted(one, capacity.one, prompts) for one in each])
        settings, table, pool = self.config.classifier, self.table["train"], self.pool["train"]
        label = pool.harmful[pool.mask]
        if prompts is not None:
            rows = np.flatnonzero(prompts[np.nonzero(pool.mask)[0]])
            table, label = table.take(rows), label[rows]
        rate = settings.full_learning_rate if capacity.training == "all" else settings.learning_rate
        steps = max(1, round(settings.epochs * len(table) / settings.batch))

        def compute(stage: Stage) -> nn.Module:
            loss = classifier.cross_entropy(table, label, settings.batch)
            schedule = loop.TrainingSettings(
                steps, rate, settings.weight_decay, checkpoint_every=settings.checkpoint_every
            )
            seed = self.context.seeds.integer(name)
            fresh = self.backend.new(capacity, seed)
            watched = self.context.watched(name, loss)
            return loop.train(fresh, watched, schedule, seed, stage.checkpoint, self._progress(name))

        depends: dict[str, Any] = (
            {} if name in ("cross_entropy", "fully_tuned") else {"capacity": str(capacity)}
        )
        if prompts is not None:
            depends["prompts"] = prompts
        return self._cached(name, capacity, compute, depends)

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
        return self._cached("tailored", self.capacity("ours"), compute, depends)

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
                return spread_margins(
                    stage, self.context.engine, self.config, module, self.capacity(name), table,
                    self.backend.rows,
                )  # fmt: skip
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

    def _cached(self, name: str, capacity: Capacity, compute: Any, depends: dict) -> nn.Module:
        keys, seed = self._keys() | depends, self.context.seeds.integer(name)

        def load(path: Path) -> nn.Module:
            return trained_weights.load_trained(self.backend.new(capacity, seed), path)

        return self.context.cache(name, keys, compute, trained_weights.save_trained, load, ".pt")

    def _keys(self) -> dict[str, Any]:
        content = vars(self.config)
        later = [name for name in ("tailoring", "prepared", "frozen") if self.context.has(name)]
        return {key: self.context.value(key) for key in (*_KEYS, *later) if key in content}

    def _progress(self, name: str) -> Any:
        return lambda steps: self.context.progress(steps, name, total=len(steps))


def choose_capacity(this: Experiment) -> dict[Capacity, HeldOut]:
    """Take the best of capacity.among where it is wanted, and say what each of them comes to on training
    prompts that it has not seen; none where it is not.
    """
    settings, pool = this.config, this.pool["train"]
    if settings.capacity.weights != "best":
        return {}
    default = this.source.default_reward(pool.prompt)
    compared = {
        one: held_out(this.unseen(one), pool, default, this.folds, settings.r_t)
        for one in settings.capacities()
    }
    this.chosen = best(compared)
    return compared


def classifiers_ahead(this: Experiment) -> None:
    """Train the classifiers that begin from nothing on an engine's workers."""
    if this.config.capacity.weights == "best":
        folds = range(this.config.capacity.folds)
        each = [(one, fold) for one in this.config.capacities() for fold in folds]
        ahead(this.context, [Part(f"{one}, fold {fold}", _train_fold, (one, fold)) for one, fold in each])
        return
    names = ["cross_entropy"] + ["fully_tuned"] * this.config.classifier.fully_tuned
    ahead(this.context, [Part(name, _train, (name,)) for name in names])


def tailored_ahead(this: Experiment) -> None:
    """Train ours on a worker, with one thread as the others."""
    ahead(this.context, [Part("tailored", _train, ("ours",))])


def _train(settings: LLMConfig, context: RunContext, name: str) -> None:
    """In a worker: one classifier, into the cache; what it begins with is there."""
    this = Experiment(settings, context)
    choose_capacity(this)
    if name != "ours":
        this.classifier(name)
        return
    module = this.classifier(this.start)
    this.tailored(module, this.margin(this.start, module, "train"))


def _train_fold(settings: LLMConfig, context: RunContext, capacity: Capacity, fold: int) -> None:
    """In a worker: a classifier that has not seen one fold, into the cache."""
    Experiment(settings, context).of_fold(capacity, fold)


def compared_rows(this: Experiment, compared: dict[Capacity, HeldOut]) -> list[dict[str, Any]]:
    """Results: what each capacity came to on held-out training prompts, and which was taken."""
    rows: list[dict[str, Any]] = []
    n, r_t = len(this.pool["train"].prompt), this.config.r_t
    for one, found in compared.items():
        values = {"reward": found.reward, "auc": found.auc, "chosen": float(one == this.chosen)}
        for metric, value in values.items():
            at = {"method": f"capacity.{one}", "metric": f"held_out.{metric}", "r_t": r_t, "n": n}
            rows.append(at | {"value": value})
    return rows
