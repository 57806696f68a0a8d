"""Every kind of file that is written, with what reads it back: for the campaign that damages them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.support.engine.store import TaskStore
from experiments.support.engine.tasks import Form, Task
from experiments.support.errors import CacheError
from experiments.support.results import collect
from experiments.support.results.saved import of_directory, read_raw, write_raw
from experiments.support.runs.checkpoints import load_checkpoint, save_checkpoint
from experiments.support.runs.stages import Stage


@dataclass(frozen=True)
class Kind:
    """Files of one kind.

    Attributes:
        name: of the kind.
        make: writes them to a folder.
        read: reads everything back from a folder that may be damaged; what it returns is compared.
        files: patterns of what is damaged.
    """

    name: str
    make: Callable[[Path], None]
    read: Callable[[Path], Any]
    files: tuple[str, ...] = ("**/*",)


def kinds(reference: Path) -> list[Kind]:
    """All kinds; `reference` holds finished smoke runs of every experiment."""
    found = [Kind(f"run directory, {name}", copied(reference, name), read_run(name)) for name in EXPERIMENTS]
    return [
        *found,
        Kind("raw results", make_raw(reference), read_raw_folder),
        Kind("stage of a run", make_stage, read_stage, ("cache/*/*/stage.json", "cache/*/*/value*")),
        Kind("task of an engine", make_tasks, read_tasks),
        Kind("checkpoint of a classifier", make_loop, read_loop),
        Kind("checkpoint of an agent or a language model", make_checkpoint, read_checkpoint),
        Kind("agent", make_agent, read_agent),
        Kind("internal test data", make_internal, read_internal),
        Kind("generated answers", make_answers, read_answers),
        Kind("guard", make_guard, read_guard),
        Kind("log of decisions", make_log, read_log, ("log.sqlite",)),
        Kind("exported log", make_exported, read_exported),
        Kind("record of a sweep", make_sweep, read_sweep),
    ]


EXPERIMENTS = ("production", "safetygym", "llm", "theory")
READ = (".parquet", ".csv", ".yaml", ".json", "")
"""Endings of a run's files that are read again; figures and animations are only looked at."""


