"""The engine: does the tasks of a stage that are not done, and gives all results in the tasks' order.

Each result is a file of the store, written by the worker that made it. So whatever dies, workers or the
engine itself, only tasks that were under way are begun again.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from experiments.support.engine import workers as kinds
from experiments.support.engine.settings import EngineConfig
from experiments.support.engine.store import TaskStore
from experiments.support.engine.tasks import Task
from experiments.support.engine.worker import BUSY, DONE, FAILED
from experiments.support.engine.workers import Workers
from experiments.support.errors import EngineError
from experiments.support.progress import progress

log = logging.getLogger(__name__)


class Engine:
    """Workers of one run; they are started when the first task needs them and end with `close`.

    Args:
        settings: which workers, and how many.
        threads: how many where the settings name no number.
        show: progress bars.
    """

    def __init__(self, settings: EngineConfig, threads: int = 1, show: bool = False):
        self.settings, self.threads, self.show = settings, threads, show

    @cached_property
    def workers(self) -> Workers:
        """What does the tasks. EngineError where it cannot be had."""
        count = self.settings.workers or self.threads
        if self.settings.name == "ray":
            from experiments.support.engine.on_ray import RayWorkers

            return RayWorkers(self.settings, self.threads)
        if self.settings.name == "joblib":
            return kinds.Processes(count, kinds.loky)
        return kinds.ThisProcess() if count == 1 else kinds.Processes(count, kinds.standard)

    @property
    def elsewhere(self) -> bool:
        """Whether another engine than `local` was asked for: stages that this process does with all its
        threads are then cut into tasks of one thread each.
        """
        return self.settings.name != "local"

    def close(self) -> None:
        """End the workers; tasks that they are at are lost."""
        workers = self.__dict__.pop("workers", None)
        if workers is not None:
            workers.close()

    def results(self, tasks: Sequence[Task], store: TaskStore, description: str) -> Iterator[Any]:
        """The results of all tasks, in their order; those that are not in the store are done first.

        Args:
            tasks: of one stage.
            store: where results are kept.
            description: of the stage, for the progress bar.

        Yields:
            Results, each loaded when it is asked for.

        Raises:
            TaskError: for a task that raised; others that were under way are finished and kept.
            UserError, SafeframeError: the same where the error is the user's to mend.
            EngineError: for a task whose workers died more than `engine.retries` times.
            CacheError: for a damaged result.
            StorageError: where the store cannot be written.
        """
        work = _Work(self, tasks, store)
        bar = progress(None, description, total=len(tasks), enabled=self.show)
        bar.update(sum(work.done))
        try:
            for number, task in enumerate(tasks):
                while not work.done[number]:
                    work.give()
                    bar.update(work.collect(block=True))
                if work.missing and self.workers.ahead:
                    bar.update(work.collect(block=False))
                    work.give()
                yield store.load(task)
        finally:
            bar.close()
            if work.missing:  # an error, Ctrl-C, or nobody asks for more
                self.close()


class _Work:
    """Tasks of one stage and where they stand."""

    def __init__(self, engine: Engine, tasks: Sequence[Task], store: TaskStore):
        self.engine, self.tasks, self.store = engine, tasks, store
        self.done = store.which(tasks)
        self.waiting = deque(number for number, done in enumerate(self.done) if not done)
        self.missing = len(self.waiting)
        self.busy: set[int] = set()
        self.deaths = dict.fromkeys(self.waiting, 0)

    def give(self) -> None:
        """Give tasks to workers that have none; those that another process is at come last."""
        if not self.missing:
            return
        workers = self.engine.workers
        while self.waiting and workers.running < workers.count:
            number = self.waiting.popleft()
            workers.give(number, self.store, self.tasks[number], wait=number in self.busy)

    def collect(self, block: bool) -> int:
        """Note what has ended; the number of tasks that are newly done."""
        before = self.missing
        for number, outcome in self.engine.workers.finished(block):
            if outcome is kinds.DIED:
                self._died(number)
            elif outcome.kind == FAILED:
                self._finish()
                raise (outcome.error or EngineError)(outcome.message)
            elif outcome.kind == BUSY:
                log.info("task %s: another process is at work on it", self.tasks[number].name)
                self.busy.add(number)
                self.waiting.append(number)
            else:
                self._done(number)
        return before - self.missing

    def _done(self, number: int) -> None:
        task = self.tasks[number]
        if not self.store.done(task):
            raise EngineError(
                f"task {task.name} was done, but its result is not in {self.store.directory}: workers on "
                "other machines need that folder at the same path (output=... on a shared file system), or "
                "a store that they share (store=s3://...)"
            )
        self.done[number] = True
        self.missing -= 1

    def _died(self, number: int) -> None:
        self.deaths[number] += 1
        name, most = self.tasks[number].name, self.engine.settings.retries
        if self.deaths[number] > most:
            self._finish()
            raise EngineError(
                f"task {name}: its worker died {self.deaths[number]} times (killed, or out of memory?); "
                "other results are kept: take fewer engine.workers, or more engine.retries"
            )
        log.warning("task %s: its worker died; the task is begun again", name)
        self.waiting.appendleft(number)

    def _finish(self) -> None:
        """Let tasks that are under way end: their results are kept."""
        workers = self.engine.workers
        while workers.running:
            for number, outcome in workers.finished(block=True):
                if outcome is not kinds.DIED and outcome.kind == DONE:
                    self._done(number)
