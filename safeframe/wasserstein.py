"""Infinity-Wasserstein distance of samples: the smallest zeta for which some coupling moves nothing farther.

Data are zeta-informative for a state when the law of the measurement given that state and the empirical law
of the cases labelled so are within this distance (arXiv 2504.20924, Theorem 1).
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial.distance import cdist

from safeframe.informativeness import measured_radius
from safeframe.types import FloatArray, SafeframeError

_LARGEST = 4000


def bottleneck(cost: FloatArray) -> float:
    """The least possible largest entry of a perfect matching in a cost matrix.

    Binary search over the entries for the smallest at which the graph of cheaper pairs has a perfect matching
    (Hopcroft-Karp).

    Args:
        cost: (n, n) finite numbers, n from 1 to 4,000.

    Returns:
        The largest entry of the best matching, in the unit of ``cost``.

    Raises:
        SafeframeError: on another shape or size, or values that are not finite.
    """
    array = np.asarray(cost, dtype=np.float64)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or not 1 <= len(array) <= _LARGEST:
        raise SafeframeError(f"cost has shape {array.shape}; expected (n, n), n from 1 to {_LARGEST:,}")
    if not np.isfinite(array).all():
        raise SafeframeError("cost holds NaN or infinite values")
    # No matching is cheaper than the dearest of the rows' and columns' least entries.
    least = max(array.min(axis=1).max(), array.min(axis=0).max())
    levels = np.unique(array[array >= least])

    def enough(index: int) -> bool:
        graph = csr_array(array <= levels[index])
        return bool((maximum_bipartite_matching(graph, perm_type="column") >= 0).all())

    # The answer is mostly near the lower end, where graphs are small: up in growing steps, then halving.
    low, step, high = 0, max(len(levels) // 1024, 1), len(levels) - 1
    while low + step < high and not enough(low + step):
        low, step = low + step + 1, 2 * step
    high = min(low + step, high)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return float(levels[low])


def wasserstein_infinity(a: FloatArray, b: FloatArray) -> float:
    """Exact infinity-Wasserstein distance of two samples.

    In one dimension it is the largest gap of the two quantile functions; in more, the smallest distance at
    which the bipartite graph of close pairs has a perfect matching.

    Args:
        a: (n,) numbers, or (n, d) points with n up to 4,000.
        b: (k,) numbers where ``a`` is one-dimensional, else (n, d) points.

    Returns:
        The distance, in the unit of the samples (Euclidean for points).

    Raises:
        SafeframeError: on other shapes or sizes, or values that are not finite.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.ndim == 1 and second.ndim == 1:
        return measured_radius(first, second).margin_shift
    if first.ndim != 2 or first.shape != second.shape or not 1 <= len(first) <= _LARGEST:
        raise SafeframeError(
            f"samples {first.shape} and {second.shape}: expected (n, d) twice, n from 1 to {_LARGEST:,}"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise SafeframeError("the samples hold NaN or infinite values")
    return bottleneck(cdist(first, second))


def uniform_box_zeta(points: FloatArray, low: FloatArray, high: FloatArray, cells: int) -> float:
    """Upper limit on the distance between the uniform law on a box and an empirical law of points.

    The box is cut into cells**d equal cells, one goes to each point, and the largest distance from a point to
    the farthest corner of its cell is made least: a coupling of the law with the points, so zeta is at most
    that.

    Args:
        points: (cells**d, d), at most 4,000 points, anywhere.
        low: (d,) lower corner of the box.
        high: (d,) upper corner of the box.
        cells: cells along each axis.

    Returns:
        The limit on zeta, in the unit of the points.

    Raises:
        SafeframeError: where the number of points is not cells**d or is above 4,000, or values are not
            finite.
    """
    values, start, stop = (np.asarray(x, dtype=np.float64) for x in (points, low, high))
    if values.ndim != 2 or len(values) != cells ** values.shape[1]:
        raise SafeframeError(f"points have shape {values.shape}; expected (cells**d, d) with {cells} cells")
    width = (stop - start) / cells
    ticks = np.stack(np.meshgrid(*[np.arange(cells)] * values.shape[1], indexing="ij"), axis=-1)
    centre = start + (ticks.reshape(-1, values.shape[1]) + 0.5) * width
    square = np.zeros((len(centre), len(values)))
    for k in range(values.shape[1]):
        square += np.square(np.abs(centre[:, k, None] - values[None, :, k]) + width[k] / 2)
    return bottleneck(np.sqrt(square))
