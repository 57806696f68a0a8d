"""A log as a parquet file, and decisions as columns."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safeframe.service.storage.database import Database
from safeframe.service.storage.marks import check_whole
from safeframe.types import SafeframeError

_ROWS = 50_000
COLUMNS = (
    "seq", "id", "batch", "time", "version", "safeframe", "r_t", "group", "margin", "tau", "bound",
    "accepted", "covered", "status", "candidate", "action", "audit", "error", "unsafe", "label_time",
    "corrections",
)  # fmt: skip
"""Columns of an exported log."""

_QUERY = (
    "SELECT d.seq, d.id, d.batch, d.time, d.version, d.safeframe, d.r_t, d.grp, d.margin, d.tau, d.bound,"
    " d.accepted, d.covered, d.status, d.candidate, d.action, d.audit, d.error, l.unsafe, l.time, l.revision"
    " FROM decisions d LEFT JOIN labels l ON l.decision = d.seq AND l.revision ="
    " (SELECT max(revision) FROM labels WHERE decision = d.seq) ORDER BY d.seq"
)
_FLAGS = ("accepted", "covered", "audit")
_NUMBERS = ("time", "r_t", "margin", "tau", "bound", "label_time")
_WHOLE = ("seq", "batch", "version", "candidate", "corrections")


def decisions(connection: Any) -> Iterator[list[tuple[Any, ...]]]:
    """All decisions with their labels in force, in parts.

    Args:
        connection: of a snapshot.

    Returns:
        Lists of rows with the entries of ``COLUMNS``.
    """
    cursor = connection.execute(_QUERY)
    while rows := cursor.fetchmany(_ROWS):
        yield rows


def write_parquet(database: Database, path: str | os.PathLike[str], fingerprint: str) -> int:
    """Write all decisions to a parquet file; atomic.

    Args:
        database: of the log.
        path: of the file.
        fingerprint: of the guard, for the file's metadata.

    Returns:
        The number of decisions.

    Raises:
        SafeframeError: without pyarrow, or where the log cannot be read.
    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise SafeframeError("export needs pyarrow: pip install pyarrow (or safeframe[pyarrow])") from error
    kinds: dict[str, Any] = dict.fromkeys(COLUMNS, arrow.string())
    kinds |= dict.fromkeys(_FLAGS, arrow.bool_()) | dict.fromkeys(_NUMBERS, arrow.float64())
    kinds |= dict.fromkeys(_WHOLE, arrow.int64()) | {"unsafe": arrow.bool_()}
    schema = arrow.schema(list(kinds.items()), metadata={"safeframe.guard": fingerprint})
    target, total = Path(path), 0
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with (
            database.snapshot() as connection,
            parquet.ParquetWriter(temporary, schema, write_page_checksum=True) as writer,
        ):
            check_whole(connection)
            for rows in decisions(connection):
                columns = dict(zip(COLUMNS, (list(part) for part in zip(*rows, strict=True)), strict=True))
                for name in (*_FLAGS, "unsafe"):
                    columns[name] = [None if value is None else bool(value) for value in columns[name]]
                writer.write_table(arrow.table(columns, schema=schema))
                total += len(rows)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return total
