"""Evaluations cut into blocks, which are tasks of the engine (`support/engine`)."""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from experiments.safetygym.config import SafetyGymConfig
from experiments.safetygym.evaluation.entries import COLUMNS, EntryLog
from experiments.safetygym.evaluation.episodes import run_episodes
from experiments.safetygym.guard.sent import Sent
from experiments.support.engine.tables import TABLES
from experiments.support.engine.tasks import Form, Task
from experiments.support.files import input_checksum
from experiments.support.weights import digest_of

BLOCK_STEPS = 250_000


@dataclass(frozen=True)
class Job:
    """One block: steps of an agent, without a guard or under that of a classifier's `weights` at `tau`."""

    group: str
    constants: dict[str, Any]
    config: SafetyGymConfig
    agent: Path
    weights: dict[str, torch.Tensor] | None
    tau: float | np.ndarray
    steps: int
    seed: int

    @property
    def key(self) -> dict[str, Any]:
        """All that the block's episodes depend on, but the code."""
        c, tau = self.config.evaluation, np.asarray(self.tau, dtype=float).tolist()
        error, choice = self.config.path_error, self.config.choice
        return {
            **({"path_error": asdict(error)} if error.quantile and self.weights is not None else {}),
            **({"choice": asdict(choice)} if choice.rule != "gate" and self.weights is not None else {}),
            "task": self.config.task,
            "agent": input_checksum(self.agent),
            "weights": digest_of(self.weights or {}),
            "tau": str(tau),
            "steps": self.steps,
            "seed": self.seed,
            "vase": c.vase,
            "judge_every": c.judge_every,
        }


def blocks(
    config: SafetyGymConfig,
    constants: dict[str, Any],
    steps: int,
    agent: Path,
    seed: int,
    weights: dict[str, torch.Tensor] | None = None,
    tau: float | np.ndarray = np.inf,
) -> list[Job]:
    """Jobs of at most 250,000 steps each, with seeds that depend on `seed` and on what `constants` name."""
    group = "/".join(str(constants.get(key)) for key in ("method", "r_t", "knob"))
    count = -(-steps // BLOCK_STEPS)
    seeds = np.random.SeedSequence([seed, zlib.crc32(group.encode())]).spawn(count)
    return [
        Job(group, constants, config, agent, weights, tau, steps // count, int(child.generate_state(1)[0]))
        for child in seeds
    ]


Result = tuple[pd.DataFrame, pd.DataFrame]
"""Episodes and entries."""

FORM: Form = TABLES
"""How a block's result is kept."""


def tasks(jobs: list[Job]) -> list[Task]:
    """The blocks as tasks of the engine."""
    return [Task(run_job, (job,), job.key, f"{job.group}, seed {job.seed}") for job in jobs]


def run_job(job: Job) -> Result:
    """Episodes of one block (`run_episodes`) and its entries under a guard (`entries`)."""
    policy = Sent(job.config, job.agent, job.weights, job.tau).policy([job.seed, 1])
    c = job.config.evaluation
    log = None if policy.guard is None else EntryLog(policy)
    table = run_episodes(policy, job.steps, seed=job.seed, vase=c.vase, judge_every=c.judge_every, log=log)
    return table, pd.DataFrame(columns=list(COLUMNS)) if log is None else log.table
