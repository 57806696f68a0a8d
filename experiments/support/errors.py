"""Errors that are the user's to mend: shown as one message, without a stack trace (see `entry.py`)."""

from __future__ import annotations

import errno


class UserError(ValueError):
    """Something that the user can put right; the message says what was wrong, where, and what is right."""


class ConfigError(UserError):
    """A key, a value or a type in the configuration is wrong.

    Nothing has been written when this is raised.
    """


class CacheError(UserError):
    """A saved file of a run or of a stage does not hold what was written to it."""


class ResultsError(UserError):
    """Rows that do not fit the tidy schema of results or of the ledger of claims."""


class TrackingError(UserError):
    """Tracking was asked for and cannot be had."""


class EngineError(UserError):
    """Tasks cannot be done: what their engine needs is missing, or a worker dies again and again."""


class StoreError(UserError):
    """A shared store cannot be reached, read or written."""


class StorageError(UserError):
    """A file cannot be written: the disk is full, the place is read-only, or permission is missing."""


ADVICE = {
    errno.ENOSPC: ("no space is left on the disk", "free some, or choose another place with output=..."),
    errno.EDQUOT: ("the disk quota is used up", "free some, or choose another place with output=..."),
    errno.EROFS: ("the file system is read-only", "choose another place with output=..."),
    errno.EACCES: (
        "permission is missing",
        "change permissions, or choose another place with output=...",
    ),
    errno.EPERM: ("permission is missing", "change permissions, or choose another place with output=..."),
    errno.ENOTDIR: ("a part of the path is no folder", "choose another place with output=..."),
}
"""What was wrong and what to do, by the system's error number."""


def storage_error(error: OSError, path: object = None) -> StorageError | None:
    """The same in one line for the user: the path, what was wrong, what to do; None for any other error.

    Args:
        error: of the system.
        path: the file that was being written, where the error does not name one.
    """
    if error.errno not in ADVICE:
        return None
    wrong, advice = ADVICE[error.errno]
    return StorageError(f"{path or error.filename or 'a file'} cannot be written: {wrong}; {advice}")
