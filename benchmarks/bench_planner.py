"""Measure the production planner: a year of hours at eleven thresholds, beside hour-by-hour CVXPY.

    python benchmarks/bench_planner.py

plans the validation year of the synthetic data (8,760 hours) for the gates that its known risk closes at r_t
= 1e-4 and at ten thresholds from 1e-3 to 1, five times; solves a random sample of the same problems by CVXPY
with Clarabel, hour by hour and stacked; writes results/tables/bench_planner.csv and the claims
production.plan_8760x11_seconds, production.plan_speedup_over_cvxpy and
production.plan_max_difference_to_cvxpy.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.production.demand.sources import Quarter, synthetic, truth_probability
from experiments.production.planning import ProductionProblem, plan, plan_with_cvxpy
from experiments.support.bench import Bench, quotient, spread, timed
from safeframe.types import Status

THRESHOLDS = (1e-4, *np.geomspace(1e-3, 1, 10))
STACK = 50


def problems(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Demand and gates, each (8,760 * 11, 4), threshold by threshold."""
    data = synthetic(seed)
    hours = data.where(Quarter.VALIDATION)
    risk = truth_probability(data)[hours]
    gate = np.concatenate([risk <= r_t for r_t in THRESHOLDS])
    return np.tile(data.demand[hours], (len(THRESHOLDS), 1)), gate


def main() -> None:
    bench = Bench("bench_planner", __doc__, experiment="production", data="synthetic")
    parser = bench.parser
    parser.add_argument("--seed", type=int, default=0, help="of the synthetic data")
    parser.add_argument("--repeats", type=int, default=5, help="how often the batched planner is timed")
    parser.add_argument("--sample", type=int, default=1000, help="problems solved by CVXPY")
    options = bench.parse()
    bench.require_commit()

    problem = ProductionProblem()
    demand, gate = problems(options.seed)
    n = len(demand)
    seconds = []
    for _ in range(options.repeats):
        problem = ProductionProblem()  # nothing cached from the run before
        elapsed, ours = timed(partial(plan, problem, demand, gate), time.perf_counter)
        seconds.append(elapsed)
    uncertified = ours.count(Status.INACCURATE) + ours.count(Status.INFEASIBLE)

    sample = np.random.default_rng(options.seed).choice(n, min(options.sample, n), replace=False)
    by_cvxpy = partial(plan_with_cvxpy, problem, demand[sample], gate[sample])
    one_by_one, reference = timed(by_cvxpy, time.perf_counter)
    stacked, _ = timed(partial(by_cvxpy, STACK), time.perf_counter)
    failed = reference.count(Status.INACCURATE)
    difference = float(np.abs(reference.action - ours.action[sample]).max())

    planning = spread(seconds)
    scaled = one_by_one / len(sample) * n
    speedup = quotient(scaled, planning)
    rows = [
        ("batched planner, all", n, planning.value, "s", f"median of {options.repeats}, setup included"),
        ("batched planner, slowest", n, planning.high, "s", ""),
        ("batched planner, without certified solution", n, uncertified, "problems", ""),
        ("CVXPY hour by hour, sample", len(sample), one_by_one, "s", "Clarabel, one compilation included"),
        ("CVXPY hour by hour, scaled to all", n, scaled, "s", "sample time * all / sample"),
        (f"CVXPY {STACK} hours stacked, scaled to all", n, stacked / len(sample) * n, "s", "same"),
        ("CVXPY hour by hour, not solved", len(sample), failed, "problems", ""),
        ("speed-up over CVXPY hour by hour", len(sample), speedup.value, "times", ""),
        ("largest difference of an action to CVXPY", len(sample), difference, "demand units", ""),
    ]
    table = pd.DataFrame(rows, columns=["what", "n", "value", "unit", "note"])
    bench.write(table, "%.6g")
    bench.show(table)
    seeds = [options.seed]
    bench.claim("production.plan_8760x11_seconds", planning, n, seeds=seeds)
    bench.claim("production.plan_speedup_over_cvxpy", speedup, len(sample), seeds=seeds)
    bench.claim("production.plan_max_difference_to_cvxpy", difference, len(sample), seeds=seeds)


if __name__ == "__main__":
    main()
