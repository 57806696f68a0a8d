"""Tasks for tests of the engine: they say in a file that they were called, and some die, fail or wait."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from experiments.support.engine.engine import Engine
from experiments.support.engine.settings import EngineConfig
from experiments.support.engine.store import TaskStore
from experiments.support.engine.tasks import Form, Task
from experiments.support.errors import ConfigError
from experiments.support.files import REPOSITORY
from experiments.support.storage.objects import Objects
from experiments.support.storage.shared import Shared


def called(folder: Path, name: str) -> None:
    """One more line of the calls; lines of different processes do not mix."""
    with (folder / "calls").open("a") as file:
        file.write(f"{name} {os.getpid()}\n")


def calls(folder: Path) -> list[str]:
    """Names of all calls so far, in order."""
    path = folder / "calls"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def draw(folder: Path, seed: int, size: int) -> np.ndarray:
    """Numbers from a stream of the task's own, through a matrix product (threads change its last bits)."""
    called(folder, str(seed))
    numbers = np.random.default_rng(seed).normal(size=(size, 3))
    return numbers @ (numbers.T @ numbers)


def wait_first(folder: Path, seed: int, number: int) -> np.ndarray:
    """As `draw`, but at the first call of task `number` it waits for ever."""
    called(folder, str(seed))
    if seed == number and calls(folder).count(str(seed)) == 1:
        time.sleep(600)
    return np.full(3, float(seed))


def die_first(folder: Path, seed: int, number: int) -> np.ndarray:
    """As `draw`, but task `number` kills its worker (kill -9) at its first call, while others are at work."""
    called(folder, str(seed))
    if seed == number and calls(folder).count(str(seed)) == 1:
        while len(set(calls(folder))) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.3)
    return np.full(3, float(seed))


def die(folder: Path, seed: int) -> np.ndarray:
    """Kill the worker at every call."""
    called(folder, str(seed))
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def fail(folder: Path, seed: int, number: int, for_user: bool) -> np.ndarray:
    """Task `number` raises, while the one before it is at work."""
    called(folder, str(seed))
    if seed == number:
        raise ConfigError("speed=3: at most 2") if for_user else ZeroDivisionError("told to fail")
    time.sleep(0.2)
    return np.full(3, float(seed))


def threads() -> np.ndarray:
    """Threads that torch and the environment give a task."""
    import torch

    return np.array([torch.get_num_threads(), int(os.environ.get("OMP_NUM_THREADS", "0"))])


def read_secret() -> np.ndarray:
    """A file of the task's own that may not be read."""
    raise PermissionError(13, "Permission denied", "secret.csv")


def save(value: np.ndarray, path: Path) -> None:
    """One array as .npy."""
    np.save(path, value)


ARRAY = Form(save, np.load, ".npy")


def store(folder: Path, url: str | None = None) -> TaskStore:
    """Results below a folder, and behind a URL."""
    shared = None if url is None else Shared(Objects(url)).under("tasks")
    return TaskStore(folder / "stage" / "tasks", ARRAY, shared)


def tasks(folder: Path, call, count: int, *more) -> list[Task]:
    """`count` tasks, numbered by their seeds."""
    return [
        Task(call, (folder, i, *more), {"seed": i, "more": list(more)}, f"draw {i}") for i in range(count)
    ]


def engine(name: str = "local", workers: int = 1, **more) -> Engine:
    """An engine by its name."""
    return Engine(EngineConfig(name, workers, **more))


def main(folder: Path, name: str, workers: int, url: str | None = None) -> None:
    """A program of its own that can be killed: six tasks, of which the third waits for ever at first."""
    with_engine = engine(name, workers)
    list(with_engine.results(tasks(folder, wait_first, 6, 2), store(folder, url), "killed"))
    with_engine.close()


def kill_engine(folder: Path, name: str, workers: int, url: str | None = None) -> None:
    """Start the helper's program, wait until nothing but its third task is left to do, and kill it."""
    arguments = f"pathlib.Path({str(folder)!r}), {name!r}, {workers}, {url!r}"
    code = f"import pathlib, engine_tasks as h; h.main({arguments})"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(Path(__file__).parent)])},
        stderr=subprocess.PIPE,
    )
    wanted = 5 if workers > 1 else 2
    deadline = time.monotonic() + 120
    while "2" not in calls(folder) or len(list(store(folder).directory.glob("*.json"))) < wanted:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def programs(code: str, arguments: list[list[str]]) -> list[str]:
    """What Python programs print that run at once, each with arguments of its own; all must end well."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(Path(__file__).parent)])}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, *own], env=environment, stdout=subprocess.PIPE, text=True
        )
        for own in arguments
    ]
    outputs = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0] * len(started)
    return outputs
