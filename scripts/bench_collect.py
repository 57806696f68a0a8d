"""Measure how long internal test data take: backup-labelled cases of the reference agent, on one core.

    python scripts/bench_collect.py                  # 10^7 cases of each robot, as preset=paper needs them
    python scripts/bench_collect.py --cases 1e5 --no-claims

Cases are collected to disk as the experiment does it: 512 environments with the faithful vase, a state every
ten control steps, every candidate labelled. Time is that of the process, in which nothing runs in parallel;
compilation is not timed. Writes results/tables/bench_collect.csv and the claims safetygym.<robot>.collect_*.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from experiments.safetygym.agents.checkpoints import load_agent  # noqa: E402
from experiments.safetygym.config import REFERENCE, TASKS  # noqa: E402
from experiments.safetygym.guard.guarding import GuardedPolicy  # noqa: E402
from experiments.safetygym.sim.task import get_task  # noqa: E402
from experiments.safetygym.states.collection import collect  # noqa: E402
from experiments.safetygym.states.internal_data import InternalData  # noqa: E402
from experiments.support.files import atomic_path  # noqa: E402
from experiments.support.results.claims import record  # noqa: E402

TABLE = REPOSITORY / "results" / "tables" / "bench_collect.csv"


def measure(task: str, cases: int) -> dict[str, float | str | int]:
    """Seconds of the process for `cases` cases of a task's reference agent, and the share of unsafe ones."""
    robot = get_task(task).robot
    agent = load_agent(REPOSITORY / REFERENCE / f"{robot}_ours.safetensors", task=task)
    policy = GuardedPolicy(agent, None, 0, get_task(task))
    with tempfile.TemporaryDirectory() as directory:
        collect(InternalData(Path(directory) / "first", {}), policy, 10_000, "backup", seed=1, every=10)
        start = time.process_time()
        data = InternalData(Path(directory) / "timed", {})
        collect(data, policy, cases, "backup", seed=2, every=10)
        seconds = time.process_time() - start
        unsafe = sum(int((shard.unsafe == 1).sum()) for shard in data) / data.n_t
    return {"robot": robot, "cases": data.n_t, "seconds": seconds, "per_second": data.n_t / seconds,
            "unsafe_share": unsafe}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", type=float, default=1e7)
    parser.add_argument("--table", type=Path, default=TABLE, help="where the table goes")
    parser.add_argument("--no-claims", action="store_true", help="leave results/claims.csv alone")
    options = parser.parse_args()
    if options.cases < 1:
        parser.error(f"--cases {options.cases}: at least 1 is needed")
    torch.set_num_threads(1)
    frame = pd.DataFrame([measure(task, int(options.cases)) for task in TASKS])
    options.table.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(options.table) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.4g")
    print(frame.to_string(index=False, float_format=lambda value: f"{value:,.4g}"))
    if options.no_claims:
        return
    for row in frame.to_dict("records"):
        record(
            f"safetygym.{row['robot']}.collect_1e7_seconds", 1e7 / row["per_second"], experiment="safetygym",
            n=row["cases"], seeds=[2], preset="bench", data="backup labels, one core, time of the process",
            command="python scripts/bench_collect.py",
        )  # fmt: skip


if __name__ == "__main__":
    main()
