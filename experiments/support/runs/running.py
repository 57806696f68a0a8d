"""A run: one resolved configuration, one directory, one set of results.

results/runs/<experiment>/<id>/ where id is a hash of the resolved configuration:
    config.yaml      the resolved configuration
    manifest.json    command, commit, versions, hardware, seeds, stage times, status
    results.csv, results.parquet
    DONE             written last, with the checksums of the results; or
    error.txt        the traceback of a run that failed
A run that is done is skipped. One that was interrupted is begun again and finds its finished stages in the
cache (`stages.py`).
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from omegaconf import OmegaConf

from experiments.support import manifest, progress, tracking
from experiments.support.config import BaseConfig, identity, output_root, run_id
from experiments.support.engine.engine import Engine
from experiments.support.errors import StorageError
from experiments.support.files import REPOSITORY, atomic_write, input_checksum, write_json
from experiments.support.locks import exclusive
from experiments.support.registry import Experiment
from experiments.support.results import frames
from experiments.support.runs.code import fingerprint
from experiments.support.runs.stages import Stage
from experiments.support.seeding import Seeds, limit_threads

log = logging.getLogger(__name__)
T = TypeVar("T")


class RunContext:
    """What an experiment's `run(config, context)` works with."""

    def __init__(
        self,
        experiment: Experiment,
        config: BaseConfig,
        directory: Path,
        cache: Path,
        tracker: tracking.Tracker,
    ):
        self.experiment = experiment.name
        self.config = config
        self.directory = directory
        self.seeds = Seeds(config.seed)
        self.engine = Engine(config.engine, config.threads, config.progress)
        self.stage_times: dict[str, dict[str, Any]] = {}
        self.measurements: dict[str, float] = {}
        self._identity = identity(config)
        self._cache = cache
        self._tracker = tracker
        self.inputs = {
            key: {"file": Path(path).name, "sha256": input_checksum(path)}
            for key, path in config.inputs().items()
        }
        self._rows: list[dict[str, Any]] = []

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
        stage = Stage(self._cache, self.experiment, name, self._resolve(depends_on), sources)
        log.info("%s …", name)
        started = time.perf_counter()
        try:
            yield stage
        finally:
            seconds = time.perf_counter() - started
            self.stage_times[name] = {
                "seconds": round(seconds, 3),
                "hash": stage.hash,
                "reused": stage.reused,
            }
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


def perform(experiment: Experiment, config: BaseConfig) -> Path:
    """Do a run unless it is done; return its directory. Safe to call from several processes at once."""
    root = output_root(config)
    directory = root / experiment.name / run_id(config)
    with exclusive(directory.parent / ".locks" / f"{directory.name}.lock", f"the run {shown(directory)}"):
        if config.force and directory.exists():
            shutil.rmtree(directory)
        if (directory / "DONE").exists():
            frames.verify(directory)
            log.info("already done, skipped (force=true runs it again): %s", shown(directory))
            made_by = frames.done(directory)
            if made_by.get("code") != code_of(experiment):
                log.warning("note: the code has changed since that run was made; force=true runs it again")
            for name in changed_files(config, made_by.get("files", {})):
                log.warning("note: %s has changed since that run was made; force=true runs it again", name)
            _mirror(experiment, config, directory)
        else:
            _run(experiment, config, directory, root / "cache")
            log.info("done: %s", shown(directory))
    return directory


def _run(experiment: Experiment, config: BaseConfig, directory: Path, cache: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("error.txt", "results.csv", "results.parquet"):
        (directory / name).unlink(missing_ok=True)
    for leftover in directory.glob(".*.tmp*"):
        leftover.unlink()
    atomic_write(directory / "config.yaml", OmegaConf.to_yaml(OmegaConf.structured(config)))
    record: dict[str, Any] = {
        "run": directory.name,
        "experiment": experiment.name,
        "status": "running",
        "command": manifest.command(),
        "commit": manifest.git_commit(),
        "dirty": manifest.git_dirty(),
        "started": manifest.now(),
    }
    write_json(directory / "manifest.json", record)
    code, files = code_of(experiment), _sums(config.reads())  # as they are now, whatever changes meanwhile
    tracker: tracking.Tracker = tracking.NoTracker()
    context = None
    started = time.perf_counter()
    try:
        tracker = tracking.start(config.tracking, directory, experiment.name, identity(config))
        context = RunContext(experiment, config, directory, cache, tracker)
        limit_threads(config.threads)
        context.seeds.set_global()
        with contextlib.closing(context.engine):
            frame = context.table(experiment.run(config, context))
        sums = frames.write(frame, directory)
    except BaseException as error:
        record["status"] = "failed" if isinstance(error, Exception) else "interrupted"
        try:
            if isinstance(error, Exception):
                atomic_write(directory / "error.txt", traceback.format_exc())
                log.error("failed: the error is in %s", shown(directory / "error.txt"))
            _finish(record, directory, context, started)
        except (OSError, StorageError) as second:  # a full disk takes no report either
            log.error("the error could not be kept in %s: %s", shown(directory), second)
        tracker.finish({"status": record["status"]}, failed=True)
        raise
    record["status"] = "done"
    _finish(record, directory, context, started)
    done = {"sha256": sums, "code": code, "files": files}
    write_json(directory / "DONE", done)
    tracker.finish(_summary(frame))


def _mirror(experiment: Experiment, config: BaseConfig, directory: Path) -> None:
    """Show a run that is done to the tracker, if it was made without one."""
    if config.tracking.mode != "none" and not (directory / "wandb").exists():
        tracker = tracking.start(config.tracking, directory, experiment.name, identity(config))
        tracker.finish(_summary(frames.read(directory)))


def _finish(record: dict[str, Any], directory: Path, context: RunContext | None, started: float) -> None:
    record |= {
        "finished": manifest.now(),
        "seconds": round(time.perf_counter() - started, 3),
        "stages": context.stage_times if context else {},
        "measurements": context.measurements if context else {},
        "seed": context.config.seed if context else None,
        "threads": context.config.threads if context else None,
        "inputs": context.inputs if context else {},
        "versions": manifest.versions(),
        "hardware": manifest.hardware(),
    }
    write_json(directory / "manifest.json", record)


def _summary(frame: pd.DataFrame) -> dict[str, float]:
    means = frame.groupby(["method", "metric"])["value"].mean().dropna()
    return {f"{method}/{metric}": float(value) for (method, metric), value in means.items()}


def code_of(experiment: Experiment) -> str:
    """Fingerprint of what the experiment's `run` runs."""
    return fingerprint(experiment.run)


def changed_files(config: BaseConfig, sums: Mapping[str, str]) -> list[str]:
    """Files that a run reads beside its inputs (`BaseConfig.reads`) whose content is not what `sums` says."""
    return [name for name, found in _sums(config.reads()).items() if sums.get(name, found) != found]


def _sums(paths: Iterable[Path]) -> dict[str, str]:
    return {path.name: input_checksum(path) for path in paths if path.is_file()}


def shown(path: Path) -> str:
    """A path as short as it can be shown: from the repository's root if it is inside."""
    return str(path.relative_to(REPOSITORY)) if path.is_relative_to(REPOSITORY) else str(path)
