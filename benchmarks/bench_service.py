"""Measure a guard in service: what recording its decisions costs, labels, a recalibration, a replay.

    python benchmarks/bench_service.py

Each repeat writes a log of its own: acting on one measurement without a log, with one that leaves it to the
system when the disk has it (durable=False), and with one that waits for the disk; acting on large batches the
same way, with and without the measurements kept; labels; the newest 10^5 decisions recalibrated; all of them
replayed and exported. The clock is that of the wall, since the disk takes part. Writes
results/tables/bench_service.csv and the claims service.*.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.support.bench import Bench, Spread, spread, timed
from safeframe import InternalTestData, SafetyGuard
from safeframe.service.log import GuardLog
from safeframe.service.recalibration import recalibrate
from safeframe.service.replay import replay

CLAIMS = {
    "act, one measurement, logged": ("service.act_logged_us", 1e6),
    "act, one measurement, logged and on the disk": ("service.act_durable_us", 1e6),
    "rows, batched": ("service.log_rows_per_s", 1.0),
    "labels, batched": ("service.labels_per_s", 1.0),
    "recalibrate": ("service.recalibrate_seconds", 1.0),
}


def cases(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Measurements (n, 3) and labels."""
    y = rng.normal(size=(n, 3))
    return y, (y[:, 0] + 0.3 * rng.normal(size=n) > 1).astype(int)


def guarded(rng: np.random.Generator) -> SafetyGuard:
    """A guard whose models cost next to nothing."""
    data = InternalTestData(*cases(rng, 20_000))
    made = SafetyGuard(lambda y: y.sum(axis=1), lambda y: y[:, 0] - 1, data, 1e-2, 0.0)
    made.calibrate()
    return made


def each(call: Any, number: int) -> float:
    """Seconds for one call, the median of `number`."""
    call()
    return float(np.median([timed(call, time.perf_counter)[0] for _ in range(number)]))


def measured(place: Path, seed: int, n: int, batch: int, singles: int) -> dict[str, float]:
    """What one repeat found: seconds, or rows a second."""
    rng = np.random.default_rng(seed)
    guard, found = guarded(rng), {}
    one = rng.normal(size=(1, 3))
    found["act, one measurement, no log"] = each(lambda: guard.act(one), singles)
    with GuardLog(place / "one.sqlite", guard, durable=False) as log:
        found["act, one measurement, logged"] = each(lambda: log.act(one), singles)
    with GuardLog(place / "disk.sqlite", guard) as log:
        found["act, one measurement, logged and on the disk"] = each(lambda: log.act(one), singles)
    y, label = cases(rng, n)
    parts = [slice(start, start + batch) for start in range(0, n, batch)]
    alone, _ = timed(lambda: [guard.act(y[part]) for part in parts], time.perf_counter)
    found["rows, batched, no log"] = n / alone
    with GuardLog(place / "many.sqlite", guard, durable=False) as log:
        taken, done = timed(lambda: [log.act(y[part]) for part in parts], time.perf_counter)
        found["rows, batched"] = n / taken
        sent, _ = timed(
            lambda: [log.label(one.ids, label[part]) for one, part in zip(done, parts, strict=True)],
            time.perf_counter,
        )
        found["labels, batched"] = n / sent
        found["recalibrate"], _ = timed(lambda: recalibrate(log, n), time.perf_counter)
        found["export, rows"] = n / timed(lambda: log.export(place / "out.parquet"), time.perf_counter)[0]
    found["bytes a row"] = (place / "many.sqlite").stat().st_size / n  # labels with it
    with GuardLog(place / "kept.sqlite", guard, durable=False, keep_measurements=True) as log:
        taken, _ = timed(lambda: [log.act(y[part]) for part in parts], time.perf_counter)
        found["rows, batched, measurements kept"] = n / taken
        spent, again = timed(lambda: replay(log), time.perf_counter)
        if not again.same:
            raise SystemExit(f"error: the replay differs: {again}")
        found["replay, rows"] = n / spent
    return found


def main() -> None:
    bench = Bench("bench_service", __doc__, experiment="core", data="normal measurements, one core")
    bench.parser.add_argument("--rows", type=int, default=100_000, help="decisions of the large log")
    bench.parser.add_argument("--batch", type=int, default=10_000, help="decisions recorded at once")
    bench.parser.add_argument("--singles", type=int, default=500, help="single measurements that are timed")
    bench.parser.add_argument("--repeats", type=int, default=5)
    options = bench.parse()
    if not options.no_claims and (options.rows, options.batch) != (100_000, 10_000):
        bench.parser.error("the claims are about 100,000 decisions in batches of 10,000: add --no-claims")
    bench.require_commit()
    repeats: list[dict[str, float]] = []
    for seed in range(options.repeats):
        with tempfile.TemporaryDirectory() as place:
            repeats.append(measured(Path(place), seed, options.rows, options.batch, options.singles))
    rows: list[dict[str, Any]] = []
    for what in repeats[0]:
        found = spread([one[what] for one in repeats])
        single = what.startswith("act") or what == "recalibrate"
        unit = "seconds" if single else "bytes" if what == "bytes a row" else "rows a second"
        rows.append(
            {"what": what, "unit": unit, "value": found.value, "low": found.low, "high": found.high}
            | {"repeats": options.repeats}
        )
        if what in CLAIMS:
            claim, factor = CLAIMS[what]
            n = options.singles if what.startswith("act") else options.rows
            bench.claim(claim, Spread(*(factor * value for value in found)), n, seeds=range(options.repeats))
    frame = pd.DataFrame(rows)
    bench.write(frame)
    bench.show(frame)


if __name__ == "__main__":
    main()
