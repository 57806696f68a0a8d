"""A decided batch as rows of a log."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np

from safeframe.guard.report import GuardedActions
from safeframe.service.outcome import Outcome
from safeframe.service.storage.encoding import action_texts, group_text
from safeframe.tensors import to_numpy
from safeframe.types import BoolArray, SafeframeError

_INSERT = (
    "INSERT INTO decisions (seq, id, batch, time, version, safeframe, r_t, grp, margin, tau, bound, accepted,"
    " covered, status, candidate, action, audit, error, measurement)"
    " VALUES (" + ", ".join("?" * 19) + ")"
)


def batch_names(ids: Sequence[Any] | None, n: int) -> list[str]:
    """The ids of a batch, as texts.

    Args:
        ids: (n) texts or numbers; None: they are made.
        n: number of measurements.

    Returns:
        (n) texts, no two of them alike.

    Raises:
        SafeframeError: on another number of ids, or one that comes twice.
    """
    if ids is None:
        stem = uuid.uuid4().hex
        return [f"{stem}-{i}" for i in range(n)]
    if isinstance(ids, str) or not hasattr(ids, "__len__") or getattr(ids, "ndim", 1) != 1 or len(ids) != n:
        raise SafeframeError(f"ids are {ids!r:.80}; expected one for each of the {n} measurements")
    names = [str(one) for one in (ids.tolist() if isinstance(ids, np.ndarray) else ids)]
    if len(set(names)) < n:
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise SafeframeError(f"id {twice!r} comes twice in the batch; every measurement needs its own")
    return names


def insert(
    connection: Any, names: Sequence[str], first: int, moment: float, columns: Sequence[Sequence[Any]]
) -> None:
    """Write a batch.

    Args:
        connection: in a transaction.
        names: (n) ids.
        first: number of the first decision.
        moment: time of all of them, in seconds since 1970.
        columns: from :func:`batch_columns`.

    Raises:
        SafeframeError: on an id that is in the log already.
    """
    numbered = enumerate(zip(names, zip(*columns, strict=True), strict=True))
    rows = ((first + i, name, first, moment, *row) for i, (name, row) in numbered)
    try:
        connection.executemany(_INSERT, rows)
    except sqlite3.IntegrityError:
        for name in names:
            found = connection.execute("SELECT seq FROM decisions WHERE id = ?", (name,)).fetchone()
            if found and found[0] < first:
                raise SafeframeError(
                    f"id {name!r} is in the log already; every decision needs an id of its own"
                ) from None
        raise


def batch_columns(
    guarded: GuardedActions,
    done: Outcome,
    audit: BoolArray,
    pieces: Sequence[bytes | None],
    version: int,
    safeframe: str,
) -> list[Sequence[Any]]:
    """The columns of a batch from "version" on.

    Args:
        guarded: what decided: margins, thresholds and bounds are the guard's also where a budget withholds.
        done: what was done.
        audit: (n,) bool, cases drawn to be labelled in any case.
        pieces: (n) the measurements, or None for each.
        version: number of the calibration.
        safeframe: version of the library.

    Returns:
        Columns of n entries.

    Raises:
        SafeframeError: on group ids that are neither texts nor numbers.
    """
    n = len(audit)
    covered = [1] * n if guarded.covered is None else to_numpy(guarded.covered).astype(int).tolist()
    group = [None] * n if guarded.group is None else [group_text(key) for key in guarded.group.tolist()]
    numbers = [to_numpy(part).astype(float).tolist() for part in (guarded.margin, guarded.tau, guarded.bound)]
    return [
        [version] * n, [safeframe] * n, [guarded.threshold] * n, group, *numbers,
        done.accepted.astype(int).tolist(), covered, done.status.tolist(), done.index.astype(int).tolist(),
        action_texts(done.action), audit.astype(int).tolist(), done.reason, pieces,
    ]  # fmt: skip
