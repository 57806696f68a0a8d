"""Production planning end to end: train, calibrate, plan, count.

Source: arXiv 2504.20924, production planning and figure 2.

Quarters: networks are trained on the training quarter and the internal test quarter for training, every
method on the same cases; thresholds are chosen on the internal test quarter for validation; revenue and
violations are counted on the validation quarter.

Methods:

- ours: the guard as configured (`model.classifier`, `evaluation.{constraint,choice,calibration,rule}`)
- ours_<curve>: the same score under every constraint, choice and calibration (`guard.curves`)
- ours_knob: the same score without a promise, behind one threshold that is swept as the baselines' knobs are
- binary: the paper's: classifier trained by the approximate loss, conservative bound product by product
- binary_xi_0: the same with radius 0 in training and in the bound
- binary_certified: the classifier of binary, thresholds by fixed-sequence testing
- binary_cross_entropy, binary_cross_entropy_xi_0: its warm-up classifier, calibrated as binary; radius 0
- the paper's baselines: mean_variance (mean - knob * spread of the past hours >= 3; no network) and
  mean_variance_days (of the same hour of seven days); two_stage (predicted demand >= 3); end_to_end (a
  network from measurement to amounts, one for each penalty on unsafe amounts)
- strong baselines: forecast_law (a network of mean and spread: mean - knob * spread >= 3);
  forecast_law_errors (its log odds and its recent errors, joined as ours are); two_stage_margin (predicted
  demand >= 3 + knob); cross_entropy (margin of the warm-up classifier < - knob)
- <baseline>_chosen: its knob chosen on the calibration quarter for each r_t, not with hindsight
- truth: gates on the true probability (synthetic demand); oracle: knows the demand
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from experiments.production import deployment, trained
from experiments.production.config import ProductionConfig
from experiments.production.demand.series import UNSAFE_BELOW, Quarter
from experiments.production.demand.synthetic import truth_probability
from experiments.production.guard.curves import Curve, Guarded, all_curves
from experiments.production.guard.score import Calibrated, beside_law
from experiments.production.models import history, supervised
from experiments.production.planning import PlanTable
from experiments.production.preparation import Experiment
from experiments.production.records import PRODUCTS, WEEKLY
from experiments.production.reporting import decomposition
from experiments.production.reporting import deployment as deployment_report
from experiments.production.reporting.figures import draw, summary
from experiments.support.files import atomic_path
from experiments.support.results.saved import of_directory
from experiments.support.runs.running import RunContext
from safeframe.risk_scale.odds import log_odds

MARGINS = np.round(np.linspace(0.0, 6.0, 31), 3)  # knob of two_stage_margin, demand units
SPREADS = np.round(np.linspace(0.0, 8.0, 33), 3)  # of forecast_law, predicted standard deviations
PAST_SPREADS = np.round(np.linspace(-1.0, 3.0, 41), 3)  # of mean_variance, standard deviations of past hours
ODDS = np.round(np.linspace(-2.0, 14.0, 65), 3)  # of scores: log odds of a safe hour
_KNOWN = (Quarter.TRAINING, Quarter.INTERNAL_TEST_TRAINING, Quarter.INTERNAL_TEST_VALIDATION)


def run(config: ProductionConfig, context: RunContext) -> pd.DataFrame:
    """All methods on one seed; see the module's text. With guards in service: `deployment`."""
    if config.service.methods:
        return deployment.run(config, context)
    this = Experiment(config, context)
    trained.train_ahead(this)
    parts = config.evaluation.parts
    table = PlanTable(this.problem, trained.predicted(this))
    if "guard" in parts:
        risk = trained.risk(this)
        with context.stage("guard"):
            _guard(this, risk, table)
    if "binary" in parts:
        margins = [trained.margins(this), *(trained.tailored_margins(this, c) for c in (True, False))]
        with context.stage("binary"):
            _binary(this, *margins, table)
    if "baselines" in parts:
        _papers_baselines(this, table)
        _strong_baselines(this, table)
    _limits(this, table, "baselines" in parts)

    counting = this.evaluation
    for name, found in ((WEEKLY, counting.weekly), (PRODUCTS, counting.by_product)):
        if not found:
            continue
        with atomic_path(context.directory / f"{name}.parquet") as path:
            pd.concat(found, ignore_index=True).to_parquet(path, index=False)
    return pd.DataFrame(counting.rows)


