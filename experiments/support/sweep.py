"""The progress of a sweep: one line for each job with the time left, a table at the end, one exit code.

Jobs may run in this process or in others on this machine or on a cluster that shares its files. Each adds a
line to the sweep's record, a file that the environment names; whoever adds one can tell how far the sweep is.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from experiments.support.errors import CacheError
from experiments.support.files import REPOSITORY

RECORD = "SAFEFRAME_SWEEP"
"""Environment variable: the file of the sweep that jobs belong to."""
DONE, SKIPPED, FAILED, REFUSED = "done", "skipped", "failed", "refused"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
ELSEWHERE = ("submitit", "ray_launcher")
"""Launchers whose jobs do not share the terminal."""
CODES = {DONE: 0, SKIPPED: 0, FAILED: 1, REFUSED: 2}
"""What became of a job, and its exit code: refused is a configuration that is wrong."""


_watching: list[tuple[threading.Thread, threading.Event]] = []
"""Of the sweep of this process; not the callback's own, which is sent to jobs."""


@dataclass(frozen=True)
class Job:
    """One job that has ended.

    Attributes:
        number: from 1.
        settings: of it that differ between jobs ("seed=0 r_t=0.01").
        outcome: done, skipped (it was done before), failed or refused.
        seconds: that it took.
        place: directory of its run; empty if there is none.
    """

    number: int
    settings: str
    outcome: str
    seconds: float
    place: str = ""


@dataclass(frozen=True)
class Progress:
    """How far a sweep is.

    Attributes:
        total: number of jobs; 0 where it is not known.
        started: when, seconds since the epoch.
        swept: settings that have several values.
        jobs: those that have ended, in the order in which they did.
    """

    total: int
    started: float
    swept: tuple[str, ...]
    jobs: tuple[Job, ...]

    def left(self, now: float) -> float | None:
        """Seconds until the last job ends if the others take as long as those that ran did, as many at once.

        Skipped and refused jobs take no time and say nothing about the others. None where nothing is known.
        """
        ran = sum(job.outcome in (DONE, FAILED) for job in self.jobs)
        if not self.total or not ran:
            return None
        return (now - self.started) / ran * max(self.total - len(self.jobs), 0)


class SweepCallback(Callback):
    """Hydra calls it once in the process that was started, before any job."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Begin the sweep's record and count its jobs. Jobs in other processes get as many threads as the
        configuration says; of those that have no terminal, this one tells.
        """
        record = begin(Path(str(config.hydra.sweep.dir)), values(config))
        launcher = str(config.hydra.launcher.get("_target_", ""))
        if "basic_launcher" not in launcher:
            for name in THREADS:
                os.environ.setdefault(name, str(config.get("threads", 1)))
        if any(name in launcher for name in ELSEWHERE):
            ended = threading.Event()
            thread = threading.Thread(target=watch, args=(record, ended), daemon=True)
            _watching.append((thread, ended))
            thread.start()

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Tell of the last jobs."""
        while _watching:
            thread, ended = _watching.pop()
            ended.set()
            thread.join()


def values(config: DictConfig) -> dict[str, int]:
    """How many values each setting of a sweep has: there is a job for every combination. Empty if it cannot
    be told (settings that only Hydra can list, as glob(*)).
    """
    params = config.hydra.sweeper.get("params") or {}
    words = [*(f"{key}={value}" for key, value in params.items()), *config.hydra.overrides.task]
    found: dict[str, int] = {}
    try:
        for override in OverridesParser.create().parse_overrides(words):  # later ones replace earlier ones
            swept = override.is_sweep_override()
            number = len(list(override.sweep_string_iterator())) if swept else 1
            found[override.get_key_element()] = number
    except HydraException:
        return {}
    return found


def begin(folder: Path, settings: Mapping[str, int]) -> Path:
    """A new record, which the environment names for the jobs of this process and those that it starts.

    Args:
        folder: that it is made in.
        settings: as :func:`values` gives them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"sweep_{time.time_ns()}.jsonl"
    total = math.prod(settings.values()) if settings else 0
    swept = [key.lstrip("+") for key, number in settings.items() if number > 1]
    head = {"total": total, "started": time.time(), "swept": swept}
    path.write_bytes(_line(head))
    os.environ[RECORD] = str(path)
    return path


def active() -> Path | None:
    """The record of the sweep that this process works for; None outside a sweep."""
    name = os.environ.get(RECORD)
    multirun = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    return Path(name) if name and multirun and Path(name).is_file() else None


