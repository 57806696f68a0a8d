"""Measure the core beside naive forms: the risk curve of 10^7 cases, testing of 10^6 x 8 logits.

    python benchmarks/bench_core.py

times, several times each, with the peak of resident memory beyond the input:

- the exact curve of 10^7 binary cases, 1,000 thresholds found by its inverse and the bounds at 1,000 taus;
- the bounds p^{-xi}, p^{+xi} of 10^6 cases with 8 logits.

The naive forms do less and are measured on a part, then scaled by the share of the work, which the table
says: "NumPy pass per threshold" evaluates the bound at single taus by one pass over all cases each (no
inverse); "Python loop" does so case by case; "row by row" computes the same exact indicators one row at a
time with NumPy. Before anything is timed the fast results are compared with the naive ones. Writes
results/tables/bench_core.csv and the claims core.curve_1e7_* and core.conservative_1e6x8_*.
"""

from __future__ import annotations

import ctypes
import gc
import re
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.support.bench import Bench, Spread, quotient, spread, timed
from safeframe.conservative_testing import likelihood_bounds
from safeframe.risk_curve import RiskCurve
from safeframe.types import SQRT2

XI = 0.05
THRESHOLDS = np.geomspace(1e-4, 1.0, 1000)
TAUS = np.linspace(-3.0, 4.0, 1000)
Claims = dict[str, Spread | float]


def memory(key: str) -> float:
    """VmRSS or VmHWM of this process in MB (10^6 bytes), from /proc (Linux)."""
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise RuntimeError(f"/proc/self/status has no {key}: the memory benchmark needs Linux")
    return int(found[1]) * 1024 / 1e6


