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

import numpy as np
import pandas as pd
import torch

from experiments.production import deployment
from experiments.production.config import ProductionConfig
from experiments.production.demand.series import UNSAFE_BELOW
from experiments.production.models import supervised
from experiments.production.planning import plan
from experiments.production.preparation import Experiment
from experiments.production.records import WEEKLY
from experiments.production.reporting import decomposition
from experiments.production.reporting import deployment as deployment_report
from experiments.production.reporting.figures import draw, summary
from experiments.support.files import atomic_path
from experiments.support.results.saved import of_directory
from experiments.support.runs.running import RunContext

MARGINS = np.round(np.linspace(0.0, 6.0, 31), 3)  # knob of two_stage, demand units
SPREADS = np.round(np.linspace(0.0, 8.0, 33), 3)  # knob of mean_variance, predicted standard deviations


def run(config: ProductionConfig, context: RunContext) -> pd.DataFrame:
    """All methods on one seed; see the module's text. With guards in service: `deployment`."""
    if config.service.methods:
        return deployment.run(config, context)
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
    if config.service.methods:
        saved = [of_directory(directory, finished=False)]
        return "\n\n".join([deployment_report.summary(saved), decomposition.summary(saved)])
    paths = draw(directory)
    return "\n".join([summary(directory), "", "figures:", *(f"  {path}" for path in paths)])
