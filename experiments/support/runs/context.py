"""What an experiment's `run(config, context)` works with: stages, seeds, results, a tracker, progress."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from experiments.support import progress, tracking
from experiments.support.config import BaseConfig, identity
from experiments.support.engine.engine import Engine
from experiments.support.files import input_checksum
from experiments.support.registry import Experiment
from experiments.support.results import frames
from experiments.support.runs.code import fingerprint
from experiments.support.runs.stages import Stage
from experiments.support.seeding import Seeds
from experiments.support.storage.shared import Shared

log = logging.getLogger(__name__)
T = TypeVar("T")
WEIGHTS = (".pt", ".safetensors")
"""How files of trained weights end."""


class RunContext:
    """What an experiment's `run(config, context)` works with."""

    def __init__(
        self,
        experiment: Experiment,
        config: BaseConfig,
        directory: Path,
        cache: Path,
        tracker: tracking.Tracker,
        shared: Shared | None = None,
    ):
        self.experiment = experiment.name
        self.config = config
        self.directory = directory
        self.seeds = Seeds(config.seed)
        self.engine = Engine(config.engine, config.threads, config.progress)
        self.stage_times: dict[str, dict[str, Any]] = {}
        self.measurements: dict[str, float] = {}
        self._identity = identity(config)
        self.cache_directory, self.shared = cache, shared
        self._elsewhere: dict[str, dict[str, Any]] = {}
        self._tracker = tracker
        self.inputs = {
            key: {"file": Path(path).name, "sha256": input_checksum(path)}
            for key, path in config.inputs().items()
        }
        self._rows: list[dict[str, Any]] = []
        self.weights: dict[str, Path] = {}

    @contextlib.contextmanager
    def stage(
        self,
        name: str,
        depends_on: Iterable[str | Stage] | Mapping[str, Any] = (),
        code: Callable[..., Any] | None = None,
    ) -> Iterator[Stage]:
        """A named, timed part of the run.

        Args:
            name: of the stage.
            depends_on: configuration keys ("training", "data.hours", "seed") and earlier stages, or a mapping
                of names to values. It matters only if the stage keeps something.
            code: the function that makes what the stage keeps: with its code, and all that it imports,
            changes
                the stage's hash (`code.py`). None for a stage that keeps nothing.

        Yields:
            The stage.
        """
        sources = None if code is None else fingerprint(code)
        depends = self._resolve(depends_on)
        stage = Stage(self.cache_directory, self.experiment, name, depends, sources, self.shared)
        log.info("%s …", name)
        started = time.perf_counter()
        try:
            yield stage
        finally:
            seconds = time.perf_counter() - started
            own = {"seconds": round(seconds, 3), "hash": stage.hash, "reused": stage.reused}
            elsewhere = {} if sources is None else self._elsewhere.pop(name, {})
            self.stage_times[name] = elsewhere if elsewhere.get("hash") == stage.hash else own
            if self._tracker.watching and sources is not None:
                for path in sorted(stage.directory.glob("*")):
                    if path.suffix in WEIGHTS:
                        self.weights[name] = path
            log.info("%s: %.1f s%s", name, seconds, " (from the cache)" if stage.reused else "")

    def cache(
        self,
        name: str,
        depends_on: Iterable[str | Stage] | Mapping[str, Any],
        compute: Callable[[Stage], T],
        save: Callable[[T, Path], None],
        load: Callable[[Path], T],
        suffix: str = "",
        code: Callable[..., Any] | None = None,
    ) -> T:
        """A stage that is one cached value, computed unless it has been before, in this run or another.

        Args:
            name: of the stage.
            depends_on: as of :meth:`stage`.
            compute: called with the stage.
            save: called with the value and a path.
            load: reads the value back from the path.
            suffix: of the value's file (".npz").
            code: the function whose code counts, if not that of `compute`, which then only calls it.

        Returns:
            The value.

        Raises:
            CacheError: if the saved file is damaged.
        """
        with self.stage(name, depends_on, code or compute) as stage:
            return stage.cached(lambda: compute(stage), save, load, suffix)

    def record(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows of results; refused at once if they do not fit.

        Args:
            rows: see `results/frames.py`; experiment and seed are filled in.

        Raises:
            ResultsError: for rows that do not fit the schema.
        """
        rows = [dict(row) for row in rows]
        if rows:
            frames.tidy(rows, experiment=self.experiment, seed=self.config.seed)
            self._rows.extend(rows)

    def measured(self, name: str, value: float) -> None:
        """Write a speed or a time to the manifest: it differs from run to run, so it is no result."""
        self.measurements[name] = float(value)

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Mirror numbers to the tracker, if there is one. What a result rests on belongs in `record`."""
        self._tracker.log({name: float(value) for name, value in metrics.items()}, step)

    def watched(self, name: str, loss: Callable[..., Any], every: int = 10) -> Callable[..., Any]:
        """A loss that tells the tracker its value at every so many calls; itself where nobody tracks.

        Args:
            name: of the training.
            loss: a function whose result is a scalar tensor.
            every: calls between two values that are told.

        Returns:
            A function with the same arguments and result.
        """
        if not self._tracker.watching:
            return loss
        calls = 0

        def told(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            value = loss(*arguments, **named)
            if calls % every == 0:
                self.trained(name, calls, float(value.detach()))
            calls += 1
            return value

        return told

    def trained(self, name: str, step: int, loss: float) -> None:
        """Tell the tracker, if there is one, a training's loss after some steps (NaN is not told)."""
        if loss == loss:
            self._tracker.trained(name, step, loss)

    @property
    def watching(self) -> bool:
        """Whether a tracker wants losses."""
        return self._tracker.watching

    def merge(
        self,
        stages: Mapping[str, dict[str, Any]],
        measurements: Mapping[str, float],
        losses: Iterable[tuple[str, int, float]],
    ) -> None:
        """Take over what a worker reports of a part: times of stages that it made, speeds, losses."""
        self._elsewhere |= stages
        self.measurements |= measurements
        for name, step, loss in losses:
            self.trained(name, step, loss)

    def progress(self, iterable: Iterable | None, description: str, total: int | None = None):
        """Iterate with a progress bar (`progress=false` turns it off)."""
        return progress.progress(iterable, description, total, self.config.progress)

    def table(self, returned: pd.DataFrame | None) -> pd.DataFrame:
        """All rows: recorded ones, then those that the experiment returned."""
        parts = [pd.DataFrame(self._rows)] if self._rows else []
        parts += [returned] if returned is not None and len(returned) else []
        if not parts:
            raise frames.ResultsError(
                f"{self.experiment} produced no results: return a table or call context.record"
            )
        parts = [frames.tidy(part, experiment=self.experiment, seed=self.config.seed) for part in parts]
        return frames.tidy(pd.concat(parts, ignore_index=True))

    def _resolve(self, depends_on: Iterable[str | Stage] | Mapping[str, Any]) -> dict[str, Any]:
        if isinstance(depends_on, Mapping):
            return {name: item.hash if isinstance(item, Stage) else item for name, item in depends_on.items()}
        found: dict[str, Any] = {}
        for item in depends_on:
            if isinstance(item, Stage):
                found[f"stage:{item.name}"] = item.hash
            else:
                found[item] = self.value(item)
        return found

    def value(self, key: str) -> Any:
        """The value behind a dotted configuration key as it enters the run's identity; KeyError if absent."""
        return value_at(self._identity, key)

    def has(self, section: str) -> bool:
        """Whether a section enters the run's identity; one that came later does only where it is set."""
        return section in self._identity


def value_at(content: Mapping[str, Any], key: str) -> Any:
    """The value behind a dotted key of nested mappings; KeyError if absent."""
    place: Any = content
    for name in key.split("."):
        if not isinstance(place, Mapping) or name not in place:
            raise KeyError(f"depends_on: the configuration has no key {key!r}")
        place = place[name]
    return place
