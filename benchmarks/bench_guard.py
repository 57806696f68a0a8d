"""Measure SafetyGuard: what it costs beside the model and the classifier that it calls.

    python benchmarks/bench_guard.py
    python benchmarks/bench_guard.py --other 0.2=/path/to/another/checkout

Each repeat times, in an interpreter of its own on one core: act() on one measurement, with one action, with
eight candidates, and for torch modules; act() on 10^6 measurements; calibrate() on 10^7 cases of one float32
margin each, and what an r_t that is not listed costs then. The models alone are timed beside the guard and
subtracted. With --other the same code runs against the safeframe of another checkout, in turn with this one;
ratios are taken within a repeat. Writes results/tables/bench_guard.csv and the claims guard.*.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.support.bench import Bench, Spread, spread
from experiments.support.files import REPOSITORY

CODE = """
import json, sys, timeit
import numpy as np, torch
torch.set_num_threads(1)
from safeframe import InternalTestData, SafetyGuard
n_many, n_large = int(sys.argv[1]), int(sys.argv[2])
rng = np.random.default_rng(0)

def cases(n):
    y = rng.normal(size=(n, 3))
    return y, (y[:, 0] + 0.3 * rng.normal(size=n) > 1).astype(int)

def model(y): return y.sum(axis=1)
def classifier(y): return np.stack([1 - y[:, 0], y[:, 0] - 1], axis=1)
def candidates(y): return y, y
def each(y): return np.stack([1 - y, y - 1], axis=-1)

def best(call, number):
    return min(timeit.repeat(call, number=number, repeat=5)) / number

def beyond(guard, models, y, number):
    guard.act(y)
    return best(lambda: guard.act(y), number) - best(lambda: models(y), number)

def guarded(model, classifier, data, threshold=1e-2, **more):
    guard = SafetyGuard(model, classifier, data, threshold=threshold, default_action=0.0, **more)
    guard.calibrate()
    return guard

found = {}
plain = guarded(model, classifier, InternalTestData(*cases(20_000)))
found["act, one measurement"] = beyond(plain, lambda y: (model(y), classifier(y)), np.zeros((1, 3)), 2000)
many = rng.normal(size=(n_many, 3))
found["act, many measurements"] = beyond(plain, lambda y: (model(y), classifier(y)), many, 1)
pool = rng.normal(size=(5000, 8))
bad = (pool + 0.3 * rng.normal(size=pool.shape) > 1).astype(int)
several = guarded(candidates, each, InternalTestData(pool, bad), 0.1)
found["act, one measurement, 8 candidates"] = beyond(
    several, lambda y: (candidates(y), each(y)), np.zeros((1, 8)), 2000)
torch.manual_seed(0)
network = torch.nn.Linear(3, 2)
y, label = cases(5000)
modules = guarded(torch.nn.Identity(), network, InternalTestData(torch.as_tensor(y).float(), label), 0.5)
one = torch.zeros(1, 3)
def eager(y):
    with torch.no_grad():
        return y, network(y)
found["act, one measurement, torch modules"] = beyond(modules, eager, one, 2000)
margin = rng.standard_normal(n_large, dtype=np.float32)
label = rng.random(n_large) < 0.1
margin[label] += 3
large = SafetyGuard(lambda y: np.zeros(len(y)), lambda y: np.stack([np.zeros_like(y), y], axis=1),
                    InternalTestData(margin, label.astype(int)), threshold=1e-2, default_action=0.0)
start = timeit.default_timer()
large.calibrate()
found["calibrate, many cases"] = timeit.default_timer() - start
levels = iter(np.linspace(0.02, 0.03, 100_000))
small = margin[:1]
large.act(small, r_t=0.5)
other = best(lambda: large.act(small, r_t=float(next(levels))), 20)
found["r_t that is not listed, many cases"] = other - best(lambda: large.act(small, r_t=1e-2), 20)
print("FOUND " + json.dumps(found))
"""
CLAIMS = {
    "act, one measurement": ("guard.act_one_us", 1e6, 1),
    "act, many measurements": ("guard.act_million_seconds", 1.0, 10**6),
    "r_t that is not listed, many cases": ("guard.unlisted_r_t_ms", 1e3, 10**7),
}


def measured(checkout: Path, sizes: tuple[int, int]) -> dict[str, float]:
    """Seconds by what was timed, with the safeframe of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", CODE, *map(str, sizes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=checkout)
    found = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    if done.returncode or not found:
        raise SystemExit(f"error: the safeframe of {checkout} failed:\n{done.stderr[-2000:]}")
    return json.loads(found[-1].removeprefix("FOUND "))


def main() -> None:
    bench = Bench("bench_guard", __doc__, experiment="core", data="normal measurements, one core")
    bench.parser.add_argument("--many", type=int, default=10**6, help="measurements of one batch")
    bench.parser.add_argument("--large", type=int, default=10**7, help="internal test cases")
    bench.parser.add_argument("--repeats", type=int, default=5)
    bench.parser.add_argument("--other", default="", metavar="NAME=CHECKOUT", help="another version's place")
    options = bench.parse()
    if not options.no_claims and (options.many, options.large) != (10**6, 10**7):
        bench.parser.error("the claims are about 10^6 measurements and 10^7 cases: add --no-claims")
    name, _, place = options.other.partition("=")
    if options.other and not (Path(place) / "safeframe").is_dir():
        bench.parser.error(f"--other {options.other}: NAME=CHECKOUT is needed, a folder that holds safeframe")
    bench.require_commit()
    here: list[dict[str, float]] = []
    there: list[dict[str, float]] = []
    for _ in range(options.repeats):
        here.append(measured(REPOSITORY, (options.many, options.large)))
        if options.other:
            there.append(measured(Path(place), (options.many, options.large)))
    rows: list[dict[str, Any]] = []
    for what in here[0]:
        mine = spread([one[what] for one in here])
        row = {"what": what, "seconds": mine.value, "low": mine.low, "high": mine.high}
        if there:
            ratio = spread([b[what] / a[what] for a, b in zip(here, there, strict=True)])
            row |= {
                "version": name,
                "seconds_there": spread([one[what] for one in there]).value,
                "times_slower_there": ratio.value,
                "ratio_low": ratio.low,
                "ratio_high": ratio.high,
            }
        rows.append(row | {"repeats": options.repeats})
        if what in CLAIMS:
            claim, unit, n = CLAIMS[what]
            bench.claim(claim, Spread(*(unit * value for value in mine)), n)
    frame = pd.DataFrame(rows)
    bench.write(frame)
    bench.show(frame)


if __name__ == "__main__":
    main()
