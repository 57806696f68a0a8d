"""The approximate loss of production planning: the safety classifier trained for the plan it leads to.

The optimisation stage chooses amounts u for four products; the chance constraint of product i is
    c_i(u; o) = log r_t - log P(s_i < 3 | o_i)  if product i is made, and satisfied (0) if u_i = 0.
So min_u [lambda L + J - beta' min(c, 0)] is a minimum over the sixteen gate patterns of (the best plan within
the pattern) + (the penalties of its products). The plans do not depend on the classifier: `planning_actions`
solves them once, exactly, for every case, and a training step is left with sixteen sums per case. J is
negative revenue at the predicted demand, L negative revenue at the true demand plus `violation_cost` for
every product made in an hour with s_i < 3.

Both quarters serve as inputs and as internal test data, in turn: a step draws its inputs from one and the
internal test cases that carry the bound from the other. What is done with a step's cases is
`safeframe.training.tailored`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor, nn

from experiments.production.demand.series import HOURS_PER_WEEK
from experiments.production.models.networks import Inputs
from experiments.production.planning import ProductionProblem, gate_patterns, pattern_values, revenue
from safeframe.training.finite_actions import FiniteActions
from safeframe.training.never_harm import SelectionFold
from safeframe.training.tailored import Fold
from safeframe.training.tailored_loss import StepCases


def planning_actions(
    problem: ProductionProblem,
    predicted: np.ndarray,
    demand: np.ndarray,
    unsafe: np.ndarray,
    perturbation: float,
    violation_cost: float,
) -> FiniteActions:
    """Every gate pattern's best plan for n cases, for lambda L + J and for J alone.

    Args:
        problem: prices and resources of p products.
        predicted: (n, p) demand.
        demand: (n, p) true demand.
        unsafe: (n, p) bool, where making the product violates its constraint.
        perturbation: lambda.
        violation_cost: in units of a product's mean gain.

    Returns:
        Sixteen actions of n inputs with p constraints, in units of the products' mean gains.
    """
    patterns = gate_patterns(problem.n_products)
    value, action = pattern_values(problem, predicted)
    everything = len(patterns) - 1
    without = [everything - (1 << i) for i in range(problem.n_products)]
    gain = torch.tensor((value[:, without] - value[:, [everything]]).mean(axis=0), dtype=torch.float32)
    # lambda L + J is (1 + lambda) times the same problem at a demand between predicted and true
    between = (predicted + perturbation * demand) / (1 + perturbation)
    _, action_with_loss = pattern_values(problem, between)
    uses = torch.tensor(patterns, dtype=torch.float32)  # (16, p)
    cost = (torch.tensor(unsafe, dtype=torch.float32) * violation_cost * gain) @ uses.T

    def tabulate(actions: np.ndarray) -> tuple[Tensor, Tensor]:
        """(n, 16) J and L of the best plan of every pattern."""
        j = [-revenue(problem, actions[:, k], predicted) for k in range(len(patterns))]
        loss = [-revenue(problem, actions[:, k], demand) for k in range(len(patterns))]
        as_tensor = lambda columns: torch.tensor(np.stack(columns, 1), dtype=torch.float32)  # noqa: E731
        return as_tensor(j), as_tensor(loss) + cost

    return FiniteActions(*tabulate(action), uses, *tabulate(action_with_loss), unit=gain)


@dataclass(frozen=True)
class PlanningProblem:
    """What a step of tailored training looks at.

    Attributes:
        inputs: all cases.
        actions: of all cases.
        quarters: index of the training quarter and of the internal test quarter for training.
        relative_shift: (p,) sqrt(2) xi in units of the standard deviation of the margins, so that a network
            cannot escape conservative testing by scaling its logits.
        drawn: inputs of a step.
        test_cases: internal test cases of a step.
    """

    inputs: Inputs
    actions: FiniteActions
    quarters: tuple[Tensor, Tensor]
    relative_shift: Tensor
    drawn: int
    test_cases: int

    def cases(self, module: nn.Module, generator: Generator) -> StepCases:
        """Of one step, drawn with the generator."""
        first = int(torch.randint(2, (), generator=generator))
        batch = _draw(self.quarters[first], self.drawn, generator)
        tests = _draw(self.quarters[1 - first], self.test_cases, generator)
        unsafe = self.inputs.unsafe[tests]
        margin = self.inputs.of(module, torch.cat([batch, tests]))
        margin, test_margin = margin[: len(batch)], margin[len(batch) :]
        return StepCases(
            margin,
            test_margin,
            unsafe,
            prior=unsafe.mean(0).clamp(1e-4, 1 - 1e-4),
            margin_shift=self.relative_shift * test_margin.detach().std(0),
            inner=self.actions.rows(batch),
            unsafe=self.inputs.unsafe[batch],
        )


def planning_fold(inputs: Inputs, index: np.ndarray, hour: np.ndarray) -> Fold | None:
    """The choice among checkpoints on hours that no training saw: products are groups, weeks are blocks.

    Args:
        inputs: all cases.
        index: (n,) of the hours; none of them: no fold.
        hour: of all cases.

    Returns:
        The fold, hours by products; None without an hour.
    """
    if len(index) == 0:
        return None
    rows, products = torch.from_numpy(index), inputs.unsafe.shape[1]
    week = hour[index] // HOURS_PER_WEEK
    cases = SelectionFold(
        inputs.unsafe[rows].numpy().astype(np.int64).ravel(),
        group=np.tile(np.arange(products), len(index)),
        block=np.repeat(week, products),
    )
    return Fold(cases, lambda module: inputs.of(module, rows).double().numpy().ravel())


def _draw(index: Tensor, count: int, generator: Generator) -> Tensor:
    return index[torch.randperm(len(index), generator=generator)[:count]]