def measured(
    call: Callable[[], Any], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> tuple[list[float], float]:
    """(seconds of every repeat, largest peak of resident memory beyond what was held before, MB)."""
    seconds, peak = [], 0.0
    for _ in range(repeats):
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back to the system and cannot hide a new need
        Path("/proc/self/clear_refs").write_text("5")  # starts the high-water mark anew
        before = memory("VmRSS")
        elapsed, result = timed(call, clock)
        seconds.append(elapsed)
        peak = max(peak, memory("VmHWM") - before)
        del result
    return seconds, peak


def binary_cases(n: int, unsafe_share: float, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    label = (rng.random(n) < unsafe_share).astype(np.int64)
    margin = rng.standard_normal(n, dtype=dtype)
    margin += label.astype(dtype) * dtype(3.0)
    return margin, label


def curve(margin: np.ndarray, label: np.ndarray, form: str) -> tuple[np.ndarray, np.ndarray]:
    """(1,000 thresholds, 1,000 bounds), by the exact curve."""
    found = RiskCurve(margin, label, radius=XI, form=form)  # type: ignore[arg-type]
    return found.largest_thresholds(THRESHOLDS).tau, found.bound(TAUS)


def bound_by_pass(margin: np.ndarray, label: np.ndarray, taus: np.ndarray) -> np.ndarray:
    """The tight bound at ``taus``, by one NumPy pass over the cases for each."""
    unsafe = label == 1
    n_unsafe, n = int(unsafe.sum()), len(label)
    out = []
    for tau in taus:
        up = ((margin - SQRT2 * XI < tau) & unsafe).sum() / n_unsafe
        low = ((margin + SQRT2 * XI < tau) & ~unsafe).sum() / (n - n_unsafe)
        above, below = n_unsafe / n * up, (1 - n_unsafe / n) * low
        out.append(above / (above + below) if above + below > 0 else 1.0)
    return np.array(out)


def bound_by_loop(margin: np.ndarray, label: np.ndarray, tau: float) -> float:
    """The tight bound at one tau, case by case."""
    up, low, count = 0, 0, [0, 0]
    for m, s in zip(margin.tolist(), label.tolist(), strict=True):
        count[s] += 1
        if s == 1:
            up += m - SQRT2 * XI < tau
        else:
            low += m + SQRT2 * XI < tau
    share = count[1] / len(label)
    above, below = share * up / count[1], (1 - share) * low / count[0]
    return above / (above + below) if above + below > 0 else 1.0


def likelihood_by_row(logits: np.ndarray, label: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """p^{-xi} and p^{+xi} row by row: the same exact distances, one case at a time."""
    m = logits.shape[1]
    lower, upper, count = np.zeros((m, m)), np.zeros((m, m)), np.zeros(m)
    for phi, s in zip(logits, label, strict=True):
        count[s] += 1
        for j in range(m):
            others = np.sort(np.delete(phi, j))[::-1]
            means = (phi[j] + np.concatenate([[0.0], np.cumsum(others)])) / np.arange(1, m + 1)
            level = means.max()
            distance = np.sqrt((level - phi[j]) ** 2 + (np.maximum(others - level, 0.0) ** 2).sum())
            upper[s, j] += distance <= radius
            lower[s, j] += phi[j] - others[0] > SQRT2 * radius
    return lower / count[:, None], upper / count[:, None]


def check(n: int) -> None:
    """The fast forms give what the naive ones give, before anything is timed."""
    margin, label = binary_cases(n, 0.5, np.float64)
    np.testing.assert_allclose(
        curve(margin, label, "tight")[1][::100], bound_by_pass(margin, label, TAUS[::100])
    )
    assert abs(bound_by_loop(margin, label, 1.0) - bound_by_pass(margin, label, np.array([1.0]))[0]) < 1e-12
    logits, state = np.random.default_rng(1).normal(size=(2000, 8)), np.arange(2000) % 8
    lower, upper = likelihood_by_row(logits, state, 0.3)
    found = likelihood_bounds(logits, state, 0.3)
    np.testing.assert_allclose(found.lower, lower)
    np.testing.assert_allclose(found.upper, upper)


class Table:
    """Rows of the table; times of a naive form are also given as a multiple of the fast one."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, what: str, n: int, seconds: list[float], peak: float | None, note: str) -> None:
        self.rows.append(
            {
                "what": what,
                "n": n,
                "seconds": spread(seconds).value,
                "seconds_low": min(seconds),
                "seconds_high": max(seconds),
                "peak_mb": peak,
                "repeats": len(seconds),
                "note": note,
            }
        )

    def add_naive(self, what: str, n: int, slow: float, fast: list[float], note: str) -> Spread:
        """The ratio, with the spread of the fast form."""
        self.add(f"naive: {what}", n, [slow], None, note)
        ratio = quotient(slow, spread(fast))
        self.rows[-1]["times_slower"] = ratio.value
        return ratio


def bench_curve(table: Table, n: int, repeats: int) -> Claims:
    """Curve of n binary cases: rows of the table, and the claims."""
    job = "curve, 1,000 thresholds, 1,000 bounds"
    others: list[tuple[float, type, str]] = [
        (0.05, np.float64, "tight"),
        (0.5, np.float32, "tight"),
        (0.5, np.float64, "paper"),
    ]
    for share, dtype, form in others:
        cases = binary_cases(n, share, dtype)
        seconds, peak = measured(partial(curve, *cases, form), repeats)
        table.add(f"{job}: {share:.0%} unsafe, {dtype.__name__}, {form}", n, seconds, peak, "")
        del cases
    margin, label = binary_cases(n, 0.5, np.float64)
    fast, peak = measured(partial(curve, margin, label, "tight"), repeats)
    table.add(f"{job}: 50% unsafe, float64, tight", n, fast, peak, "the claim")

    few = TAUS[:: len(TAUS) // 5]
    passes, _ = measured(partial(bound_by_pass, margin, label, few), 1)
    note = f"{len(few)} taus timed, scaled to 1,000; bounds only, no inverse"
    by_pass = table.add_naive("NumPy pass per threshold", n, passes[0] * len(TAUS) / len(few), fast, note)
    part = min(n, 200_000)
    loop, _ = measured(partial(bound_by_loop, margin[:part], label[:part], 1.0), 1)
    note = f"{part:,} cases and 1 tau timed, scaled to all cases and 1,000 taus; bounds only, no inverse"
    by_loop = table.add_naive("Python loop over cases", n, loop[0] * n / part * len(TAUS), fast, note)
    return {
        "core.curve_1e7_seconds": spread(fast),
        "core.curve_1e7_peak_mb": peak,
        "core.curve_1e7_speedup_over_naive": by_pass,
        "core.curve_1e7_speedup_over_python_loop": by_loop,
    }


def bench_testing(table: Table, n: int, repeats: int) -> Claims:
    """Conservative testing of n x 8 logits: rows of the table, and the claims."""
    rng = np.random.default_rng(2)
    logits, state = rng.normal(size=(n, 8)), rng.integers(0, 8, n)
    single = logits.astype(np.float32)
    seconds, peak = measured(partial(likelihood_bounds, single, state, 0.3), repeats)
    table.add("conservative testing, 8 logits, float32", n, seconds, peak, "")
    fast, peak = measured(partial(likelihood_bounds, logits, state, 0.3), repeats)
    table.add("conservative testing, 8 logits, float64", n, fast, peak, "the claim")
    part = min(n, 5000)
    by_row, _ = measured(partial(likelihood_by_row, logits[:part], state[:part], 0.3), 1)
    ratio = table.add_naive(
        "row by row", n, by_row[0] * n / part, fast, f"{part:,} rows timed, scaled to all"
    )
    return {
        "core.conservative_1e6x8_seconds": spread(fast),
        "core.conservative_1e6x8_speedup_over_naive": ratio,
    }


def main() -> None:
    bench = Bench("bench_core", __doc__, experiment="core", data="random normal margins or logits")
    bench.parser.add_argument("--cases", type=int, default=10**7, help="cases of the curve")
    bench.parser.add_argument("--rows", type=int, default=10**6, help="rows of 8 logits")
    bench.parser.add_argument("--repeats", type=int, default=7)
    options = bench.parse()
    if not options.no_claims and (options.cases, options.rows) != (10**7, 10**6):
        bench.parser.error("the claims are about 10^7 cases and 10^6 rows: add --no-claims with other sizes")
    bench.require_commit()
    check(20_000)
    table = Table()
    curve_claims = bench_curve(table, options.cases, options.repeats)
    testing_claims = bench_testing(table, options.rows, options.repeats)
    frame = pd.DataFrame(table.rows)
    bench.write(frame)
    bench.show(frame.drop(columns=["seconds_low", "seconds_high"]))
    for found, n in ((curve_claims, options.cases), (testing_claims, options.rows)):
        for name, value in found.items():
            bench.claim(name, value, n)


if __name__ == "__main__":
    main()
