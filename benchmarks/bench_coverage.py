"""Which library finds nearest neighbours among 10^6 points:  python benchmarks/bench_coverage.py

For d = 2, 8, 12 and 32 dimensions: build the index of 10^6 standard normal points, ask for the nearest of 300
more, one thread each; seconds are CPU time of this process, so that other load on the machine does not enter.
Recall is the share of queries whose distance is the exact one (to 1e-4), excess the mean distance found over
the exact one, less 1. Libraries that are not installed are left out, saying so. Rows are written as they are
measured, so an interrupted run goes on where it stopped; --force measures again. Writes
results/tables/bench_coverage.csv and the claims coverage.nearest_1e6x<d>_ms.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.support.bench import Bench, timed  # noqa: E402
from safeframe.coverage.nearest import build, kind_of_dimension  # noqa: E402

DIMENSIONS = (2, 8, 12, 32)
Find = Callable[[np.ndarray], np.ndarray]
_M, _BUILD, _SEARCH = 16, 64, 64  # links, breadth when built, breadth when asked: of the HNSW graph


def scipy_tree(points: np.ndarray) -> Find:
    return build(points, "kdtree").distance


def torch_matrix(points: np.ndarray) -> Find:
    return build(points, "matrix").distance


def faiss_cells(points: np.ndarray) -> Find:
    return build(points, "faiss").distance


def faiss_flat(points: np.ndarray) -> Find:
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatL2(points.shape[1])
    index.add(points)
    return lambda query: np.sqrt(np.maximum(index.search(query, 1)[0][:, 0], 0.0))


def hnswlib_graph(points: np.ndarray) -> Find:
    import hnswlib

    index = hnswlib.Index(space="l2", dim=points.shape[1])
    index.init_index(max_elements=len(points), M=_M, ef_construction=_BUILD, random_seed=0)
    index.add_items(points, num_threads=1)
    index.set_ef(_SEARCH)
    return lambda query: np.sqrt(index.knn_query(query, k=1, num_threads=1)[1][:, 0])


METHODS: dict[str, tuple[str, Callable[[np.ndarray], Find]]] = {
    "scipy KDTree (exact)": ("scipy", scipy_tree),
    "torch matrix products (exact)": ("torch", torch_matrix),
    "faiss flat (exact)": ("faiss", faiss_flat),
    "faiss cells": ("faiss", faiss_cells),
    "hnswlib HNSW": ("hnswlib", hnswlib_graph),
}


def measure(method: str, n: int, d: int, queries: int, exact: np.ndarray | None) -> tuple[dict, np.ndarray]:
    """One row of the table, and the distances found."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(n, d)).astype(np.float32)
    query = rng.normal(size=(queries, d)).astype(np.float32)
    building, find = timed(lambda: METHODS[method][1](points))
    asking, found = timed(lambda: np.asarray(find(query), dtype=np.float64))
    exact = found if exact is None else exact
    row = {
        "library": method, "n": n, "d": d, "queries": queries, "build_s": building,
        "query_ms": 1000 * asking / queries,
        "recall": float((found <= exact * (1 + 1e-4) + 1e-6).mean()),
        "excess": float((found / exact).mean() - 1.0),
    }  # fmt: skip
    return row, found


def main() -> None:
    data = "standard normal points, one thread"
    bench = Bench("bench_coverage", __doc__, experiment="core", data=data)
    parser = bench.parser
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--force", action="store_true", help="measure what the table holds already, again")
    parser.add_argument(
        "--claims-only", action="store_true", help="measure nothing, claim what the table holds"
    )
    options = bench.parse()
    bench.require_commit()
    kept = bench.table.is_file() and not options.force
    rows = pd.read_csv(bench.table).to_dict("records") if kept else []
    done = {(row["library"], row["d"], row["n"]) for row in rows}
    reference, *_ = METHODS  # exact, and its distances are what the others are held to
    exact: dict[int, np.ndarray] = {}
    for method, (library, _) in METHODS.items():
        if find_spec(library) is None:
            print(f"{method}: {library} is not installed, left out")
            continue
        for d in () if options.claims_only else DIMENSIONS:
            known = (method, d, options.n) in done
            if known and method != reference:
                continue
            row, found = measure(method, options.n, d, options.queries, exact.get(d))
            exact.setdefault(d, found)
            if known:
                continue
            rows.append(row)
            print(", ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()))
            bench.write(pd.DataFrame(rows).sort_values(["d", "query_ms"], kind="stable"), "%.5g")
    if not options.no_claims:
        names = {
            "kdtree": "scipy KDTree (exact)",
            "matrix": "torch matrix products (exact)",
            "faiss": "faiss cells",
        }
        table = pd.DataFrame(rows).set_index(["library", "d"])
        for d in DIMENSIONS:
            row = table.loc[(names[kind_of_dimension(d)], d)]
            bench.claim(f"coverage.nearest_1e6x{d}_ms", row["query_ms"], n=int(row["queries"]))


if __name__ == "__main__":
    main()
