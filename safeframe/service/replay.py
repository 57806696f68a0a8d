"""Replay: the log and the guard give the same decisions again, or the first that differs is named.

Measurements come from the log (``GuardLog(keep_measurements=...)``) or from a function of the ids. Batches
are replayed as they were decided, because the last bits of a model's output may depend on its neighbours.
What a budget withheld is replayed as the guard decided it, and must be accepted again; the budget's own
counts are not in the log.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from safeframe.guard.report import GuardedActions
from safeframe.guard.safety_guard import SafetyGuard
from safeframe.service.cuts import Cuts
from safeframe.service.log import GuardLog
from safeframe.service.outcome import outcome
from safeframe.service.storage.encoding import action_texts
from safeframe.service.versions import Version, version_of
from safeframe.tensors import to_numpy
from safeframe.types import SafeframeError, Status

Lookup = Callable[[list[str]], Any]

_QUERY = (
    "SELECT seq, id, batch, version, r_t, grp, margin, tau, accepted, status, candidate, action, measurement"
    " FROM decisions WHERE batch >= ? ORDER BY seq"
)
_SEQ, _ID, _BATCH, _VERSION, _R_T, _GROUP, _MARGIN, _TAU = range(8)
_LOGGED = range(8, 12)
_STATUS = 9
_MEASUREMENT = 12
_REMEDY = {
    "threshold": "the guard was calibrated otherwise than the one that decided",
    "margin": "the model or the classifier is another one than when it was decided",
    "action": "the model is another one than when it was decided",
}


@dataclass(frozen=True)
class Difference:
    """The first decision that is not the same again.

    Attributes:
        id: of the decision.
        number: its place in the log, from 1.
        what: "measurement", "threshold", "margin", "accepted", "status", "candidate" or "action"; or "error"
            where the guard cannot act on the batch.
        logged: as it was.
        again: as it is now.
        why: in words.
    """

    id: str
    number: int
    what: str
    logged: Any
    again: Any
    why: str


@dataclass(frozen=True)
class Replayed:
    """What a replay found.

    Attributes:
        n: decisions that were the same again, before the first that differs.
        first: that one; None where all are the same.
    """

    n: int
    first: Difference | None

    @property
    def same(self) -> bool:
        """Whether all decisions were the same again."""
        return self.first is None

    def __str__(self) -> str:
        if self.first is None:
            return f"{self.n:,} decisions, all the same again"
        one = self.first
        return (
            f"{self.n:,} decisions the same again; number {one.number:,} (id {one.id!r}) differs in its "
            f"{one.what}: {one.logged!r} in the log, {one.again!r} now; {one.why}"
        )


def replay(
    log: GuardLog,
    guard: SafetyGuard | None = None,
    *,
    lookup: Lookup | None = None,
    start: int = 1,
    tolerance: float = 1e-6,
) -> Replayed:
    """Decide everything again, each batch with the calibration that decided on it.

    Nothing is recorded.

    Args:
        log: of a guard.
        guard: to be compared with the one that decided, for example loaded anew; None: the log's own.
        lookup: (k) ids of a batch -> its measurements, or None where it has them no more; None: those in the
            log.
        start: number of the decision to begin at (from the beginning of its batch).
        tolerance: by which margins may differ, times 1 + their size; other processors round otherwise.

    Returns:
        How many were the same, and the first that was not.

    Raises:
        SafeframeError: where there is no decision to begin at, or the log cannot be read.
    """
    found = log.database.read("SELECT batch FROM decisions WHERE seq = ?", (start,))
    if not found:
        if start == 1:
            return Replayed(0, None)
        raise SafeframeError(f"the log holds no decision number {start:,}; it has {len(log):,}")
    versions: dict[int, Version] = {}
    n = 0
    with log.database.snapshot() as connection:
        for rows in _batches(connection.execute(_QUERY, found[0])):
            number = rows[0][_VERSION]
            try:
                if number not in versions:
                    versions[number] = _version(log, guard, number)
            except SafeframeError as error:
                why = str(error)
                return Replayed(n, Difference(rows[0][_ID], rows[0][_SEQ], "error", number, "none", why))
            same, first = _again(rows, versions[number], log, lookup, tolerance)
            n += same
            if first is not None:
                return Replayed(n, first)
    return Replayed(n, None)


def _version(log: GuardLog, guard: SafetyGuard | None, number: int) -> Version:
    logged = log.version(number)
    if guard is None:
        return logged
    cuts: Cuts = logged.cuts
    return version_of(number, guard, cuts)


def _batches(cursor: Any) -> Any:
    """Lists of the rows of each batch."""
    rows: list[tuple[Any, ...]] = []
    for row in cursor:
        if rows and row[_BATCH] != rows[0][_BATCH]:
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows


def _again(
    rows: Sequence[tuple[Any, ...]], version: Version, log: GuardLog, lookup: Lookup | None, tolerance: float
) -> tuple[int, Difference | None]:
    """How many decisions of a batch were the same before the first that was not, and that one."""
    ids = [row[_ID] for row in rows]
    measurement = None
    missing = next((i for i, row in enumerate(rows) if row[_MEASUREMENT] is None), None)
    if lookup is not None:
        measurement = lookup(ids)
        missing = 0 if measurement is None else None
    if missing is not None:
        why = "the log does not hold it: keep measurements, or give a lookup that knows all ids of the batch"
        return 0, Difference(ids[missing], rows[missing][_SEQ], "measurement", "decided", "missing", why)
    if measurement is None:
        measurement = log.codec.decode([row[_MEASUREMENT] for row in rows])
    group = None
    if rows[0][_GROUP] is not None:
        group = np.array([json.loads(row[_GROUP]) for row in rows])
    try:
        guarded = version.act(measurement, rows[0][_R_T], group)
    except SafeframeError as error:
        return 0, Difference(ids[0], rows[0][_SEQ], "error", rows[0][_STATUS], "error", str(error))
    if len(guarded.status) != len(rows):
        why = "the lookup gives another number of measurements than ids"
        again = len(guarded.status)
        return 0, Difference(ids[0], rows[0][_SEQ], "measurement", len(rows), again, why)
    return _compared(rows, guarded, version, tolerance)


def _compared(
    rows: Sequence[tuple[Any, ...]], guarded: GuardedActions, version: Version, tolerance: float
) -> tuple[int, Difference | None]:
    logged, again = (
        np.array([row[_MARGIN] for row in rows]),
        to_numpy(guarded.margin).astype(np.float64),
    )
    with np.errstate(invalid="ignore"):
        moved = ~((np.abs(again - logged) <= tolerance * (1.0 + np.abs(logged))) | (again == logged))
    tau = to_numpy(guarded.tau).astype(np.float64).tolist()
    # What a budget withheld the guard must have accepted, and it accepts it again.
    withheld = np.array([row[_STATUS] == Status.WITHHELD.value for row in rows])
    done = outcome(guarded, withheld & to_numpy(guarded.accepted).astype(bool), version.guard.default_action)
    parts = (done.accepted.astype(int).tolist(), done.status.tolist(), done.index.tolist())
    now = list(zip(*parts, action_texts(done.action), strict=True))
    for i, row in enumerate(rows):
        pairs = [("threshold", row[_TAU], tau[i]), ("margin", row[_MARGIN], float(again[i]))]
        names = ("accepted", "status", "candidate", "action")
        pairs += list(zip(names, [row[j] for j in _LOGGED], now[i], strict=True))
        different = {name: (was, is_now) for name, was, is_now in pairs if was != is_now}
        if "action" in different and _alike(*different["action"], tolerance):
            different.pop("action")
        if not moved[i]:
            different.pop("margin", None)
        if different:
            what = next(iter(different))
            why = _REMEDY.get(what, "margin and threshold are the same, but not what was made of them")
            why = f"{why} (calibration {version.number})"
            return i, Difference(row[_ID], row[_SEQ], what, *different[what], why)
    return len(rows), None


def _alike(logged: str, again: str, tolerance: float) -> bool:
    """Whether two actions are numbers that differ by rounding only."""
    one, other = np.array(json.loads(logged)), np.array(json.loads(again))
    numbers = one.dtype.kind in "biuf" and other.dtype.kind in "biuf" and one.shape == other.shape
    return numbers and bool((np.abs(one - other) <= tolerance * (1.0 + np.abs(one))).all())
