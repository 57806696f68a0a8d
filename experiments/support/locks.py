"""Locks between processes. The operating system releases a killed process's lock, so none is ever left
behind.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)


@contextlib.contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path`; if another process holds it, say so and wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("another process is at work on %s: waiting for it (%s)", what, path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
