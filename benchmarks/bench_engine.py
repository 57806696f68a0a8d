"""Measure what the engine adds to a task, and how much two workers are faster than one, on every engine.

    python benchmarks/bench_engine.py
    python benchmarks/bench_engine.py --tasks 20 --repeats 1        # a quick look

For each engine (local, joblib; ray where it is installed) and 1 and 2 workers: seconds until the first of two
tasks that do nothing is done (workers start), milliseconds a task of more of them (sending, lock, two files,
checksum), and seconds of tasks that keep a processor at work. The speed-up is a ratio of times of one run, so
that it does not depend on the day; other work on the machine still moves it. Writes
results/tables/bench_engine.csv with the commit and the machine.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.support import manifest
from experiments.support.bench import Bench, Spread, quotient, spread, timed
from experiments.support.engine.engine import Engine
from experiments.support.engine.measuring import NUMBER, nothing, work
from experiments.support.engine.settings import ENGINES, EngineConfig
from experiments.support.engine.store import TaskStore
from experiments.support.engine.tasks import Task
from experiments.support.results import claims

STEPS = 1_500_000
"""Of a task that keeps a processor at work: about a tenth of a second where nothing else runs."""


def measured(
    name: str, workers: int, tasks: int, heavy: int, repeats: int
) -> tuple[float, list[float], list[float]]:
    """(seconds to the first results, then of each repeat: seconds a task that does nothing, seconds of all
    heavy tasks).
    """
    engine, light, full = Engine(EngineConfig(name, workers)), [], []
    with tempfile.TemporaryDirectory() as folder:
        store = TaskStore(Path(folder), NUMBER)

        def seconds(todo: list[Task]) -> float:
            return timed(lambda: list(engine.results(todo, store, "bench")), time.perf_counter)[0]

        begun = seconds([Task(nothing, (i,), {"first": i}, "first") for i in range(2)])
        for repeat in range(repeats):
            key = {"repeat": repeat}
            todo = [Task(nothing, (i,), {**key, "light": i}, "light") for i in range(tasks)]
            light.append(seconds(todo) / tasks)
            full.append(seconds([Task(work, (i, STEPS), {**key, "heavy": i}, "heavy") for i in range(heavy)]))
    engine.close()
    return begun, light, full


def main() -> None:
    bench = Bench("bench_engine", __doc__, experiment="support")
    bench.parser.add_argument("--tasks", type=int, default=30, help="tasks that do nothing (30)")
    bench.parser.add_argument("--heavy", type=int, default=8, help="tasks that compute (8)")
    bench.parser.add_argument("--repeats", type=int, default=3, help="of everything (3)")
    options = bench.parse()
    commit, hardware = claims.here(), manifest.hardware()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    names = [name for name in ENGINES if name != "ray" or importlib.util.find_spec("ray") is not None]
    if "ray" not in names:
        print("the package ray is not installed: without its rows", file=sys.stderr)
    rows = []
    for name in names:
        found = {
            workers: measured(name, workers, options.tasks, options.heavy, options.repeats)
            for workers in (1, 2)
        }
        for workers, (begun, lights, fulls) in found.items():
            light, full = spread(lights), spread(fulls)
            faster = Spread(1.0, 1.0, 1.0) if workers == 1 else quotient(spread(found[1][2]), full)
            rows.append(
                {
                    "engine": name,
                    "workers": workers,
                    "start_seconds": begun,
                    "task_ms": 1e3 * light.value,
                    "task_ms_low": 1e3 * light.low,
                    "task_ms_high": 1e3 * light.high,
                    "heavy_seconds": full.value,
                    "speedup": faster.value,
                    "speedup_low": faster.low,
                    "speedup_high": faster.high,
                    "tasks": options.tasks,
                    "heavy": options.heavy,
                    "repeats": options.repeats,
                    "command": bench.command,
                    "commit": commit,
                    "machine": f"{hardware['processor']}, {hardware['cores']} cores",
                }
            )
    table = pd.DataFrame(rows)
    bench.write(table)
    bench.show(table.drop(columns=["command", "commit", "machine"]))


if __name__ == "__main__":
    main()
