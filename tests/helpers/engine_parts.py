"""Parts of a run for tests: each keeps one number in a stage, step by step, and some die or fail."""

from __future__ import annotations

import json
import os
import pickle
import signal
import time
from pathlib import Path

import engine_tasks as helper

from experiments.support.config import BaseConfig
from experiments.support.runs.ahead import Part
from experiments.support.runs.checkpoints import read_checked, write_checked
from experiments.support.runs.context import RunContext
from experiments.support.runs.stages import Stage
from safeframe.types import SafeframeError

STEPS = 3


def number(config: BaseConfig, context: RunContext, name: str, folder: Path, trouble: str = "") -> float:
    """A sum of draws, one a step, with a checkpoint after each.

    trouble: "kill" or "wait" after the first step of the first call, "fail".
    """

    def compute(stage: Stage) -> float:
        state = json.loads(read_checked(stage.checkpoint) or b'{"step": 0, "sum": 0.0}')
        while state["step"] < STEPS:
            helper.called(folder, f"{name}{state['step']}")
            draw = float(context.seeds.generator(name, state["step"]).normal())
            state = {"step": state["step"] + 1, "sum": state["sum"] + draw}
            context.trained(name, state["step"], draw)
            write_checked(stage.checkpoint, json.dumps(state).encode())
            first = helper.calls(folder).count(f"{name}0") == 1 and state["step"] == 1
            if trouble == "kill" and first and not (folder / "killed").exists():
                (folder / "killed").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if trouble == "wait" and first and not (folder / "waited").exists():
                (folder / "waited").touch()
                time.sleep(600)
            if trouble == "fail":
                raise SafeframeError("told to fail")
        context.measured(f"draws.{name}", STEPS)
        return state["sum"]

    return context.cache(f"number_{name}", {"name": name}, compute, _save, _load, ".txt")


def parts(folder: Path, trouble: str = "", names: str = "abc") -> list[Part]:
    """One part for each name; the trouble is the second one's."""
    return [Part(name, number, (name, folder, trouble if name == "b" else "")) for name in names]


def _save(value: float, path: Path) -> None:
    path.write_text(repr(value))


def _load(path: Path) -> float:
    return float(path.read_text())


def main(folder: Path) -> None:
    """A program that can be killed: parts ahead, of which the second waits for ever at first."""
    from experiments.support import registry
    from experiments.support.runs.ahead import ahead
    from experiments.support.tracking import NoTracker

    config = pickle.loads((folder / "config").read_bytes())
    context = RunContext(registry.get("toy"), config, folder / "run", folder / "cache", NoTracker())
    ahead(context, parts(folder, "wait"))
    context.engine.close()
