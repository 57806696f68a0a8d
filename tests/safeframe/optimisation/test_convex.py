"""GatedConvexProgram: right answers, and no failure that looks like success."""

import cvxpy as cp
import numpy as np
import pytest

from safeframe.optimisation.convex import GatedConvexProgram
from safeframe.optimisation.explicit_qp import ExplicitQP
from safeframe.types import SafeframeError, Status


def ball_program(**options):
    """min |u - target|^2 in a ball of given radius around 0: a second-order cone, solution by projection."""

    def build():
        u, target = cp.Variable(3, name="u"), cp.Parameter(3, name="target")
        radius = cp.Parameter(name="radius", nonneg=True)
        return cp.Problem(cp.Minimize(cp.sum_squares(u - target)), [cp.norm(u) <= radius]), u

    return GatedConvexProgram(build, **options)


def slab_program(**options):
    """max c'u - |u|^2 with low <= sum(u) <= high."""

    def build():
        u, c = cp.Variable(2, name="u"), cp.Parameter(2, name="c")
        low, high = cp.Parameter(name="low"), cp.Parameter(name="high")
        constraints = [cp.sum(u) >= low, cp.sum(u) <= high]
        return cp.Problem(cp.Maximize(c @ u - cp.sum_squares(u)), constraints), u

    return GatedConvexProgram(build, **options)


@pytest.mark.parametrize("stack", [1, 4])
def test_projection_on_a_ball_with_gates(stack):
    rng = np.random.default_rng(0)
    target = rng.normal(size=(10, 3)) * 2
    gate = rng.random((10, 3)) < 0.7
    radius = rng.uniform(0.5, 2, 10)
    solution = ball_program(stack=stack).solve(gate=gate, target=target, radius=radius)
    open_target = np.where(gate, target, 0.0)
    length = np.linalg.norm(open_target, axis=1)
    expected = open_target * np.minimum(1, radius / np.where(length > 0, length, 1))[:, None]
    assert solution.count(Status.OPTIMAL) == 10
    np.testing.assert_allclose(solution.action, expected, atol=1e-4)
    assert (solution.action[~gate] == 0).all()
    np.testing.assert_allclose(solution.objective, ((expected - target) ** 2).sum(axis=1), atol=1e-5)
    assert (solution.residual < 1e-6).all()


def test_parameters_and_gates_are_shared_or_per_row():
    program = ball_program()
    assert program.parameters == ("target", "radius") or program.parameters == ("radius", "target")
    shared = program.solve(target=[3.0, 0.0, 4.0], radius=[1.0, 2.0, 3.0])
    np.testing.assert_allclose(shared.action, np.outer([1, 2, 3], [0.6, 0, 0.8]), atol=1e-4)
    one = program.solve(gate=np.array([True, False, False]), target=[3.0, 0.0, 4.0], radius=5.0)
    np.testing.assert_allclose(one.action, [[3, 0, 0]], atol=1e-4)
    assert one.objective == pytest.approx(16, abs=1e-5)


def test_compiled_once(monkeypatch):
    program = slab_program(default_action=[0.0, 0.0])
    program.solve(c=[1.0, 1.0], low=-1.0, high=1.0)
    monkeypatch.setattr(
        "cvxpy.reductions.solvers.solving_chain.SolvingChain.apply",
        lambda *_: pytest.fail("compiled again"),
    )
    assert program.solve(c=np.ones((3, 2)), low=-1.0, high=1.0).count(Status.OPTIMAL) == 3


@pytest.mark.parametrize("stack", [1, 3])
def test_infeasible_rows_take_the_default_action_and_spoil_no_neighbour(stack):
    low = np.array([-1.0, 2.0, -1.0, -1.0, 0.5])
    gate = np.array([[1, 1], [1, 1], [1, 1], [0, 1], [0, 0]], dtype=bool)
    parameters = {"c": [1.0, 3.0], "low": low, "high": 1.0}
    solution = slab_program(default_action=[0.25, 0.0], stack=stack).solve(gate=gate, **parameters)
    assert solution.status.tolist() == ["optimal", "default", "optimal", "optimal", "default"]
    np.testing.assert_allclose(solution.action[[1, 4]], [[0.25, 0], [0.25, 0]])
    np.testing.assert_allclose(solution.action[[0, 2, 3]], [[0, 1], [0, 1], [0, 1]], atol=1e-4)
    assert np.isnan(solution.objective[[1, 4]]).all()
    without = slab_program(stack=stack).solve(gate=gate, **parameters)
    assert without.status.tolist() == ["optimal", "infeasible", "optimal", "optimal", "infeasible"]
    assert np.isnan(without.action[[1, 4]]).all()


@pytest.mark.parametrize("stack", [1, 2])
def test_a_solve_that_stops_short_is_inaccurate_and_takes_the_default_action(stack):
    program = slab_program(default_action=[0.0, 0.0], stack=stack, solver_options={"max_iter": 1})
    solution = program.solve(c=np.ones((3, 2)), low=-1.0, high=1.0)
    assert solution.count(Status.INACCURATE) == 3
    assert (solution.action == 0).all()
    assert np.isnan(solution.objective).all()
    assert cp.OPTIMAL not in solution.solver_status


