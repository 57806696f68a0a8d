"""Measure questions to a curve of 10^7 cases, and a curve of 10^9 cases from shards.

    python benchmarks/bench_large_curve.py

- An r_t that was not asked for before, and the level of one margin, on a curve that is built: float64 and
  float32 margins (half of the cases unsafe). "Search that recasts" is what float32 margins cost with
  np.searchsorted as it is, which copies them to float64 for every search: the six searches of one r_t.
- RiskCurve.from_shards with 16 shards that are made on the fly in both passes (float32, 1e-4 unsafe, a
  radius), with the peak of resident memory beyond what was held before.

Before anything is timed, answers are compared with those of float64 margins and of one curve of all cases.
Writes results/tables/bench_large_curve.csv and the claims core.unlisted_r_t_1e7_* and core.shards_1e9_*.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.bench_core import XI, Claims, Table, binary_cases, measured
from experiments.support.bench import Bench, spread, timed
from safeframe.margins import split_sorted
from safeframe.risk_curve import RiskCurve

CASES, SHARD_CASES, SHARDS = 10**7, 10**9, 16
UNSAFE = 1e-4
CALLS = 100
"""Calls that one repeat of a fast question averages over."""


def make_shard(index: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """n cases, the same whenever they are made: normal margins, unsafe ones 3 higher."""
    rng = np.random.default_rng([0, index])
    margin = rng.standard_normal(n, dtype=np.float32)
    label = np.zeros(n, dtype=np.bool_)
    label[rng.integers(0, n, rng.binomial(n, UNSAFE))] = True
    margin[label] += np.float32(3.0)
    return margin, label


def shards(n: int) -> list[partial[tuple[np.ndarray, np.ndarray]]]:
    return [partial(make_shard, index, n // SHARDS) for index in range(SHARDS)]


def ask(curve: RiskCurve) -> None:
    """Thresholds for r_t that are not listed anywhere."""
    for r_t in np.geomspace(1e-3, 0.4, CALLS):
        curve.largest_threshold(float(r_t))


def ask_level(curve: RiskCurve) -> None:
    for margin in np.linspace(-3.0, 5.0, CALLS):
        curve.level(margin)


def recast(safe: np.ndarray, unsafe: np.ndarray, tau: float) -> None:
    """The six searches of one r_t (bound, acceptance, counts), float32 values and a float64 query."""
    query = np.array([tau])
    for _ in range(3):
        np.searchsorted(unsafe, query)
        np.searchsorted(safe, query)


def check(n: int) -> None:
    """float32 gives what float64 gives; shards give what one curve gives."""
    margin, label = binary_cases(n, 0.5, np.float32)
    r_t = np.geomspace(1e-4, 1.0, 1000)
    wide = RiskCurve(margin.astype(np.float64), label).largest_thresholds(r_t)
    np.testing.assert_array_equal(RiskCurve(margin, label).largest_thresholds(r_t), wide)
    parts = shards(max(n, 50 * int(1 / UNSAFE)))
    whole = RiskCurve(*(np.concatenate(column) for column in zip(*(part() for part in parts), strict=True)))
    found = RiskCurve.from_shards(parts)
    np.testing.assert_array_equal(found.largest_thresholds(r_t), whole.largest_thresholds(r_t))


def bench_questions(table: Table, n: int, repeats: int) -> Claims:
    """Questions to a curve that is built: rows of the table, and the claims."""
    found: dict[type, list[float]] = {}
    for dtype in (np.float64, np.float32):
        cases = binary_cases(n, 0.5, dtype)
        curve = RiskCurve(*cases)
        note = f"mean of {CALLS} calls"
        for what, question in (("an unlisted r_t", ask), ("level of one margin", ask_level)):
            question(curve)
            seconds = [timed(partial(question, curve), time.perf_counter)[0] / CALLS for _ in range(repeats)]
            table.add(f"{what}: {dtype.__name__}", n, seconds, None, note)
            found.setdefault(dtype, seconds)
    safe, unsafe = split_sorted(*cases)
    slow = min(timed(partial(recast, safe, unsafe, 1.0), time.perf_counter)[0] for _ in range(repeats))
    fast = found[np.float32]
    ratio = table.add_naive("an unlisted r_t: float32, search that recasts", n, slow, fast, "searches only")
    return {
        "core.unlisted_r_t_1e7_ms": spread([1e3 * value for value in fast]),
        "core.unlisted_r_t_1e7_speedup_over_recast": ratio,
    }


def bench_shards(table: Table, n: int) -> Claims:
    """A curve from shards: its row of the table, and the claims."""
    seconds, peak = measured(lambda: RiskCurve.from_shards(shards(n), radius=XI).largest_threshold(1e-5), 1)
    what = f"RiskCurve.from_shards, {SHARDS} shards made on the fly, and one threshold"
    table.add(
        what, n, seconds, peak, f"float32, {UNSAFE:g} unsafe, radius {XI}; making the shards twice included"
    )
    return {"core.shards_1e9_seconds": spread(seconds), "core.shards_1e9_peak_mb": peak}


def main() -> None:
    bench = Bench("bench_large_curve", __doc__, experiment="core", data="random normal margins")
    bench.parser.add_argument("--cases", type=int, default=CASES, help="cases of the curve that is asked")
    bench.parser.add_argument("--shard-cases", type=int, default=SHARD_CASES, help="cases of all shards")
    bench.parser.add_argument("--repeats", type=int, default=7, help="of the questions")
    options = bench.parse()
    if not options.no_claims and (options.cases, options.shard_cases) != (CASES, SHARD_CASES):
        bench.parser.error("the claims are about 10^7 and 10^9 cases: add --no-claims with other sizes")
    bench.require_commit()
    check(20_000)
    table = Table()
    from_shards = bench_shards(table, options.shard_cases)
    questions = bench_questions(table, options.cases, options.repeats)
    frame = pd.DataFrame(table.rows)
    bench.write(frame)
    bench.show(frame.drop(columns=["seconds_low", "seconds_high"]))
    for found, n in ((questions, options.cases), (from_shards, options.shard_cases)):
        for name, value in found.items():
            bench.claim(name, value, n)


if __name__ == "__main__":
    main()
