"""Which library finds nearest neighbours among 10^6 points:  python scripts/bench_coverage.py

For d = 2, 8, 12 and 32 dimensions: build the index of 10^6 standard normal points, ask for the nearest of 300
more, one thread each; seconds are CPU time of this process, so that other load on the machine does not enter.
Recall is the share of queries whose distance is the exact one (to 1e-4), excess the mean distance found over
the exact one, less 1. Libraries that are not installed are left out, saying so. Rows are written as they are
measured, so an interrupted run goes on where it stopped; --force measures again. Writes
results/tables/bench_coverage.csv and the claims coverage.nearest_1e6x<d>_ms.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from experiments.support.files import atomic_path  # noqa: E402
from experiments.support.results.claims import record  # noqa: E402
from safeframe.coverage.nearest import build, kind_of_dimension  # noqa: E402

TABLE = REPOSITORY / "results" / "tables" / "bench_coverage.csv"
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
    start = time.process_time()
    find = METHODS[method][1](points)
    built = time.process_time()
    found = np.asarray(find(query), dtype=np.float64)
    asked = time.process_time()
    exact = found if exact is None else exact
    row = {
        "library": method, "n": n, "d": d, "queries": queries, "build_s": built - start,
        "query_ms": 1000 * (asked - built) / queries,
        "recall": float((found <= exact * (1 + 1e-4) + 1e-6).mean()),
        "excess": float((found / exact).mean() - 1.0),
    }  # fmt: skip
    return row, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--table", type=Path, default=TABLE, help="where the table goes")
    parser.add_argument("--no-claims", action="store_true", help="leave results/claims.csv alone")
    parser.add_argument("--force", action="store_true", help="measure what the table holds already, again")
    parser.add_argument(
        "--claims-only", action="store_true", help="measure nothing, claim what the table holds"
    )
    options = parser.parse_args()
    rows = (
        [] if options.force or not options.table.is_file() else pd.read_csv(options.table).to_dict("records")
    )
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
            with atomic_path(options.table) as path:
                ordered = pd.DataFrame(rows).sort_values(["d", "query_ms"], kind="stable")
                ordered.to_csv(path, index=False, lineterminator="\n", float_format="%.5g")
    if not options.no_claims:
        names = {
            "kdtree": "scipy KDTree (exact)",
            "matrix": "torch matrix products (exact)",
            "faiss": "faiss cells",
        }
        table = pd.DataFrame(rows).set_index(["library", "d"])
        for d in DIMENSIONS:
            row = table.loc[(names[kind_of_dimension(d)], d)]
            record(
                f"coverage.nearest_1e6x{d}_ms",
                row["query_ms"],
                experiment="core",
                n=int(row["queries"]),
                seeds="0",
                preset="bench",
                data="standard normal points, one thread",
                command="python scripts/bench_coverage.py",
            )


if __name__ == "__main__":
    main()
