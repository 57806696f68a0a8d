"""ExplicitQP against independent solvers, and on the problems where active sets go wrong."""

import cvxpy as cp
import numpy as np
import pytest
from scipy.optimize import minimize

from safeframe.optimisation import explicit_qp
from safeframe.optimisation.explicit_qp import ExplicitQP
from safeframe.types import SafeframeError, Status


def random_problem(rng, n, m, degenerate=False):
    root = rng.standard_normal((n, n))
    hessian = root @ root.T + 0.3 * np.eye(n)
    rows = rng.standard_normal((m, n))
    rhs = rng.uniform(0.1, 2.0, m)
    if degenerate and m >= 3:
        rows[1], rhs[1] = 2 * rows[0], 2 * rhs[0]  # the same constraint twice
        rows[2], rhs[2] = -rows[0], -rhs[0] + 0.5  # nearly its opposite: a thin slab
    return hessian, rows, rhs


def by_clarabel(hessian, rows, rhs, c, gate):
    u = cp.Variable(len(c))
    constraints = [rows @ u <= rhs, *(u[i] == 0 for i in np.flatnonzero(~gate))]
    problem = cp.Problem(cp.Minimize(0.5 * cp.quad_form(u, cp.psd_wrap(hessian)) - c @ u), constraints)
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    return problem.status, u.value, problem.value


