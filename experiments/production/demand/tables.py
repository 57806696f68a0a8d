"""Tables of text cells from files of several formats: every later complaint can quote what stands there.

.csv, plain or in .gz, .xz or .zip (one csv within), and .parquet.
"""

from __future__ import annotations

import csv
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow

from safeframe.types import SafeframeError

FORMATS = (".csv", ".csv.gz", ".csv.xz", ".zip", ".parquet")
SEPARATORS = {";": ";", "\t": "tabs", "|": "|"}
"""What other programs write between cells, and how it is called."""


@dataclass(frozen=True)
class Table:
    """A file's cells as text, with what is needed to say where one stands.

    Attributes:
        path: of the file.
        cells: (rows, columns) text; columns without a name are left out.
        first: what the first row is called in the file: line 2 of a csv, row 1 of a parquet.
    """

    path: Path
    cells: pd.DataFrame
    first: tuple[str, int]

    def where(self, row: int) -> str:
        """Where in the file a row (from 0) stands."""
        word, number = self.first
        return f"{word} {row + number}"


def read(path: Path, needed: str) -> Table:
    """The table in a file.

    Args:
        path: of the file.
        needed: the column that it must have, to recognise what separates its cells.

    Returns:
        The table; a byte-order mark, blank lines at the end and blanks around names are dropped.

    Raises:
        SafeframeError: for a file that is missing, of another format, damaged, empty, no UTF-8 text, with
            names that repeat, or separated by something else than commas.
    """
    if not path.is_file():
        raise SafeframeError(f"{path}: no such file; {_formats()} with hourly demand is needed")
    name = path.name.lower()
    if not name.endswith(FORMATS):
        raise SafeframeError(f"{path}: only {_formats()} can be read; save the table as one of them")
    if name.endswith(".parquet"):
        return _parquet(path, needed)
    text = _text(path, next(end for end in FORMATS[::-1] if name.endswith(end)))
    text = text.rstrip("\r\n\x00 ") + "\n"
    if not text.strip():
        raise SafeframeError(f"{path}: the file is empty; a header with {needed} is needed")
    header = [cell.strip() for cell in next(csv.reader(io.StringIO(text)))]
    _check_separator(path, header, text.splitlines()[0], needed)
    _check_names(path, header)
    try:
        cells = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, skip_blank_lines=False)
    except pd.errors.ParserError as error:
        raise SafeframeError(f"{path}: not a readable CSV: {str(error).strip()}") from error
    if not isinstance(cells.index, pd.RangeIndex):
        raise SafeframeError(f"{path}: the rows have more cells than the header has columns")
    cells.columns = header
    return Table(path, cells.loc[:, [bool(one) for one in header]].fillna(""), ("line", 2))


def _formats() -> str:
    return f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"


def _text(path: Path, end: str) -> str:
    """What a csv holds, unpacked."""
    unpack: dict[str, Callable[[Path], bytes]] = {
        ".csv": Path.read_bytes,
        ".csv.gz": lambda file: gzip.decompress(file.read_bytes()),
        ".csv.xz": lambda file: lzma.decompress(file.read_bytes()),
        ".zip": _zipped,
    }
    try:
        content = unpack[end](path)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError) as error:
        raise SafeframeError(f"{path}: cannot be read (damaged or cut off?): {error}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise SafeframeError(f"{path}: not a readable CSV: line {line} is no UTF-8 text") from error


def _zipped(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        names = [one for one in archive.namelist() if not one.endswith("/") and "__MACOSX" not in one]
        tables = [one for one in names if one.lower().endswith(".csv")]
        if len(tables) != 1:
            raise SafeframeError(
                f"{path}: one .csv within is needed, it holds {', '.join(names) or 'nothing'}"
            )
        return archive.read(tables[0])


def _check_separator(path: Path, header: list[str], line: str, needed: str) -> None:
    if needed in header:
        return
    for mark, called in SEPARATORS.items():
        names = [name.strip().strip('"') for name in line.split(mark)]
        if needed in names or len(names) > len(header):
            raise SafeframeError(
                f"{path}: column {needed} is missing; the file seems to be separated by {called}: save it "
                "separated by commas, with a point before decimals"
            )
    if needed in line.split() and len(line.split()) > 1:
        raise SafeframeError(
            f"{path}: column {needed} is missing; the file seems to be separated by blanks: save it "
            "separated by commas"
        )


def _check_names(path: Path, header: list[str]) -> None:
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise SafeframeError(
            f"{path}: column {', '.join(twice)} is there more than once; give every column a name of its own"
        )


def _parquet(path: Path, needed: str) -> Table:
    try:
        frame = pd.read_parquet(path)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise SafeframeError(f"{path}: cannot be read (damaged or cut off?): {error}") from error
    in_index = frame.index.name == needed or isinstance(frame.index, pd.DatetimeIndex)
    if needed not in frame.columns and in_index:
        frame = frame.reset_index()  # its name is judged as that of a column
    header = [str(name).strip() for name in frame.columns]
    _check_names(path, header)
    cells = pd.DataFrame(
        {
            name: column.astype(str).where(column.notna(), "").to_numpy()
            for name, (_, column) in zip(header, frame.items(), strict=True)
            if name
        }
    )
    return Table(path, cells, ("row", 1))
