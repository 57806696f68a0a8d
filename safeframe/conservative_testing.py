"""Conservative testing: exact ball indicators, likelihood bounds and posterior bounds.

Source: arXiv 2504.20924, section 3.3 and eqs. (3)-(8). The closed forms below make the indicators exact:

- all points within ``radius`` of ``phi`` have argmax j  <=>  phi_j - max_{k != j} phi_k > sqrt(2) radius;
- some point within ``radius`` has argmax j  <=>  the distance of ``phi`` to {phi'_j >= phi'_k for all k} is
  at most ``radius``. The nearest such point lifts phi_j, and lowers every larger phi_k, to one level t; t is
  the largest of the means (phi_j + sum of the a largest logits) / (1 + a), a = 0..m-1, so one sort per row
  gives it for every j.

Departure from the paper, numbered: (1) ties count as "argmax j" for the plus indicator (closed ball) and not
for the minus indicator, so that both err to the safe side.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np

from safeframe.chance_constraint import validate_prior, validate_radius
from safeframe.types import (
    SQRT2,
    BoolArray,
    FloatArray,
    Floats,
    IntArray,
    LabelArray,
    SafeframeError,
    numbers,
)

PosteriorForm = Literal["tight", "paper"]
_CHUNK = 16_384  # rows per chunk: the working set of 8 logits stays in the cache
_THREADS = 2  # NumPy releases the interpreter lock inside its loops


@dataclass(frozen=True)
class LikelihoodBounds:
    """Bounds on p(o = j | s = i), for s states and m outputs.

    Attributes:
        lower: (s, m) class-conditional means of the minus indicators.
        upper: (s, m) class-conditional means of the plus indicators.
        count: (s,) integers, cases of each state.
    """

    lower: FloatArray
    upper: FloatArray
    count: IntArray


def check_logits(logits: FloatArray, where: str = "logits") -> FloatArray:
    """Check logits.

    Args:
        logits: (..., m) finite numbers, m >= 2 classes last.
        where: what the message of an error calls them.

    Returns:
        (..., m) floating array; float64 where integers were given.

    Raises:
        SafeframeError: on m < 2, NaN or infinite values.
    """
    array = np.asarray(logits)
    if array.ndim < 1 or array.shape[-1] < 2:
        raise SafeframeError(f"{where} has shape {array.shape}; expected (..., m) with m >= 2 classes last")
    if not np.issubdtype(array.dtype, np.floating):
        array = numbers(array, where)
    if not np.isfinite(array).all():
        bad = int(np.size(array) - np.isfinite(array).sum())
        raise SafeframeError(f"{where} has {bad} NaN or infinite values; logits must be finite")
    return array


def check_form(form: str) -> PosteriorForm:
    """Check which form of the posterior bound is meant.

    Args:
        form: "tight" or "paper".

    Returns:
        ``form``.

    Raises:
        SafeframeError: on any other value.
    """
    if isinstance(form, str) and (form == "tight" or form == "paper"):
        return form
    raise SafeframeError(f"form is {form!r}; it must be 'tight' or 'paper'")


def _columns(rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Logits of a chunk as columns (m, n), each row's maximum moved to 0; and sorted from the top."""
    columns = np.ascontiguousarray(rows.T)
    columns = columns - columns.max(axis=0)
    return columns, np.sort(columns, axis=0)[::-1]


def _squared_distance(columns: FloatArray, descending: FloatArray) -> FloatArray:
    """Squared distance of each column to {argmax = j}, for every j: (m, n)."""
    m = columns.shape[0]
    prefix = np.cumsum(descending[: m - 1], axis=0)  # sums of the a largest, a = 1..m-1
    out = np.empty_like(columns)
    for j in range(m):
        own = columns[j]
        level = own.copy()
        for a in range(1, m):
            # Beyond A the means only fall, and counting phi_j twice cannot raise one: t is the maximum.
            np.maximum(level, (own + prefix[a - 1]) / (1.0 + a), out=level)
        total = np.square(level - own)
        for k in range(m):
            if k != j:
                above = columns[k] - level
                np.maximum(above, 0.0, out=above)
                total += np.square(above, out=above)
        out[j] = total
    return out


def _plus_columns(columns: FloatArray, descending: FloatArray, radius: float) -> BoolArray:
    if columns.shape[0] == 2:  # the same test as RiskCurve's, to the last bit
        return columns >= columns[::-1] - SQRT2 * radius
    if radius == 0.0:
        return columns >= descending[0]
    return np.sqrt(_squared_distance(columns, descending)) <= radius


def _minus_columns(columns: FloatArray, descending: FloatArray, radius: float) -> BoolArray:
    if columns.shape[0] == 2:
        return columns > columns[::-1] + SQRT2 * radius
    # The largest other logit: the second one where phi_j is the (first) maximum, else the maximum.
    top_two_gap = descending[0] - descending[1]
    return (columns == descending[0]) & (top_two_gap > SQRT2 * radius)


def _chunks(n: int) -> Iterator[slice]:
    return (slice(start, min(start + _CHUNK, n)) for start in range(0, n, _CHUNK))


def _by_row(logits: FloatArray, function, dtype) -> np.ndarray:
    """Apply ``function(columns, descending) -> (m, n)`` to all rows of (..., m), in chunks on two threads."""
    rows = logits.reshape(-1, logits.shape[-1])
    out = np.empty(rows.shape, dtype=dtype)

    def work(part: slice) -> None:
        out[part] = function(*_columns(rows[part])).T

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(work, _chunks(len(rows))))
    return out.reshape(logits.shape)


