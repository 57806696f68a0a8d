"""The production planner: exact, equal to CVXPY's literal problem, and strict about its constants."""

import itertools
import time

import numpy as np
import pytest

from experiments.production.demand.sources import Quarter, synthetic
from experiments.production.planning import (
    ProductionProblem,
    gate_patterns,
    pattern_index,
    pattern_values,
    plan,
    plan_with_cvxpy,
    produced,
    revenue,
    violations,
)
from safeframe.optimisation.explicit_qp import QPSolution
from safeframe.types import SafeframeError, Status

PROBLEM = ProductionProblem()


@pytest.fixture(scope="module")
def demand():
    data = synthetic(0)
    return data.demand[data.where(Quarter.VALIDATION)].astype(float)


def feasible(problem, action, slack=1e-8):
    return (action @ problem.coupling.T + np.abs(action) <= problem.capacity + slack).all(axis=1)


@pytest.mark.parametrize("stack", [1, 50])
def test_agrees_with_cvxpy(demand, stack):
    rng = np.random.default_rng(stack)
    hours = rng.choice(len(demand), 200, replace=False)
    gate = rng.random((200, 4)) < 0.7
    ours = plan(PROBLEM, demand[hours], gate)
    theirs = plan_with_cvxpy(PROBLEM, demand[hours], gate, stack)
    assert np.abs(ours.action - theirs.action).max() < 1e-5
    np.testing.assert_allclose(ours.objective, theirs.objective, atol=1e-6)
    assert (ours.status == theirs.status).all()
    assert theirs.count(Status.INACCURATE) == 0


def test_agrees_with_cvxpy_for_random_constants():
    """Constants of any sign that are allowed, also those for which making less than nothing pays."""
    rng = np.random.default_rng(0)
    n_negative = 0
    for _ in range(8):
        problem = ProductionProblem(
            price=rng.normal(0, 5, 4),
            slope=rng.uniform(0.2, 3, 4),
            coupling=rng.normal(0, 0.5, (4, 4)),
            capacity=rng.uniform(0, 5, 4) * (rng.random(4) < 0.8),
        )
        s, gate = rng.uniform(0, 10, (15, 4)), rng.random((15, 4)) < 0.8
        ours, theirs = plan(problem, s, gate), plan_with_cvxpy(problem, s, gate)
        assert ours.count(Status.INACCURATE) == 0
        np.testing.assert_allclose(ours.action, theirs.action, atol=2e-5)
        n_negative += (ours.action < -1e-6).sum()
    assert n_negative > 10


def test_a_year_at_eleven_thresholds_is_fast_and_certified(demand):
    rng = np.random.default_rng(1)
    gate = rng.random((11 * len(demand), 4)) < 0.7
    start = time.perf_counter()
    result = plan(PROBLEM, np.tile(demand, (11, 1)), gate)
    assert time.perf_counter() - start < 5
    assert result.count(Status.OPTIMAL) + result.count(Status.DEFAULT) == len(gate)
    assert (result.action[~gate] == 0).all()
    assert feasible(PROBLEM, result.action).all()


def test_objective_is_negative_predicted_revenue(demand):
    result = plan(PROBLEM, demand, np.ones(demand.shape, dtype=bool))
    np.testing.assert_allclose(result.objective, -revenue(PROBLEM, result.action, demand), rtol=1e-9)


def test_nothing_feasible_earns_more(demand):
    rng = np.random.default_rng(2)
    action = rng.uniform(0, 6, (20_000, 4))
    action = action[feasible(PROBLEM, action)]
    assert len(action) > 500
    for s in demand[:10]:
        best = -plan(PROBLEM, s[None], np.ones((1, 4), dtype=bool)).objective[0]
        assert revenue(PROBLEM, action, np.tile(s, (len(action), 1))).max() <= best + 1e-9


def test_default_constants_never_make_a_negative_amount():
    """No sign constraint is needed: for every demand in [0, 10]^4 on a grid and every gate, u >= 0."""
    grid = np.array(list(itertools.product(np.linspace(0, 10, 6), repeat=4)))
    _, action = pattern_values(PROBLEM, grid)
    assert action.min() >= 0
    open_ = np.broadcast_to(gate_patterns(), action.shape)
    assert action[open_].min() > 0.1  # and what is open is made


def test_capacity_binds_often_and_a_closed_gate_frees_it(demand):
    everything = np.ones(demand.shape, dtype=bool)
    result = plan(PROBLEM, demand, everything)
    used = result.action @ PROBLEM.coupling.T + np.abs(result.action)
    binding = used > PROBLEM.capacity - 1e-6
    assert (binding.mean(axis=0) > 0.2).all()
    assert (binding.mean(axis=0) < 0.9).all()
    without_first = everything.copy()
    without_first[:, 0] = False
    fewer = plan(PROBLEM, demand, without_first)
    assert (fewer.action[:, 1:].sum(axis=1) > result.action[:, 1:].sum(axis=1) + 0.05).mean() > 0.3
    assert (fewer.objective >= result.objective - 1e-9).all()


def test_all_gates_closed_is_the_default(demand):
    gate = np.ones((3, 4), dtype=bool)
    gate[1] = False
    result = plan(PROBLEM, demand[:3], gate)
    assert result.status.tolist() == ["optimal", "default", "optimal"]
    assert (result.action[1] == 0).all()
    assert result.objective[1] == 0


