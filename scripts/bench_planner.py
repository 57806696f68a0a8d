"""Measure the production planner: a year of hours at eleven thresholds, beside hour-by-hour CVXPY.

    python scripts/bench_planner.py

plans the validation year of the synthetic data (8,760 hours) for the gates that its known risk closes at r_t
= 1e-4 and at ten thresholds from 1e-3 to 1, five times; solves a random sample of the same problems by CVXPY
with Clarabel, hour by hour and stacked; writes results/tables/bench_planner.csv and the claims
production.plan_8760x11_seconds, production.plan_speedup_over_cvxpy and
production.plan_max_difference_to_cvxpy.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from experiments.production.demand.sources import Quarter, synthetic, truth_probability  # noqa: E402
from experiments.production.planning import Plan, ProductionProblem, plan, plan_with_cvxpy  # noqa: E402
from experiments.support.files import atomic_path  # noqa: E402
from experiments.support.results.claims import record  # noqa: E402
from safeframe.types import Status  # noqa: E402

TABLE = REPOSITORY / "results" / "tables" / "bench_planner.csv"
THRESHOLDS = (1e-4, *np.geomspace(1e-3, 1, 10))
STACK = 50


def problems(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Demand and gates, each (8,760 * 11, 4), threshold by threshold."""
    data = synthetic(seed)
    hours = data.where(Quarter.VALIDATION)
    risk = truth_probability(data)[hours]
    gate = np.concatenate([risk <= r_t for r_t in THRESHOLDS])
    return np.tile(data.demand[hours], (len(THRESHOLDS), 1)), gate


def timed(call, *arguments) -> tuple[float, Plan]:
    start = time.perf_counter()
    result = call(*arguments)
    return time.perf_counter() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="of the synthetic data")
    parser.add_argument("--repeats", type=int, default=5, help="how often the batched planner is timed")
    parser.add_argument("--sample", type=int, default=1000, help="problems solved by CVXPY")
    parser.add_argument("--table", type=Path, default=TABLE, help="where the table goes")
    parser.add_argument("--no-claims", action="store_true", help="leave results/claims.csv alone")
    options = parser.parse_args()

    problem = ProductionProblem()
    demand, gate = problems(options.seed)
    n = len(demand)
    seconds = []
    for _ in range(options.repeats):
        problem = ProductionProblem()  # nothing cached from the run before
        elapsed, ours = timed(plan, problem, demand, gate)
        seconds.append(elapsed)
    uncertified = ours.count(Status.INACCURATE) + ours.count(Status.INFEASIBLE)

    sample = np.random.default_rng(options.seed).choice(n, min(options.sample, n), replace=False)
    one_by_one, reference = timed(plan_with_cvxpy, problem, demand[sample], gate[sample])
    stacked, _ = timed(plan_with_cvxpy, problem, demand[sample], gate[sample], STACK)
    failed = reference.count(Status.INACCURATE)
    difference = float(np.abs(reference.action - ours.action[sample]).max())

    median = float(np.median(seconds))
    scaled = one_by_one / len(sample) * n
    rows = [
        ("batched planner, all", n, median, "s", f"median of {options.repeats}, setup included"),
        ("batched planner, slowest", n, max(seconds), "s", ""),
        ("batched planner, without certified solution", n, uncertified, "problems", ""),
        ("CVXPY hour by hour, sample", len(sample), one_by_one, "s", "Clarabel, one compilation included"),
        ("CVXPY hour by hour, scaled to all", n, scaled, "s", "sample time * all / sample"),
        (f"CVXPY {STACK} hours stacked, scaled to all", n, stacked / len(sample) * n, "s", "same"),
        ("CVXPY hour by hour, not solved", len(sample), failed, "problems", ""),
        ("speed-up over CVXPY hour by hour", len(sample), scaled / median, "times", ""),
        ("largest difference of an action to CVXPY", len(sample), difference, "demand units", ""),
    ]
    table = pd.DataFrame(rows, columns=["what", "n", "value", "unit", "note"])
    options.table.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(options.table) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    print(table.to_string(index=False))
    print(f"written to {options.table}")
    if not options.no_claims:
        common = {
            "experiment": "production",
            "seeds": [options.seed],
            "preset": "bench",
            "data": "synthetic",
            "command": "python scripts/bench_planner.py",
        }
        record("production.plan_8760x11_seconds", median, low=min(seconds), high=max(seconds), n=n, **common)
        least, most = scaled / max(seconds), scaled / min(seconds)
        record(
            "production.plan_speedup_over_cvxpy",
            scaled / median,
            low=least,
            high=most,
            n=len(sample),
            **common,
        )
        record("production.plan_max_difference_to_cvxpy", difference, n=len(sample), **common)


if __name__ == "__main__":
    main()
