"""A folder with the results of a stage's tasks: what is in it is not done again.

<id>.<suffix> is a result and <id>.json, written after it, its record with the checksum: a task counts as
done once the record is there. Workers write, each task under a lock of its own, so that engines on one folder
share the work; a lock of a process that died is released by the system. With a shared store, results are
published there and fetched from there (`storage/shared.py`), and the folder is this machine's copy.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from experiments.support.engine.tasks import Form, Task
from experiments.support.errors import CacheError, storage_error
from experiments.support.files import atomic_save, checksum, write_json
from experiments.support.locks import exclusive, unless_taken
from experiments.support.storage.shared import Shared

T = TypeVar("T")
UNREADABLE = (ValueError, KeyError, TypeError)
"""What a record raises that is there and is none."""


def load_kept(
    what: str,
    record: Path,
    load: Callable[[Path], T],
    advice: str,
    unreadable: tuple[type[Exception], ...] = UNREADABLE,
) -> T:
    """The value beside a record that names its file and checksum.

    Args:
        what: whose value it is, for errors ("stage pools").
        record: the JSON file.
        load: reads the value from its file.
        advice: what to delete if something is damaged.
        unreadable: errors of reading the record that mean that it is damaged.

    Returns:
        The value.

    Raises:
        CacheError: if the record or the file is damaged, or the file is missing.
    """
    try:
        content = json.loads(record.read_text())
        path, expected = record.parent / content["file"], content["sha256"]
    except unreadable as error:
        raise CacheError(f"{what}: {record} cannot be read ({error}); {advice}") from error
    if not path.is_file():
        raise CacheError(f"{what}: the file {path} is missing; {advice}")
    found = checksum(path)
    if found != expected:
        raise CacheError(
            f"{what}: the file {path} is damaged (SHA-256 {found[:12]}…, "
            f"{expected[:12]}… was written); {advice}"
        )
    try:
        return load(path)
    except Exception as error:
        raise CacheError(f"{what}: the file {path} cannot be loaded ({error!r}); {advice}") from error


@dataclass(frozen=True)
class TaskStore:
    """Results of tasks in a folder, in one form.

    Attributes:
        directory: the folder; it is made when something is written.
        form: of the results.
        shared: the same part of a shared store; None without one.
    """

    directory: Path
    form: Form
    shared: Shared | None = None

    def record(self, task: Task) -> Path:
        """The file that says that a task is done."""
        return self.directory / f"{task.id}.json"

    def done(self, task: Task) -> bool:
        """Whether a task's result is there."""
        return self.record(task).exists() or (self.shared is not None and self.shared.has(task.id))

    def which(self, tasks: Sequence[Task]) -> list[bool]:
        """For each task whether its result is there; a shared store is asked once for all."""
        there = self.shared.present() if self.shared is not None and tasks else set()
        return [self.record(task).exists() or task.id in there for task in tasks]

    def keep(self, task: Task, value: Any, seconds: float) -> None:
        """Write a task's result, and then its record.

        Args:
            task: that is done.
            value: its result.
            seconds: that it took.

        Raises:
            StorageError: for a full disk, a read-only place or a missing permission.
            StoreError: where a shared store cannot be written.
        """
        path = self.directory / f"{task.id}{self.form.suffix}"
        atomic_save(path, self.form.save, value)
        content = {"task": task.name, "file": path.name, "sha256": checksum(path), "seconds": seconds}
        write_json(self.record(task), content)
        if self.shared is not None:
            self.shared.publish(task.id, self.directory)

    def load(self, task: Task) -> Any:
        """The result of a task that is done.

        Raises:
            CacheError: if a file is damaged or missing; it says what to delete.
            StoreError: where a shared store cannot be read.
        """
        record = self.record(task)
        if self.shared is not None and not record.exists():
            self.shared.fetch(task.id, self.directory)
        advice = f"delete the file {record} to do the task again"
        return load_kept(f"task {task.name}", record, self.form.load, advice, (OSError, *UNREADABLE))

    @contextlib.contextmanager
    def claim(self, task: Task, wait: bool) -> Iterator[bool]:
        """Hold a task's lock; yields whether it is held.

        Args:
            task: to do.
            wait: for another process that holds it; otherwise yields False at once.

        Raises:
            StorageError: where locks cannot be written.
        """
        path = self.directory / f"{task.id}.lock"
        left = path.exists()  # by who is at work, or died: who has finished takes it away
        with contextlib.ExitStack() as stack:
            try:
                if wait:
                    stack.enter_context(exclusive(path, f"task {task.name}"))
                held = wait or stack.enter_context(unless_taken(path))
            except OSError as error:
                raise (storage_error(error, path) or error) from error
            if held and self.shared is not None and not self.done(task):
                held = stack.enter_context(self.shared.claim(task.id, f"task {task.name}", wait))
            if held and left:
                for half_written in self.directory.glob(f".{task.id}.*"):
                    half_written.unlink(missing_ok=True)
            yield held
            if held and self.done(task):
                path.unlink(missing_ok=True)  # who waited for it finds the record
