"""GuardLog: every decision of a guard in one file, and the labels that come later.

    log = GuardLog("guard.sqlite", guard)
    done = log.act(measurement)                  # acts and records; done.action, done.ids
    labelled = log.label(done.ids, unsafe)       # when it is known
    monitor.update(labelled.of_accepted())
    log.export("decisions.parquet")

A batch is recorded whole before its actions are returned, or an error is raised and nothing is: no action is
taken that the log does not hold. Any number of threads and processes may write at once.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from datetime import datetime
from time import time as now
from typing import Any

import numpy as np

from safeframe.guard.report import GuardedActions
from safeframe.guard.safety_guard import SafetyGuard
from safeframe.inputs import as_batch, length
from safeframe.service.budget import LongRunBudget
from safeframe.service.calibrations import Calibrations
from safeframe.service.ledger import BudgetLedger
from safeframe.service.outcome import LoggedActions, Outcome, outcome
from safeframe.service.storage.database import Database
from safeframe.service.storage.encoding import ArrayCodec, Codec, fingerprint, seconds
from safeframe.service.storage.labelling import Labelled, add_labels, awaited, history, paired
from safeframe.service.storage.marks import check_whole, write_marks
from safeframe.service.storage.rows import batch_columns, batch_names, insert
from safeframe.service.storage.table import read_parquet, write_parquet
from safeframe.service.versions import Version
from safeframe.types import BoolArray, SafeframeError


class GuardLog:
    """A calibrated guard and the file that holds what it decides.

    Times are seconds since 1970 and never fall from one decision to the next: where the machine's clock goes
    back, the newest time in the log is written again until it is passed.

    Margins and thresholds are the guard's: where groups share a threshold, log odds on their common scale of
    risk, which stays as it was calibrated.

    Args:
        path: of the file, on a local disk; made where it does not exist.
        guard: calibrated; how it is at this moment is what acts. Its models are called by ``act``.
        keep_measurements: whether measurements are kept for a replay: arrays, tensors and texts by True,
            others by an object with ``encode(batch)`` and ``decode(pieces)``
            (:class:`safeframe.service.storage.encoding.Codec`).
        audit: probability with which a measurement is drawn to be labelled whether it is accepted or not;
            without audited cases a recalibration never raises a threshold.
        durable: wait until the disk has each batch, so that a power failure loses nothing either. False is
            faster, and still nothing that was recorded is lost where the process is killed.
        busy_seconds: how long to wait for another writer.

    Raises:
        SafeframeError: where the guard is not calibrated, the file is the log of another guard or format, is
            corrupt, locked or cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        guard: SafetyGuard,
        *,
        keep_measurements: bool | Codec = False,
        audit: float = 0.0,
        durable: bool = True,
        busy_seconds: float = 30.0,
    ) -> None:
        if not 0.0 <= audit <= 1.0:
            raise SafeframeError(f"audit is {audit}; the probability of an audit must lie in [0, 1]")
        self.fingerprint = fingerprint(guard)
        self.codec: Codec = ArrayCodec() if isinstance(keep_measurements, bool) else keep_measurements
        self.keeps = keep_measurements is not False
        self.audit = float(audit)
        self.database = Database(path, busy_seconds, durable)
        self._draw = threading.local()
        self.calibrations = Calibrations(self.database, guard, self.fingerprint)

    @property
    def guard(self) -> SafetyGuard:
        """The guard as it was calibrated, before any recalibration."""
        return self.calibrations.first.guard

    def __len__(self) -> int:
        return self.database.read("SELECT count(*) FROM decisions")[0][0]

    def act(
        self,
        measurement: Any,
        ids: Sequence[Any] | None = None,
        r_t: float | None = None,
        group: Any = None,
        time: float | datetime | None = None,
        audit: Any = None,
        budget: LongRunBudget | None = None,
    ) -> LoggedActions:
        """Act on a batch of measurements and record it; the whole batch is decided by one calibration.

        With a budget the guard decides at the budget's level, and what it accepts beyond the budget's room is
        recorded as not accepted, with status "withheld": its margin, threshold and bound are the guard's.

        Args:
            measurement: n cases.
            ids: (n) texts or numbers (kept as texts), never used before in this log; None: they are made.
            r_t: one of the guard's thresholds; may be left out if there is only one.
            group: (n,) ids, where the guard is group-conditional.
            time: of all these decisions, in seconds since 1970 or a datetime with its time zone; None: now.
            audit: (n,) bool, which are to be labelled whether accepted or not, chosen without a look at the
                measurement (the first of every hour, say); None: drawn at random as the log was told.
            budget: of violations, of this guard, on which the batch is entered; instead of ``r_t``. A label
                is then for both: ``log.label(done.ids, y)`` and ``budget.learn(done.budgeted.ids, y)``.

        Returns:
            The actions, with the ids.

        Raises:
            SafeframeError: as :meth:`safeframe.guard.safety_guard.SafetyGuard.act`; on ids that were used
                before, a given time before that of the newest decision, a budget of another guard or beside
                ``r_t``, or where the file cannot be written. Nothing of the batch is recorded then, neither
                in the budget, and no action is to be taken.
        """
        version, batch = self.version(), as_batch(measurement)
        n = length(batch)
        names, given = batch_names(ids, n), None if time is None else seconds(time)
        pieces: Sequence[bytes | None] = self.codec.encode(batch) if self.keeps and n else [None] * n
        audited = self._random().random(n) < self.audit if audit is None else np.asarray(audit)
        if audited.shape != (n,) or audited.dtype != bool:
            raise SafeframeError(
                f"audit has shape {audited.shape} and type {audited.dtype}; expected ({n},) bool"
            )
        if budget is None:
            guarded = version.act(batch, r_t, group)
            self._record(guarded, outcome(guarded), version, audited, pieces, names, given)
            return LoggedActions(guarded, names, version.number, audited)
        if r_t is not None or not self._ours(budget.guard):
            raise SafeframeError(
                "the budget's level decides, so give no r_t"
                if r_t is not None
                else "the budget is of another guard than the log: make it with the log's guard"
            )
        before = budget.state()
        try:
            done = budget.decide(version.act, batch, group, version.listed)
            left = outcome(done.guarded, done.withheld, self.guard.default_action)
            self._record(done.guarded, left, version, audited, pieces, names, given)
        except BaseException:
            budget.ledger = BudgetLedger.from_state(before)
            raise
        return LoggedActions(done.guarded, names, version.number, audited, done)

    def _record(
        self,
        guarded: GuardedActions,
        done: Outcome,
        version: Version,
        audited: BoolArray,
        pieces: Sequence[bytes | None],
        names: list[str],
        given: float | None,
    ) -> None:
        columns = batch_columns(guarded, done, audited, pieces, version.number, self.calibrations.safeframe)
        with self.database.write() as connection:
            newest = connection.execute(
                "SELECT seq, time FROM decisions ORDER BY seq DESC LIMIT 1"
            ).fetchone()
            seq, before = newest or (0, -np.inf)
            if given is not None and given < before:
                raise SafeframeError(
                    f"the time given, {given:.3f}, lies before that of the newest decision, {before:.3f}: "
                    "the clock went backwards. Leave time out, and the log takes care of it"
                )
            moment = max(now(), before) if given is None else given
            insert(connection, names, seq + 1, moment, columns)
            write_marks(connection, "decision", seq + 1, seq + len(names))

    def _ours(self, guard: SafetyGuard) -> bool:
        same = guard.evidence is self.guard.evidence and guard.calibrations == self.guard.calibrations
        return same or fingerprint(guard) == self.fingerprint

    def label(self, ids: Sequence[Any] | str, unsafe: Any, time: float | datetime | None = None) -> Labelled:
        """Add labels that have come in: whether acting was (or would have been) unsafe. Once for each id.

        Args:
            ids: (k) ids of decisions, or one id.
            unsafe: (k,) 0 or 1, or bools; or one of them.
            time: when they came, as in :meth:`act`; None: now.

        Returns:
            The labels with what was decided; its ``of_accepted()`` is what a monitor of the risk among
                accepted cases is updated with.

        Raises:
            SafeframeError: on ids that the log does not hold, ids that are labelled already (see
                :meth:`correct`) or come twice, a time before that of the decision, or values other than 0 and
                1. Nothing is recorded then.
        """
        return add_labels(self.database, *paired(ids, unsafe), time, None)

    def correct(
        self, ids: Sequence[Any] | str, unsafe: Any, reason: str, time: float | datetime | None = None
    ) -> None:
        """Correct labels; the former ones stay in the history.

        Args:
            ids: (k) ids of labelled decisions, or one id.
            unsafe: (k,) 0 or 1, or bools; or one of them.
            reason: why, in words.
            time: as in :meth:`label`.

        Raises:
            SafeframeError: on ids without a label, and as :meth:`label`; without a reason.
        """
        if not reason.strip():
            raise SafeframeError("a correction needs a reason, in words")
        add_labels(self.database, *paired(ids, unsafe), time, reason)

    def awaited(self, until: float | datetime | None = None, limit: int = 1_000) -> list[str]:
        """Whose labels are to be found out: accepted and audited decisions without one, the oldest first.

        Args:
            until: of decisions up to this time only, as in :meth:`act`; None: all.
            limit: at most so many.

        Returns:
            Their ids.

        Raises:
            SafeframeError: where the log cannot be read.
        """
        return awaited(self.database, until, limit)

    def history(self, id: Any) -> list[dict[str, Any]]:
        """All labels that a decision has had, the first one first.

        Args:
            id: of the decision.

        Returns:
            For each: "unsafe", "time" and "reason" (empty for the first).

        Raises:
            SafeframeError: on an id that the log does not hold.
        """
        return history(self.database, str(id))

    def export(self, path: str | os.PathLike[str]) -> int:
        """Write all decisions, each with its label in force, to a parquet file; atomic.

        Columns: those of the log, "group" and "action" as JSON texts, and "unsafe" (missing without a label),
        "label_time", "corrections". The file's metadata hold the guard's fingerprint, and its pages
        checksums, which :meth:`read_export` compares.

        Args:
            path: of the file; replaced where it exists.

        Returns:
            The number of decisions.

        Raises:
            SafeframeError: without pyarrow, or where the log cannot be read.
        """
        return write_parquet(self.database, path, self.fingerprint)

    @staticmethod
    def read_export(path: str | os.PathLike[str]) -> Any:
        """What :meth:`export` wrote; a file that was damaged since is refused.

        Args:
            path: of the file.

        Returns:
            A pyarrow.Table (``.to_pandas()`` makes a data frame of it).

        Raises:
            SafeframeError: without pyarrow, or where the file is missing, damaged or no exported log.
        """
        return read_parquet(path)

    def check(self) -> None:
        """Whether the file still holds what was written: every row is compared with its checksum.

        Exports and recalibrations look at what they read, and so does :meth:`label`; a replay decides
        everything again.

        Raises:
            SafeframeError: where something was changed, or is missing.
        """
        with self.database.snapshot() as connection:
            check_whole(connection)

    def version(self, number: int | None = None) -> Version:
        """The guard with the thresholds of one calibration.

        Args:
            number: of the calibration; None: the one in force, also where another process put it there.

        Returns:
            The version.

        Raises:
            SafeframeError: on a number that the log does not hold.
        """
        return self.calibrations.version(number)

    def _random(self) -> np.random.Generator:
        """A generator of this thread and process: a fork must not repeat the draws of its parent."""
        if getattr(self._draw, "process", None) != os.getpid():
            self._draw.process, self._draw.generator = os.getpid(), np.random.default_rng()
        return self._draw.generator

    def close(self) -> None:
        """Close the file in all threads of this process; a later use opens it again."""
        self.database.close()

    def __enter__(self) -> GuardLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
