"""A run: one resolved configuration, one directory, one set of results.

results/runs/<experiment>/<id>/ where id is a hash of the resolved configuration:
    config.yaml      the resolved configuration
    manifest.json    command, commit, versions, hardware, seeds, stage times, status
    results.csv, results.parquet
    DONE             written last, with the checksums of all of these and of the experiment's tables; or
    error.txt        the traceback of a run that failed
A run that is done is skipped. One that was interrupted is begun again and finds its finished stages in the
cache (`stages.py`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import time
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from experiments.support import manifest, tracking
from experiments.support.config import BaseConfig, cache_of, identity, output_root, run_id
from experiments.support.errors import StorageError, UserError
from experiments.support.files import REPOSITORY, atomic_write, input_checksum, write_json
from experiments.support.locks import exclusive
from experiments.support.registry import Experiment
from experiments.support.results import frames
from experiments.support.runs.code import fingerprint
from experiments.support.runs.context import RunContext, value_at
from experiments.support.seeding import limit_threads
from experiments.support.storage.objects import Objects, is_folder
from experiments.support.storage.shared import Shared
from experiments.support.tracking import keys
from safeframe.types import SafeframeError

log = logging.getLogger(__name__)
__all__ = [
    "RunContext", "changed_files", "code_of", "directory_of", "is_done", "perform", "shown", "value_at"
]  # fmt: skip


def directory_of(experiment: Experiment, config: BaseConfig) -> Path:
    """Where the run of a configuration is, or will be."""
    return output_root(config) / experiment.name / run_id(config)


def is_done(experiment: Experiment, config: BaseConfig) -> bool:
    """Whether the run would be skipped."""
    return not config.force and (directory_of(experiment, config) / "DONE").exists()


def perform(experiment: Experiment, config: BaseConfig) -> Path:
    """Do a run unless it is done; return its directory. Safe to call from several processes at once."""
    directory = directory_of(experiment, config)
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
            _run(experiment, config, directory)
            log.info("done: %s", shown(directory))
    return directory


def _run(experiment: Experiment, config: BaseConfig, directory: Path) -> None:
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
        context = RunContext(experiment, config, directory, cache_of(config), tracker, shared_of(config))
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
    done = {"sha256": sums, "code": code, "files": files, "beside": frames.kept_beside(directory)}
    write_json(directory / "DONE", done)
    if tracker.watching:
        _tell(
            experiment,
            config,
            tracker,
            tracking.Record(directory, frame, context.stage_times, context.weights),
        )


def shared_of(config: BaseConfig) -> Shared | None:
    """The shared store of stages, None where they are kept in a folder; StoreError if it cannot be used."""
    if config.store is None or is_folder(config.store):
        return None
    objects = Objects(config.store.rstrip("/"))
    objects.require_open()
    return Shared(objects)


def _mirror(experiment: Experiment, config: BaseConfig, directory: Path) -> None:
    """Show a run that is done to the tracker, if it was made without one."""
    if not tracking.mirrored(config.tracking, directory):
        tracker = tracking.start(config.tracking, directory, experiment.name, identity(config))
        about = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
        _tell(
            experiment,
            config,
            tracker,
            tracking.Record(directory, frames.read(directory), about.get("stages", {})),
        )


def _tell(
    experiment: Experiment, config: BaseConfig, tracker: tracking.Tracker, record: tracking.Record
) -> None:
    """The results of a run that is done, with the figures that its report draws."""
    draw = getattr(experiment.module, "report", None)
    try:
        if draw is not None:
            draw(config, record.directory, record.frame)
    except (SafeframeError, UserError, OSError) as error:  # the entry shows it when it prints the report
        log.warning("the tracker gets no figures: %s", error)
    tracker.results(record)
    tracker.finish(keys.summary(record.frame))


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
