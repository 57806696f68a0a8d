"""Draw numbers, fit their mean by gradient steps (a checkpoint each), count those above a threshold."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.support.runs.checkpoints import read_checked, write_checked
from experiments.support.runs.running import RunContext
from experiments.support.runs.stages import Stage
from toy_experiments.toy.config import ToyConfig


def kill_point(name: str) -> None:
    """Die like a machine that lost power, if the test asked for it here."""
    log = os.environ.get("TOY_LOG")
    if log:
        with Path(log).open("a") as file:
            file.write(name + "\n")
    if os.environ.get("TOY_KILL_AT") == name:
        os.kill(os.getpid(), signal.SIGKILL)


def run(config: ToyConfig, context: RunContext) -> pd.DataFrame:
    with context.stage("toy-data", ["data", "seed"], code=run) as data_stage:
        data = data_stage.cached(
            lambda: context.seeds.generator("data").normal(size=config.data.size), _save, np.load, ".npy"
        )
    kill_point("data")

    def train(stage: Stage) -> float:
        state = json.loads(read_checked(stage.checkpoint) or b'{"epoch": 0, "mean": 0.0}')
        for epoch in context.progress(range(state["epoch"], config.training.epochs), "training"):
            state = {
                "epoch": epoch + 1,
                "mean": state["mean"] + config.training.rate * float(np.mean(data) - state["mean"]),
            }
            write_checked(stage.checkpoint, json.dumps(state).encode())
            kill_point(f"epoch {epoch}")
        return state["mean"]

    mean = context.cache(
        "toy-train",
        [data_stage, "training"],
        train,
        lambda value, path: path.write_text(repr(value)),
        lambda path: float(path.read_text()),
        ".txt",
    )
    kill_point("trained")
    time.sleep(float(os.environ.get("TOY_SLEEP", "0")))
    if os.environ.get("TOY_FAIL"):
        raise RuntimeError("told to fail")
    if os.environ.get("TOY_THREADS"):
        import torch

        print(f"threads: torch {torch.get_num_threads()}, OMP {os.environ.get('OMP_NUM_THREADS')}")
    context.log({"mean": mean})
    context.record([{"method": "toy", "metric": "mean", "value": mean, "n": len(data), "r_t": config.r_t}])
    above = int(np.sum(data > mean))
    kill_point("evaluated")
    return pd.DataFrame(
        [{"method": "toy", "metric": "above", "value": above / len(data), "n": len(data), "r_t": config.r_t}]
    )


def report(config: ToyConfig, directory: Path, frame: pd.DataFrame) -> str:
    return frame[["method", "metric", "value"]].to_string(index=False)


def _save(value: np.ndarray, path: Path) -> None:
    np.save(path, value)
