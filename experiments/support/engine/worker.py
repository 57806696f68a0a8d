"""What a worker does with a task: one thread, the lock, the call, the file.

Nothing heavy is imported here: workers import what their tasks need.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

from experiments.support.engine.store import TaskStore
from experiments.support.engine.tasks import Task
from experiments.support.errors import UserError

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)
"""Environment of a worker, read by the libraries when they are imported."""
DONE, BUSY, FAILED = "done", "busy", "failed"


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    Attributes:
        kind: DONE: its result is in the store; BUSY: another process is at work on it; FAILED: it raised.
        message: of the error.
        error: what is raised for it where the tasks were asked for.
    """

    kind: str
    message: str = ""
    error: type[Exception] | None = None


class TaskError(RuntimeError):
    """A task raised an error that nobody foresaw; the message has the task's name and the stack trace."""


def perform(store: TaskStore, task: Task, wait: bool) -> str:
    """Do a task unless it is done or another process is at it (`wait`: then wait for it); DONE or BUSY."""
    with store.claim(task, wait) as mine:
        if not mine:
            return BUSY
        if not store.done(task):
            started = time.perf_counter()
            with one_thread():
                value = task.call(*task.arguments)
            store.keep(task, value, round(time.perf_counter() - started, 6))
    return DONE


def perform_told(store: TaskStore, task: Task, wait: bool) -> Outcome:
    """The same; an error is told, since not every error can be sent to another process."""
    from safeframe.types import SafeframeError

    try:
        return Outcome(perform(store, task, wait))
    except UserError as error:
        return Outcome(FAILED, f"task {task.name}: {error}", type(error))
    except SafeframeError as error:
        return Outcome(FAILED, f"task {task.name}: {error}", SafeframeError)
    except Exception as error:  # noqa: BLE001 (whatever a task raises is told to who waits for it)
        trace = traceback.format_exc()
        return Outcome(FAILED, f"task {task.name}: {type(error).__name__}: {error}\n{trace}", TaskError)


def perform_sent(sent: bytes) -> Outcome:
    """The same for pickled arguments."""
    try:
        arguments = pickle.loads(sent)
    except Exception as error:  # noqa: BLE001 (a module that is not there, or not as it is here)
        return Outcome(FAILED, f"a task cannot be read by its worker: {error!r}", TaskError)
    return perform_told(*arguments)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch and BLAS while a task is done: their number can change last bits of a result."""
    import threadpoolctl

    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch is not None else 1
    if torch is not None:
        torch.set_num_threads(1)
    try:
        with threadpoolctl.threadpool_limits(1):
            yield
    finally:
        if torch is not None:
            torch.set_num_threads(before)


def begin(parent: int) -> None:
    """Of a new worker process: leave Ctrl-C to the parent, and end when the parent has ended.

    Args:
        parent: its process id.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.25)
    os._exit(1)
