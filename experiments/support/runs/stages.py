"""Long stages of a run, cached by what they depend on and shared between runs.

results/runs/cache/<stage>/<hash>/ holds `key.json` (what the hash was made from), the value's file, and
`stage.json`, written last, with the file's checksum. The hash covers the experiment, the stage's name,
everything in `depends_on` and the code of the function that makes the value, with all that it imports
(`code.py`). So a sweep over r_t does not retrain what does not depend on r_t, and an edited
training loop is never answered with an old model.

A stage that was interrupted has no `stage.json` and is computed again, from its checkpoint if it kept one. A
file that does not match its checksum is never used and never silently replaced: `CacheError` names it and
says what to delete. With a shared store (`storage/shared.py`), stages are fetched from it and published.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from experiments.support.engine.engine import Engine
from experiments.support.engine.store import TaskStore, load_kept
from experiments.support.engine.tasks import Form, Task
from experiments.support.files import atomic_save, checksum, hash_of, write_json
from experiments.support.locks import exclusive
from experiments.support.storage.shared import Shared

T = TypeVar("T")


class Stage:
    """One stage with what it depends on; made by `RunContext.stage`.

    Args:
        root: folder of all stages.
        experiment: its name.
        name: of the stage.
        depends_on: what the value is computed from, by name.
        code: fingerprint of what makes the value; None for a stage that keeps nothing.
        shared: the shared store of all stages; None without one.
    """

    def __init__(
        self,
        root: Path,
        experiment: str,
        name: str,
        depends_on: dict[str, Any],
        code: str | None,
        shared: Shared | None = None,
    ):
        self.name = name
        self.key = {"experiment": experiment, "stage": name, "depends_on": depends_on, "code": code}
        self.hash = hash_of(self.key)
        self._directory = root / name / self.hash
        self.reused = False
        self._keeps = code is not None
        self._shared = None if shared is None else shared.under(f"{name}/{self.hash}")

    @property
    def directory(self) -> Path:
        """Where the stage keeps what it makes. TypeError for a stage that was opened without its code."""
        if not self._keeps:
            raise TypeError(
                f"stage {self.name}: to keep something, open it with code=the function that makes it"
            )
        return self._directory

    @property
    def checkpoint(self) -> Path:
        """Where the stage may keep its state while it runs (`checkpoints.py`); removed when it is done."""
        self.directory.mkdir(parents=True, exist_ok=True)
        return self.directory / "checkpoint"

    def cached(
        self,
        compute: Callable[[], T],
        save: Callable[[T, Path], None],
        load: Callable[[Path], T],
        suffix: str = "",
    ) -> T:
        """The stage's value: loaded if any run has computed it before, else computed and saved.

        Only one process computes a stage; others wait for it.

        Args:
            compute: makes the value.
            save: called with the value and a path; writes one file.
            load: reads the value back from the path.
            suffix: of the file (".npz").

        Returns:
            The value.

        Raises:
            CacheError: if the saved file is damaged.
        """
        with exclusive(self.directory.parent / f"{self.hash}.lock", f"stage {self.name}"):
            if self._found():
                return self._load(load)
            with self._claim():
                if self._found():
                    return self._load(load)
                for leftover in self.directory.glob(".*.tmp*"):
                    leftover.unlink()
                started = time.perf_counter()
                write_json(self.directory / "key.json", self.key)
                value = compute()
                path = self.directory / f"value{suffix}"
                atomic_save(path, save, value)
                record = {
                    "file": path.name,
                    "sha256": checksum(path),
                    "seconds": time.perf_counter() - started,
                }
                write_json(self.directory / "stage.json", record)
                if self._shared is not None:
                    value = self._load(load)
                (self.directory / "checkpoint").unlink(missing_ok=True)
                self.clear()
                return value

    def _found(self) -> bool:
        """Whether the value is there; what only the shared store has is fetched."""
        here = (self.directory / "stage.json").exists()
        return here or (self._shared is not None and self._shared.fetch("stage", self.directory))

    def _load(self, load: Callable[[Path], T]) -> T:
        """The value, published if the shared store lacks it; the store's, if another machine was faster."""
        self.reused = True
        (self.directory / "checkpoint").unlink(missing_ok=True)
        advice = f"delete the directory {self.directory} to compute the stage again"
        record = self.directory / "stage.json"
        value = load_kept(f"stage {self.name}", record, load, advice)
        if self._shared is not None and self._shared.publish("stage", self.directory):
            value = load_kept(f"stage {self.name}", record, load, advice)
        return value

    @contextlib.contextmanager
    def _claim(self) -> Iterator[None]:
        """Hold the stage's lease in the shared store, if there is one; others wait."""
        if self._shared is None:
            yield
            return
        with self._shared.claim("stage", f"stage {self.name}", wait=True):
            yield

    @contextlib.contextmanager
    def folder(self, name: str, whole: Callable[[Path], bool], last: str) -> Iterator[Path]:
        """A folder that the stage fills in steps of its own; only one process at a time does.

        Args:
            name: of the folder.
            whole: whether it is complete.
            last: its file that says what is in it.

        Yields:
            The folder; what only a shared store has is fetched before, what it lacks is published afterwards.

        Raises:
            CacheError: for what the shared store has, but damaged.
        """
        place = self.directory / name
        with exclusive(self.directory.parent / f"{self.hash}.lock", f"stage {self.name}"):
            if self._shared is None or whole(place) or self._shared.fetch_folder(name, place):
                yield place
            else:
                with self._claim():
                    self._shared.fetch_folder(name, place)
                    yield place
            if self._shared is not None and whole(place):
                self._shared.publish_folder(name, place, last)

    def tasks(self, form: Form) -> TaskStore:
        """Where the stage's tasks keep results of a form."""
        shared = None if self._shared is None else self._shared.under("tasks")
        return TaskStore(self.directory / "tasks", form, shared)

    def spread(self, engine: Engine, tasks: Sequence[Task], form: Form, description: str) -> Iterator[Any]:
        """The results of the stage's tasks in their order; those that no run has done before are done now.

        Args:
            engine: `RunContext.engine`.
            tasks: all of the stage.
            form: how results are written.
            description: for the progress bar.

        Returns:
            What `Engine.results` yields, and raises.
        """
        store = self.tasks(form)
        self.reused = all(store.which(tasks))
        return engine.results(tasks, store, description)

    def clear(self) -> None:
        """Forget the tasks, now that the stage keeps what was made of them."""
        shutil.rmtree(self.directory / "tasks", ignore_errors=True)
        if self._shared is not None:
            self._shared.under("tasks").clear()
        self.reused = False
