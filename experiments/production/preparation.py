"""One run of production prepared: data, problem and networks at hand, networks from the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from experiments.production.config import ProductionConfig
from experiments.production.demand import eia, synthetic
from experiments.production.demand.series import HOURS_PER_WEEK, DemandData, Quarter
from experiments.production.evaluation import Evaluation
from experiments.production.guard import tailored
from experiments.production.guard.calibration import require_both_classes, weekly_radius
from experiments.production.models import supervised
from experiments.production.models.networks import Inputs, SequenceNetwork
from experiments.production.planning import ProductionProblem
from experiments.support.runs.running import RunContext
from experiments.support.runs.stages import Stage
from experiments.support.tailoring_settings import measurements
from experiments.support.weights import digest_of, save_weights
from safeframe.training import loop
from safeframe.training.tailored import tailor
from safeframe.types import SQRT2

_TRAINING_KEYS = ("data", "problem", "model", "seed", "training")


def load_data(config: ProductionConfig) -> DemandData:
    """The configured demand series as cases."""
    c = config.data
    window = {
        "lookback": c.lookback,
        "lead": c.lead,
        "hours_per_quarter": c.hours_per_quarter,
        "order": tuple(c.order),
    }
    if c.source == "eia":
        return eia.load_eia(str(c.path), columns=c.columns, skip_quarters=c.skip_quarters, **window)
    return synthetic.synthetic(config.seed, **window)


def load_problem(config: ProductionConfig) -> ProductionProblem:
    """The configured planning problem."""
    given = {name: value for name, value in vars(config.problem).items() if value is not None}
    return ProductionProblem(**given)


class Experiment:
    """One run: data, problem and networks at hand."""

    def __init__(self, config: ProductionConfig, context: RunContext):
        self.config, self.context = config, context
        self.made: dict[str, Any] = {}
        """Networks that others need, and what they predict (`trained`)."""
        self.problem = load_problem(config)
        self.data = load_data(config)
        self.inputs = Inputs(self.data, config.data.calendar)
        self.trained_on = [torch.from_numpy(cases) for cases in self._training_cases(False)]
        self.held_out = np.concatenate(self._training_cases(True))
        """Cases that no training sees, to choose among checkpoints."""
        self.test = self._internal_test()
        measured, halves = config.fixed_radius() is None, "guard" in config.evaluation.parts
        for index, where, weeks in (
            (self.trained_on[1].numpy(), "the internal test quarter for training", measured),
            (self.test, "the internal test quarter for validation", measured or halves),
        ):
            unsafe, hour = self.data.unsafe[index], self.data.target_hour[index]
            require_both_classes(unsafe, hour, self.data.names, where, weeks, measured)
        self.evaluation = Evaluation(config, self.problem, self.data, self.inputs, self.test)

    def _training_cases(self, held_out: bool) -> list[np.ndarray]:
        """Cases of both quarters trained on: those of the weeks held out, or the others."""
        found = []
        for quarter in (Quarter.TRAINING, Quarter.INTERNAL_TEST_TRAINING):
            cases = self.data.where(quarter)
            out = self.config.tailoring.held_out(self.data.target_hour[cases] // HOURS_PER_WEEK)
            found.append(cases[out if held_out else ~out])
        return found

    def _internal_test(self) -> np.ndarray:
        """Cases to calibrate on: the last quarter, or n_t of its hours spread evenly by chance."""
        index = self.data.where(Quarter.INTERNAL_TEST_VALIDATION)
        n_t = self.config.evaluation.n_t
        if n_t is None or n_t >= len(index):
            return index
        return np.sort(self.context.seeds.generator("n_t").choice(index, n_t, replace=False))

    def network(
        self,
        name: str,
        outputs: int,
        hidden: int,
        loss: supervised.BatchLoss,
        depends: dict | None = None,
        kind: type[nn.Module] = SequenceNetwork,
    ) -> nn.Module:
        """A supervised network, from the cache if it has been trained before."""

        def compute(stage: Stage) -> nn.Module:
            return supervised.fit(
                self.inputs,
                torch.cat(self.trained_on),
                outputs,
                hidden,
                self.context.watched(name, loss),
                self.config.training,
                self.context.seeds.integer(name),
                stage.checkpoint,
                lambda steps: self._progress(steps, name),
                kind,
            )

        return self._cached(name, outputs, hidden, compute, depends or {}, kind)

    def tailored(self, name: str, warm: nn.Module, predicted: np.ndarray, conservative: bool) -> nn.Module:
        """The warm-up classifier trained on by the approximate loss at the run's r_t."""
        config = self.config

        def compute(stage: Stage) -> nn.Module:
            own = config.training
            actions = tailored.planning_actions(
                self.problem,
                predicted,
                self.data.demand.astype(np.float64),
                self.data.unsafe,
                own.perturbation,
                own.violation_cost,
            )
            shift = self._relative_shift(warm) if conservative else torch.zeros(self.problem.n_products)
            first, second = self.trained_on
            problem = tailored.PlanningProblem(
                self.inputs, actions, (first, second), shift, own.inputs, own.test_cases
            )
            settings = config.tailoring.of(
                config.r_t,
                loop.TrainingSettings(own.steps, own.tailored_rate, one_cycle=False, average=own.average),
                own.penalty,
                own.perturbation,
                own.temperature,
                own.temperature_output,
                config.tailoring.anchor,
            )
            fold = tailored.planning_fold(self.inputs, self.held_out, self.data.target_hour)
            seed = self.context.seeds.integer("tailored")
            found = tailor(
                warm, problem, settings, seed, fold, stage.checkpoint,
                lambda steps: self._progress(steps, name),
            )  # fmt: skip
            for key, value in measurements(found.report, name).items():
                self.context.measured(key, value)
            return found.module

        depends = {"r_t": config.r_t, "warm": digest_of(warm.state_dict()), "predicted": predicted}
        if conservative:
            depends |= {"xi": config.evaluation.xi, "trim": config.evaluation.xi_trim}
        outputs, hidden = self.problem.n_products, config.model.classifier_hidden
        return self._cached(name, outputs, hidden, compute, depends)

    def _relative_shift(self, warm: nn.Module) -> torch.Tensor:
        """(p,) sqrt(2) xi over the spread of the warm-up margins on the second quarter trained on."""
        index = self.data.where(Quarter.INTERNAL_TEST_TRAINING)
        margin, unsafe = self.inputs.outputs(warm)[index], self.data.unsafe[index].astype(np.int64)
        hour, trim = self.data.target_hour[index], self.config.evaluation.xi_trim
        fixed = self.config.fixed_radius()
        radius = [
            weekly_radius(margin[:, i], unsafe[:, i], hour, trim) if fixed is None else fixed
            for i in range(margin.shape[1])
        ]
        return torch.tensor(SQRT2 * np.array(radius) / margin.std(axis=0), dtype=torch.float32)

    def _cached(
        self,
        name: str,
        outputs: int,
        hidden: int,
        compute: Any,
        depends: dict,
        kind: type[nn.Module] = SequenceNetwork,
    ) -> nn.Module:
        products, calendar = self.problem.n_products, self.inputs.calendar.shape[1]

        def load(path: Path) -> nn.Module:
            network = kind(products, outputs, hidden, calendar)
            network.load_state_dict(torch.load(path, weights_only=True))
            return network.eval()

        later = ("tailoring",) if self.context.has("tailoring") else ()
        keys = {key: self.context.value(key) for key in (*_TRAINING_KEYS, *later)} | depends
        return self.context.cache(
            name,
            keys,
            compute,
            lambda network, path: save_weights(network.state_dict(), path),
            load,
            ".pt",
        )

    def _progress(self, steps: range, name: str) -> Any:
        return self.context.progress(steps, name, total=len(steps))
