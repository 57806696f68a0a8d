"""Disks that are full or read-only, and clocks that jump: an error in words, and nothing half written.

A small file system in memory (tmpfs) is mounted, which needs root. What `kinds.py` makes is written to it
with less room than it needs, or while it is read-only; then there is room, and it is written again and read.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from cases import CRASH, REFUSED, SAME, WRONG, Cases, digest, documented
from kinds import Kind, kinds

from experiments.support.errors import storage_error

WRITERS = (
    "raw results", "stage of a run", "task of an engine", "checkpoint of a classifier",
    "checkpoint of an agent or a language model", "agent", "internal test data", "generated answers", "guard",
    "log of decisions", "exported log",
)  # fmt: skip


@contextlib.contextmanager
def small_disk(kilobytes: int) -> Iterator[Path]:
    """A file system of a given size."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def mounted_again(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


def needed(kind: Kind) -> tuple[int, str]:
    """Kilobytes that a kind takes, and what is read from it."""
    with tempfile.TemporaryDirectory() as folder:
        kind.make(Path(folder))
        size = sum(-(-path.stat().st_size // 4096) * 4 for path in Path(folder).rglob("*") if path.is_file())
        return size, digest(kind.read(Path(folder)))


def attempt(kind: Kind, place: Path) -> tuple[str, str]:
    try:
        kind.make(place)
    except documented() as error:
        return REFUSED, str(error).replace(str(place), "")
    except Exception as error:  # noqa: BLE001 (any other one is a finding)
        told = storage_error(error) if isinstance(error, OSError) else None  # run.py tells these in one line
        return (REFUSED if told else CRASH), str(told or repr(error)).replace(str(place), "")
    return SAME, ""


def disk(reference: Path, seed: int, count: int, only: str = "") -> Cases:
    """Full and read-only disks, `count` cases of every kind."""
    cases = Cases("disk", seed)
    for kind in kinds(reference):
        if kind.name not in WRITERS or only not in kind.name or not list(cases.left(kind.name, count)):
            continue
        size, expected = needed(kind)
        for number, rng in cases.left(kind.name, count):
            read_only = number % 5 == 0
            room = int(rng.integers(4, max(size, 8)))
            with small_disk(4 * size + 400 if read_only else room) as place:
                if read_only:
                    mounted_again(place, "ro")
                outcome, detail = attempt(kind, place)
                leftovers = [path.name for path in place.rglob("*") if ".tmp" in path.name]
                mounted_again(place, f"rw,size={8 * size + 4000}k")
                if outcome != CRASH:
                    again, why = repeated(kind, place, expected)
                    outcome, detail = (outcome, detail) if again == SAME else (again, why)
                if leftovers and outcome == REFUSED:
                    outcome, detail = WRONG, f"left {leftovers}"
            what = "read-only" if read_only else f"{room} KiB instead of {size}"
            cases.add(kind.name, number, what, outcome, detail)
        report(kind.name, cases)
    return cases


def repeated(kind: Kind, place: Path, expected: str) -> tuple[str, str]:
    """The same once more, now that there is room; a log is begun anew: its decisions were recorded or not."""
    if "log" in kind.name:
        for path in place.iterdir():
            path.unlink() if path.is_file() else shutil.rmtree(path)
    outcome, detail = attempt(kind, place)
    if outcome != SAME:
        return CRASH, f"with room: {detail}"
    return (
        (SAME, "") if digest(kind.read(place)) == expected else (WRONG, "with room it reads something else")
    )


def clock(reference: Path, seed: int, count: int, only: str = "") -> Cases:
    """Clocks that jump at every look, by up to a year, forwards and backwards; a log's times never fall."""
    cases = Cases("clock", seed)
    before = time.time
    for kind in kinds(reference):
        if kind.name not in WRITERS or only not in kind.name:
            continue
        for number, rng in cases.left(kind.name, count):
            with tempfile.TemporaryDirectory() as folder:
                expected = needed(kind)[1] if number == 0 else cases_expected[kind.name]
                cases_expected[kind.name] = expected
                time.time = jumping(rng)
                try:
                    outcome, detail = attempt(kind, Path(folder))
                    if outcome == SAME and digest(kind.read(Path(folder))) != expected:
                        outcome, detail = WRONG, "reads something else"
                finally:
                    time.time = before
            cases.add(kind.name, number, "the clock jumps", outcome, detail)
        report(kind.name, cases)
    for number, rng in cases.left("times in a log", count):
        outcome, detail = times_in_a_log(rng)
        cases.add("times in a log", number, "the clock jumps", outcome, detail)
    report("times in a log", cases)
    return cases


cases_expected: dict[str, str] = {}


def jumping(rng: np.random.Generator):
    return lambda: 1.7e9 + float(rng.uniform(-3e7, 3e7))


def times_in_a_log(rng: np.random.Generator) -> tuple[str, str]:
    from kinds import a_guard

    import safeframe.service.log as log_module
    import safeframe.service.storage.labelling as labelling
    from safeframe import GuardLog

    kept = log_module.now, labelling.now
    with (
        tempfile.TemporaryDirectory() as folder,
        GuardLog(Path(folder) / "log", a_guard()) as log,
    ):
        try:
            log_module.now = labelling.now = jumping(rng)
            for _ in range(8):
                done = log.act(rng.normal(size=(3, 1)))
                log.label(done.ids, [0, 1, 0])
            times = [row[0] for row in log.database.read("SELECT time FROM decisions ORDER BY seq")]
            late = log.database.read(
                "SELECT count(*) FROM labels JOIN decisions ON seq = decision"
                " WHERE labels.time < decisions.time"
            )[0][0]
            log.check()
        except Exception as error:  # noqa: BLE001 (a clock that jumps is no error)
            return CRASH, repr(error)
        finally:
            log_module.now, labelling.now = kept
    fallen = any(b < a for a, b in itertools.pairwise(times))
    return (WRONG, "times fall") if fallen or late else (SAME, "")


def report(name: str, cases: Cases) -> None:
    mine = [row.outcome for row in cases.rows if row.kind == name]
    print(name, {one: mine.count(one) for one in (REFUSED, SAME, WRONG, CRASH)}, flush=True)


def may_mount() -> bool:
    return os.geteuid() == 0 and shutil.which("mount") is not None
