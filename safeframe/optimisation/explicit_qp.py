"""Exact, batched solution of small strictly convex quadratic programs with gates.

For every row b of a batch, with one Hessian, one set of constraints and one gate per variable:

    min_u  1/2 u'Hu - c_b'u    subject to  G u <= h,   u_i = 0 where gate_bi is closed.

As a function of c the solution is piecewise affine, one piece per set S of active constraints
(multiparametric quadratic programming: Bemporad, Morari, Dua, Pistikopoulos, "The explicit linear quadratic
regulator for constrained systems", Automatica 38, 2002, DOI 10.1016/S0005-1098(01)00174-1). With the closed
variables struck out of H, G and c:

    lambda_S = (G_S H^-1 G_S')^-1 (G_S H^-1 c - h_S),     u = H^-1 (c - G_S' lambda_S),

and u is the solution if and only if the Karush-Kuhn-Tucker conditions hold: G u <= h and lambda_S >= 0
(stationarity and complementarity hold by construction). It is enough to try the sets S with independent rows:
the multipliers of a solution form a cone, and by Caratheodory's theorem one of them has a support of
independent rows, also where the active rows are dependent (degenerate). So trying them all either finds the
solution or shows that there is none.

Rows are grouped by gate pattern. All maps are affine in c, hence one small matrix product per set, over the
rows that no earlier set has solved. Departures from the source: 1. the regions are not stored as polyhedra,
the conditions are evaluated instead; 2. the certificate is computed again at the end, from H, G, h, c, u and
lambda alone, and a row that misses the tolerance is marked `inaccurate` and gets the zero action; 3. a gate
pattern without any feasible point is found by a linear program.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linprog

from safeframe.types import BoolArray, FloatArray, SafeframeError, Status

MAX_ACTIVE_SETS = 20_000
"""Active sets per gate pattern beyond which enumeration is refused: such a problem wants a general solver."""
DEPENDENT_BELOW = 1e-8
"""Rows whose normalised matrix has a singular value below this count as dependent."""
CHUNK = 1 << 17
"""Rows that are worked on at once; bounds the extra memory to a few times CHUNK * (n + m) numbers."""


@dataclass(frozen=True)
class QPSolution:
    """Solutions of a batch of B problems with n variables.

    Attributes:
        action: (B, n); zero where the row has no certified solution.
        status: (B,) of `Status` values: optimal, infeasible (no point satisfies the constraints under this
            gate) or inaccurate.
        objective: (B,) 1/2 u'Hu - c'u, NaN where not optimal.
        residual: (B,) largest violation of the optimality conditions, relative as in `ExplicitQP`; inf where
            nothing was found.
    """

    action: FloatArray
    status: np.ndarray
    objective: FloatArray
    residual: FloatArray

    def count(self, status: Status) -> int:
        """Number of rows with a status.

        Args:
            status: the status counted.

        Returns:
            A number in 0..B.
        """
        return int((self.status == status.value).sum())


@dataclass(frozen=True)
class _Piece:
    """One active set under one gate pattern: u and lambda_S as affine maps of c."""

    active: tuple[int, ...]
    action_map: FloatArray
    action_shift: FloatArray
    multiplier_map: FloatArray
    multiplier_shift: FloatArray


@dataclass(frozen=True)
class _Pattern:
    open: np.ndarray  # (k,) indices of the open variables
    feasible: bool
    pieces: tuple[_Piece, ...]


class ExplicitQP:
    """Quadratic programs that share H, G and h, solved for many linear terms and gates at once.

    A solution counts as certified if, with every row of G scaled to length 1, the constraints are violated by
    at most tolerance * (1 + max|h|), and negative multipliers, the gradient of the Lagrangian and the
    products multiplier * slack are at most tolerance * (1 + max|c|) (the products times 1 + max|h| too).

    Args:
        hessian: (n, n) symmetric positive definite H, or (n,) its diagonal.
        rows: (m, n) G, no row zero.
        rhs: (m,) h.
        tolerance: of a certified solution, between 0 and 0.01.

    Raises:
        SafeframeError: on shapes that do not fit, values that are not finite, H not symmetric positive
            definite, a row of G that is zero, a tolerance out of range, more than `MAX_ACTIVE_SETS` active
            sets.
    """

    def __init__(self, hessian: ArrayLike, rows: ArrayLike, rhs: ArrayLike, tolerance: float = 1e-9) -> None:
        hessian_ = _finite("hessian", hessian)
        if hessian_.ndim == 1:
            hessian_ = np.diag(hessian_)
        n = len(hessian_)
        if hessian_.shape != (n, n) or n == 0:
            raise SafeframeError(
                f"hessian has shape {hessian_.shape}; (n, n), or (n,) for a diagonal, is needed"
            )
        if not np.allclose(hessian_, hessian_.T, rtol=1e-10, atol=0):
            raise SafeframeError("hessian is not symmetric")
        try:
            np.linalg.cholesky(hessian_)
        except np.linalg.LinAlgError:
            smallest = np.linalg.eigvalsh(hessian_)[0]
            raise SafeframeError(
                f"hessian is not positive definite (smallest eigenvalue {smallest:.3g})"
            ) from None
        rows_, rhs_ = _finite("rows", rows), _finite("rhs", rhs)
        if rows_.ndim != 2 or rows_.shape[1] != n or rhs_.shape != (len(rows_),):
            raise SafeframeError(
                f"rows {rows_.shape} and rhs {rhs_.shape} do not fit; (m, {n}) and (m,) are needed"
            )
        length = np.linalg.norm(rows_, axis=1)
        if (length == 0).any():
            raise SafeframeError(
                f"rows[{int(np.flatnonzero(length == 0)[0])}] is zero; leave such a constraint out"
            )
        if not 0 < tolerance < 1e-2:
            raise SafeframeError(f"tolerance = {tolerance!r}: a number between 0 and 0.01 is needed")
        sets = sum(comb(len(rows_), k) for k in range(min(n, len(rows_)) + 1))
        if sets > MAX_ACTIVE_SETS:
            raise SafeframeError(
                f"{n} variables and {len(rows_)} constraints have {sets:,} active sets (at most "
                f"{MAX_ACTIVE_SETS:,} are enumerated); use safeframe.optimisation.convex.GatedConvexProgram"
            )
        self.hessian, self.tolerance = hessian_, float(tolerance)
        self.rows, self.rhs = rows_ / length[:, None], rhs_ / length
        self._patterns: dict[bytes, _Pattern] = {}

    @property
    def n(self) -> int:
        """Number of variables."""
        return len(self.hessian)

    def solve(self, linear: ArrayLike, gate: ArrayLike | None = None) -> QPSolution:
        """Solve for a batch of B rows.

        Args:
            linear: (B, n) c.
            gate: (B, n) bool, True = open (None: all open).

        Returns:
            One solution per row.

        Raises:
            SafeframeError: for shapes that do not fit, values that are not finite and gates that are not
                boolean.
        """
        c = _finite("linear", linear)
        if c.ndim != 2 or c.shape[1] != self.n:
            raise SafeframeError(f"linear has shape {c.shape}; (B, {self.n}) is needed")
        open_ = np.ones(c.shape, dtype=bool) if gate is None else np.asarray(gate)
        if open_.shape != c.shape or open_.dtype != bool:
            raise SafeframeError(
                f"gate is {open_.dtype} of shape {open_.shape}; bool of shape {c.shape} is needed"
            )

        action = np.zeros(c.shape)
        residual = np.full(len(c), np.inf)
        status = np.full(len(c), Status.INACCURATE.value, dtype="<U10")
        bits = np.packbits(open_, axis=1)
        keys, group = np.unique(bits, axis=0, return_inverse=True)
        order = np.argsort(group.ravel(), kind="stable")
        ends = np.cumsum(np.bincount(group.ravel(), minlength=len(keys)))
        for members in np.split(order, ends[:-1]) if len(c) else ():
            pattern = self._pattern(open_[members[0]])
            for low in range(0, len(members), CHUNK):
                index = members[low : low + CHUNK]
                if not pattern.feasible:
                    status[index] = Status.INFEASIBLE.value
                    continue
                action[index], residual[index] = self._solve_pattern(pattern, c[index])
        certified = residual <= self.tolerance
        status[certified] = Status.OPTIMAL.value
        action[~certified] = 0.0
        objective = 0.5 * np.einsum("bi,ij,bj->b", action, self.hessian, action, optimize=True) - (
            c * action
        ).sum(axis=1)
        objective[~certified] = np.nan
        return QPSolution(action, status, objective, residual)

    def _solve_pattern(self, pattern: _Pattern, c: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(B, n) action and (B,) residual of the rows of one gate pattern; residual inf where no set fits."""
        c_open = c[:, pattern.open]
        g_open = self.rows[:, pattern.open]
        scale = 1.0 + np.abs(c_open).max(axis=1, initial=0.0)
        tolerance = self.tolerance / 2  # stricter than the certificate, so that rounding does not decide
        slack = self.rhs + tolerance * (1.0 + np.abs(self.rhs).max(initial=0.0))
        u = np.zeros(c_open.shape)
        multiplier = np.zeros((len(c), len(self.rhs)))
        found = np.zeros(len(c), dtype=bool)
        left = np.arange(len(c))
        for piece in pattern.pieces:
            if not len(left):
                break
            multiplier_s = c_open[left] @ piece.multiplier_map.T + piece.multiplier_shift
            fits = (multiplier_s >= -tolerance * scale[left, None]).all(axis=1)
            candidate = c_open[left[fits]] @ piece.action_map.T + piece.action_shift
            inside = (candidate @ g_open.T <= slack).all(axis=1)
            hit = np.flatnonzero(fits)[inside]
            if not len(hit):
                continue
            rows = left[hit]
            u[rows] = candidate[inside]
            multiplier[rows[:, None], list(piece.active)] = multiplier_s[hit]
            found[rows] = True
            left = np.delete(left, hit)
        residual = self._residual(pattern.open, c_open, u, multiplier)
        residual[~found] = np.inf
        action = np.zeros(c.shape)
        action[:, pattern.open] = u
        return action, residual

    def _residual(
        self, open_: np.ndarray, c: FloatArray, u: FloatArray, multiplier: FloatArray
    ) -> FloatArray:
        """(B,) largest relative violation of the Karush-Kuhn-Tucker conditions (class docstring)."""
        rows, hessian = self.rows[:, open_], self.hessian[np.ix_(open_, open_)]
        dual_scale = 1.0 + np.abs(c).max(axis=1, initial=0.0)
        primal_scale = 1.0 + np.abs(self.rhs).max(initial=0.0)
        excess = u @ rows.T - self.rhs
        gradient = u @ hessian - c + multiplier @ rows
        return np.maximum.reduce(
            [
                excess.max(axis=1, initial=0.0) / primal_scale,
                (-multiplier).max(axis=1, initial=0.0) / dual_scale,
                np.abs(gradient).max(axis=1, initial=0.0) / dual_scale,
                np.abs(multiplier * excess).max(axis=1, initial=0.0) / (dual_scale * primal_scale),
            ]
        )

    def _pattern(self, gate: BoolArray) -> _Pattern:
        """The pieces of one gate pattern (n,), made on first use."""
        key = gate.tobytes()
        if key not in self._patterns:
            open_ = np.flatnonzero(gate)
            feasible = self._feasible(open_)
            self._patterns[key] = _Pattern(open_, feasible, self._pieces(open_) if feasible else ())
        return self._patterns[key]

    def _feasible(self, open_: np.ndarray) -> bool:
        """Whether some u, zero behind closed gates, has G u <= h (the smallest possible violation is 0)."""
        allowed = self.tolerance * (1.0 + np.abs(self.rhs).max(initial=0.0))
        if (self.rhs >= -allowed).all():
            return True  # u = 0
        rows = np.column_stack([self.rows[:, open_], -np.ones(len(self.rhs))])
        cost = np.append(np.zeros(len(open_)), 1.0)
        bounds = [(None, None)] * len(open_) + [(0.0, None)]
        result = linprog(cost, A_ub=rows, b_ub=self.rhs, bounds=bounds, method="highs")
        if result.status != 0:
            raise SafeframeError(
                f"feasibility of open variables {open_.tolist()} undecided: {result.message}"
            )
        return bool(result.fun <= allowed)

    def _pieces(self, open_: np.ndarray) -> tuple[_Piece, ...]:
        """All active sets with independent rows, small sets first."""
        k = len(open_)
        rows = self.rows[:, open_]
        inverse = np.linalg.inv(self.hessian[np.ix_(open_, open_)])
        usable = np.flatnonzero(np.linalg.norm(rows, axis=1) > DEPENDENT_BELOW)
        pieces = []
        for size in range(min(k, len(usable)) + 1):
            for active in combinations(usable.tolist(), size):
                g = rows[list(active)]  # (size, k)
                if size:
                    unit = g / np.linalg.norm(g, axis=1, keepdims=True)
                    if np.linalg.svd(unit, compute_uv=False)[-1] < DEPENDENT_BELOW:
                        continue
                gram_inverse_g = np.linalg.solve(g @ inverse @ g.T, g @ inverse)  # (size, k)
                shift = -np.linalg.solve(g @ inverse @ g.T, self.rhs[list(active)])
                pieces.append(
                    _Piece(
                        active=active,
                        action_map=inverse - inverse @ g.T @ gram_inverse_g,
                        action_shift=-inverse @ g.T @ shift,
                        multiplier_map=gram_inverse_g,
                        multiplier_shift=shift,
                    )
                )
        return tuple(pieces)


def _finite(name: str, value: ArrayLike) -> FloatArray:
    """`value` as float64, or a SafeframeError that names the first entry that is no finite number."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SafeframeError(f"{name}: numbers are needed ({error})") from None
    if not np.isfinite(array).all():
        place = [int(i) for i in np.argwhere(~np.isfinite(array))[0]]
        raise SafeframeError(f"{name}{place} = {array[tuple(place)]}; finite numbers are needed")
    return array