@pytest.mark.parametrize("degenerate", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_agrees_with_clarabel_on_random_problems(n, degenerate):
    rng = np.random.default_rng(100 * n + degenerate)
    hessian, rows, rhs = random_problem(rng, n, min(2 * n + 1, 9), degenerate)
    c = 8 * rng.standard_normal((12, n))
    gate = rng.random((12, n)) < 0.75
    solution = ExplicitQP(hessian, rows, rhs).solve(c, gate)
    n_binding = 0
    for b in range(len(c)):
        status, u, value = by_clarabel(hessian, rows, rhs, c[b], gate[b])
        if status == cp.INFEASIBLE:
            assert solution.status[b] == Status.INFEASIBLE
            continue
        assert status == cp.OPTIMAL
        assert solution.status[b] == Status.OPTIMAL
        np.testing.assert_allclose(solution.action[b], u, atol=1e-5)
        assert solution.objective[b] == pytest.approx(value, abs=1e-7)
        n_binding += (rows @ solution.action[b] > rhs - 1e-7).any()
    assert n_binding > 2  # the constraints matter in this test


def test_agrees_with_scipy():
    rng = np.random.default_rng(0)
    hessian, rows, rhs = random_problem(rng, 3, 6)
    c = 5 * rng.standard_normal((10, 3))
    solution = ExplicitQP(hessian, rows, rhs).solve(c)
    for b in range(len(c)):
        reference = minimize(
            lambda u, b=b: 0.5 * u @ hessian @ u - c[b] @ u,
            np.zeros(3),
            jac=lambda u, b=b: hessian @ u - c[b],
            constraints={"type": "ineq", "fun": lambda u: rhs - rows @ u, "jac": lambda u: -rows},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        np.testing.assert_allclose(solution.action[b], reference.x, atol=1e-5)


def test_no_feasible_point_in_a_large_sample_is_better():
    rng = np.random.default_rng(1)
    hessian, rows, rhs = random_problem(rng, 3, 7)
    c = 4 * rng.standard_normal((20, 3))
    solution = ExplicitQP(hessian, rows, rhs).solve(c)
    points = rng.uniform(-3, 3, (50_000, 3))
    points = points[(points @ rows.T <= rhs).all(axis=1)]
    quadratic = 0.5 * np.einsum("ki,ij,kj->k", points, hessian, points)
    best = (quadratic[:, None] - points @ c.T).min(axis=0)
    assert (solution.objective <= best + 1e-9).all()
    assert (solution.action @ rows.T <= rhs + 1e-8).all()


def test_hand_computed_corner():
    qp = ExplicitQP([2.0, 2.0], [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [1.0, 1.0, 1.5])
    solution = qp.solve([[4.0, 4.0], [1.0, -2.0], [10.0, 0.0]])
    np.testing.assert_allclose(solution.action, [[0.75, 0.75], [0.5, -1.0], [1.0, 0.0]], atol=1e-12)
    np.testing.assert_allclose(solution.objective, [2 * 0.75**2 - 6.0, 0.25 + 1.0 - 0.5 - 2.0, 1.0 - 10.0])
    assert (solution.residual < 1e-12).all()


def test_degenerate_vertex_with_more_active_rows_than_variables():
    # Four constraints meet in (1, 1); every pair is a candidate, most have a negative multiplier.
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    qp = ExplicitQP(np.eye(2), rows, rows @ np.ones(2))
    solution = qp.solve([[5.0, 5.0], [3.0, 1.5], [1.0, 1.0]])
    np.testing.assert_allclose(solution.action, np.ones((3, 2)), atol=1e-9)
    assert solution.count(Status.OPTIMAL) == 3


def test_small_integers_where_ties_and_dependent_rows_abound():
    rng = np.random.default_rng(6)
    n_solved = n_infeasible = 0
    for _ in range(60):
        n = int(rng.integers(2, 5))
        rows = rng.integers(-1, 2, (7, n)).astype(float)
        rows = rows[(rows != 0).any(axis=1)]
        rhs = rng.integers(-1, 3, len(rows)).astype(float)
        c = rng.integers(-3, 4, n).astype(float)
        solution = ExplicitQP(np.ones(n), rows, rhs).solve(c[None])
        status, u, _ = by_clarabel(np.eye(n), rows, rhs, c, np.ones(n, dtype=bool))
        assert solution.status[0] == (Status.OPTIMAL if status == cp.OPTIMAL else Status.INFEASIBLE)
        if status == cp.OPTIMAL:
            np.testing.assert_allclose(solution.action[0], u, atol=1e-5)
            n_solved += 1
        else:
            assert status == cp.INFEASIBLE
            n_infeasible += 1
    assert n_solved > 20
    assert n_infeasible > 5


@pytest.mark.parametrize("size", [1e-12, 1e6, 1e9, 1e15])
def test_extreme_linear_terms_are_right_or_marked(size):
    rng = np.random.default_rng(7)
    hessian, rows, rhs = random_problem(rng, 3, 7)
    c = size * rng.standard_normal((100, 3))
    solution = ExplicitQP(hessian, rows, rhs).solve(c)
    optimal = solution.status == Status.OPTIMAL
    assert (solution.action[optimal] @ rows.T <= rhs + 1e-7).all()
    assert (solution.action[~optimal] == 0).all()
    assert solution.count(Status.INFEASIBLE) == 0
    if size <= 1e6:
        assert optimal.all()


def test_equality_as_two_inequalities():
    rows = np.array([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])
    solution = ExplicitQP(np.eye(3), rows, [1.0, -1.0]).solve([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
    np.testing.assert_allclose(solution.action, [[1 / 3] * 3, [7 / 3, -2 / 3, -2 / 3]], atol=1e-9)


def test_nearly_dependent_rows_are_never_silently_wrong():
    rng = np.random.default_rng(2)
    for gap in 10.0 ** -np.arange(3, 15):
        rows = np.array([[1.0, 0.0], [1.0, gap], [0.0, 1.0], [-1.0, -gap / 2]])
        rhs = np.array([1.0, 1.0, 1.0, 1.0])
        c = 5 * rng.standard_normal((30, 2))
        solution = ExplicitQP(np.eye(2), rows, rhs).solve(c)
        optimal = solution.status == Status.OPTIMAL
        assert optimal.mean() > 0.9
        # Against the solution with exactly dependent rows, from which it differs by the order of the gap.
        reference = ExplicitQP(np.eye(2), [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], np.ones(3)).solve(c)
        assert np.abs(solution.action - reference.action)[optimal].max() < 10 * gap + 1e-7


def test_closed_gates_are_exactly_zero_and_all_closed_is_zero():
    rng = np.random.default_rng(3)
    hessian, rows, rhs = random_problem(rng, 4, 6)
    gate = rng.random((200, 4)) < 0.5
    gate[0] = False
    solution = ExplicitQP(hessian, rows, rhs).solve(rng.standard_normal((200, 4)), gate)
    assert (solution.action[~gate] == 0).all()
    assert (solution.action[gate] != 0).any()
    assert solution.objective[0] == 0
    assert solution.count(Status.OPTIMAL) == 200


def test_infeasible_only_under_the_gates_that_make_it_so():
    # u_0 >= 1 is impossible when gate 0 is closed.
    qp = ExplicitQP(np.eye(2), [[-1.0, 0.0]], [-1.0])
    solution = qp.solve(np.zeros((4, 2)), np.array([[1, 1], [1, 0], [0, 1], [0, 0]], dtype=bool))
    assert solution.status.tolist() == ["optimal", "optimal", "infeasible", "infeasible"]
    np.testing.assert_allclose(solution.action, [[1, 0], [1, 0], [0, 0], [0, 0]], atol=1e-12)
    assert np.isnan(solution.objective[2:]).all()
    empty = ExplicitQP(np.eye(1), [[1.0], [-1.0]], [0.0, -1.0]).solve([[0.0]])
    assert empty.count(Status.INFEASIBLE) == 1


def test_uncertified_rows_are_marked_and_zero(monkeypatch):
    qp = ExplicitQP(np.eye(2), [[1.0, 1.0]], [1.0])
    correct = qp._pieces

    def wrong(open_):
        return tuple(piece for piece in correct(open_) if piece.active == ())

    monkeypatch.setattr(qp, "_pieces", wrong)
    solution = qp.solve([[0.1, 0.1], [3.0, 3.0]])
    assert solution.status.tolist() == ["optimal", "inaccurate"]
    assert (solution.action[1] == 0).all()
    assert np.isinf(solution.residual[1])
    assert np.isnan(solution.objective[1])


def test_a_wrong_map_is_caught_by_the_certificate(monkeypatch):
    qp = ExplicitQP(np.eye(2), [[1.0, 1.0]], [1.0])
    for piece in qp._pattern(np.array([True, True])).pieces:
        piece.action_map[:] *= 0.999
    assert (qp.solve([[0.1, 0.1], [4.0, 2.0]]).status == Status.INACCURATE).all()


def test_result_does_not_depend_on_the_batch(monkeypatch):
    rng = np.random.default_rng(4)
    hessian, rows, rhs = random_problem(rng, 4, 8)
    c, gate = 4 * rng.standard_normal((300, 4)), rng.random((300, 4)) < 0.6
    whole = ExplicitQP(hessian, rows, rhs).solve(c, gate)
    monkeypatch.setattr(explicit_qp, "CHUNK", 7)
    chunks = ExplicitQP(hessian, rows, rhs).solve(c, gate)
    qp = ExplicitQP(hessian, rows, rhs)
    single = [qp.solve(c[b : b + 1], gate[b : b + 1]) for b in range(0, 300, 37)]
    np.testing.assert_allclose(whole.action, chunks.action, atol=1e-12)
    np.testing.assert_allclose(whole.action[::37], [s.action[0] for s in single], atol=1e-12)
    assert len(qp.solve(np.zeros((0, 4))).action) == 0


def test_scaling_a_row_changes_nothing():
    rng = np.random.default_rng(5)
    hessian, rows, rhs = random_problem(rng, 3, 5)
    c = 4 * rng.standard_normal((50, 3))
    factor = np.array([1e-6, 1e6, 1.0, 10.0, 1e-3])
    scaled = ExplicitQP(hessian, rows * factor[:, None], rhs * factor).solve(c)
    assert scaled.count(Status.OPTIMAL) == 50
    np.testing.assert_allclose(scaled.action, ExplicitQP(hessian, rows, rhs).solve(c).action, atol=1e-9)


@pytest.mark.parametrize(
    ("hessian", "rows", "rhs", "message"),
    [
        (np.ones((2, 3)), [[1.0, 1.0]], [1.0], "shape"),
        ([[1.0, 0.5], [0.0, 1.0]], [[1.0, 1.0]], [1.0], "not symmetric"),
        ([[1.0, 2.0], [2.0, 1.0]], [[1.0, 1.0]], [1.0], "not positive definite"),
        ([1.0, 0.0], [[1.0, 1.0]], [1.0], "not positive definite"),
        ([1.0, 1.0], [[1.0, 1.0, 1.0]], [1.0], "do not fit"),
        ([1.0, 1.0], [[1.0, 1.0]], [1.0, 2.0], "do not fit"),
        ([1.0, 1.0], [[1.0, 1.0], [0.0, 0.0]], [1.0, 2.0], r"rows\[1\] is zero"),
        ([1.0, 1.0], [[1.0, np.nan]], [1.0], r"rows\[0, 1\] = nan"),
        ([1.0, 1.0], [[1.0, 1.0]], [np.inf], r"rhs\[0\] = inf"),
        (["a", 1.0], [[1.0, 1.0]], [1.0], "hessian: numbers"),
        (np.ones(12), np.ones((30, 12)), np.ones(30), "active sets"),
    ],
)
def test_bad_problems(hessian, rows, rhs, message):
    with pytest.raises(SafeframeError, match=message):
        ExplicitQP(hessian, rows, rhs)


def test_bad_batches():
    qp = ExplicitQP(np.eye(2), [[1.0, 1.0]], [1.0])
    with pytest.raises(SafeframeError, match=r"\(B, 2\) is needed"):
        qp.solve(np.zeros((3, 4)))
    with pytest.raises(SafeframeError, match=r"linear\[1, 0\] = nan"):
        qp.solve([[0.0, 0.0], [np.nan, 0.0]])
    with pytest.raises(SafeframeError, match="bool of shape"):
        qp.solve(np.zeros((3, 2)), np.ones((3, 2)))
    with pytest.raises(SafeframeError, match="bool of shape"):
        qp.solve(np.zeros((3, 2)), np.ones(3, dtype=bool))
    with pytest.raises(SafeframeError, match="tolerance"):
        ExplicitQP(np.eye(2), [[1.0, 1.0]], [1.0], tolerance=0)
