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
    arrow, parquet = _pyarrow()
    schema = _schema(arrow, {"safeframe.guard": fingerprint})
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


def read_parquet(path: str | os.PathLike[str]) -> Any:
    """What :func:`write_parquet` wrote, compared with the checksums of its pages and the columns of a log.

    Args:
        path: of the file.

    Returns:
        A pyarrow.Table.

    Raises:
        SafeframeError: without pyarrow, or where the file is missing, damaged or no exported log.
    """
    arrow, parquet = _pyarrow()
    try:
        table = parquet.read_table(path, page_checksum_verification=True, memory_map=False)
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise SafeframeError(f"{os.fspath(path)} cannot be read as an exported log: {error}") from error
    if not table.schema.equals(_schema(arrow)):
        raise SafeframeError(
            f"{os.fspath(path)} is damaged, or no exported log: its columns are not those of one"
        )
    return table


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise SafeframeError("export needs pyarrow: pip install pyarrow (or safeframe[pyarrow])") from error
    return pyarrow, pyarrow.parquet


def _schema(arrow: Any, metadata: dict[str, str] | None = None) -> Any:
    """Columns of an exported log with their kinds."""
    kinds: dict[str, Any] = dict.fromkeys(COLUMNS, arrow.string())
    kinds |= dict.fromkeys(_FLAGS, arrow.bool_()) | dict.fromkeys(_NUMBERS, arrow.float64())
    kinds |= dict.fromkeys(_WHOLE, arrow.int64()) | {"unsafe": arrow.bool_()}
    return arrow.schema(list(kinds.items()), metadata=metadata)