def copied(reference: Path, name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (run,) = (reference / name).glob("*/DONE")
        place = folder / name / run.parent.name
        place.mkdir(parents=True)
        for path in run.parent.iterdir():
            if path.suffix in READ and path.name != "episodes.json":  # written with the animation, after DONE
                shutil.copy(path, place)

    return make


def read_run(name: str) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        found = []
        for run in collect.finished(name, root=folder):
            names = sorted(
                {
                    path.stem
                    for path in (folder / name / run.run).iterdir()
                    if path.suffix in (".parquet", ".csv")
                }
            )
            tables = {one: run.table(one) for one in names if run.has(one)}
            found.append([run.run, dict(run.config), dict(run.manifest), tables])
        return found

    return read


def make_raw(reference: Path) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (run,) = (reference / "production").glob("*/DONE")
        write_raw([of_directory(run.parent)], ["products", "weekly"], folder / "raw", dirty=True)

    return make


def read_raw_folder(folder: Path) -> Any:
    return [
        [
            one.run,
            dict(one.config),
            dict(one.manifest),
            {n: one.table(n) for n in ("results", "products", "weekly") if one.has(n)},
        ]
        for one in read_raw(folder / "raw")
    ]


def a_stage(folder: Path) -> Stage:
    return Stage(folder / "cache", "toy", "numbers", {"seed": 1}, "code")


def array_to(value: np.ndarray, path: Path) -> None:
    with open(path, "wb") as file:
        np.save(file, value)


def numbers() -> np.ndarray:
    return np.random.default_rng(3).normal(size=200)


def make_stage(folder: Path) -> None:
    a_stage(folder).cached(numbers, array_to, np.load, ".npy")


def read_stage(folder: Path) -> Any:
    return a_stage(folder).cached(numbers, array_to, np.load, ".npy")


def square(number: int) -> np.ndarray:
    return np.arange(50.0) ** 2 + number


TASKS = [Task(square, (i,), {"number": i}, f"square {i}") for i in range(3)]


def task_store(folder: Path) -> TaskStore:
    return TaskStore(folder / "tasks", Form(array_to, np.load, ".npy"))


def make_tasks(folder: Path) -> None:
    for task in TASKS:
        task_store(folder).keep(task, square(*task.arguments), 0.1)


def read_tasks(folder: Path) -> Any:
    store = task_store(folder)
    return [store.load(task) if store.done(task) else square(*task.arguments) for task in TASKS]


def trained(folder: Path, stop: int | None) -> torch.nn.Module:
    from safeframe.training.loop import TrainingSettings, train

    torch.manual_seed(0)
    module = torch.nn.Linear(3, 1)

    def loss(model: torch.nn.Module, generator: torch.Generator) -> torch.Tensor:
        x = torch.randn(16, 3, generator=generator)
        return (model(x) - x.sum(1, keepdim=True)).square().mean()

    def until(steps: Any) -> Any:
        for step in steps:
            if step == stop:
                raise KeyboardInterrupt
            yield step

    return train(
        module, loss, TrainingSettings(20, 1e-2, checkpoint_every=7), 5, folder / "checkpoint", until
    )


def make_loop(folder: Path) -> None:
    try:
        trained(folder, 17)
    except KeyboardInterrupt:
        return


def read_loop(folder: Path) -> Any:
    return trained(folder, None).state_dict()


def make_checkpoint(folder: Path) -> None:
    save_checkpoint(folder / "checkpoint", {"step": 3, "weights": torch.from_numpy(numbers())})


def read_checkpoint(folder: Path) -> Any:
    return load_checkpoint(folder / "checkpoint")


def make_agent(folder: Path) -> None:
    from experiments.safetygym.agents.agent import new_agent
    from experiments.safetygym.agents.checkpoints import save_agent
    from experiments.safetygym.agents.grid import check_candidates
    from experiments.safetygym.agents.settings import AgentSettings

    torch.manual_seed(1)
    grid = check_candidates(np.array([[x, y] for x in (-1.0, 0.0, 1.0) for y in (-1.0, 0.0, 1.0)]))
    save_agent(new_agent(AgentSettings(hidden=(8, 8)), grid, 5, 5, ("reward",)), folder / "agent.safetensors")


def read_agent(folder: Path) -> Any:
    from experiments.safetygym.agents.checkpoints import load_agent

    agent = load_agent(folder / "agent.safetensors")
    return [
        agent.task, agent.observation_size, agent.candidates, agent.settings.as_dict(), agent.record,
        agent.networks.state_dict(), agent.normaliser.mean, agent.normaliser.variance, agent.normaliser.count,
    ]  # fmt: skip


def internal(folder: Path) -> Any:
    from experiments.safetygym.states.internal_data import InternalData

    return InternalData(folder / "data", {"task": "toy", "seed": 1})


def a_shard(number: int) -> Any:
    from experiments.safetygym.states.internal_data import Shard

    rng = np.random.default_rng(number)
    unsafe = rng.integers(-1, 2, (30, 4)).astype(np.int8)
    clearance = rng.normal(size=(30, 4)).astype(np.float32)
    return Shard(rng.normal(size=(30, 5)).astype(np.float32), unsafe, clearance)


def make_internal(folder: Path) -> None:
    data = internal(folder)
    while len(data.shards) < 2:  # as a collection goes on
        data.append(a_shard(len(data.shards)))


def read_internal(folder: Path) -> Any:
    make_internal(folder)
    data = internal(folder)
    return vars(data.load())


def make_answers(folder: Path) -> None:
    from experiments.llm.models.generation.sampling import Generated
    from experiments.support.files import atomic_path

    rng = np.random.default_rng(2)
    shapes = {"tokens": rng.integers(0, 90, (20, 4, 8)).astype(np.int32)}
    parts = {
        name: shapes.get(name, rng.normal(size=(20, 4)).astype(np.float32))
        for name in Generated.__annotations__
    }
    with atomic_path(folder / "answers.npz") as path:
        np.savez(path, **parts)


def read_answers(folder: Path) -> Any:
    from experiments.llm.models.generation.sampling import read

    return vars(read(folder / "answers.npz"))


def rule(y: np.ndarray) -> np.ndarray:
    return 10.0 * y[:, 0]


def score(y: np.ndarray) -> np.ndarray:
    return y[:, 0]


def a_guard() -> Any:
    from safeframe import InternalTestData, SafetyGuard

    rng = np.random.default_rng(4)
    y = rng.normal(size=(600, 1))
    unsafe = (y[:, 0] + 0.5 * rng.normal(size=600) > 1.0).astype(int)
    guard = SafetyGuard(rule, score, InternalTestData(y, unsafe), 0.1, -99.0)
    guard.calibrate()
    return guard


def make_guard(folder: Path) -> None:
    a_guard().save(folder / "guard")


def read_guard(folder: Path) -> Any:
    from safeframe import SafetyGuard

    guard = SafetyGuard.load(folder / "guard", rule, score)
    done = guard.act(np.linspace(-3, 3, 50)[:, None])
    return [done.action, done.margin, done.tau, done.bound, guard.evidence.margin, guard.evidence.label]


def make_log(folder: Path) -> None:
    from safeframe import GuardLog

    rng = np.random.default_rng(6)
    with GuardLog(folder / "log.sqlite", a_guard(), keep_measurements=True) as log:
        for batch in range(4):
            names = [f"{batch}-{i}" for i in range(15)]
            log.act(rng.normal(size=(15, 1)), ids=names, time=1000.0 + batch)
            log.label(names[:9], rng.integers(0, 2, 9), time=2000.0)
        log.correct(["0-1"], [1], "looked again", time=3000.0)
    for name in ("log.sqlite-wal", "log.sqlite-shm"):
        (folder / name).unlink(missing_ok=True)


def read_log(folder: Path) -> Any:
    import pandas as pd

    from safeframe import GuardLog

    with GuardLog(folder / "log.sqlite", a_guard(), keep_measurements=True) as log:
        log.export(folder / "out.parquet")
        history = [log.history(f"{batch}-{i}") for batch in range(4) for i in range(9)]
        return [pd.read_parquet(folder / "out.parquet"), history, len(log), log.awaited()]


def make_exported(folder: Path) -> None:
    from safeframe import GuardLog

    make_log(folder)
    with GuardLog(folder / "log.sqlite", a_guard(), keep_measurements=True) as log:
        log.export(folder / "log.parquet")
    for path in folder.glob("log.sqlite*"):
        path.unlink()


def read_exported(folder: Path) -> Any:
    from safeframe import GuardLog

    return GuardLog.read_export(folder / "log.parquet").to_pandas()


def make_sweep(folder: Path) -> None:
    from experiments.support import sweep

    made = sweep.begin(folder, {"seed": 3})
    del os.environ[sweep.RECORD]
    path = made.rename(folder / "sweep_1.jsonl")
    for number in (1, 2, 3):
        sweep.add(path, sweep.Job(number, f"seed={number}", sweep.DONE, 2.0, "place"))


def read_sweep(folder: Path) -> Any:
    from experiments.support import sweep

    found = sweep.read(folder / "sweep_1.jsonl")
    if sweep.code(found.jobs, found.total):
        raise CacheError("the sweep ends with another exit code than 0, and names jobs as not run")
    return [found.total, found.swept, [vars(job) for job in found.jobs]]