def distance_to_class(logits: FloatArray) -> FloatArray:
    """Exact Euclidean distance of each logit vector to {phi' : phi'_j >= phi'_k for all k}, for every j.

    Args:
        logits: (..., m) finite numbers, m >= 2.

    Returns:
        (..., m) distances, in logit units; 0 for the class with the largest logit.

    Raises:
        SafeframeError: on m < 2, NaN or infinite values.
    """
    array = check_logits(logits)
    return np.sqrt(_by_row(array, _squared_distance, array.dtype))


def indicator_plus(logits: FloatArray, radius: float) -> BoolArray:
    """1^{+xi}(phi, j): whether some point within ``radius`` of the logits has argmax j.

    Args:
        logits: (..., m) finite numbers, m >= 2.
        radius: xi >= 0, in logit units.

    Returns:
        (..., m) bool.

    Raises:
        SafeframeError: on m < 2, logits that are not finite, or a radius below 0.
    """
    xi, array = validate_radius(radius), check_logits(logits)
    return _by_row(array, lambda c, d: _plus_columns(c, d, xi), np.bool_)


def indicator_minus(logits: FloatArray, radius: float) -> BoolArray:
    """1^{-xi}(phi, j): whether all points within ``radius`` of the logits have argmax j.

    Args:
        logits: (..., m) finite numbers, m >= 2.
        radius: xi >= 0, in logit units.

    Returns:
        (..., m) bool.

    Raises:
        SafeframeError: on m < 2, logits that are not finite, or a radius below 0.
    """
    xi, array = validate_radius(radius), check_logits(logits)
    return _by_row(array, lambda c, d: _minus_columns(c, d, xi), np.bool_)


def likelihood_bounds(
    logits: FloatArray, label: LabelArray, radius: float, n_classes: int | None = None
) -> LikelihoodBounds:
    """Bounds p^{-xi} and p^{+xi} on p(o = j | s = i): class-conditional means of the exact indicators.

    Args:
        logits: (n, m) finite logits of the internal test cases.
        label: (n,) states i, integers in [0, n_classes); every state occurs.
        radius: xi >= 0, in logit units.
        n_classes: number of states; m where not given.

    Returns:
        The bounds (n_classes, m), with the cases of each state.

    Raises:
        SafeframeError: on wrong shapes, labels out of range, non-finite logits, a radius below 0, or a state
            without any case.
    """
    xi, array, state = validate_radius(radius), check_logits(logits), np.asarray(label)
    if array.ndim != 2 or state.shape != array.shape[:1]:
        raise SafeframeError(f"logits {array.shape} and label {state.shape}: expected (n, m) and (n,)")
    s = array.shape[1] if n_classes is None else int(n_classes)
    if len(state) and (not np.issubdtype(state.dtype, np.integer) or state.min() < 0 or state.max() >= s):
        raise SafeframeError(f"label must hold integers in 0..{s - 1}; got dtype {state.dtype}")
    count = np.bincount(state, minlength=s)
    if (count == 0).any():
        missing = np.flatnonzero(count == 0).tolist()
        raise SafeframeError(
            f"no internal test case of class {missing}: its likelihood is undefined; add such cases"
        )

    def work(part: slice) -> tuple[IntArray, IntArray]:
        columns, descending = _columns(array[part])
        one_hot = (state[part] == np.arange(s)[:, None]).astype(
            np.float32
        )  # exact: chunk counts are below 2^24
        plus = _plus_columns(columns, descending, xi).astype(np.float32)
        minus = _minus_columns(columns, descending, xi).astype(np.float32)
        return (one_hot @ minus.T).astype(np.int64), (one_hot @ plus.T).astype(np.int64)

    with ThreadPoolExecutor(_THREADS) as pool:
        parts = list(pool.map(work, _chunks(len(array))))
    lower = sum(low for low, _ in parts) / count[:, None]
    upper = sum(up for _, up in parts) / count[:, None]
    return LikelihoodBounds(lower=lower, upper=upper, count=count)


def posterior_bound(bounds: LikelihoodBounds, prior: Floats, form: PosteriorForm = "tight") -> FloatArray:
    """Upper bound on p(s = i | o = j) from likelihood bounds and a prior.

    ``paper`` (arXiv 2504.20924, eq. (8)): p+(j|i) p_i / sum_k p-(j|k) p_k; it can exceed 1.

    ``tight``: p+(j|i) p_i / (p+(j|i) p_i + sum_{k != i} p-(j|k) p_k); valid under the same premises, never
    larger.

    Where no case speaks for output j (0 / 0) the bound is 1 by rule; eq. (8) with x / 0 is +inf, as it
    stands.

    Args:
        bounds: from :func:`likelihood_bounds`, for s states and m outputs.
        prior: (s,) probabilities, or P(unsafe) for two states.
        form: "tight" or "paper".

    Returns:
        (s, m) bounds.

    Raises:
        SafeframeError: on an unknown form, or a prior that does not fit the states.
    """
    check_form(form)
    p = validate_prior(np.asarray(prior, dtype=np.float64), len(bounds.count))[:, None]
    numerator = bounds.upper * p
    weighted = bounds.lower * p
    denominator = np.broadcast_to(weighted.sum(axis=0), numerator.shape).copy()
    if form == "tight":
        others = np.stack([np.delete(weighted, i, axis=0).sum(axis=0) for i in range(len(p))])
        denominator = numerator + others
    out = np.where(numerator > 0.0, np.inf, 1.0)
    np.divide(numerator, denominator, out=out, where=denominator > 0.0)
    return out
