"""Distance to the nearest of many points, by a library: SciPy's k-d tree, torch matrix products, or faiss.

Which one when was measured at 10^6 points (benchmarks/bench_coverage.py, results/tables/bench_coverage.csv).
The tree takes 0.004, 0.13, 1.6 and 310 ms a query in 2, 8, 12 and 32 dimensions; matrix products about 4 ms
in any; faiss's cells (an inverted file) 0.2 ms in any, but they are approximate and an optional package. So
"auto" is decided by the dimension alone, never by what happens to be installed: the same data give the same
distances on every machine.

Approximate search only ever overstates a distance. A radius that was calibrated with the same index remains
valid as it is, for it is a quantile of the very function that is used (see `coverage_guard`).
"""

from __future__ import annotations

import math
from typing import Any, Literal, Protocol

import numpy as np

from safeframe.tensors import as_tensor
from safeframe.types import FloatArray, SafeframeError

Kind = Literal["auto", "kdtree", "matrix", "faiss"]
KINDS = ("auto", "kdtree", "matrix", "faiss")
_TREE_UP_TO = 12  # dimensions
_CHUNK = 1 << 24  # entries of a matrix of distances at a time
_PROBED = 32  # cells looked into, of sqrt(n) to 4 sqrt(n)


class Nearest(Protocol):
    """An index of points (n, d).

    Attributes:
        kind: how it searches: "kdtree", "matrix" or "faiss".
    """

    kind: str

    def distance(self, query: FloatArray) -> FloatArray:
        """Distance of each query to its nearest point.

        Args:
            query: (k, d) finite numbers.

        Returns:
            (k,) float64 Euclidean distances, in the unit of the points.
        """
        ...


def kind_of_dimension(d: int) -> str:
    """What "auto" means.

    Args:
        d: dimensions of the points.

    Returns:
        "kdtree" or "matrix".
    """
    return "kdtree" if d <= _TREE_UP_TO else "matrix"


class _Tree:
    kind = "kdtree"

    def __init__(self, points: FloatArray) -> None:
        from scipy.spatial import KDTree

        self._tree: Any = KDTree(points, balanced_tree=False, compact_nodes=True)

    def distance(self, query: FloatArray) -> FloatArray:
        return np.asarray(self._tree.query(query)[0], dtype=np.float64)


class _Matrix:
    """|q - x|^2 = |q|^2 - 2 q'x + |x|^2 finds the neighbour.

    Its distance is then computed without that cancellation.
    """

    kind = "matrix"

    def __init__(self, points: FloatArray) -> None:
        self._points = as_tensor(np.ascontiguousarray(points))
        self._centre = self._points.mean(0)
        self._moved = self._points - self._centre
        self._squares = self._moved.square().sum(1)

    def distance(self, query: FloatArray) -> FloatArray:
        import torch

        asked = as_tensor(np.ascontiguousarray(query)).to(self._points.dtype)
        rows = max(1, _CHUNK // len(self._points))
        parts = []
        for part in asked.split(rows):
            score = torch.addmm(self._squares, part - self._centre, self._moved.T, alpha=-2.0)
            nearest = self._points[score.argmin(1)]
            parts.append((part - nearest).double().square().sum(1).sqrt())
        return torch.cat(parts).numpy() if parts else np.empty(0)


class _Cells:
    kind = "faiss"

    def __init__(self, points: FloatArray) -> None:
        try:
            import faiss  # type: ignore[import-not-found]
        except ModuleNotFoundError as error:
            raise SafeframeError(
                'index "faiss" needs the package faiss-cpu (pip install faiss-cpu); "auto" works without'
            ) from error
        vectors = np.ascontiguousarray(points, dtype=np.float32)
        n, d = vectors.shape
        cells = max(1, min(round(math.sqrt(n)), n // 40))
        index: Any = faiss.IndexIVFFlat(faiss.IndexFlatL2(d), d, cells)
        index.cp.seed = 0
        index.train(vectors)
        index.add(vectors)
        index.nprobe = min(_PROBED, cells)
        self._index = index

    def distance(self, query: FloatArray) -> FloatArray:
        squares = self._index.search(np.ascontiguousarray(query, dtype=np.float32), 1)[0][:, 0]
        return np.sqrt(np.maximum(squares, 0.0).astype(np.float64))


def build(points: FloatArray, kind: Kind | str = "auto") -> Nearest:
    """An index of points.

    Args:
        points: (n, d) finite numbers, n and d >= 1.
        kind: "auto" (decided by d), "kdtree", "matrix" or "faiss".

    Returns:
        The index.

    Raises:
        SafeframeError: for another shape, values that are not finite, a kind that does not exist, and for
            "faiss" where it is not installed.
    """
    array = np.asarray(points)
    if array.ndim != 2 or len(array) == 0 or array.shape[1] == 0:
        raise SafeframeError(f"points have shape {array.shape}; expected (n, d) with n, d >= 1")
    if not np.issubdtype(array.dtype, np.floating):
        array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise SafeframeError("points hold NaN or infinite values; distances to them mean nothing")
    if kind not in KINDS:
        raise SafeframeError(f"index is {kind!r}; it must be one of {', '.join(KINDS)}")
    chosen = kind_of_dimension(array.shape[1]) if kind == "auto" else kind
    return {"kdtree": _Tree, "matrix": _Matrix, "faiss": _Cells}[chosen](array)
