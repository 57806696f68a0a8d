"""Production planning end to end: train, calibrate, plan, count.

Source: arXiv 2504.20924, production planning and figure 2.

Quarters: networks are trained on the training quarter and the internal test quarter for training, every
method on the same cases; thresholds are chosen on the internal test quarter for validation; revenue and
violations are counted on the validation quarter.

Methods:

- ours: classifier trained by the approximate loss with conservative testing; conservative bound
- ours_xi_0: the same with radius 0 in training and in the bound
- ours_certified: the classifier of ours, thresholds by fixed-sequence testing (finite-sample certificate)
- cross_entropy, cross_entropy_xi_0: the warm-up classifier with the same bias correction; radius as ours, 0
- mean_variance: make what has predicted mean - knob * spread >= 3
- two_stage: make what has predicted demand >= 3 + knob
- end_to_end: a network from measurement to amounts, one for each penalty (knob) on unsafe amounts
- oracle: knows the demand
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from experiments.production.config import ProductionConfig
from experiments.production.demand import eia, synthetic
from experiments.production.demand.series import UNSAFE_BELOW, DemandData, Quarter
from experiments.production.evaluation import Evaluation
from experiments.production.guard import tailored
from experiments.production.guard.calibration import require_both_classes, weekly_radius
from experiments.production.models import supervised
from experiments.production.models.networks import Inputs, SequenceNetwork
from experiments.production.planning import ProductionProblem, plan
from experiments.production.records import WEEKLY
from experiments.production.reporting.figures import draw, summary
from experiments.support.files import atomic_path
from experiments.support.runs.running import RunContext
from experiments.support.runs.stages import Stage
from experiments.support.weights import digest_of
from safeframe.training import loop
from safeframe.types import SQRT2

MARGINS = np.round(np.linspace(0.0, 6.0, 31), 3)  # knob of two_stage, demand units
SPREADS = np.round(np.linspace(0.0, 8.0, 33), 3)  # knob of mean_variance, predicted standard deviations
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
        return eia.load_eia(str(c.path), columns=c.columns, **window)
    return synthetic.synthetic(config.seed, **window)


def load_problem(config: ProductionConfig) -> ProductionProblem:
    """The configured planning problem."""
    given = {name: value for name, value in vars(config.problem).items() if value is not None}
    return ProductionProblem(**given)


class Experiment:
    """One run: data, problem and networks at hand."""

    def __init__(self, config: ProductionConfig, context: RunContext):
        self.config, self.context = config, context
        self.problem = load_problem(config)
        self.data = load_data(config)
        self.inputs = Inputs(self.data, config.data.calendar)
        self.trained_on = [
            torch.from_numpy(self.data.where(quarter))
            for quarter in (Quarter.TRAINING, Quarter.INTERNAL_TEST_TRAINING)
        ]
        self.test = self._internal_test()
        for index, where in (
            (self.trained_on[1].numpy(), "the internal test quarter for training"),
            (self.test, "the internal test quarter for validation"),
        ):
            unsafe, hour = self.data.unsafe[index], self.data.target_hour[index]
            require_both_classes(unsafe, hour, self.data.names, where, config.fixed_radius() is None)
        self.evaluation = Evaluation(config, self.problem, self.data, self.inputs, self.test)

    def _internal_test(self) -> np.ndarray:
        """Cases to calibrate on: the last quarter, or n_t of its hours spread evenly by chance."""
        index = self.data.where(Quarter.INTERNAL_TEST_VALIDATION)
        n_t = self.config.evaluation.n_t
        if n_t is None or n_t >= len(index):
            return index
        return np.sort(self.context.seeds.generator("n_t").choice(index, n_t, replace=False))

    def network(
        self, name: str, outputs: int, hidden: int, loss: supervised.BatchLoss, depends: dict | None = None
    ) -> nn.Module:
        """A supervised network, from the cache if it has been trained before."""

        def compute(stage: Stage) -> nn.Module:
            return supervised.fit(
                self.inputs,
                torch.cat(self.trained_on),
                outputs,
                hidden,
                loss,
                self.config.training,
                self.context.seeds.integer(name),
                stage.checkpoint,
                lambda steps: self._progress(steps, name),
            )

        return self._cached(name, outputs, hidden, compute, depends or {})

    def tailored(self, name: str, warm: nn.Module, predicted: np.ndarray, conservative: bool) -> nn.Module:
        """The warm-up classifier trained on by the approximate loss at the run's r_t."""
        config = self.config

        def compute(stage: Stage) -> nn.Module:
            cases = tailored.PlanningCases(
                self.problem,
                predicted,
                self.data.demand.astype(np.float64),
                self.data.unsafe,
                config.training.perturbation,
                config.training.violation_cost,
            )
            shift = self._relative_shift(warm) if conservative else torch.zeros(self.problem.n_products)
            first, second = self.trained_on
            loss = tailored.tailored_loss(
                self.inputs, cases, (first, second), config.r_t, shift, config.training
            )
            settings = loop.TrainingSettings(
                config.training.steps,
                config.training.tailored_rate,
                one_cycle=False,
                average=config.training.average,
            )
            seed = self.context.seeds.integer("tailored")
            return loop.train(
                warm, loss, settings, seed, stage.checkpoint, lambda steps: self._progress(steps, name)
            )

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

    def _cached(self, name: str, outputs: int, hidden: int, compute: Any, depends: dict) -> nn.Module:
        products, calendar = self.problem.n_products, self.inputs.calendar.shape[1]

        def load(path: Path) -> nn.Module:
            network = SequenceNetwork(products, outputs, hidden, calendar)
            network.load_state_dict(torch.load(path, weights_only=True))
            return network.eval()

        keys = {key: self.context.value(key) for key in _TRAINING_KEYS} | depends
        return self.context.cache(
            name,
            keys,
            compute,
            lambda network, path: torch.save(network.state_dict(), path),
            load,
            ".pt",
        )

    def _progress(self, steps: range, name: str) -> Any:
        return self.context.progress(steps, name, total=len(steps))


