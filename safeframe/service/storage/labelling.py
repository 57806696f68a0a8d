"""Labels that come late: each decision is labelled once, corrections keep the history."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from time import time as now
from typing import Any

import numpy as np

from safeframe.inputs import as_labels
from safeframe.service.storage.database import Database
from safeframe.service.storage.encoding import seconds
from safeframe.service.storage.marks import check, write_marks
from safeframe.tensors import to_numpy
from safeframe.types import BoolArray, IntArray, SafeframeError


@dataclass(frozen=True, eq=False)
class Labelled:
    """Labels that were recorded, with the decisions that they belong to.

    Attributes:
        unsafe: (k,) 0 or 1.
        accepted: (k,) bool, whether the action was accepted.
        version: (k,) integers, number of the calibration that decided.
    """

    unsafe: IntArray
    accepted: BoolArray
    version: IntArray

    def of_accepted(self, version: int | None = None) -> IntArray:
        """What a monitor of the risk among accepted cases is updated with.

        Args:
            version: count what one calibration accepted only: after a recalibration labels of the former
                one still come. None: all.

        Returns:
            (a,) labels of accepted cases, in their order.
        """
        chosen = self.accepted if version is None else self.accepted & (self.version == version)
        return self.unsafe[chosen]


def paired(ids: Sequence[Any] | str, unsafe: Any) -> tuple[list[str], list[int]]:
    """Ids and labels, one to one.

    Args:
        ids: (k) texts or numbers, or one.
        unsafe: (k,) labels, or one.

    Returns:
        Ids as texts, and labels 0 or 1.

    Raises:
        SafeframeError: on another number of labels than ids, or other values than 0 and 1.
    """
    several = [ids] if isinstance(ids, str) or not hasattr(ids, "__len__") else ids
    names = [str(one) for one in (several.tolist() if isinstance(several, np.ndarray) else several)]
    values = as_labels(np.atleast_1d(to_numpy(unsafe)))
    if values.shape != (len(names),):
        raise SafeframeError(f"{len(names)} ids, but labels of shape {values.shape}: expected one for each")
    if not np.isin(values, (0, 1)).all():
        raise SafeframeError(f"labels are {np.unique(values).tolist()}; expected 0 (safe) and 1 (unsafe)")
    return names, values.tolist()


def add_labels(
    database: Database,
    ids: Sequence[str],
    unsafe: Sequence[int],
    time: float | datetime | None,
    reason: str | None,
) -> Labelled:
    """Add first labels, or corrections of them, all or none.

    Args:
        database: of the log.
        ids: (k) of decisions.
        unsafe: (k) 0 or 1.
        time: when they came; None: now, or the decision's time where the clock lies before it.
        reason: of a correction; None for first labels.

    Returns:
        The labels with what was decided.

    Raises:
        SafeframeError: on ids that are unknown, come twice, are labelled already (first labels) or not yet
            (corrections), or a given time before that of the decision or of the label that is corrected.
    """
    if len(set(ids)) < len(ids):
        twice = next(name for i, name in enumerate(ids) if name in ids[:i])
        raise SafeframeError(f"id {twice!r} comes twice among the labels; give each label once")
    given = None if time is None else seconds(time)
    rows, decisions = [], []
    with database.write() as connection:
        for name, value in zip(ids, unsafe, strict=True):
            found = connection.execute(
                "SELECT d.seq, d.time, d.accepted, d.version, max(l.revision), max(l.time) FROM decisions d"
                " LEFT JOIN labels l ON l.decision = d.seq WHERE d.id = ?",
                (name,),
            ).fetchone()
            seq, decided, accepted, version, revision, labelled = found
            if seq is None:
                raise SafeframeError(f"the log holds no decision with id {name!r}; no label was recorded")
            check(connection, ("decision", "label"), seq, seq)
            if reason is None and revision is not None:
                raise SafeframeError(
                    f"id {name!r} is labelled already; no label was recorded. To change one, "
                    "use correct(ids, unsafe, reason)"
                )
            if reason is not None and revision is None:
                raise SafeframeError(f"id {name!r} has no label yet that could be corrected; use label()")
            earliest = decided if labelled is None else labelled
            if given is not None and given < earliest:
                raise SafeframeError(
                    f"the label of id {name!r} has time {given:.3f}, before {earliest:.3f}, that of the "
                    f"{'decision' if labelled is None else 'label it corrects'}; the clock went backwards"
                )
            moment = max(now(), earliest) if given is None else given
            rows.append((seq, 0 if revision is None else revision + 1, value, moment, reason or ""))
            decisions.append((value, accepted, version))
        connection.executemany("INSERT INTO labels VALUES (?, ?, ?, ?, ?)", rows)
        for row in rows:
            write_marks(connection, "label", row[0])
    table = np.array(decisions, dtype=np.int64).reshape(-1, 3)
    return Labelled(table[:, 0], table[:, 1].astype(bool), table[:, 2])


def awaited(database: Database, until: float | datetime | None, limit: int) -> list[str]:
    """Accepted and audited decisions without a label, the oldest first.

    Args:
        database: of the log.
        until: of decisions up to this time only; None: all.
        limit: at most so many.

    Returns:
        Their ids.

    Raises:
        SafeframeError: where the log cannot be read.
    """
    rows = database.read(
        "SELECT id FROM decisions WHERE (accepted = 1 OR audit = 1) AND time <= ? AND NOT EXISTS"
        " (SELECT 1 FROM labels WHERE decision = seq) ORDER BY seq LIMIT ?",
        (math.inf if until is None else seconds(until), limit),
    )
    return [row[0] for row in rows]


def history(database: Database, id: str) -> list[dict[str, Any]]:
    """All labels that a decision has had, the first one first.

    Args:
        database: of the log.
        id: of the decision.

    Returns:
        For each: "unsafe", "time" and "reason".

    Raises:
        SafeframeError: on an id that the log does not hold.
    """
    found = database.read("SELECT seq FROM decisions WHERE id = ?", (id,))
    if not found:
        raise SafeframeError(f"the log holds no decision with id {id!r}")
    with database.snapshot() as connection:
        check(connection, ("label",), found[0][0], found[0][0])
    rows = database.read(
        "SELECT unsafe, time, reason FROM labels WHERE decision = ? ORDER BY revision", found[0]
    )
    return [{"unsafe": row[0], "time": row[1], "reason": row[2]} for row in rows]
