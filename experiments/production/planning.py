"""The production problem: how much of four products to make, given predicted demand and closed gates.

    maximise    sum_i (p_i - k_i (u_i - s_i)) u_i
    subject to  A u + |u| <= b,   u_i = 0 where the gate of i is closed

(arXiv 2504.20924, production planning): price p falls with what is made beyond demand s, with slope k; A
couples the products through shared resources, b is capacity. The absolute value stands elementwise and there
is no constraint on the sign of u. Since |x| <= y means x <= y and -x <= y, the constraint is (A + I) u <= b
and (A - I) u <= b, and the whole is the quadratic program min 1/2 u'(2K)u - (p + k s)'u of
`safeframe.optimisation.explicit_qp`, solved exactly for all hours at once. `plan_with_cvxpy` solves the
literal form hour by hour and is what the fast planner is tested against.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import cvxpy as cp
import numpy as np
from numpy.typing import ArrayLike

from experiments.production.demand.series import UNSAFE_BELOW
from safeframe.optimisation.convex import GatedConvexProgram
from safeframe.optimisation.explicit_qp import ExplicitQP
from safeframe.types import SafeframeError, Status

PRICE = (5.0, 4.5, 4.0, 3.5)
SLOPE = (1.0, 1.0, 1.0, 1.0)
COUPLING = (
    (0.00, 0.15, 0.10, 0.20),
    (0.10, 0.00, 0.20, 0.15),
    (0.15, 0.10, 0.00, 0.20),
    (0.20, 0.15, 0.10, 0.00),
)
CAPACITY = (6.5, 6.0, 5.75, 5.25)
PRODUCED_ABOVE = 1e-6
"""An amount larger than this in size counts as produced."""


@dataclass(frozen=True, eq=False)
class ProductionProblem:
    """Constants of the production problem for p products (four by default), on the scale [0, 10] of demand.

    Attributes:
        price: (p,) p, where as much is made as is demanded.
        slope: (p,) k > 0, by which the price falls with every unit beyond demand.
        coupling: (p, p) A, through shared resources.
        capacity: (p,) b >= 0 of these.

    Raises:
        SafeframeError: naming the entry, for shapes that do not fit, values that are not finite, slopes <= 0
            (revenue would grow without end) and negative capacity (not even producing nothing would be
            allowed).
    """

    price: np.ndarray = field(default_factory=lambda: np.array(PRICE))
    slope: np.ndarray = field(default_factory=lambda: np.array(SLOPE))
    coupling: np.ndarray = field(default_factory=lambda: np.array(COUPLING))
    capacity: np.ndarray = field(default_factory=lambda: np.array(CAPACITY))

    def __post_init__(self) -> None:
        for name in ("price", "slope", "coupling", "capacity"):
            try:
                value = np.array(getattr(self, name), dtype=np.float64)
            except (TypeError, ValueError) as error:
                raise SafeframeError(f"{name}: numbers are needed ({error})") from None
            object.__setattr__(self, name, value)
        if self.price.ndim != 1 or len(self.price) == 0:
            raise SafeframeError(f"price has shape {self.price.shape}; one number per product is needed")
        p = len(self.price)
        for name, shape in (("slope", (p,)), ("coupling", (p, p)), ("capacity", (p,))):
            if getattr(self, name).shape != shape:
                raise SafeframeError(
                    f"{name} has shape {getattr(self, name).shape}; {shape} is needed for {p} prices"
                )
        for name in ("price", "slope", "coupling", "capacity"):
            _raise_where(
                ~np.isfinite(getattr(self, name)), name, getattr(self, name), "finite numbers are needed"
            )
        _raise_where(self.slope <= 0, "slope", self.slope, "it must be > 0, else revenue grows without end")
        _raise_where(
            self.capacity < 0,
            "capacity",
            self.capacity,
            "it must be >= 0, else even producing nothing (u = 0) is infeasible",
        )

    @property
    def n_products(self) -> int:
        return len(self.price)

    @cached_property
    def qp(self) -> ExplicitQP:
        """The batched exact solver of this problem."""
        eye = np.eye(self.n_products)
        rows = np.concatenate([self.coupling + eye, self.coupling - eye])
        return ExplicitQP(2.0 * self.slope, rows, np.tile(self.capacity, 2))

    def linear(self, demand: np.ndarray) -> np.ndarray:
        """(n, p) p + k s, the linear term of revenue."""
        return self.price + self.slope * demand


@dataclass(frozen=True)
class Plan:
    """What to produce in n hours.

    Attributes:
        action: (n, p) amounts u, exactly 0 behind a closed gate.
        status: (n,) `Status` values: optimal; default where every gate is closed (nothing is produced);
            inaccurate where no certified solution was found (nothing is produced; none has been seen).
        objective: (n,) negative predicted revenue (minimised).
    """

    action: np.ndarray
    status: np.ndarray
    objective: np.ndarray

    def count(self, status: Status) -> int:
        """Number of hours with this status."""
        return int((self.status == status.value).sum())


def plan(problem: ProductionProblem, predicted_demand: ArrayLike, gate: ArrayLike) -> Plan:
    """Exact plan for every hour.

    Args:
        problem: prices and resources of p products.
        predicted_demand: (n, p) finite numbers.
        gate: (n, p) bool, True = the product may be made.

    Returns:
        The plan of all hours.

    Raises:
        SafeframeError: for shapes that do not fit and values that are not finite.
    """
    demand, open_ = _inputs(problem, predicted_demand, gate)
    solution = problem.qp.solve(problem.linear(demand), open_)
    return _as_plan(open_, solution.action, solution.status, solution.objective)


def plan_with_cvxpy(
    problem: ProductionProblem, predicted_demand: ArrayLike, gate: ArrayLike, stack: int = 1
) -> Plan:
    """The same by CVXPY and Clarabel in the literal form with |u| as a cone, hour by hour: the reference.

    stack > 1 solves that many hours as one problem (`GatedConvexProgram`), two to five times faster.
    """
    demand, open_ = _inputs(problem, predicted_demand, gate)
    solution = literal_program(problem, stack).solve(gate=open_, linear=problem.linear(demand))
    return _as_plan(open_, solution.action, solution.status, -solution.objective)


def literal_program(problem: ProductionProblem, stack: int = 1) -> GatedConvexProgram:
    """The problem as written above, compiled once.

    Its parameter `linear` (p,) is p + k s, its default action u = 0.
    """

    def build() -> tuple[cp.Problem, cp.Variable]:
        amount = cp.Variable(problem.n_products, name="amount")
        linear = cp.Parameter(problem.n_products, name="linear")
        revenue_ = linear @ amount - cp.sum(cp.multiply(problem.slope, cp.square(amount)))
        constraint = problem.coupling @ amount + cp.abs(amount) <= problem.capacity
        return cp.Problem(cp.Maximize(revenue_), [constraint]), amount

    options = {"tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}
    return GatedConvexProgram(
        build, default_action=np.zeros(problem.n_products), stack=stack, solver_options=options
    )


def gate_patterns(n_products: int = 4) -> np.ndarray:
    """(2^p, p) bool, every gate pattern; row number = sum_i gate_i 2^i, so row 0 is all closed."""
    return (np.arange(2**n_products)[:, None] >> np.arange(n_products)) % 2 == 1


def pattern_index(gate: ArrayLike) -> np.ndarray:
    """(...,) row of `gate_patterns` of each gate (..., p)."""
    gate = np.asarray(gate)
    return gate.astype(np.int64) @ (1 << np.arange(gate.shape[-1]))


def pattern_values(problem: ProductionProblem, demand: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Best objective under every gate pattern, for a loss that weighs patterns against one another.

    demand: (n, p). Returns values (n, 2^p), the minimised negative revenue, columns as in `gate_patterns`,
    and actions (n, 2^p, p). Raises SafeframeError as `plan`, and if any solution could not be certified.
    """
    patterns = gate_patterns(problem.n_products)
    s, _ = _inputs(problem, demand, None)
    n = len(s)
    solution = problem.qp.solve(
        np.repeat(problem.linear(s), len(patterns), axis=0), np.tile(patterns, (n, 1))
    )
    failed = len(solution.status) - solution.count(Status.OPTIMAL)
    if failed:
        raise SafeframeError(
            f"{failed} of {len(solution.status)} production problems have no certified solution"
        )
    return solution.objective.reshape(n, -1), solution.action.reshape(n, len(patterns), -1)


