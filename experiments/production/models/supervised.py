"""Networks trained by an ordinary loss: demand, cross-entropy, Gaussian likelihood, direct decision.

All see the same cases (training quarter and internal test quarter for training) and the same network, and
differ in outputs and loss.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss, softplus

from experiments.production.config import TrainingConfig
from experiments.production.models.networks import Inputs, SequenceNetwork
from experiments.production.planning import ProductionProblem
from safeframe.training.loop import TrainingSettings, train

BatchLoss = Callable[[Tensor, Tensor], Tensor]
"""(outputs (b, k), index of the cases (b,)) -> scalar."""
_LEAST_SPREAD = 0.05  # of the Gaussian network, on the demand scale


def fit(
    inputs: Inputs,
    index: Tensor,
    outputs: int,
    hidden: int,
    loss: BatchLoss,
    settings: TrainingConfig,
    seed: int,
    checkpoint: Path | None = None,
    progress: Callable = iter,
    kind: type[nn.Module] = SequenceNetwork,
) -> nn.Module:
    """A network trained on the cases `index` (n,) with AdamW and a one-cycle schedule.

    kind: of network; it takes products, outputs, units and calendar features, as `SequenceNetwork` does.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = kind(inputs.demand.shape[1], outputs, hidden, inputs.calendar.shape[1])

    def step(model: nn.Module, generator: torch.Generator) -> Tensor:
        batch = index[torch.randint(len(index), (settings.batch,), generator=generator)]
        return loss(inputs.of(model, batch), batch)

    steps = max(1, settings.epochs * len(index) // settings.batch)
    schedule = TrainingSettings(steps, settings.learning_rate, settings.weight_decay)
    return train(network, step, schedule, seed, checkpoint, progress)


def demand_loss(inputs: Inputs) -> BatchLoss:
    """Mean squared error of predicted demand."""
    return lambda output, index: mse_loss(output, inputs.demand[index])


def cross_entropy(inputs: Inputs) -> BatchLoss:
    """Cross-entropy of the margins (logit pair (-m/2, m/2)) with s < 3."""
    return lambda output, index: binary_cross_entropy_with_logits(output, inputs.unsafe[index])


def mean_and_spread(output: Tensor) -> tuple[Tensor, Tensor]:
    """(b, p) mean and standard deviation from 2 p outputs."""
    mean, raw = output.chunk(2, dim=-1)
    return mean, softplus(raw) + _LEAST_SPREAD


def gaussian_loss(inputs: Inputs) -> BatchLoss:
    """Negative log-likelihood of a normal law whose mean and size of noise the network gives."""

    def loss(output: Tensor, index: Tensor) -> Tensor:
        mean, spread = mean_and_spread(output)
        return (torch.log(spread) + 0.5 * ((inputs.demand[index] - mean) / spread) ** 2).mean()

    return loss


def feasible_amounts(problem: ProductionProblem, output: Tensor) -> Tensor:
    """(b, p) amounts: outputs below 0 mean "not made", the rest is scaled down until A u + |u| <= b holds.

    The feasible set is convex and holds 0, so scaling towards 0 reaches it; it is differentiable almost
    everywhere.
    """
    amount = torch.relu(output)
    used = amount @ torch.tensor(problem.coupling.T, dtype=output.dtype) + amount
    capacity = torch.tensor(problem.capacity, dtype=output.dtype)
    return amount * torch.clamp((capacity / used.clamp_min(1e-9)).amin(dim=1, keepdim=True), max=1.0)


def decision_loss(inputs: Inputs, problem: ProductionProblem, penalty: float) -> BatchLoss:
    """Negative revenue at the true demand plus `penalty` times the amounts made while s < 3.

    The loss of decisions, end to end.
    """
    price = torch.tensor(problem.price, dtype=torch.float32)
    slope = torch.tensor(problem.slope, dtype=torch.float32)

    def loss(output: Tensor, index: Tensor) -> Tensor:
        amount = feasible_amounts(problem, output + 3.0)  # starts by making everything: no dead units
        earned = ((price - slope * (amount - inputs.demand[index])) * amount).sum(dim=1)
        return (penalty * (amount * inputs.unsafe[index]).sum(dim=1) - earned).mean()

    return loss


def decide(problem: ProductionProblem, output: Tensor) -> Tensor:
    """(b, p) amounts of the end-to-end network from its outputs."""
    return feasible_amounts(problem, output + 3.0)
