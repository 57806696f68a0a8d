"""Theorem 2 (arXiv 2504.20924): L~ tends to L at the action taken as beta grows and lambda falls.

Checked on a convex and a discrete problem whose minimisers are known exactly, together with the continuity of
L~ where L itself jumps, and the bounds L(u1) <= L~ <= L(u2) that hold for every beta and lambda, with u1 and
u2 the minimisers with and without the loss.
"""

import itertools
import math

import pytest
import torch

from experiments.theory.laws.problems import R_T, Discrete, convex_problem, discrete_problem

FALLING = [(1.0, 1.0), (10.0, 0.1), (100.0, 0.01), (1000.0, 0.001)]  # (beta, lambda)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def test_convex_limit_at_the_rate_of_lambda():
    problem, output = convex_problem(500, 0)
    exact = problem.exact(output)
    gap = [(problem.approximate(*pair)(output) - exact).abs().max().item() for pair in FALLING]
    assert gap[0] > 0.5
    assert all(later < 0.2 * earlier for earlier, later in itertools.pairwise(gap))
    assert gap[-1] < 0.02


def test_convex_limit_needs_both_parameters():
    problem, output = convex_problem(500, 0)
    exact = problem.exact(output)
    weak_penalty = problem.approximate(0.1, 1e-4)(output)
    large_perturbation = problem.approximate(1e4, 1.0)(output)
    assert (weak_penalty - exact).abs().max() > 0.5
    assert (large_perturbation - exact).abs().max() > 0.5


def test_discrete_limit_is_reached():
    problem, output = discrete_problem(2000, 1)
    exact = problem.exact(output)
    differ = [
        ((problem.approximate(*pair)(output) - exact).abs() > 1e-6).double().mean().item() for pair in FALLING
    ]
    assert differ[0] > 0.3
    assert differ == sorted(differ, reverse=True)
    assert differ[-1] < 0.02
    tables = problem.objective(output).masked_fill(problem.slack(output) < 0, math.inf)
    best = tables.topk(2, largest=False).values
    clear = (best[:, 1] - best[:, 0] > 0.01) & (problem.slack(output)[:, :-1].abs().amin(1) > 0.01)
    assert clear.double().mean() > 0.8
    torch.testing.assert_close(
        problem.approximate(*FALLING[-1])(output)[clear], exact[clear], atol=1e-6, rtol=0
    )


@pytest.mark.parametrize(("penalty", "perturbation"), [*FALLING, (0.3, 1.5), (0.0, 0.5)])
def test_between_the_losses_of_both_minimisers(penalty, perturbation):
    for problem, output in (convex_problem(300, 2), discrete_problem(300, 2, coupling=0.3)):
        loss = problem.approximate(penalty, perturbation)
        low, high = (
            loss.loss(loss.minimiser(weight, output), output).double() for weight in (perturbation, 0.0)
        )
        value = loss(output)
        assert bool((low - 1e-9 <= value).all())
        assert bool((value <= high + 1e-9).all())
        assert perturbation < 0.5 or bool((high - low > 0.1).any())


def along(problem, start, end, points, evaluate):
    """Largest step of a function of the output along a straight line of outputs."""
    share = torch.linspace(0, 1, points, dtype=torch.float64)[:, None]
    output = start + share * (end - start)
    cost, loss = problem.cost.expand(points, -1), problem.loss.expand(points, -1)
    wide = Discrete(cost, loss, problem.coupling)
    return evaluate(wide, output).diff().abs().max().item()


@pytest.mark.parametrize("coupling", [0.0, 0.05])
def test_continuous_where_the_loss_of_the_action_jumps(coupling):
    """The cheapest candidate becomes forbidden half-way; with a coupling, the costs vary as well."""
    problem = Discrete(tensor([[0.0, 0.4, 1.0]]), tensor([[-1.0, 0.5, 0.0]]), coupling)
    middle = math.log(R_T)
    start, end = tensor([[middle - 0.5, -3.0, 0.0]]), tensor([[middle + 0.5, -2.5, 0.0]])

    def approximate(wide, output):
        return wide.approximate(3.0, 0.5)(output)

    steps = [along(problem, start, end, points, approximate) for points in (1001, 2001, 4001)]
    jumps = [
        along(problem, start, end, points, lambda wide, output: wide.exact(output)) for points in (1001, 4001)
    ]
    assert min(jumps) > 0.9
    assert steps[0] < 0.03
    assert steps[1] == pytest.approx(steps[0] / 2, rel=0.05)
    assert steps[2] == pytest.approx(steps[0] / 4, rel=0.05)
    assert steps[0] > 1e-4
