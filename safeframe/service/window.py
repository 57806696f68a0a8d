"""The newest decisions of a log as cases for a recalibration, and what may be concluded from them.

What is labelled is censored: a rejected case takes the default action, and what acting would have done is
mostly never known. Three rules keep that from breaking a promise:

- A case counts for a threshold t only if it would have been labelled whatever its margin below t: if the
  threshold in force when it was decided was at least t, or if it was drawn for an audit. Otherwise cases from
  times of stricter thresholds, which are the safer ones, would dilute the others.
- Labels of rejected cases that were no audits are left out: who was labelled then depends on the case.
- An audited case that was rejected and has no label counts as unsafe. Accepted cases without a label are left
  out, or count as unsafe by choice.

What a budget withheld was not accepted: it is left out too, unless it is audited. That breaks nothing,
because what is withheld depends on earlier labels and on the place in the batch, not on the case itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Literal

import numpy as np

from safeframe.guard.report import EVERYTHING
from safeframe.service.storage.database import Database
from safeframe.service.storage.marks import check
from safeframe.types import BoolArray, FloatArray, IntArray, SafeframeError

Unlabelled = Literal["left out", "unsafe"]
_QUERY = (
    "SELECT d.seq, d.margin, d.tau, d.r_t, d.accepted, d.audit, d.grp, l.unsafe FROM decisions d"
    " LEFT JOIN labels l ON l.decision = d.seq AND l.revision ="
    " (SELECT max(revision) FROM labels WHERE decision = d.seq)"
    " WHERE d.seq BETWEEN ? AND ? AND d.covered = 1 AND d.status != 'error' ORDER BY d.seq"
)


@dataclass(frozen=True)
class Span:
    """Which decisions a window holds.

    Attributes:
        first: number of its first decision, from 1.
        last: number of its last one.
        start: how many starts of windows there have been before this one's.
    """

    first: int
    last: int
    start: int


@dataclass(frozen=True)
class Cases:
    """n decisions that were judged and covered, in their order.

    Attributes:
        margin: (n,) of the action that was taken or would have been.
        tau: (n,) thresholds in force then.
        r_t: (n,) thresholds on the probability that they were decided with.
        accepted: (n,) bool.
        audit: (n,) bool, to be labelled whether accepted or not.
        unsafe: (n,) 1 or 0, or -1 without a label.
        group: (n,) objects, ids of groups.
    """

    margin: FloatArray
    tau: FloatArray
    r_t: FloatArray
    accepted: BoolArray
    audit: BoolArray
    unsafe: IntArray
    group: np.ndarray

    def subset(self, kept: BoolArray) -> Cases:
        """Some of the cases.

        Args:
            kept: (n,) which.

        Returns:
            Those.
        """
        return Cases(*(getattr(self, part.name)[kept] for part in fields(self)))

    def counted(self, unlabelled: Unlabelled) -> Cases:
        """The cases that may count, with labels for all of them.

        Args:
            unlabelled: what accepted cases without a label are.

        Returns:
            Accepted and audited cases.
        """
        open_to_labels = self.accepted | self.audit
        missing = self.unsafe < 0
        as_unsafe = missing & (unlabelled == "unsafe") | missing & ~self.accepted
        kept = open_to_labels & (~missing | as_unsafe)
        labels = np.where(as_unsafe, 1, self.unsafe)
        return Cases(
            self.margin, self.tau, self.r_t, self.accepted, self.audit, labels, self.group
        ).subset(kept)  # fmt: skip

    def up_to(self, tau: float) -> Cases:
        """The counted cases from which thresholds up to one may be judged.

        Args:
            tau: the largest threshold on the margin.

        Returns:
            Those below it that would have been labelled whatever their margin below it.
        """
        return self.subset((self.margin < tau) & ((self.tau >= tau) | self.audit))

    def counts(self, taus: FloatArray) -> tuple[IntArray, IntArray]:
        """How many counted cases each threshold accepts, of those that count for it.

        Args:
            taus: (t,) ascending thresholds on the margin.

        Returns:
            Two integer arrays (t,), the cases and the unsafe ones among them.
        """
        # A case counts for the thresholds above its margin, up to the one in force when it was decided.
        first = np.searchsorted(taus, self.margin, side="right")
        end = np.where(self.audit, len(taus), np.searchsorted(taus, self.tau, side="right"))

        def total(chosen: BoolArray) -> IntArray:
            steps = np.bincount(first[chosen], minlength=len(taus) + 1)
            steps = steps - np.bincount(end[chosen], minlength=len(taus) + 1)
            return np.cumsum(steps)[: len(taus)]

        some = end > first
        return total(some), total(some & (self.unsafe == 1))


def read_cases(database: Database, span: Span) -> Cases:
    """The decisions of a window.

    Args:
        database: of the log.
        span: which decisions.

    Returns:
        Those that were judged and covered.
    """
    with database.snapshot() as connection:
        check(connection, ("decision", "label"), span.first, span.last)
        rows = connection.execute(_QUERY, (span.first, span.last)).fetchall()
    columns: list[Any] = list(zip(*rows, strict=True)) if rows else [()] * 8
    group = np.empty(len(rows), dtype=object)
    known: dict[str | None, Hashable] = {None: EVERYTHING}
    for i, text in enumerate(columns[6]):
        if text not in known:
            known[text] = json.loads(text)
        group[i] = known[text]
    return Cases(
        margin=np.array(columns[1], dtype=np.float64),
        tau=np.array(columns[2], dtype=np.float64),
        r_t=np.array(columns[3], dtype=np.float64),
        accepted=np.array(columns[4], dtype=bool),
        audit=np.array(columns[5], dtype=bool),
        unsafe=np.array([-1 if value is None else value for value in columns[7]], dtype=np.int64),
        group=group,
    )


def newest(database: Database, window: int | timedelta, until: float | None, stepped: bool) -> Span:
    """The newest decisions.

    Args:
        database: of the log.
        window: how many decisions, or how long.
        until: the last moment that counts, in seconds since 1970; None: that of the newest decision.
        stepped: let windows start only at every half of their length, counted from the first decision, so
            that the start is fixed before the cases are seen; they are then up to half as long again.

    Returns:
        Which decisions.

    Raises:
        SafeframeError: on a window that is not positive, or where there is no decision.
    """
    latest = math.inf if until is None else until
    found = database.read(
        "SELECT seq, time FROM decisions WHERE time <= ? ORDER BY seq DESC LIMIT 1", (latest,)
    )
    if not found:
        raise SafeframeError("the log holds no decision of that time: there is nothing to recalibrate from")
    last, moment = found[0]
    end = moment if until is None else until
    if isinstance(window, timedelta):
        begun = database.read("SELECT time FROM decisions WHERE seq = 1")[0][0]
        length = window.total_seconds()
        _check(length)
        start = max(0, math.floor((end - begun - length) / (length / 2)))
        since = begun + start * length / 2 if stepped else end - length
        first = database.read("SELECT min(seq) FROM decisions WHERE time >= ?", (since,))[0][0] or last + 1
        return Span(first, last, start if stepped else 0)
    _check(window)
    return stepped_span(last, window) if stepped else Span(max(1, last - window + 1), last, 0)


def stepped_span(last: int, window: int) -> Span:
    """The window up to a decision that starts at a half of its length, counted from the first decision.

    Args:
        last: number of the newest decision, from 1.
        window: how many decisions it has at least, where there are so many; up to half as many more.

    Returns:
        Which decisions.
    """
    half = math.ceil(window / 2)
    start = max(0, (last - window) // half)
    return Span(start * half + 1, last, start)


def _check(length: float) -> None:
    if not length > 0:
        raise SafeframeError(f"window is {length}; expected a number of decisions or a timedelta above 0")
