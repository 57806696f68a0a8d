"""The approximate loss: values against independent solutions, the envelope gradient against differences."""

import dataclasses
import math

import cvxpy
import numpy as np
import pytest
import torch

from experiments.theory.laws.problems import NORMAL, convex_problem, discrete_problem
from safeframe.training.approximate_loss import ApproximateLoss
from safeframe.types import SafeframeError


def gradient_of(loss, output):
    at = output.clone().requires_grad_()
    loss(at).sum().backward()
    return at.grad


def differences_of(function, output, h=1e-6):
    """(b, k) central differences of a function with one value per row."""
    columns = []
    for i in range(output.shape[1]):
        step = torch.zeros_like(output)
        step[:, i] = h
        columns.append((function(output + step) - function(output - step)) / (2 * h))
    return torch.stack(columns, dim=1)


def solve_with_cvxpy(problem, penalty):
    """A minimiser row by row with Clarabel, its multipliers, and a list of the optimal values it found."""
    values, duals = [], {}

    def solve(weight, output):
        actions, duals[weight] = [], []
        for o, d in zip(output.numpy(), problem.demand.numpy(), strict=True):
            u, excess = cvxpy.Variable(2), cvxpy.Variable(nonneg=True)
            goal = cvxpy.sum_squares(u - o[:2]) / 2 + weight * cvxpy.sum_squares(u - d) / 2 + penalty * excess
            limit = excess >= NORMAL.numpy() @ u - o[2]
            program = cvxpy.Problem(cvxpy.Minimize(goal), [limit])
            tolerance = {"tol_gap_abs": 1e-12, "tol_gap_rel": 1e-12, "tol_feas": 1e-12}
            values.append(program.solve(solver="CLARABEL", **tolerance))
            actions.append(u.value)
            duals[weight].append([float(limit.dual_value)])
        return torch.tensor(np.array(actions))

    return solve, lambda weight, action, output: torch.tensor(duals[weight], dtype=torch.float64), values


