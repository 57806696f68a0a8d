"""The networks of a run by their names, and which of them a run needs: tasks of an engine, or one by one.

Also what is made of them that several methods need: predicted demand, and the guard's calibrated risk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import nn

from experiments.production.config import ProductionConfig
from experiments.production.guard.score import Calibrated, calibrated, joined_scores
from experiments.production.models import safety, supervised
from experiments.production.preparation import Experiment
from experiments.support.runs.ahead import Part, ahead
from experiments.support.runs.running import RunContext


def demand(this: Experiment) -> nn.Module:
    """Predicts every product's demand."""
    p, hidden = this.problem.n_products, this.config.model.hidden
    return _once(
        this, "demand", lambda: this.network("demand", p, hidden, supervised.demand_loss(this.inputs))
    )


def warm(this: Experiment) -> nn.Module:
    """The warm-up classifier, by cross-entropy."""
    p, hidden = this.problem.n_products, this.config.model.classifier_hidden
    loss = supervised.cross_entropy(this.inputs)
    return _once(this, "cross_entropy", lambda: this.network("cross_entropy", p, hidden, loss))


def tailored(this: Experiment, conservative: bool) -> nn.Module:
    """The warm-up classifier after the approximate loss, with its radius or with radius 0."""
    name = "tailored" if conservative else "tailored_xi_0"
    return this.tailored(name, warm(this), predicted(this), conservative)


def two_heads(this: Experiment) -> nn.Module:
    """The network with two heads that our score joins."""
    p, hidden = this.problem.n_products, this.config.model.safety_hidden
    loss = safety.likelihood(this.inputs)
    return this.network("safety", safety.OUTPUTS * p, hidden, loss, kind=safety.SafetyNetwork)


def gaussian(this: Experiment) -> nn.Module:
    """Predicts mean and spread of every product's demand."""
    p, hidden = this.problem.n_products, this.config.model.hidden
    return this.network("gaussian", 2 * p, hidden, supervised.gaussian_loss(this.inputs))


def end_to_end(this: Experiment, penalty: float) -> nn.Module:
    """From measurement to amounts, with a penalty on unsafe ones."""
    p, hidden = this.problem.n_products, this.config.model.hidden
    loss = supervised.decision_loss(this.inputs, this.problem, penalty)
    return this.network(f"end_to_end_{penalty:g}", p, hidden, loss, {"penalty": penalty})


def predicted(this: Experiment) -> np.ndarray:
    """(n, p) predicted demand of every case."""
    return _once(this, "predicted", lambda: this.inputs.outputs(demand(this)))


def margins(this: Experiment) -> np.ndarray:
    """(n, p) margins of the warm-up classifier."""
    return _once(this, "margins", lambda: this.inputs.outputs(warm(this)))


def tailored_margins(this: Experiment, conservative: bool) -> np.ndarray:
    """(n, p) margins after the approximate loss."""
    name = "tailored margins" if conservative else "tailored margins, radius 0"
    return _once(this, name, lambda: this.inputs.outputs(tailored(this, conservative)))


def risk(this: Experiment) -> Calibrated:
    """The guard's calibrated risk: of the classifier that `model.classifier` names."""
    if this.config.model.classifier == "binary":
        return calibrate(this, [tailored_margins(this, True)])
    heads = safety.heads(this.inputs.outputs(two_heads(this)), this.data.demand)
    return calibrate(this, joined_scores(heads, this.data, this.config.score.days))


def calibrate(this: Experiment, scores: list[np.ndarray]) -> Calibrated:
    """From scores (n, p), larger is riskier, to probabilities, on the calibration quarter."""
    return calibrated(scores, this.data, this.test, this.config.evaluation.crossed)


def _once(this: Experiment, name: str, make: Callable[[], Any]) -> Any:
    """What was made under this name, made now if it was not yet."""
    if name not in this.made:
        this.made[name] = make()
    return this.made[name]


def train_ahead(this: Experiment) -> None:
    """Train what the run needs on an engine's workers: networks that need no other, then those that do."""
    c = this.config
    parts = {"guard"} if c.service.methods else set(c.evaluation.parts)
    binary = c.model.classifier == "binary"
    guarded_by_binary = binary and "guard" in parts
    first = [_part(demand)]
    first += [_part(warm)] * (guarded_by_binary or parts != {"guard"})
    first += [_part(two_heads)] * ("guard" in parts and not binary)
    if "baselines" in parts:
        first += [_part(end_to_end, penalty) for penalty in c.evaluation.penalties] + [_part(gaussian)]
    ahead(this.context, first)
    later = [_part(tailored, True)] * (guarded_by_binary or "binary" in parts)
    ahead(this.context, later + [_part(tailored, False)] * ("binary" in parts))


def _part(network: Callable[..., nn.Module], *arguments: Any) -> Part:
    name = " ".join([network.__name__, *map(str, arguments)])
    return Part(name, train, (network, *arguments))


def train(
    config: ProductionConfig, context: RunContext, network: Callable[..., nn.Module], *more: Any
) -> None:
    """In a worker: one network, into the cache."""
    network(Experiment(config, context), *more)
