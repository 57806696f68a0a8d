"""Workers that tasks are given to: this process, or processes of its own that may die without the others.

Every process is an executor of its own: where one dies, the standard library and loky end all processes of
its executor, and so only the task that it was at is lost.
"""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Protocol

from experiments.support.engine import worker
from experiments.support.engine.store import TaskStore
from experiments.support.engine.tasks import Task
from experiments.support.engine.worker import Outcome
from experiments.support.errors import EngineError

DIED = None
"""The outcome of a task whose worker died."""


class Workers(Protocol):
    """Something that does tasks, `count` at a time; each has a number by which its outcome comes back."""

    count: int
    ahead: bool
    """Whether tasks are done while the results of others are looked at."""

    @property
    def running(self) -> int:
        """Tasks that were given and whose outcome has not come back."""
        ...

    def give(self, number: int, store: TaskStore, task: Task, wait: bool) -> None:
        """Begin a task; only where fewer than `count` are running."""
        ...

    def finished(self, block: bool) -> list[tuple[int, Outcome | None]]:
        """Outcomes that have come; with `block`, at least one, unless nothing is running."""
        ...

    def close(self) -> None:
        """End the workers, whatever they are at."""
        ...


class ThisProcess:
    """Tasks are done where they are given, one after the other."""

    count, ahead = 1, False

    def __init__(self) -> None:
        self._outcomes: list[tuple[int, Outcome | None]] = []

    @property
    def running(self) -> int:
        return len(self._outcomes)

    def give(self, number: int, store: TaskStore, task: Task, wait: bool) -> None:
        self._outcomes.append((number, worker.perform_told(store, task, wait)))

    def finished(self, block: bool) -> list[tuple[int, Outcome | None]]:
        found, self._outcomes = self._outcomes, []
        return found

    def close(self) -> None:
        self._outcomes = []


class Processes:
    """Processes of this machine.

    Args:
        count: of them.
        start: makes an executor of one process.
    """

    ahead = True

    def __init__(self, count: int, start: Callable[[], Executor]):
        self.count, self._start = count, start
        self._idle: list[Executor] = []
        self._running: dict[Future[Outcome], tuple[int, Executor]] = {}

    @property
    def running(self) -> int:
        return len(self._running)

    def give(self, number: int, store: TaskStore, task: Task, wait: bool) -> None:
        sent = packed(store, task, wait)
        while self._idle:
            executor = self._idle.pop()
            with contextlib.suppress(BrokenProcessPool):  # it died while it had nothing to do
                self._running[executor.submit(worker.perform_sent, sent)] = (number, executor)
                return
        with _one_thread_environment():  # the process starts at the first call
            executor = self._start()
            self._running[executor.submit(worker.perform_sent, sent)] = (number, executor)

    def finished(self, block: bool) -> list[tuple[int, Outcome | None]]:
        done, _ = wait(self._running, timeout=None if block else 0, return_when=FIRST_COMPLETED)
        found: list[tuple[int, Outcome | None]] = []
        for future in done:
            number, executor = self._running.pop(future)
            try:
                found.append((number, future.result()))
                self._idle.append(executor)
            except BrokenProcessPool:
                executor.shutdown(wait=False)
                found.append((number, DIED))
        return found

    def close(self) -> None:
        executors = [*self._idle, *(executor for _, executor in self._running.values())]
        for _, executor in self._running.values():
            for process in list((getattr(executor, "_processes", None) or {}).values()):
                process.kill()
        self._idle, self._running = [], {}
        for executor in executors:
            executor.shutdown(wait=True)


def packed(store: TaskStore, task: Task, wait: bool) -> bytes:
    """What is sent to a worker; EngineError for a task that cannot be."""
    try:
        return pickle.dumps((store, task, wait), protocol=pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise EngineError(
            f"task {task.name} cannot be sent to a worker ({error}): its function must stand at the top of a "
            "module, and its arguments must be such as pickle takes"
        ) from error


def standard() -> Executor:
    """The standard library's executor of one process, which starts afresh (spawn)."""
    return ProcessPoolExecutor(
        1, mp_context=get_context("spawn"), initializer=worker.begin, initargs=(os.getpid(),)
    )


def loky() -> Executor:
    """loky's (joblib's) executor of one process."""
    from joblib.externals.loky.process_executor import ProcessPoolExecutor as Loky

    return Loky(1, initializer=worker.begin, initargs=(os.getpid(),), env=worker.ONE_THREAD)


@contextlib.contextmanager
def _one_thread_environment() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in worker.ONE_THREAD}
    os.environ.update(worker.ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