class PlanTable:
    """The plans of hours behind any gate, looked up: those of all gate patterns are solved once.

    Args:
        problem: prices and resources of p products.
        demand: (n, p) predicted demand.

    Raises:
        SafeframeError: as `pattern_values`.
    """

    def __init__(self, problem: ProductionProblem, demand: ArrayLike) -> None:
        self.value, self._action = pattern_values(problem, demand)
        self._everything = self.value.shape[1] - 1

    def action(self, gate: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """(k, p) amounts behind gates (k, p) bool, of the hours `rows` (k,), or of all."""
        hours = np.arange(len(self.value)) if rows is None else rows
        return self._action[hours, pattern_index(gate)]

    def gain(self, product: int) -> np.ndarray:
        """(n,) predicted revenue that making a product adds where all others may be made, >= 0."""
        without = self._everything - (1 << product)
        return np.maximum(self.value[:, without] - self.value[:, self._everything], 0.0)


def revenue(problem: ProductionProblem, action: ArrayLike, true_demand: ArrayLike) -> np.ndarray:
    """(n,) sum_i (p_i - k_i (u_i - s_i)) u_i of every hour; action and true_demand are (n, p)."""
    u, s = np.asarray(action, dtype=np.float64), np.asarray(true_demand, dtype=np.float64)
    return ((problem.price - problem.slope * (u - s)) * u).sum(axis=-1)


def produced(action: ArrayLike, tol: float = PRODUCED_ABOVE) -> np.ndarray:
    """(n, p) bool, |u| > tol."""
    return np.abs(np.asarray(action)) > tol


def violations(action: ArrayLike, true_demand: ArrayLike, tol: float = PRODUCED_ABOVE) -> np.ndarray:
    """(n, p) bool, produced although demand was below 3."""
    return produced(action, tol) & (np.asarray(true_demand) < UNSAFE_BELOW)


def _as_plan(open_: np.ndarray, action: np.ndarray, status: np.ndarray, objective: np.ndarray) -> Plan:
    status = status.copy()
    status[~open_.any(axis=1) & (status == Status.OPTIMAL.value)] = Status.DEFAULT.value
    return Plan(action, status, objective)


def _inputs(
    problem: ProductionProblem, demand: ArrayLike, gate: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray]:
    s = np.asarray(demand, dtype=np.float64)
    if s.ndim != 2 or s.shape[1] != problem.n_products:
        raise SafeframeError(f"demand has shape {s.shape}; (n, {problem.n_products}) is needed")
    _raise_where(~np.isfinite(s), "demand", s, "finite numbers are needed")
    open_ = np.ones(s.shape, dtype=bool) if gate is None else np.asarray(gate)
    if open_.shape != s.shape or open_.dtype != bool:
        raise SafeframeError(
            f"gate is {open_.dtype} of shape {open_.shape}; bool of shape {s.shape} is needed"
        )
    return s, open_


def _raise_where(bad: np.ndarray, name: str, value: np.ndarray, needed: str) -> None:
    if bad.any():
        place = [int(i) for i in np.argwhere(bad)[0]]
        raise SafeframeError(f"{name}{place} = {value[tuple(place)]:g}: {needed}")