def _guard(this: Experiment, risk: Calibrated, table: PlanTable) -> None:
    """Ours as configured, and under every constraint, choice and calibration."""
    counting, settings = this.evaluation, this.config.evaluation
    known = [this.data.where(quarter) for quarter in _KNOWN]
    guarded = Guarded(risk, this.data, counting.validation, known, this.config.service, table)
    configured = Curve(settings.constraint, settings.choice, settings.calibration)
    for curve in dict.fromkeys([*all_curves(), configured]):
        gates = guarded.gates(curve, settings.rule, counting.levels)
        for r_t, gate in zip(counting.levels, gates, strict=True):
            counting.gated(f"ours_{curve.name}", table, gate, r_t)
            if curve == configured:
                counting.gated("ours", table, gate, r_t)
    score = log_odds(risk.probability)
    counting.swept(
        "ours_knob", ODDS, lambda knob, cases: table.action(score[cases] < -knob, cases), risk.counted
    )


def _binary(
    this: Experiment, warm: np.ndarray, tailored: np.ndarray, tailored_xi_0: np.ndarray, table: PlanTable
) -> None:
    """The paper's method, with the ablations of its parts, from margins (n, p)."""
    counting, radius = this.evaluation, this.config.fixed_radius()
    counting.guarded("binary", tailored, table, radius)
    counting.guarded("binary_xi_0", tailored_xi_0, table, 0.0)
    counting.certified("binary_certified", tailored, table)
    counting.guarded("binary_cross_entropy", warm, table, radius)
    counting.guarded("binary_cross_entropy_xi_0", warm, table, 0.0)


def _papers_baselines(this: Experiment, table: PlanTable) -> None:
    counting, config, predicted = this.evaluation, this.config, trained.predicted(this)
    for name, (mean, spread) in (
        ("mean_variance", history.of_past_hours(this.data)),
        ("mean_variance_days", history.of_same_hour(this.data)),
    ):
        _law(this, name, mean, spread, PAST_SPREADS)
    gate = predicted[counting.validation] >= UNSAFE_BELOW
    counting.count("two_stage", table.action(gate, counting.validation))

    amounts = {}
    for penalty in config.evaluation.penalties:
        output = torch.from_numpy(this.inputs.outputs(trained.end_to_end(this, penalty)))
        amounts[float(penalty)] = supervised.decide(this.problem, output).numpy()
    counting.swept("end_to_end", amounts, lambda penalty, cases: amounts[penalty][cases])


def _strong_baselines(this: Experiment, table: PlanTable) -> None:
    """Methods that the paper does not have, each as good as we could make it."""
    counting, predicted, margin = this.evaluation, trained.predicted(this), trained.margins(this)
    mean, spread = _mean_and_spread(this, trained.gaussian(this))
    _law(this, "forecast_law", mean, spread, SPREADS)
    error = (mean - this.data.demand) / spread
    law = (UNSAFE_BELOW - mean) / spread
    beside = beside_law(law, error, 1.0, this.data, this.config.score.days)
    joined = trained.calibrate(this, [law, *beside])
    risk = log_odds(joined.probability)

    def behind(score: np.ndarray, knob: float, cases: np.ndarray) -> np.ndarray:
        return table.action(score[cases] < -knob, cases)

    counting.swept("forecast_law_errors", ODDS, lambda knob, cases: behind(risk, knob, cases), joined.counted)
    counting.swept(
        "two_stage_margin", MARGINS, lambda knob, cases: behind(UNSAFE_BELOW - predicted, knob, cases)
    )
    counting.swept("cross_entropy", ODDS, lambda knob, cases: behind(margin, knob, cases))


def _law(this: Experiment, name: str, mean: np.ndarray, spread: np.ndarray, knobs: np.ndarray) -> None:
    """Make what has mean - knob * spread >= 3, planned at the mean."""
    own = PlanTable(this.problem, mean)
    this.evaluation.swept(
        name,
        knobs,
        lambda knob, cases: own.action(mean[cases] - knob * spread[cases] >= UNSAFE_BELOW, cases),
    )


def _mean_and_spread(this: Experiment, network: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    mean, spread = supervised.mean_and_spread(torch.from_numpy(this.inputs.outputs(network)))
    return mean.double().numpy(), spread.double().numpy()


def _limits(this: Experiment, table: PlanTable, truth: bool) -> None:
    """What knowing the law would give (synthetic demand), and what knowing the demand does."""
    counting, data = this.evaluation, this.data
    if truth and data.truth_mean is not None:
        risk = log_odds(truth_probability(data))
        counting.swept("truth", ODDS, lambda knob, cases: table.action(risk[cases] < -knob, cases))
    true = data.demand[counting.validation].astype(np.float64)
    counting.count("oracle", PlanTable(this.problem, true).action(true >= UNSAFE_BELOW))


def report(config: ProductionConfig, directory: Path, frame: pd.DataFrame) -> str:
    """The summary that a run prints at its end, with the paths of its figures."""
    if config.service.methods:
        saved = [of_directory(directory, finished=False)]
        return "\n\n".join([deployment_report.summary(saved), decomposition.summary(saved)])
    paths = draw(directory)
    return "\n".join([summary(directory), "", "figures:", *(f"  {path}" for path in paths)])
