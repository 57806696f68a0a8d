"""The calibrations that a log holds, which of them is in force, and how that changes."""

from __future__ import annotations

import threading
from importlib import metadata
from time import time as now
from typing import Any

from safeframe.guard.safety_guard import SafetyGuard
from safeframe.service.cuts import Cuts, cuts_text, first_cuts, read_cuts
from safeframe.service.storage.database import Database
from safeframe.service.storage.marks import check, write_marks
from safeframe.service.versions import Version, version_of
from safeframe.types import SafeframeError


class Calibrations:
    """Calibrations by number; 1 is the guard's own.

    Args:
        database: of the log.
        guard: calibrated.
        fingerprint: of the guard.

    Raises:
        SafeframeError: where the log is that of another guard.
    """

    def __init__(self, database: Database, guard: SafetyGuard, fingerprint: str) -> None:
        self._database = database
        self.safeframe = _installed()
        self.first = version_of(1, guard, first_cuts(guard))
        self._versions, self._lock = {1: self.first}, threading.Lock()
        with database.write() as connection:
            found = connection.execute("SELECT value FROM facts WHERE name = 'fingerprint'").fetchone()
            if found is None:
                connection.execute("INSERT INTO facts VALUES ('fingerprint', ?)", (fingerprint,))
                self._switch(connection, 1, "as the guard was calibrated", self.first.cuts, "")
        if found is not None and found[0] != fingerprint:
            raise SafeframeError(
                f"{database.path} is the log of another guard (fingerprint {found[0][:12]}, this one has "
                f"{fingerprint[:12]}): its settings, evidence or default action differ. Open it with "
                "the guard that wrote it, or begin another file"
            )

    def version(self, number: int | None = None) -> Version:
        """The guard with the thresholds of one calibration.

        Args:
            number: of the calibration; None: the one in force, also where another process put it there.

        Returns:
            The version.

        Raises:
            SafeframeError: on a number that the log does not hold.
        """
        if number is None:
            with self._database.snapshot() as connection:
                row = connection.execute("SELECT seq, version FROM switches ORDER BY seq DESC LIMIT 1")
                seq, number = row.fetchone()
                check(connection, ("switch",), seq)
        assert number is not None
        found = self._versions.get(number)
        if found is None:
            with self._database.snapshot() as connection:
                check(connection, ("calibration",), number, number)
                query = "SELECT cuts FROM calibrations WHERE version = ?"
                stored = connection.execute(query, (number,)).fetchall()
            if not stored:
                known = [row[0] for row in self._database.read("SELECT version FROM calibrations ORDER BY 1")]
                raise SafeframeError(f"the log has no calibration {number}; it has {known}")
            found = version_of(number, self.first.guard, read_cuts(stored[0][0]))
            with self._lock:
                self._versions[number] = found
        return found

    def switches(self) -> list[dict[str, Any]]:
        """Which calibration was put in force when and why, the first one first.

        Returns:
            For each: "version", "time" and "reason".
        """
        found = self._database.read("SELECT version, time, reason FROM switches ORDER BY seq")
        return [dict(zip(("version", "time", "reason"), row, strict=True)) for row in found]

    def put_in_force(
        self,
        reason: str,
        expected: int,
        cuts: Cuts | None = None,
        number: int | None = None,
        report: str = "",
    ) -> int:
        """Put a calibration in force, a new one or an old one; batches that begin later are decided by it.

        Args:
            reason: in words.
            expected: number of the calibration that is in force now.
            cuts: thresholds of a new calibration; None: take an old one.
            number: of the old calibration.
            report: on a new one, in words.

        Returns:
            The number of the calibration.

        Raises:
            SafeframeError: where another process has put one in force meanwhile, or there is none of this
                number.
        """
        with self._database.write() as connection:
            newest = connection.execute("SELECT version FROM switches ORDER BY seq DESC LIMIT 1").fetchone()
            if newest[0] != expected:
                raise SafeframeError(
                    f"calibration {newest[0]} was put in force meanwhile, instead of {expected}: try again"
                )
            last = connection.execute("SELECT max(version) FROM calibrations").fetchone()[0]
            chosen = last + 1 if cuts is not None else number
            if chosen is None or not 1 <= chosen <= last + (cuts is not None):
                raise SafeframeError(f"the log has no calibration {number}; it has 1 to {last}")
            self._switch(connection, chosen, reason, cuts, report)
        return chosen

    def _switch(self, connection: Any, number: int, reason: str, cuts: Cuts | None, report: str) -> None:
        if cuts is not None:
            connection.execute(
                "INSERT INTO calibrations VALUES (?, ?, ?, ?, ?)",
                (number, now(), self.safeframe, cuts_text(cuts), report),
            )
            write_marks(connection, "calibration", number)
        made = connection.execute(
            "INSERT INTO switches (time, version, reason) VALUES (?, ?, ?)", (now(), number, reason)
        )
        write_marks(connection, "switch", made.lastrowid)


def _installed() -> str:
    try:
        return metadata.version("safeframe")
    except metadata.PackageNotFoundError:
        return "unknown"
