"""A checksum for every row of a log.

SQLite notices a page that makes no sense, not a number that was changed. The marks are a table beside the
others, written in the same transaction as what they are of. Rows that an older version wrote have none; what
was written after the first mark has. They find damage, not forgery: who can write the file can write its
marks.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Any

from safeframe.types import SafeframeError

TABLE = (
    "CREATE TABLE IF NOT EXISTS marks (kind TEXT NOT NULL, number INTEGER NOT NULL, part INTEGER NOT NULL,"
    " mark INTEGER NOT NULL, PRIMARY KEY (kind, number, part)) WITHOUT ROWID"
)
_ROWS = {
    "decision": "SELECT seq, 0, * FROM decisions WHERE seq BETWEEN ? AND ? ORDER BY seq",
    "label": "SELECT decision, revision, * FROM labels WHERE decision BETWEEN ? AND ?"
    " ORDER BY decision, revision",
    "calibration": "SELECT version, 0, * FROM calibrations WHERE version BETWEEN ? AND ? ORDER BY version",
    "switch": "SELECT seq, 0, * FROM switches WHERE seq BETWEEN ? AND ? ORDER BY seq",
}
_MARKS = (
    "SELECT number, part, mark FROM marks WHERE kind = ? AND number BETWEEN ? AND ? ORDER BY number, part"
)
_END = 2**62


def mark_of(row: Sequence[Any]) -> int:
    """The checksum of a row.

    Args:
        row: numbers, texts, bytes and None.

    Returns:
        CRC-32 of all of them.
    """
    mark = 0
    for value in row:
        mark = zlib.crc32(value if isinstance(value, bytes) else repr(value).encode(), mark)
    return mark


def write_marks(connection: Any, kind: str, first: int, last: int | None = None) -> None:
    """Mark rows that were just written.

    Args:
        connection: in the transaction that wrote them.
        kind: "decision", "label", "calibration" or "switch".
        first: number of the first one; of labels, that of the decision.
        last: of the last one; None: the same.
    """
    rows = connection.execute(_ROWS[kind], (first, first if last is None else last)).fetchall()
    connection.executemany(
        "INSERT OR REPLACE INTO marks VALUES (?, ?, ?, ?)",
        [(kind, row[0], row[1], mark_of(row[2:])) for row in rows],
    )


def check(connection: Any, kinds: Iterable[str] = tuple(_ROWS), first: int = 0, last: int = _END) -> None:
    """Compare rows with their marks.

    Args:
        connection: of a snapshot.
        kinds: of rows.
        first: number of the first one; of labels, that of the decision.
        last: of the last one.

    Raises:
        SafeframeError: where a row was changed or is missing, or a mark of a row is.
    """
    for kind in kinds:
        marks = {
            (number, part): mark for number, part, mark in connection.execute(_MARKS, (kind, first, last))
        }
        oldest = connection.execute("SELECT min(number) FROM marks WHERE kind = ?", (kind,)).fetchone()[0]
        for row in connection.execute(_ROWS[kind], (first, last)):
            found = marks.pop((row[0], row[1]), None)
            unmarked = found is None and oldest is not None and row[0] >= oldest
            if unmarked or (found is not None and found != mark_of(row[2:])):
                raise SafeframeError(_damaged(kind, row[0], "is not what was written"))
        if marks:
            raise SafeframeError(_damaged(kind, min(marks)[0], "is missing"))


def check_whole(connection: Any) -> None:
    """Compare all rows with their marks, and let SQLite look at its own pages.

    Args:
        connection: of a snapshot.

    Raises:
        SafeframeError: where anything is damaged.
    """
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise SafeframeError(f"the log is corrupt ({found}); restore a copy or begin another file")
    check(connection)


def _damaged(kind: str, number: int, what: str) -> str:
    whose = "the label of decision" if kind == "label" else kind
    return f"the log is corrupt: {whose} {number:,} {what}; restore a copy or begin another file"
