"""The approximate loss of production planning: the safety classifier trained for the plan it leads to.

The optimisation stage chooses amounts u for four products; the chance constraint of product i is
    c_i(u; o) = log r_t - log P(s_i < 3 | o_i)  if product i is made, and satisfied (0) if u_i = 0.
So min_u [lambda L + J - beta' min(c, 0)] is a minimum over the sixteen gate patterns of (the best plan within
the pattern) + (the penalties of its products). The plans do not depend on the classifier: `pattern_values`
solves them once, exactly, for every case, and a training step is left with sixteen sums per case. J is
negative revenue at the predicted demand, L negative revenue at the true demand plus `violation_cost` for
every product made in an hour with s_i < 3.

Both quarters serve as inputs and as internal test data, in turn: a step draws its inputs from one and the
internal test cases that carry the bound from the other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Generator, Tensor, nn

from experiments.production.config import TrainingConfig
from experiments.production.models.networks import Inputs
from experiments.production.planning import ProductionProblem, gate_patterns, pattern_values, revenue
from safeframe.training.approximate_loss import ApproximateLoss
from safeframe.training.relaxed_bound import RelaxedBound


class PlanningCases:
    """What the loss needs of n cases: every gate pattern's best plan, for lambda L + J and for J alone.

    Args:
        problem: prices and resources of p products.
        predicted: (n, p) demand.
        demand: (n, p) true demand.
        unsafe: (n, p) bool, where making the product violates its constraint.
        perturbation: lambda.
        violation_cost: in units of a product's mean gain.
    """

    def __init__(
        self,
        problem: ProductionProblem,
        predicted: np.ndarray,
        demand: np.ndarray,
        unsafe: np.ndarray,
        perturbation: float,
        violation_cost: float,
    ):
        patterns = gate_patterns(problem.n_products)
        value, action = pattern_values(problem, predicted)
        everything = len(patterns) - 1
        without = [everything - (1 << i) for i in range(problem.n_products)]
        self.gain = torch.tensor(
            (value[:, without] - value[:, [everything]]).mean(axis=0), dtype=torch.float32
        )
        # lambda L + J is (1 + lambda) times the same problem at a demand between predicted and true
        between = (predicted + perturbation * demand) / (1 + perturbation)
        _, action_with_loss = pattern_values(problem, between)
        self.patterns = torch.tensor(patterns, dtype=torch.float32)  # (16, p)
        cost = (torch.tensor(unsafe, dtype=torch.float32) * violation_cost * self.gain) @ self.patterns.T

        def tabulate(actions: np.ndarray) -> tuple[Tensor, Tensor]:
            """(n, 16) J and L of the best plan of every pattern."""
            j = [-revenue(problem, actions[:, k], predicted) for k in range(len(patterns))]
            loss = [-revenue(problem, actions[:, k], demand) for k in range(len(patterns))]
            as_tensor = lambda columns: torch.tensor(np.stack(columns, 1), dtype=torch.float32)  # noqa: E731
            return as_tensor(j), as_tensor(loss) + cost

        self.plain = tabulate(action)
        self.with_loss = tabulate(action_with_loss)

    def loss(self, r_t: float, penalty: float, perturbation: float) -> ApproximateLoss:
        """L~ of the cases.

        Its output is (log violation probability (b, p), index of the cases (b,)), its action (pattern (b,),
        J, L).
        """
        beta = penalty * self.gain

        def minimiser(weight: float, output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
            log_violation, index = output
            j, task = (part[index] for part in (self.with_loss if weight else self.plain))
            penalties = (torch.relu(log_violation - np.log(r_t)) * beta) @ self.patterns.T
            chosen = (j + weight * task + penalties).argmin(dim=1, keepdim=True)
            return chosen.squeeze(1), j.gather(1, chosen).squeeze(1), task.gather(1, chosen).squeeze(1)

        return ApproximateLoss(
            objective=lambda action, _: action[1],
            loss=lambda action, _: action[2],
            constraints=lambda action, output: (np.log(r_t) - output[0]) * self.patterns[action[0]],
            minimiser=minimiser,
            penalty=beta,
            perturbation=perturbation,
        )


def tailored_loss(
    inputs: Inputs,
    cases: PlanningCases,
    quarters: tuple[Tensor, Tensor],
    r_t: float,
    relative_shift: Tensor,
    settings: TrainingConfig,
) -> Callable[[nn.Module, Generator], Tensor]:
    """(network, generator) -> scalar, for `safeframe.training.loop.train`.

    quarters: index of the training quarter and of the internal test quarter for training. relative_shift:
    (p,) sqrt(2) xi in units of the standard deviation of the margins, so that a network cannot escape
    conservative testing by scaling its logits.
    """
    loss = cases.loss(r_t, settings.penalty, settings.perturbation)

    def draw(index: Tensor, count: int, generator: Generator) -> Tensor:
        return index[torch.randperm(len(index), generator=generator)[:count]]

    def step(network: nn.Module, generator: Generator) -> Tensor:
        first = int(torch.randint(2, (), generator=generator))
        batch = draw(quarters[first], settings.inputs, generator)
        tests = draw(quarters[1 - first], settings.test_cases, generator)
        unsafe = inputs.unsafe[tests]
        margin = inputs.of(network, torch.cat([batch, tests]))
        margin, test_margin = margin[: len(batch)], margin[len(batch) :]
        bound = RelaxedBound(
            r_t,
            prior=unsafe.mean(0).clamp(1e-4, 1 - 1e-4),
            margin_shift=relative_shift * test_margin.detach().std(0),
            temperature=settings.temperature,
            temperature_output=settings.temperature_output,
        )
        return loss((bound.log_violation(margin, test_margin, unsafe), batch)).mean()

    return step
