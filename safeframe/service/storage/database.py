"""One SQLite file that several threads and processes write at once: connections, transactions, clear errors.

Write-ahead logging: readers and the one writer do not wait for each other, and what a killed process had not
finished is undone when the file is next opened. Every thread of every process has a connection of its own,
also after a fork. The file must be on a local disk; network file systems lack the locks.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safeframe.service.storage.marks import TABLE
from safeframe.types import SafeframeError

FORMAT = 1
_APPLICATION = 0x5AFE10C
_ABANDONED: list[sqlite3.Connection] = []  # of a parent process: closing them here would drop its locks

SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE calibrations (
    version INTEGER PRIMARY KEY, time REAL NOT NULL, safeframe TEXT NOT NULL, cuts TEXT NOT NULL,
    report TEXT NOT NULL);
CREATE TABLE switches (
    seq INTEGER PRIMARY KEY, time REAL NOT NULL, version INTEGER NOT NULL REFERENCES calibrations,
    reason TEXT NOT NULL);
CREATE TABLE decisions (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, batch INTEGER NOT NULL, time REAL NOT NULL,
    version INTEGER NOT NULL REFERENCES calibrations, safeframe TEXT NOT NULL, r_t REAL NOT NULL, grp TEXT,
    margin REAL NOT NULL, tau REAL NOT NULL, bound REAL NOT NULL, accepted INTEGER NOT NULL,
    covered INTEGER NOT NULL, status TEXT NOT NULL, candidate INTEGER NOT NULL, action TEXT NOT NULL,
    audit INTEGER NOT NULL, error TEXT NOT NULL, measurement BLOB);
CREATE TABLE labels (
    decision INTEGER NOT NULL REFERENCES decisions, revision INTEGER NOT NULL, unsafe INTEGER NOT NULL,
    time REAL NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (decision, revision)) WITHOUT ROWID;
"""


class _Connection(sqlite3.Connection):
    """A connection that can be remembered without being kept alive."""


class Database:
    """A log's file.

    Args:
        path: where; its folder must exist.
        busy_seconds: how long a writer waits for another one.
        durable: whether every transaction is on the disk before it counts as done, so that a power failure
            loses nothing either; a killed process loses nothing in any case.

    Raises:
        SafeframeError: where the file cannot be opened, is no log, or has another format.
    """

    def __init__(self, path: str | os.PathLike[str], busy_seconds: float, durable: bool) -> None:
        self.path, self.busy_seconds, self.durable = Path(path), float(busy_seconds), bool(durable)
        self._local = threading.local()
        self._turns: dict[int, threading.Lock] = {}
        self._open: weakref.WeakSet[_Connection] = weakref.WeakSet()
        if not self.path.parent.is_dir():
            raise SafeframeError(f"{self.path.parent} is no folder: make it before a log is opened in it")
        if self.path.is_dir():
            raise SafeframeError(f"{self.path} is a folder; a log is one file")
        with self.write() as connection:
            self._recognise(connection)

    def _recognise(self, connection: sqlite3.Connection) -> None:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if application == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            for statement in SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")
            application = _APPLICATION
            version = FORMAT
        if application != _APPLICATION:
            raise SafeframeError(f"{self.path} is a database, but no log of a guard: give another path")
        if version != FORMAT:
            raise SafeframeError(
                f"{self.path} is a log of format {version}, this version of safeframe reads {FORMAT}: open "
                "it with the version that wrote it, or begin another file"
            )
        connection.execute(TABLE)

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection of this thread in this process; opened when first asked for."""
        found: _Connection | None = getattr(self._local, "connection", None)
        if found is not None and self._local.process != os.getpid():
            _ABANDONED.append(found)
            found = None
        if found is None:
            with self._told():
                found = sqlite3.connect(
                    self.path, self.busy_seconds, isolation_level=None, check_same_thread=False,
                    factory=_Connection,
                )  # fmt: skip
                _wait_for_wal(found, self.busy_seconds)
                found.execute(f"PRAGMA synchronous = {'FULL' if self.durable else 'NORMAL'}")
                found.execute("PRAGMA foreign_keys = ON")
            self._local.connection, self._local.process = found, os.getpid()
            self._open.add(found)
        return found

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction of the one writer: all that is done in it is there afterwards, or nothing.

        Returns:
            A context that gives the connection.

        Raises:
            SafeframeError: where the file is locked, corrupt, read-only, or the disk full.
        """
        # Threads of one process take turns; SQLite itself lets a waiting one sleep and look again.
        turn = self._turns.setdefault(os.getpid(), threading.Lock())
        with turn, self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """A transaction that reads one state of the file, whatever others write meanwhile.

        Within another transaction of the same thread it is that one.

        Returns:
            A context that gives the connection.

        Raises:
            SafeframeError: where the file is locked or corrupt.
        """
        connection = self.connection
        if connection.in_transaction:
            yield connection
            return
        with self._transaction("BEGIN"):
            yield connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        connection = self.connection
        with self._told():
            connection.execute(begin)
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def read(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one query.

        Args:
            query: in SQL.
            values: of its question marks.

        Returns:
            The rows.

        Raises:
            SafeframeError: where the file is locked or corrupt.
        """
        with self._told():
            return self.connection.execute(query, values).fetchall()

    def close(self) -> None:
        """Close the connections of all threads of this process; a later use opens them again."""
        for connection in list(self._open):
            connection.close()
        self._open.clear()
        self._local = threading.local()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Errors of SQLite in words."""
        try:
            yield
        except sqlite3.Error as error:
            raise SafeframeError(f"{self.path}: {self._reason(error)} (SQLite: {error})") from error

    def _reason(self, error: sqlite3.Error) -> str:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        reasons = {
            sqlite3.SQLITE_BUSY: f"another process has kept it locked for over {self.busy_seconds:g} s; try "
            "again, or open it with a larger busy_seconds",
            sqlite3.SQLITE_NOTADB: "it is no SQLite file, or corrupt; restore a copy or begin another file",
            sqlite3.SQLITE_CORRUPT: "it is corrupt; restore a copy or begin another file",
            sqlite3.SQLITE_FULL: "the disk is full, so nothing of this was recorded; make room and try again",
            sqlite3.SQLITE_IOERR: "reading or writing failed; look at the disk",
            sqlite3.SQLITE_READONLY: "it cannot be written; give write access to the file and its folder",
            sqlite3.SQLITE_CANTOPEN: "it cannot be opened; give write access to the file and its folder",
            sqlite3.SQLITE_PERM: "it cannot be opened; give write access to the file and its folder",
        }
        reasons[sqlite3.SQLITE_LOCKED] = reasons[sqlite3.SQLITE_BUSY]
        return reasons.get(code, "the log could not be read or written")


def _wait_for_wal(connection: sqlite3.Connection, seconds: float) -> None:
    """Switch to write-ahead logging; SQLite itself does not wait while another process does the same."""
    until = time.monotonic() + seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            busy = getattr(error, "sqlite_errorcode", 0) & 0xFF in (
                sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED,
            )  # fmt: skip
            if not busy or time.monotonic() > until:
                raise
            time.sleep(0.01)
