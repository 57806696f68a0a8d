"""Measure how long internal test data take: backup-labelled cases of the reference agent, on one core.

    python benchmarks/bench_collect.py                  # 10^7 cases of each robot, as preset=paper needs them
    python benchmarks/bench_collect.py --cases 1e5 --no-claims

Cases are collected to disk as the experiment does it: 512 environments with the faithful vase, a state every
ten control steps, every candidate labelled. Time is that of the process, in which nothing runs in parallel;
compilation is not timed. Writes results/tables/bench_collect.csv and the claims safetygym.<robot>.collect_*.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.safetygym.agents.checkpoints import load_agent
from experiments.safetygym.config import TASKS
from experiments.safetygym.guard.guarding import GuardedPolicy
from experiments.safetygym.references import agent_file
from experiments.safetygym.sim.task import get_task
from experiments.safetygym.states.collection import collect
from experiments.safetygym.states.internal_data import InternalData
from experiments.support.bench import Bench, timed


def measure(task: str, cases: int) -> dict[str, float | str | int]:
    """Seconds of the process for `cases` cases of a task's reference agent, and the share of unsafe ones."""
    robot = get_task(task).robot
    agent = load_agent(agent_file(robot, "ours"), task=task)
    policy = GuardedPolicy(agent, None, 0, get_task(task))
    with tempfile.TemporaryDirectory() as directory:
        collect(InternalData(Path(directory) / "first", {}), policy, 10_000, "backup", seed=1, every=10)
        data = InternalData(Path(directory) / "timed", {})
        seconds, _ = timed(lambda: collect(data, policy, cases, "backup", seed=2, every=10))
        unsafe = sum(int((shard.unsafe == 1).sum()) for shard in data) / data.n_t
    return {"robot": robot, "cases": data.n_t, "seconds": seconds, "per_second": data.n_t / seconds,
            "unsafe_share": unsafe}  # fmt: skip


def main() -> None:
    data = "backup labels, one core, time of the process"
    bench = Bench("bench_collect", __doc__, experiment="safetygym", data=data)
    bench.parser.add_argument("--cases", type=float, default=1e7)
    options = bench.parse()
    if options.cases < 1:
        bench.parser.error(f"--cases {options.cases}: at least 1 is needed")
    bench.require_commit()
    torch.set_num_threads(1)
    frame = pd.DataFrame([measure(task, int(options.cases)) for task in TASKS if "Goal1" in task])
    bench.write(frame)
    bench.show(frame)
    for row in frame.to_dict("records"):
        seconds = 1e7 / row["per_second"]
        bench.claim(f"safetygym.{row['robot']}.collect_1e7_seconds", seconds, n=row["cases"], seeds=[2])


if __name__ == "__main__":
    main()