@pytest.mark.parametrize("penalty", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("perturbation", [0.1, 1.5])
def test_envelope_gradient_of_the_convex_problem(penalty, perturbation):
    problem, output = convex_problem(200, 0)
    loss = problem.approximate(penalty, perturbation)
    gradient, wanted = gradient_of(loss, output), differences_of(loss, output)
    assert wanted.abs().amax(0).min() > 0.05  # the target and the level both matter
    torch.testing.assert_close(gradient, wanted, atol=1e-5, rtol=1e-5)


def test_value_and_gradient_with_a_convex_solver():
    problem, output = convex_problem(8, 1)
    penalty, perturbation = 0.8, 0.5
    solver, multipliers, optima = solve_with_cvxpy(problem, penalty)
    exact = problem.approximate(penalty, perturbation)
    solved = problem.approximate(penalty, perturbation, solver, multipliers)
    torch.testing.assert_close(solved(output), exact(output), atol=1e-7, rtol=0)
    first, second = np.array(optima).reshape(2, -1)  # Clarabel's own optimal values
    np.testing.assert_allclose(exact(output), (first - second) / perturbation, atol=1e-6)
    torch.testing.assert_close(gradient_of(solved, output), differences_of(exact, output), atol=1e-4, rtol=0)


@pytest.mark.parametrize("coupling", [0.0, 0.3])
def test_value_and_envelope_gradient_of_the_discrete_problem(coupling):
    problem, output = discrete_problem(500, 2, coupling=coupling)
    penalty, perturbation = 0.7, 0.8
    tables = [problem.table(penalty, weight, output) for weight in (perturbation, 0.0)]
    gaps = [(best := table.topk(2, largest=False).values)[:, 1] - best[:, 0] for table in tables]
    kink = problem.slack(output)[:, :-1].abs().amin(1)
    unique = torch.stack([*gaps, kink]).amin(0) > 1e-3
    assert unique.float().mean() > 0.9

    loss = problem.approximate(penalty, perturbation)
    wanted_value = (tables[0].amin(1) - tables[1].amin(1)) / perturbation
    torch.testing.assert_close(loss(output), wanted_value)
    gradient, wanted = gradient_of(loss, output)[unique], differences_of(loss, output)[unique]
    assert (wanted.abs() > 0.1).any(dim=1).float().mean() > 0.2
    torch.testing.assert_close(gradient, wanted, atol=1e-6, rtol=1e-6)


def test_minimisers_are_called_once_each_without_gradients():
    problem, output = convex_problem(5, 3)
    calls, inner = [], problem.minimiser(1.0)

    def recorded(weight, o):
        action = inner(weight, o)
        calls.append((weight, torch.is_grad_enabled(), action.requires_grad))
        return action

    at = output.clone().requires_grad_()
    problem.approximate(1.0, 0.3, recorded)(at).sum().backward()
    assert calls == [(0.3, False, False), (0.0, False, False)]

    # the partial derivative in o at fixed minimisers, by hand
    u1, u2 = inner(0.3, output), inner(0.0, output)
    partial_target = (u2 - u1) / 0.3
    multiplier = problem.multipliers(1.0)
    partial_level = -(multiplier(0.3, u1, output) - multiplier(0.0, u2, output)) / 0.3
    torch.testing.assert_close(at.grad, torch.cat([partial_target, partial_level], dim=1))


def test_multipliers_change_the_derivative_only():
    problem, output = convex_problem(50, 4)
    given = problem.approximate(1.0, 0.3)
    without = dataclasses.replace(given, multipliers=None)
    torch.testing.assert_close(given(output), without(output), atol=0, rtol=0)
    strict = torch.stack(
        [given.constraints(given.minimiser(w, output), output).abs()[:, 0] for w in (0.3, 0.0)]
    ).amin(0)
    clear = strict > 1e-6  # neither minimiser at c = 0: no multiplier is needed
    assert 0 < clear.sum() < 50
    torch.testing.assert_close(gradient_of(given, output)[clear], gradient_of(without, output)[clear])


def test_penalties_may_differ_between_constraints():
    violation = torch.tensor([[-1.0, -3.0, 2.0]])
    loss = ApproximateLoss(
        objective=lambda u, o: torch.ones(1),
        loss=lambda u, o: torch.full((1,), 5.0),
        constraints=lambda u, o: violation,
        minimiser=lambda weight, o: 0,
        penalty=torch.tensor([10.0, 0.5, 100.0]),
        perturbation=0.2,
    )
    assert loss.penalised(0.2, 0, None).item() == pytest.approx(1 + 10 + 1.5 + 0.2 * 5)
    assert loss(None).item() == pytest.approx(5.0, rel=1e-5)


@pytest.mark.parametrize("perturbation", [0.0, -1.0, math.nan, math.inf])
def test_perturbation_out_of_range(perturbation):
    with pytest.raises(SafeframeError, match="lambda"):
        convex_problem(2, 0)[0].approximate(1.0, perturbation)


@pytest.mark.parametrize("penalty", [-0.1, math.nan, torch.tensor([1.0, -1.0])])
def test_penalty_out_of_range(penalty):
    with pytest.raises(SafeframeError, match="beta"):
        convex_problem(2, 0)[0].approximate(penalty, 1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_terms_that_are_not_finite_are_counted(value):
    problem, output = convex_problem(7, 0)
    output[2, 0] = output[5, 2] = value if math.isnan(value) else -value
    with pytest.raises(SafeframeError, match="not finite for 2 of 7 inputs"):
        problem.approximate(1.0, 1.0)(output)


def test_multipliers_that_are_not_finite():
    problem, output = convex_problem(7, 0)
    loss = problem.approximate(1.0, 1.0, multipliers=lambda *_: torch.full((7, 1), math.nan))
    with pytest.raises(SafeframeError, match="not finite for 7 of 7 inputs"):
        loss(output)


def test_terms_get_the_action_and_the_output_and_no_loss_is_asked_for_at_weight_0():
    seen = []

    def term(name, value):
        def called(action, output):
            seen.append((name, action, output is given))
            return value * torch.ones(2, dtype=torch.float64) + 0.0 * output.sum()

        return called

    def multipliers(weight, action, output):
        seen.append(("multipliers", action, output is given))
        return torch.full((2, 1), 0.5, dtype=torch.float64)

    given = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    slack = lambda action, output: (output - 1.0)[:, None]  # noqa: E731
    loss = ApproximateLoss(
        term("objective", 1.0),
        term("loss", 3.0),
        slack,
        lambda weight, output: f"u{weight:g}",
        2.0,
        0.5,
        multipliers,
    )
    value = loss.penalised(0.0, "u", given)
    assert [name for name, *_ in seen] == ["multipliers", "objective"]
    assert all(action == "u" and same for _, action, same in seen)
    assert value.tolist() == [3.0, 3.0]  # 1 - 2 min(-1, 0)
    (gradient,) = torch.autograd.grad(value.sum(), given)
    assert gradient.tolist() == [-0.5, -0.5]  # the derivative of -mu c
    seen.clear()
    weighted = loss.penalised(0.5, "u", given)
    assert ("loss", "u", True) in seen
    assert weighted.tolist() == [4.5, 4.5]
    assert loss(given).tolist() == [3.0, 3.0]
