"""Convex programs as optimisation stage: built once with CVXPY, gated per entry, solved by Clarabel.

The paper's optimisation stage (arXiv 2504.20924, section on the optimisation component) minimises an
objective under deterministic convex constraints, which stay exact, and chance constraints. Where a chance
constraint concerns single entries of the action, it acts as a gate: entry i may be non-zero only if the bound
on its risk is at most r_t,i. The gate is a parameter of the compiled problem (closed_i * u_i = 0), so that
one compilation serves every input and every threshold.

A single small problem costs about 1 ms, nearly all of it CVXPY's own bookkeeping. `stack` > 1 puts that many
rows into one compiled problem with a sum of objectives, two to five times faster a row at 50 rows of the
production problem (results/tables/bench_planner.csv). Rows without an optimum after that (one infeasible row
spoils its stack) are solved again one by one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cvxpy as cp
import numpy as np
from numpy.typing import ArrayLike

from safeframe.types import BoolArray, FloatArray, SafeframeError, Status


@dataclass(frozen=True)
class ConvexSolution:
    """Solutions of a batch of B programs with an action of n entries.

    Attributes:
        action: (B, n); the default action where the status is not optimal (NaN if the program has none),
            entries behind a closed gate exactly 0 where it is optimal.
        status: (B,) of `Status` values. optimal; infeasible (no default action given) or default (given)
            where no action satisfies the constraints; inaccurate where the solver failed, stopped short, or
            its answer violates the constraints.
        objective: (B,) in the sense of the user's problem (maximum or minimum), NaN where not optimal.
        residual: (B,) largest violation of a constraint by the action returned by the solver, in the
            constraint's own unit; NaN where the solver returned none.
        solver_status: (B,) what CVXPY reported.
    """

    action: FloatArray
    status: np.ndarray
    objective: FloatArray
    residual: FloatArray
    solver_status: np.ndarray

    def count(self, status: Status) -> int:
        """Number of rows with a status.

        Args:
            status: the status counted.

        Returns:
            A number in 0..B.
        """
        return int((self.status == status.value).sum())


@dataclass(frozen=True)
class _Block:
    """One copy of the user's problem: with the gate's constraint, its action, and its parameters by name."""

    problem: cp.Problem
    action: cp.Variable
    closed: cp.Parameter
    parameters: dict[str, cp.Parameter]

    def assign(self, closed: BoolArray, values: dict[str, FloatArray], row: int) -> None:
        """Put the values of one row into the parameters."""
        self.closed.value = closed[row].astype(np.float64)
        for name, value in values.items():
            try:
                self.parameters[name].value = value[row]
            except ValueError as error:
                raise SafeframeError(f"parameter {name}, row {row}: {error}") from None


class GatedConvexProgram:
    """A convex program with parameters and one gate per entry of the action, compiled once.

    Args:
        build: makes the CVXPY problem and says which variable (one-dimensional) is the action. Whatever
            changes from input to input must be a `cp.Parameter` with a name, used according to DPP (the
            product of a parameter and a variable is allowed, of two parameters is not), since only then does
            CVXPY compile once. Called again for every row of a stack.
        default_action: (n,) taken, and counted by status, where there is no optimal solution; None: NaN there
            instead.
        tolerance: largest accepted violation of a constraint, > 0, in the constraint's own unit.
        stack: rows that are solved as one problem (module docstring), at least 1. The solver's gap then holds
            for the sum of the objectives.
        solver_options: passed to Clarabel.

    Raises:
        SafeframeError: on a problem that is not convex, not DPP or has integer variables, parameters without
            unique names, an action that is not a variable of the problem, a default action that does not fit,
            a tolerance or stack outside its range, and a builder that returns the same variables again.
    """

    def __init__(
        self,
        build: Callable[[], tuple[cp.Problem, cp.Variable]],
        default_action: ArrayLike | None = None,
        tolerance: float = 1e-6,
        stack: int = 1,
        solver_options: dict[str, Any] | None = None,
    ) -> None:
        if isinstance(stack, bool) or not isinstance(stack, int) or stack < 1:
            raise SafeframeError(f"stack = {stack!r}: a whole number of rows >= 1 is needed")
        if not tolerance > 0:
            raise SafeframeError(f"tolerance = {tolerance!r}: a number > 0 is needed")
        self._build, self.stack, self.tolerance = build, stack, tolerance
        self._options = dict(solver_options or {})
        self._single = self._block()
        self.n = int(self._single.action.shape[0])
        _check(self._single.problem)
        self.default_action: FloatArray | None = None
        if default_action is not None:
            self.default_action = np.asarray(default_action, dtype=np.float64)
            if self.default_action.shape != (self.n,) or not np.isfinite(self.default_action).all():
                raise SafeframeError(
                    f"default_action = {default_action!r}: {self.n} finite numbers are needed"
                )

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that `solve` wants."""
        return tuple(self._single.parameters)

    def solve(self, gate: ArrayLike | None = None, **values: ArrayLike) -> ConvexSolution:
        """Solve for a batch of B rows.

        Args:
            gate: (n,) or (B, n) bool, True = open (None: all open).
            **values: one entry per parameter of the problem, of the parameter's shape (shared by all rows) or
                with a leading B.

        Returns:
            One solution per row.

        Raises:
            SafeframeError: on parameters missing or unknown, shapes that do not fit or batches of different
                length, values that are not finite or that the parameter does not admit, and a problem that is
                unbounded (then it is wrongly posed).
        """
        gates, batch, size = self._batch(gate, values)
        default = np.full(self.n, np.nan) if self.default_action is None else self.default_action
        result = ConvexSolution(
            action=np.tile(default, (size, 1)),
            status=np.full(size, Status.INACCURATE.value, dtype="<U10"),
            objective=np.full(size, np.nan),
            residual=np.full(size, np.nan),
            solver_status=np.full(size, cp.SOLVER_ERROR, dtype="<U32"),
        )
        for start in range(0, size, self.stack):
            rows = range(start, min(start + self.stack, size))
            if len(rows) > 1:
                self._solve_stack(rows, ~gates, batch, result)
            for row in rows:
                if result.status[row] != Status.OPTIMAL.value:
                    self._solve_row(row, ~gates, batch, result)
        return result

    def _solve_row(
        self, row: int, closed: BoolArray, batch: dict[str, FloatArray], result: ConvexSolution
    ) -> None:
        self._single.assign(closed, batch, row)
        said = self._run(self._single.problem)
        result.solver_status[row] = said
        if said == cp.UNBOUNDED:
            raise SafeframeError(f"row {row}: the problem is unbounded; bound the action or the objective")
        if said == cp.INFEASIBLE:
            result.status[row] = (Status.INFEASIBLE if self.default_action is None else Status.DEFAULT).value
        if said == cp.OPTIMAL:
            self._read(self._single, row, closed, result)

    def _solve_stack(
        self, rows: range, closed: BoolArray, batch: dict[str, FloatArray], result: ConvexSolution
    ) -> None:
        """Solve several rows as one problem; rows that this leaves without an optimum are untouched."""
        blocks, problem = self._stacked
        for slot, block in enumerate(blocks):  # a last stack that is not full repeats its last row
            block.assign(closed, batch, rows[min(slot, len(rows) - 1)])
        if self._run(problem) == cp.OPTIMAL:
            for block, row in zip(blocks, rows, strict=False):
                result.solver_status[row] = cp.OPTIMAL
                self._read(block, row, closed, result)

    def _read(self, block: _Block, row: int, closed: BoolArray, result: ConvexSolution) -> None:
        """Take one solution over if, with closed entries exactly 0, it satisfies the constraints."""
        block.action.value = np.where(closed[row], 0.0, np.asarray(block.action.value))
        residual = max(float(np.max(constraint.violation())) for constraint in block.problem.constraints)
        result.residual[row] = residual
        if residual <= self.tolerance:
            result.status[row] = Status.OPTIMAL.value
            result.action[row] = block.action.value
            result.objective[row] = float(block.problem.objective.value)  # pyright: ignore[reportArgumentType]

    def _run(self, problem: cp.Problem) -> str:
        """Solve with the present parameters; CVXPY's status, SOLVER_ERROR where the solver failed."""
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Solution may be inaccurate")  # the status says it
                problem.solve(solver=cp.CLARABEL, **self._options)
        except cp.SolverError:
            return cp.SOLVER_ERROR
        return str(problem.status)

    def _block(self) -> _Block:
        problem, action = self._build()
        if action.ndim != 1 or all(variable.id != action.id for variable in problem.variables()):
            raise SafeframeError("the action must be a one-dimensional variable that occurs in the problem")
        names = [parameter.name() for parameter in problem.parameters()]
        if len(set(names)) != len(names) or "gate" in names:
            raise SafeframeError(
                f"parameters need names, all different and none 'gate'; there are {', '.join(sorted(names))}"
            )
        closed = cp.Parameter(action.shape, nonneg=True)
        gated = cp.Problem(problem.objective, [*problem.constraints, cp.multiply(closed, action) == 0])
        return _Block(gated, action, closed, dict(zip(names, problem.parameters(), strict=True)))

    @cached_property
    def _stacked(self) -> tuple[list[_Block], cp.Problem]:
        """`stack` copies of the problem and the problem that holds them all."""
        blocks = [self._block() for _ in range(self.stack)]
        leaves = [leaf.id for b in blocks for leaf in (*b.problem.variables(), *b.problem.parameters())]
        if len(set(leaves)) != len(leaves):
            raise SafeframeError(
                "stack > 1 needs a builder that makes new variables and parameters every time it is called"
            )
        objectives = [block.problem.objective for block in blocks]
        total = cp.sum(cp.hstack([objective.args[0] for objective in objectives]))
        constraints = [constraint for block in blocks for constraint in block.problem.constraints]
        return blocks, cp.Problem(type(objectives[0])(total), constraints)

    def _batch(
        self, gate: ArrayLike | None, values: dict[str, ArrayLike]
    ) -> tuple[BoolArray, dict[str, FloatArray], int]:
        """Gates (B, n) and parameters (B, *shape), all with the same B."""
        parameters = self._single.parameters
        missing, unknown = sorted(set(parameters) - set(values)), sorted(set(values) - set(parameters))
        if missing or unknown:
            raise SafeframeError(
                f"parameters missing: {', '.join(missing) or 'none'}; unknown: "
                f"{', '.join(unknown) or 'none'}; the problem has {', '.join(parameters) or 'none'}"
            )
        gates = np.ones(self.n, dtype=bool) if gate is None else np.asarray(gate)
        if gates.dtype != bool:
            raise SafeframeError(f"gate is {gates.dtype}; bool is needed (True = open)")
        arrays: dict[str, np.ndarray] = {"gate": gates}
        shapes: dict[str, tuple[int, ...]] = {"gate": (self.n,)}
        for name, value in values.items():
            arrays[name] = np.asarray(value, dtype=np.float64)
            shapes[name] = tuple(parameters[name].shape)
            if not np.isfinite(arrays[name]).all():
                raise SafeframeError(f"parameter {name} has values that are not finite")
        sizes = dict(_sizes(arrays, shapes))
        size = max(sizes.values(), default=1)
        if len(set(sizes.values())) > 1:
            raise SafeframeError(f"batches of different length: {sizes}")
        full = {name: np.broadcast_to(array, (size, *shapes[name])) for name, array in arrays.items()}
        return full.pop("gate"), full, size


def _check(problem: cp.Problem) -> None:
    """SafeframeError unless the problem is convex, continuous and compiles once for all parameters."""
    if problem.is_mixed_integer():
        raise SafeframeError(
            "the problem has integer or boolean variables; Clarabel solves convex programs only"
        )
    if not problem.is_dcp():
        raise SafeframeError(
            "the problem is not convex by CVXPY's rules; see https://www.cvxpy.org/tutorial/dcp"
        )
    if not problem.is_dpp():
        raise SafeframeError(
            "the problem is not DPP, so it would be compiled anew for every input: parameters may be "
            "multiplied with variables but not with one another; make such a product a parameter of its own"
        )


def _sizes(arrays: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, int]]:
    for name, array in arrays.items():
        shape = shapes[name]
        if array.ndim == len(shape) + 1 and array.shape[1:] == shape:
            yield name, len(array)
        elif array.shape != shape:
            raise SafeframeError(f"{name} has shape {array.shape}; {shape} or (B, *{shape}) is needed")
