"""Parts of a run that do not need one another, done ahead of it as tasks of an engine.

A part is a function of the run that ends in stages of the cache: a network, data under one guard. A worker
calls it with a context of its own, so it makes the very stages that the run asks for afterwards and finds; a
killed worker's training goes on from its checkpoint. What comes back is only a report: times, measurements,
losses.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.support import registry, tracking
from experiments.support.config import BaseConfig
from experiments.support.engine.settings import EngineConfig
from experiments.support.engine.store import TaskStore
from experiments.support.engine.tasks import Form, Task
from experiments.support.files import atomic_write
from experiments.support.runs.context import RunContext
from experiments.support.storage.shared import Shared


@dataclass(frozen=True)
class Part:
    """One part.

    Attributes:
        name: for messages; parts of one run have different ones.
        call: a module's function, called with the configuration, a context and `arguments`. It keeps what it
            makes in stages, and nothing else of it counts.
        arguments: such as pickle takes.
    """

    name: str
    call: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


@dataclass
class Losses(tracking.NoTracker):
    """A tracker in a worker: remembers losses while training, for the run's own."""

    watching: bool = False
    trained_: list[tuple[str, int, float]] = field(default_factory=list)

    def trained(self, name: str, step: int, loss: float) -> None:
        self.trained_.append((name, step, loss))


def ahead(context: RunContext, parts: Sequence[Part]) -> None:
    """Do parts of a run that do not need one another on the workers of `engine=joblib` or `ray`.

    What they keep is then found in the cache. With `engine=local` nothing is done: they come in their turn.

    Args:
        context: of the run.
        parts: of it.

    Raises:
        TaskError, UserError, SafeframeError: as `Engine.results`.
    """
    if not context.engine.elsewhere or not parts:
        return
    config = dataclasses.replace(context.config, engine=EngineConfig(), threads=1, progress=False)
    directory = context.directory / "parts"
    shared = None if context.shared is None else context.shared.under(f"parts/{context.directory.name}")
    store = TaskStore(directory, REPORT, shared)
    sent = (
        context.experiment,
        config,
        directory,
        context.cache_directory,
        context.shared,
        context.watching,
        Path.cwd(),
    )
    tasks = [Task(_perform, (part, *sent), {"part": part.name}, part.name) for part in parts]
    _clear(directory, shared)  # reports of a run that was interrupted; its stages are in the cache
    for report in context.engine.results(tasks, store, "parts"):
        context.merge(report["stages"], report["measurements"], report["losses"])
    _clear(directory, shared)


def _clear(directory: Path, shared: Shared | None) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    if shared is not None:
        shared.clear()


def _perform(
    part: Part,
    experiment: str,
    config: BaseConfig,
    directory: Path,
    cache: Path,
    shared: Shared | None,
    watching: bool,
    here: Path,
) -> dict[str, Any]:
    """In a worker: call a part; its report. Relative paths count from where the run was started."""
    with contextlib.chdir(here) if here.is_dir() else contextlib.nullcontext():
        losses = Losses(watching)
        context = RunContext(registry.get(experiment), config, directory, cache, losses, shared)
        context.seeds.set_global()
        part.call(config, context, *part.arguments)
    made = {name: about for name, about in context.stage_times.items() if not about["reused"]}
    return {"stages": made, "measurements": context.measurements, "losses": losses.trained_}


def _save(report: dict[str, Any], path: Path) -> None:
    atomic_write(path, json.dumps(report))


def _load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


REPORT = Form(_save, _load, ".report")
