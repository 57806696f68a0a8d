"""Convex programs as optimisation stage: built once with CVXPY, gated per variable, solved by Clarabel row by row.

The paper's optimisation stage (arXiv 2504.20924, section on the optimisation component) minimises an objective under
deterministic convex constraints, which stay exact, and chance constraints. Where a chance constraint concerns single entries
of the action, it acts as a gate: entry i may be non-zero only if the bound on its risk is at most r_t,i. The gate is a
parameter of the compiled problem (closed_i * u_i = 0), so that one compilation serves every input and every threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
from numpy.typing import ArrayLike

from safeframe.types import BoolArray, FloatArray, SafeframeError, Status

GATE_PARAMETER = "safeframe_closed"
SETTLED = {cp.OPTIMAL, cp.INFEASIBLE}


@dataclass(frozen=True)
class ConvexSolution:
    """Solutions of a batch of B programs with an action of n entries.

    action: (B, n); the default action where the status is not optimal (NaN if the program has none), entries behind a
    closed gate exactly 0 where it is optimal.
    status: (B,) of `Status` values. optimal; infeasible (no default action given) or default (given) where no action satisfies
    the constraints; inaccurate where the solver failed, stopped short, or its answer violates the constraints.
    objective: (B,) in the sense of the user's problem (maximum or minimum), NaN where not optimal.
    residual: (B,) largest violation of a constraint by the action returned by the solver, in the constraint's own unit; NaN
    where the solver returned none.
    solver_status: (B,) what CVXPY reported.
    """

    action: FloatArray
    status: np.ndarray
    objective: FloatArray
    residual: FloatArray
    solver_status: tuple[str, ...]

    def count(self, status: Status) -> int:
        """Number of rows with this status."""
        return int((self.status == status.value).sum())


class GatedConvexProgram:
    """A convex program with parameters and one gate per entry of the action, compiled once.

    build: makes the CVXPY problem and says which variable (one-dimensional) is the action. Whatever changes from input to
    input must be a `cp.Parameter` with a name, used according to DPP (the product of a parameter and a variable is allowed, of
    two parameters is not), since only then does CVXPY compile once.
    default_action: (n,) taken, and counted by status, where there is no optimal solution; None: NaN there instead.
    tolerance: largest accepted violation of a constraint, in the constraint's own unit.
    solver_options: passed to Clarabel.

    Raises SafeframeError: not DPP, integer variables, parameters without unique names, an action that is not a variable of
    the problem, a default action that does not fit.
    """

    def __init__(
        self,
        build: Callable[[], tuple[cp.Problem, cp.Variable]],
        default_action: ArrayLike | None = None,
        tolerance: float = 1e-6,
        solver_options: dict[str, Any] | None = None,
    ) -> None:
        problem, action = build()
        if action.ndim != 1 or all(variable.id != action.id for variable in problem.variables()):
            raise SafeframeError("the action must be a one-dimensional variable that occurs in the problem")
        self.n = int(action.shape[0])
        self._action = action
        self._closed = cp.Parameter(self.n, nonneg=True, name=GATE_PARAMETER)
        self._problem = cp.Problem(problem.objective, [*problem.constraints, cp.multiply(self._closed, action) == 0])
        if self._problem.is_mixed_integer():
            raise SafeframeError("the problem has integer or boolean variables; Clarabel solves convex programs only")
        if not self._problem.is_dcp():
            raise SafeframeError("the problem is not convex by CVXPY's rules (DCP); see problem.is_dcp()")
        if not self._problem.is_dcp(dpp=True):
            raise SafeframeError(
                "the problem is not DPP, so it would be compiled anew for every input: parameters may be multiplied with "
                "variables but not with one another; make such a product a parameter of its own"
            )
        names = [parameter.name() for parameter in problem.parameters()]
        if len(set(names)) != len(names):
            raise SafeframeError(f"parameters need different names; there are {', '.join(sorted(names))}")
        self.parameters: dict[str, cp.Parameter] = dict(zip(names, problem.parameters(), strict=True))
        self.default_action = np.full(self.n, np.nan)
        self._has_default = default_action is not None
        if default_action is not None:
            self.default_action = np.asarray(default_action, dtype=np.float64)
            if self.default_action.shape != (self.n,) or not np.isfinite(self.default_action).all():
                raise SafeframeError(f"default_action = {default_action!r}: {self.n} finite numbers are needed")
        self.tolerance = tolerance
        self._options = dict(solver_options or {})

    def solve(self, gate: ArrayLike | None = None, **values: ArrayLike) -> ConvexSolution:
        """Solve for a batch.

        gate: (n,) or (B, n) bool, True = open (None: all open). values: one entry per parameter, of the parameter's shape
        (shared by all rows) or with a leading B.

        Raises SafeframeError: parameters missing or unknown, shapes that do not fit or batches of different length, values that
        are not finite or that the parameter does not admit, and a problem that is unbounded (then it is wrongly posed).
        """
        gates, batch, size = self._batch(gate, values)
        action = np.tile(self.default_action, (size, 1))
        status = np.full(size, Status.INACCURATE.value, dtype="<U10")
        objective, residual = np.full(size, np.nan), np.full(size, np.nan)
        reported = []
        for row in range(size):
            closed = ~gates[row]
            self._closed.value = closed.astype(np.float64)
            for name, value in batch.items():
                self._assign(name, value[row], row)
            said = self._run()
            reported.append(said)
            if said == cp.UNBOUNDED:
                raise SafeframeError(f"row {row}: the problem is unbounded; bound the action or the objective")
            if said == cp.INFEASIBLE:
                status[row] = (Status.DEFAULT if self._has_default else Status.INFEASIBLE).value
            if said != cp.OPTIMAL or self._action.value is None:
                continue
            self._action.value = np.where(closed, 0.0, self._action.value)
            residual[row] = max((float(np.max(c.violation())) for c in self._problem.constraints), default=0.0)
            if residual[row] <= self.tolerance:
                status[row] = Status.OPTIMAL.value
                action[row] = self._action.value
                objective[row] = float(self._problem.objective.value)  # pyright: ignore[reportArgumentType]
        return ConvexSolution(action, status, objective, residual, tuple(reported))

    def _run(self) -> str:
        """Solve with the present parameters; CVXPY's status, SOLVER_ERROR where the solver failed."""
        try:
            self._problem.solve(solver=cp.CLARABEL, **self._options)
        except cp.SolverError:
            return cp.SOLVER_ERROR
        return str(self._problem.status)

    def _assign(self, name: str, value: FloatArray, row: int) -> None:
        try:
            self.parameters[name].value = value
        except ValueError as error:
            raise SafeframeError(f"parameter {name}, row {row}: {error}") from None

    def _batch(
        self, gate: ArrayLike | None, values: dict[str, ArrayLike]
    ) -> tuple[BoolArray, dict[str, FloatArray], int]:
        """Gates (B, n) and parameters (B, *shape), all with the same B."""
        missing, unknown = sorted(set(self.parameters) - set(values)), sorted(set(values) - set(self.parameters))
        if missing or unknown:
            raise SafeframeError(
                f"parameters missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}; "
                f"the problem has {', '.join(self.parameters) or 'none'}"
            )
        gates = np.ones(self.n, dtype=bool) if gate is None else np.asarray(gate)
        if gates.dtype != bool:
            raise SafeframeError(f"gate is {gates.dtype}; bool is needed (True = open)")
        arrays: dict[str, np.ndarray] = {"gate": gates}
        shapes: dict[str, tuple[int, ...]] = {"gate": (self.n,)}
        for name, value in values.items():
            arrays[name] = np.asarray(value, dtype=np.float64)
            shapes[name] = tuple(self.parameters[name].shape)
            if not np.isfinite(arrays[name]).all():
                raise SafeframeError(f"parameter {name} has values that are not finite")
        sizes = dict(self._sizes(arrays, shapes))
        size = max(sizes.values(), default=1) if sizes else 1
        if len(set(sizes.values())) > 1:
            raise SafeframeError(f"batches of different length: {sizes}")
        full = {name: np.broadcast_to(array, (size, *shapes[name])) for name, array in arrays.items()}
        return full.pop("gate"), full, size

    @staticmethod
    def _sizes(arrays: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, int]]:
        for name, array in arrays.items():
            shape = shapes[name]
            if array.ndim == len(shape) + 1 and array.shape[1:] == shape:
                yield name, len(array)
            elif array.shape != shape:
                raise SafeframeError(f"{name} has shape {array.shape}; {shape} or (B, *{shape}) is needed")