def add(path: Path, job: Job) -> Progress:
    """Add a job to the record (one write, so that lines of other processes stay whole); how far it is now."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(handle, _line(asdict(job)))
    finally:
        os.close(handle)
    return read(path)


def read(path: Path) -> Progress:
    """What a record says; a line that was cut off (a full disk, a kill) or damaged is passed over.

    A job that was begun again after its worker died may have several lines: it is one job, and done if one
    of them says so.

    Raises:
        CacheError: where the first line is damaged.
    """
    head, *lines = path.read_bytes().split(b"\n")
    about = _content(head)
    if about is None:
        raise CacheError(
            f"{path} is damaged, so it cannot be told how the sweep goes; type its command again (what is "
            "done is skipped)"
        )
    jobs: dict[int, Job] = {}
    for job in [Job(**content) for line in lines if (content := _content(line)) is not None]:
        if job.number not in jobs or CODES[jobs[job.number].outcome]:
            jobs[job.number] = job
    return Progress(int(about["total"]), float(about["started"]), tuple(about["swept"]), tuple(jobs.values()))


def _line(content: Mapping[str, Any]) -> bytes:
    """A line of a record, with a checksum."""
    text = json.dumps(content).encode("utf-8")
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _content(line: bytes) -> dict[str, Any] | None:
    check, _, text = line.partition(b" ")
    return json.loads(text) if check == b"%08x" % zlib.crc32(text) else None


def chosen(words: Iterable[str], swept: Iterable[str]) -> str:
    """Of one job's settings ("seed=0") those that differ between jobs, as text."""
    keys = set(swept)
    return " ".join(word.lstrip("+") for word in words if word.split("=")[0].lstrip("+") in keys)


def line(progress: Progress, job: Job, now: float) -> str:
    """One line for a job that has ended: how many have, what became of it, and the time left."""
    of = f" of {progress.total}" if progress.total else ""
    text = f"{len(progress.jobs)}{of}: {job.settings or 'no change'}: {job.outcome}"
    if job.outcome != SKIPPED:
        text += f" in {duration(job.seconds)}"
    left = progress.left(now)
    return text + (f", about {duration(left)} left" if left else "")


def log_of(record: Path, number: int) -> Path:
    """The log of a sweep's job."""
    return record.with_suffix("") / f"job_{number}.log"


def told(record: Path, number: int, now: float) -> list[str]:
    """What the terminal is told of a job that ended elsewhere: its error, as its log has it, and its line."""
    progress = read(record)
    ended = [at for at, job in enumerate(progress.jobs) if job.number == number]
    if not ended:
        return []
    job, log = progress.jobs[ended[-1]], log_of(record, number)
    text = log.read_text(encoding="utf-8") if log.is_file() and job.outcome in (FAILED, REFUSED) else ""
    errors = [said for said in text.splitlines() if said.startswith("error: ")][-1:]
    return [*errors, line(replace(progress, jobs=progress.jobs[: ended[-1] + 1]), job, now)]


def watch(record: Path, ended: threading.Event, every: float = 1.0) -> None:
    """Print what :func:`told` says of every job that is added to a record, until `ended`.

    Args:
        record: the sweep's.
        ended: set when no more jobs come.
        every: seconds between two looks.
    """
    number = 0
    while True:
        last = ended.wait(every)
        jobs = read(record).jobs
        for job in jobs[number:]:
            for text in told(record, job.number, time.time()):
                print(text, file=sys.stderr, flush=True)
        number = len(jobs)
        if last:
            return


def table(progress: Progress) -> str:
    """Every job with what became of it, then the counts."""
    rows = [("job", "settings", "outcome", "time", "where")]
    for job in sorted(progress.jobs, key=lambda one: one.number):
        took = "" if job.outcome == SKIPPED else duration(job.seconds)
        rows.append((str(job.number), job.settings or "-", job.outcome, took, shown(job.place)))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    counts = [(kind, sum(job.outcome == kind for job in progress.jobs)) for kind in CODES]
    missing = max(progress.total - len(progress.jobs), 0)
    said = [f"{number} {kind}" for kind, number in counts if number] + [f"{missing} not run"] * bool(missing)
    return "\n".join([line.rstrip() for line in lines] + ["", ", ".join(said)])


def code(jobs: Iterable[Job], total: int = 0) -> int:
    """The sweep's exit code: 0 if all is done, 2 if nothing was run because every configuration was wrong,
    else 1.

    Args:
        jobs: that have ended.
        total: how many there are, so that one of which nothing is known has not gone well; 0: not known.
    """
    codes = [CODES[job.outcome] for job in jobs]
    if not any(codes):
        return int(len(codes) < total)
    return 2 if all(found == CODES[REFUSED] for found in codes) else 1


def duration(seconds: float) -> str:
    """A time in one or two units: "8 s", "3 min 20 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if whole else f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    return f"{whole // 3600} h" + (f" {whole % 3600 // 60} min" if whole % 3600 // 60 else "")


def shown(place: str) -> str:
    """A directory from the repository's root if it is inside."""
    path = Path(place) if place else None
    if path is None:
        return ""
    return str(path.relative_to(REPOSITORY)) if path.is_relative_to(REPOSITORY) else str(path)
