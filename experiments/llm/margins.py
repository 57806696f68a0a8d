"""Margins of a classifier by workers of the engine: whole batches, cut as one process cuts them.

So they are the bytes that one process with one thread (threads=1) gives. The weights that were trained are
kept once in the stage's tasks; a worker builds the classifier once and puts them in.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from experiments.llm.answers.packing import Table
from experiments.llm.assembly import untrained
from experiments.llm.capacity import Capacity
from experiments.llm.config import LLMConfig
from experiments.llm.guard import classifier, trained_weights
from experiments.support.engine.engine import Engine
from experiments.support.engine.settings import EngineConfig
from experiments.support.engine.store import TaskStore
from experiments.support.engine.tasks import Form, Task
from experiments.support.runs.stages import Stage
from experiments.support.weights import save_weights

TEXTS = 8192
"""Texts that a task judges, about."""


@dataclasses.dataclass(frozen=True)
class Judge:
    """A classifier that another process can build.

    Attributes:
        config: of the run: its source and its classification model.
        capacity: what of it was trained.
        weights: task whose result holds the weights that were trained.
        store: where that is.
    """

    config: LLMConfig
    capacity: Capacity
    weights: Task
    store: TaskStore

    def build(self) -> nn.Module:
        """The classifier."""
        module = untrained(self.config, self.capacity)
        trained_weights.put(module, self.store.load(self.weights), str(self.store.record(self.weights)))
        return module.eval()


def spread_margins(
    stage: Stage,
    engine: Engine,
    config: LLMConfig,
    module: nn.Module,
    capacity: Capacity,
    table: Table,
    batch: int,
) -> np.ndarray:
    """As `classifier.margins`, some batches a task.

    Args:
        stage: whose tasks they are; it depends on the weights and the texts.
        engine: does them.
        config: of the run.
        module: the classifier.
        capacity: what of it was trained.
        table: c texts.
        batch: of them that are judged at once.

    Returns:
        (c,) margins f_1 - f_0.
    """
    store = stage.tasks(WEIGHTS)
    weights = Task(_nothing, (), {"weights": trained_weights.digest(module)}, "weights")
    if not store.done(weights):
        store.keep(weights, trained_weights.trained(module), 0.0)
    alone = dataclasses.replace(config, engine=EngineConfig(), threads=1, progress=False)
    judge = Judge(alone, capacity, weights, store)
    order = np.argsort(table.length, kind="stable")
    size = max(1, TEXTS // batch) * batch
    parts = [order[first : first + size] for first in range(0, len(order), size)]
    tasks = [
        Task(_judge, (judge, table.take(rows), batch), {"part": number, "of": size, "batch": batch},
             f"margins {number}")
        for number, rows in enumerate(parts)
    ]  # fmt: skip
    found = np.empty(len(table))
    for rows, some in zip(parts, stage.spread(engine, tasks, MARGINS, stage.name), strict=True):
        found[rows] = some
    return found


_built: dict[str, nn.Module] = {}


def _judge(judge: Judge, table: Table, batch: int) -> np.ndarray:
    """In a worker: margins of some texts, which come in order of their length."""
    if judge.weights.id not in _built:
        _built.clear()  # one classifier at a time in memory
        _built[judge.weights.id] = judge.build()
    return classifier.margins(_built[judge.weights.id], table, batch)


def _nothing() -> Any:
    raise AssertionError("the weights are kept before a worker asks for them")


def _save_margins(value: np.ndarray, path: Path) -> None:
    np.save(path, value)


def _load_weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True, map_location="cpu")


MARGINS = Form(_save_margins, np.load, ".npy")
WEIGHTS = Form(save_weights, _load_weights, ".pt")