def test_a_failing_solver_is_inaccurate_and_takes_the_default_action(monkeypatch):
    program = slab_program(default_action=[0.0, 0.0])

    def fail(*_, **__):
        raise cp.SolverError("broken")

    monkeypatch.setattr(cp.Problem, "solve", fail)
    solution = program.solve(c=np.ones((2, 2)), low=-1.0, high=1.0)
    assert solution.count(Status.INACCURATE) == 2
    assert solution.solver_status.tolist() == [cp.SOLVER_ERROR] * 2


def test_an_answer_that_violates_the_constraints_is_inaccurate():
    # The same loose solve, judged by a loose and by a strict tolerance.
    options = {"tol_feas": 0.3, "tol_gap_abs": 0.3, "tol_gap_rel": 0.3}
    parameters = {"c": [9.0, 2.0], "low": 1.0, "high": 1.0}
    loose = slab_program(tolerance=10.0, solver_options=options).solve(**parameters)
    assert loose.status[0] == Status.OPTIMAL
    assert loose.residual[0] > 1e-9
    strict = slab_program(tolerance=loose.residual[0] / 2, default_action=[0, 0], solver_options=options)
    solution = strict.solve(**parameters)
    assert solution.status[0] == Status.INACCURATE
    assert solution.solver_status[0] == cp.OPTIMAL
    assert (solution.action == 0).all()


def test_agrees_with_the_explicit_solver():
    rng = np.random.default_rng(1)
    rows, rhs = rng.normal(size=(6, 3)), rng.uniform(0.2, 2, 6)

    def build():
        u, c = cp.Variable(3), cp.Parameter(3, name="c")
        return cp.Problem(cp.Minimize(cp.sum_squares(u) / 2 - c @ u), [rows @ u <= rhs]), u

    c, gate = 3 * rng.normal(size=(15, 3)), rng.random((15, 3)) < 0.7
    solution = GatedConvexProgram(build, stack=5).solve(gate=gate, c=c)
    exact = ExplicitQP(np.ones(3), rows, rhs).solve(c, gate)
    np.testing.assert_allclose(solution.action, exact.action, atol=1e-4)
    np.testing.assert_allclose(solution.objective, exact.objective, atol=1e-6)


def test_unbounded_is_an_error():
    def build():
        u, c = cp.Variable(2), cp.Parameter(2, name="c")
        return cp.Problem(cp.Maximize(c @ u), [u >= 0]), u

    program = GatedConvexProgram(build, default_action=[0.0, 0.0])
    with pytest.raises(SafeframeError, match="row 1: the problem is unbounded"):
        program.solve(c=[[-1.0, -1.0], [1.0, 1.0]])


def bad_problems():
    u = cp.Variable(2)
    a, b = cp.Parameter(nonneg=True, name="a"), cp.Parameter(nonneg=True, name="b")
    same = cp.Parameter(nonneg=True, name="a")
    whole = cp.Variable(2, integer=True)
    quadratic = cp.sum_squares(u)
    return {
        "not DPP": (cp.Problem(cp.Minimize(quadratic + a * b * u[0])), u),
        "not convex": (cp.Problem(cp.Maximize(quadratic)), u),
        "integer": (cp.Problem(cp.Minimize(cp.sum_squares(whole))), whole),
        "all different": (cp.Problem(cp.Minimize(a * quadratic + same)), u),
        "one-dimensional": (cp.Problem(cp.Minimize(quadratic)), cp.Variable(2)),
    }


@pytest.mark.parametrize("message", list(bad_problems()))
def test_bad_problems(message):
    with pytest.raises(SafeframeError, match=message):
        GatedConvexProgram(lambda: bad_problems()[message])


def test_bad_options():
    with pytest.raises(SafeframeError, match="3 finite numbers"):
        ball_program(default_action=[0.0, 0.0])
    with pytest.raises(SafeframeError, match="finite numbers"):
        ball_program(default_action=[0.0, 0.0, np.nan])
    with pytest.raises(SafeframeError, match="stack = 0"):
        ball_program(stack=0)
    with pytest.raises(SafeframeError, match="tolerance"):
        ball_program(tolerance=0.0)
    variable = cp.Variable(1)
    fixed = cp.Problem(cp.Minimize(cp.sum_squares(variable - 1))), variable
    program = GatedConvexProgram(lambda: fixed, stack=2)
    with pytest.raises(SafeframeError, match="new variables"):
        program.solve(gate=np.array([[True], [False]]))


def test_bad_calls():
    program = ball_program()
    with pytest.raises(SafeframeError, match="missing: radius; unknown: size"):
        program.solve(target=[1.0, 1.0, 1.0], size=1.0)
    with pytest.raises(SafeframeError, match=r"target has shape \(2,\)"):
        program.solve(target=[1.0, 1.0], radius=1.0)
    with pytest.raises(SafeframeError, match="different length"):
        program.solve(target=np.ones((4, 3)), radius=np.ones(5))
    with pytest.raises(SafeframeError, match="radius has values that are not finite"):
        program.solve(target=[1.0, 1.0, 1.0], radius=np.nan)
    with pytest.raises(SafeframeError, match="parameter radius, row 1"):
        program.solve(target=[1.0, 1.0, 1.0], radius=[1.0, -1.0])
    with pytest.raises(SafeframeError, match="bool is needed"):
        program.solve(gate=[1, 0, 1], target=[1.0, 1.0, 1.0], radius=1.0)
    with pytest.raises(SafeframeError, match="gate has shape"):
        program.solve(gate=np.ones(4, dtype=bool), target=[1.0, 1.0, 1.0], radius=1.0)