def test_pattern_values_are_the_plans_under_each_pattern(demand):
    values, actions = pattern_values(PROBLEM, demand[:50])
    patterns = gate_patterns()
    assert values.shape == (50, 16)
    assert actions.shape == (50, 16, 4)
    for column in (0, 1, 6, 15):
        single = plan(PROBLEM, demand[:50], np.tile(patterns[column], (50, 1)))
        np.testing.assert_allclose(values[:, column], single.objective, atol=1e-9)
        np.testing.assert_allclose(actions[:, column], single.action, atol=1e-9)
    # Opening a gate never costs anything.
    for low, high in itertools.product(range(16), repeat=2):
        if (patterns[low] <= patterns[high]).all():
            assert (values[:, high] <= values[:, low] + 1e-9).all()


def test_pattern_index():
    np.testing.assert_array_equal(pattern_index(gate_patterns()), np.arange(16))
    assert gate_patterns()[0].sum() == 0
    assert gate_patterns()[5].tolist() == [True, False, True, False]
    assert pattern_index(np.ones((2, 3, 4), dtype=bool)).tolist() == [[15] * 3] * 2


def test_revenue_and_violations_by_hand():
    problem = ProductionProblem(
        price=[5.0, 4.0], slope=[1.0, 2.0], coupling=np.zeros((2, 2)), capacity=[9.0, 9.0]
    )
    action = np.array([[3.0, 1.0], [0.0, 2.0], [1e-9, -1.0]])
    demand = np.array([[4.0, 2.0], [1.0, 3.0], [2.0, 2.9]])
    expected = [(5 - (3 - 4)) * 3 + (4 - 2 * (1 - 2)) * 1, (4 - 2 * (2 - 3)) * 2, -(4 - 2 * (-1 - 2.9))]
    np.testing.assert_allclose(revenue(problem, action, demand), expected, atol=1e-7)
    assert produced(action).tolist() == [[True, True], [False, True], [False, True]]
    assert violations(action, demand).tolist() == [[False, True], [False, False], [False, True]]
    assert violations(action, demand, tol=1.5).tolist() == [[False, False]] * 3
    # Unconstrained maximum of (p - k (u - s)) u is (p / k + s) / 2.
    best = plan(problem, demand[:1], np.ones((1, 2), dtype=bool)).action
    np.testing.assert_allclose(best, [[(5 + 4) / 2, (2 + 2) / 2]], atol=1e-9)


def test_capacity_zero_forces_nothing_to_be_made(demand):
    problem = ProductionProblem(capacity=np.zeros(4))
    result = plan(problem, demand[:20], np.ones((20, 4), dtype=bool))
    np.testing.assert_allclose(result.action, 0, atol=1e-8)
    assert result.count(Status.OPTIMAL) == 20


@pytest.mark.parametrize(
    ("constants", "message"),
    [
        ({"capacity": [6, 6, -0.5, 6]}, r"capacity\[2\] = -0.5.*infeasible"),
        ({"capacity": [6, 6, np.nan, 6]}, r"capacity\[2\] = nan: finite"),
        ({"capacity": [6, 6, 6]}, r"capacity has shape \(3,\)"),
        ({"slope": [1, 0, 1, 1]}, r"slope\[1\] = 0"),
        ({"slope": [1, 1, 1, -2]}, r"slope\[3\] = -2"),
        ({"price": [1, 1, 1, np.inf]}, r"price\[3\] = inf"),
        ({"price": [[1, 1, 1, 1]]}, "one number per product"),
        ({"price": []}, "one number per product"),
        ({"price": ["a", 1, 1, 1]}, "price: numbers are needed"),
        ({"coupling": np.zeros((3, 4))}, "coupling has shape"),
        ({"coupling": np.full((4, 4), np.nan)}, r"coupling\[0, 0\] = nan"),
    ],
)
def test_bad_constants(constants, message):
    with pytest.raises(SafeframeError, match=message):
        ProductionProblem(**constants)


def test_bad_inputs(demand):
    gate = np.ones((2, 4), dtype=bool)
    with pytest.raises(SafeframeError, match=r"demand has shape \(2, 3\)"):
        plan(PROBLEM, demand[:2, :3], gate)
    with pytest.raises(SafeframeError, match="bool of shape"):
        plan(PROBLEM, demand[:2], gate.astype(int))
    with pytest.raises(SafeframeError, match="bool of shape"):
        plan(PROBLEM, demand[:3], gate)
    wrong = demand[:2].copy()
    wrong[1, 2] = np.nan
    with pytest.raises(SafeframeError, match=r"demand\[1, 2\] = nan"):
        plan(PROBLEM, wrong, gate)
    with pytest.raises(SafeframeError, match=r"demand\[1, 2\] = nan"):
        pattern_values(PROBLEM, wrong)


def test_an_uncertified_solution_is_never_passed_on(demand, monkeypatch):
    problem = ProductionProblem()

    def fail(linear, gate):
        n = len(linear)
        status = np.full(n, "inaccurate", dtype="<U10")
        return QPSolution(np.zeros((n, 4)), status, np.full(n, np.nan), np.full(n, np.inf))

    monkeypatch.setattr(problem.qp, "solve", fail)
    result = plan(problem, demand[:5], np.ones((5, 4), dtype=bool))
    assert result.count(Status.INACCURATE) == 5
    with pytest.raises(SafeframeError, match="80 of 80"):
        pattern_values(problem, demand[:5])
