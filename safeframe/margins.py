"""Margins m = f_1 - f_0 of binary problems: from logits, sorted per class, counted below a threshold."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np

from safeframe.conservative_testing import check_logits
from safeframe.types import (
    SAFE,
    UNSAFE,
    BoolArray,
    FloatArray,
    Floats,
    IntArray,
    LabelArray,
    SafeframeError,
    numbers,
    states,
)

_MANY = 200_000
"""From so many values on a second thread pays."""


def margin_of(logits: FloatArray) -> FloatArray:
    """The margin f_1 - f_0 of binary logits: the larger, the riskier.

    Args:
        logits: (..., 2) finite numbers, class 0 safe and class 1 unsafe.

    Returns:
        (...,) margins, in logit units.

    Raises:
        SafeframeError: on another last axis, or on logits that are NaN or infinite.
    """
    array = check_logits(logits)
    if array.shape[-1] != 2:
        raise SafeframeError(
            f"logits have {array.shape[-1]} classes; a margin needs exactly 2 (0 safe, 1 unsafe)"
        )
    return array[..., 1] - array[..., 0]


def as_query(values: Floats) -> FloatArray:
    """Values at which a curve is asked for, as one vector.

    Args:
        values: margins, thresholds or levels of any shape; infinite ones are allowed.

    Returns:
        (k,) float64, the k values in C order.

    Raises:
        SafeframeError: if a value is NaN.
    """
    query = numbers(values, "a query of the risk curve").reshape(-1)
    if np.isnan(query).any():
        raise SafeframeError("a query of the risk curve is NaN; thresholds and margins must be numbers")
    return query


def _as_type_of(ascending: FloatArray, query: FloatArray, toward: float) -> FloatArray:
    """Queries in the type of narrower sorted values, rounded towards ``toward``.

    A sorted float32 array that is searched for float64 numbers is copied as a whole, for every search. The
    least float32 number >= q has the same float32 numbers below it as q has; the greatest <= q has the same
    at or below it. So the search stays exact.

    Args:
        ascending: (n,) sorted values.
        query: (k,) numbers.
        toward: +inf for the least number of the narrower type that is >= q, -inf for the greatest <= q.

    Returns:
        (k,) queries, in the type of ``ascending`` where both are floats.
    """
    dtype = ascending.dtype
    floats = np.issubdtype(dtype, np.floating) and np.issubdtype(query.dtype, np.floating)
    if not floats or query.dtype == dtype:
        return query
    with np.errstate(over="ignore", under="ignore"):  # beyond the narrower range: inf, which compares rightly
        rounded = query.astype(dtype)
        wrong = rounded < query if toward > 0.0 else rounded > query
        if wrong.any():
            rounded[wrong] = np.nextafter(rounded[wrong], dtype.type(toward))
    return rounded


def _search(ascending: FloatArray, query: FloatArray, side: Literal["left", "right"]) -> IntArray:
    """np.searchsorted without a copy of ``ascending``; two threads where there are many queries."""
    query = _as_type_of(ascending, query, np.inf if side == "left" else -np.inf)
    if query.size < _MANY:
        return np.searchsorted(ascending, query, side=side)
    half = query.size // 2
    with ThreadPoolExecutor(2) as pool:
        parts = pool.map(lambda q: np.searchsorted(ascending, q, side=side), (query[:half], query[half:]))
        return np.concatenate(list(parts))


def count_below(ascending: FloatArray, query: FloatArray) -> IntArray:
    """How many values are strictly below each query, compared exactly whatever the two float types.

    Args:
        ascending: (n,) sorted values.
        query: (k,) numbers, infinite ones allowed.

    Returns:
        (k,) integer counts in 0..n.
    """
    return _search(ascending, query, "left")


def count_at_most(ascending: FloatArray, query: FloatArray) -> IntArray:
    """How many values are at or below each query, compared exactly whatever the two float types.

    Args:
        ascending: (n,) sorted values.
        query: (k,) numbers, infinite ones allowed.

    Returns:
        (k,) integer counts in 0..n.
    """
    return _search(ascending, query, "right")


def shifted(values: FloatArray, shift: float) -> FloatArray:
    """Margins moved by a radius, in float64 whatever their own type.

    Args:
        values: (n,) margins.
        shift: what is added, in logit units.

    Returns:
        (n,) sums in float64; ``values`` itself, in its own type, where ``shift`` is 0.
    """
    return np.add(values, shift, dtype=np.float64) if shift else values


def check_cases(margin: FloatArray, label: LabelArray) -> tuple[FloatArray, np.ndarray]:
    """Margins as floats of at most 64 bits, and which cases are unsafe.

    Args:
        margin: (n,) margins; whether they are finite is not looked at here.
        label: (n,) 0 safe, 1 unsafe (ints or bools).

    Returns:
        (n,) margins (integers and wider floats as float64) and (n,) bool.

    Raises:
        SafeframeError: on shapes that differ and on labels other than 0/1.
    """
    values, state = np.asarray(margin), states(label)
    if values.ndim != 1 or state.shape != values.shape:
        raise SafeframeError(
            f"margin {values.shape} and label {state.shape}: expected two arrays of the same shape (n,)"
        )
    if not np.issubdtype(values.dtype, np.floating) or values.dtype.itemsize > 8:
        values = numbers(values, "margin")
    if state.dtype == np.bool_:
        return values, state
    unsafe = state == UNSAFE
    if not (unsafe | (state == SAFE)).all():
        raise SafeframeError("label must hold 0 (safe) and 1 (unsafe) only")
    return values, unsafe


def check_candidates(
    margin: FloatArray,
    score: FloatArray,
    label: LabelArray,
    mask: BoolArray | None,
    named: str = "score",
    of: str = "in any group",
) -> tuple[FloatArray, FloatArray, BoolArray, BoolArray]:
    """Candidates of groups, checked: shapes, finite values where present, both classes.

    Args:
        margin: (g, c) margins, finite where present.
        score: (g, c) scores, finite where present; -inf marks an absent candidate.
        label: (g, c) 0 safe, 1 unsafe.
        mask: (g, c) bool, False where absent; None: all that have a score are there.
        named: what the scores are called, for messages.
        of: where no candidate of a class was found, for messages.

    Returns:
        Margins and scores as float64, and (g, c) bools: unsafe, and present.

    Raises:
        SafeframeError: on shapes that differ, NaN or infinite values where present, labels other than 0/1, or
            no candidate of one class.
    """
    values, scores, state = numbers(margin, "margin"), numbers(score, named), states(label)
    if values.ndim != 2 or scores.shape != values.shape or state.shape != values.shape:
        raise SafeframeError(
            f"margin {values.shape}, {named} {scores.shape}, label {state.shape}: expected (g, c) each"
        )
    present = np.ones(values.shape, bool) if mask is None else np.asarray(mask, bool)
    if present.shape != values.shape:
        raise SafeframeError(f"mask has shape {present.shape}; expected {values.shape}")
    present = present & (scores != -np.inf)
    if not np.isfinite(values[present]).all() or not np.isfinite(scores[present]).all():
        raise SafeframeError(f"margin and {named} must be finite for every candidate that is present")
    if not np.isin(state[present], (SAFE, UNSAFE)).all():
        raise SafeframeError("label must hold 0 (safe) and 1 (unsafe) only")
    unsafe = (state == UNSAFE) & present
    for name, found in (("safe", (present & ~unsafe).any()), ("unsafe", unsafe.any())):
        if not found:
            raise SafeframeError(f"no {name} candidate {of}: the curve needs both classes")
    return values, scores, unsafe, present


def split_sorted(margin: FloatArray, label: LabelArray) -> tuple[FloatArray, FloatArray]:
    """Margins of the safe and of the unsafe cases; two threads where there are many.

    Args:
        margin: (n,) finite margins.
        label: (n,) 0 safe, 1 unsafe (ints or bools).

    Returns:
        Two ascending arrays, of the safe and of the unsafe cases; their type is that of ``margin`` (float64
            for integers).

    Raises:
        SafeframeError: on shapes that differ, labels other than 0/1, a class without any case, or margins
            that are NaN or infinite.
    """
    values, unsafe = check_cases(margin, label)

    def part(mask: np.ndarray) -> FloatArray:
        chosen = values[mask]
        chosen.sort()
        return chosen

    if len(values) < _MANY:
        safe_sorted, unsafe_sorted = part(~unsafe), part(unsafe)
    else:
        with ThreadPoolExecutor(2) as pool:
            safe_sorted, unsafe_sorted = pool.map(part, (~unsafe, unsafe))
    for name, ordered in (("safe", safe_sorted), ("unsafe", unsafe_sorted)):
        if len(ordered) == 0:
            raise SafeframeError(
                f"no {name} internal test case: the bound needs at least one case of each class"
            )
        if not (np.isfinite(ordered[0]) and np.isfinite(ordered[-1])):  # NaN sorts last
            raise SafeframeError(
                f"the margins of the {name} cases hold NaN or infinite values; they must be finite"
            )
    return safe_sorted, unsafe_sorted