def run(config: ProductionConfig, context: RunContext) -> pd.DataFrame:
    """All methods on one seed; see the module's text."""
    this = Experiment(config, context)
    p, hidden, small = this.problem.n_products, config.model.hidden, config.model.classifier_hidden
    counting, validation = this.evaluation, this.evaluation.validation

    demand_network = this.network("demand", p, hidden, supervised.demand_loss(this.inputs))
    gaussian = this.network("gaussian", 2 * p, hidden, supervised.gaussian_loss(this.inputs))
    warm = this.network("cross_entropy", p, small, supervised.cross_entropy(this.inputs))
    predicted = this.inputs.outputs(demand_network)
    ours = this.tailored("tailored", warm, predicted, conservative=True)
    ours_xi_0 = this.tailored("tailored_xi_0", warm, predicted, conservative=False)

    with context.stage("evaluation"):
        radius = config.fixed_radius()
        counting.guarded("ours", ours, predicted, radius)
        counting.guarded("ours_xi_0", ours_xi_0, predicted, 0.0)
        counting.certified("ours_certified", ours, predicted)
        counting.guarded("cross_entropy", warm, predicted, radius)
        counting.guarded("cross_entropy_xi_0", warm, predicted, 0.0)
        for knob in MARGINS:
            gate = predicted[validation] >= UNSAFE_BELOW + knob
            counting.count("two_stage", plan(this.problem, predicted[validation], gate).action, knob=knob)
        mean, spread = (
            part.double().numpy()
            for part in supervised.mean_and_spread(
                torch.from_numpy(this.inputs.outputs(gaussian)[validation])
            )
        )
        for knob in SPREADS:
            gate = mean - knob * spread >= UNSAFE_BELOW
            counting.count("mean_variance", plan(this.problem, mean, gate).action, knob=knob)
        true = this.data.demand[validation].astype(np.float64)
        counting.count("oracle", plan(this.problem, true, true >= UNSAFE_BELOW).action)

    for penalty in config.evaluation.penalties:
        loss = supervised.decision_loss(this.inputs, this.problem, penalty)
        network = this.network(f"end_to_end_{penalty:g}", p, hidden, loss, {"penalty": penalty})
        output = torch.from_numpy(this.inputs.outputs(network)[validation])
        counting.count("end_to_end", supervised.decide(this.problem, output).numpy(), knob=penalty)

    with atomic_path(context.directory / f"{WEEKLY}.parquet") as path:
        pd.concat(counting.weekly, ignore_index=True).to_parquet(path, index=False)
    return pd.DataFrame(counting.rows)


def report(config: ProductionConfig, directory: Path, frame: pd.DataFrame) -> str:
    """The summary that a run prints at its end, with the paths of its figures."""
    paths = draw(directory)
    return "\n".join([summary(directory), "", "figures:", *(f"  {path}" for path in paths)])
