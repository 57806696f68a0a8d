"""Files that are either whole or absent: atomic writes, checksums, canonical hashes."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from experiments.support.errors import storage_error

REPOSITORY = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on leaving without an error it takes `path`'s place at once.

    It is synced before. A kill at any moment leaves either the old file or the new one, never a part of one.
    The temporary name keeps the suffix, since some writers (`numpy.savez`) add one that is missing.

    Args:
        path: the file that is written; its folder is made if it does not exist.

    Yields:
        The temporary path.

    Raises:
        StorageError: for a full disk, a read-only place or a missing permission.
    """
    path, temporary = Path(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=f".tmp{path.suffix}", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        sync_directory(path.parent)
    except OSError as error:
        raise (storage_error(error, path) or error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def atomic_write(path: Path | str, content: str | bytes) -> None:
    """Write text or bytes to a file atomically.

    Args:
        path: the file.
        content: bytes, or text (written as UTF-8).
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def atomic_save(path: Path | str, save: Callable[[Any, Path], None], value: Any) -> None:
    """Save a value to a file atomically.

    Args:
        path: the file.
        save: called with the value and a temporary path.
        value: what is saved.
    """
    with atomic_path(path) as temporary:
        save(value, temporary)


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    atomic_write(path, json.dumps(value, indent=2, default=str) + "\n")


def sync_directory(directory: Path) -> None:
    """Make a rename in `directory` durable (a no-op where directories cannot be opened)."""
    if os.name != "posix":
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def checksum(path: Path | str) -> str:
    """SHA-256 of a file's bytes, as hexadecimal text."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def input_checksum(path: Path | str) -> str:
    """SHA-256 of a file that is only read: hashed once in a process while its size and time stay.

    Args:
        path: the file.

    Returns:
        64 hexadecimal digits.
    """
    place = Path(path).resolve()
    found = place.stat()
    return _input_checksum(place, found.st_size, found.st_mtime_ns)


@functools.cache
def _input_checksum(path: Path, size: int, changed: int) -> str:
    return checksum(path)


def canonical(value: Any) -> Any:
    """A value in a form whose JSON is the same whenever it means the same.

    Floats become their shortest round-trip text (so 1e-4 and 0.0001 agree, and 1.0 differs from the integer
    1), mappings are sorted, enumerations become their names, paths their text.

    Args:
        value: numbers, text, None, lists, dictionaries, arrays, enumerations and paths.

    Returns:
        Its canonical form.

    Raises:
        TypeError: for anything else: it could not be compared later.
    """
    import enum

    import numpy as np

    if isinstance(value, enum.Enum):
        return value.name
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.generic):
        value = value.item()
        return canonical(value)
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return {"float": repr(value + 0.0)}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {str(key): canonical(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    if isinstance(value, np.ndarray):
        data = np.ascontiguousarray(value)
        return {
            "array": hashlib.sha256(data.tobytes()).hexdigest(),
            "shape": list(value.shape),
            "dtype": str(value.dtype),
        }
    raise TypeError(
        f"cannot hash a value of type {type(value).__name__}: use numbers, text, lists, dicts or arrays"
    )


def hash_of(value: Any, length: int = 16) -> str:
    """Hash of a value's canonical form.

    Args:
        value: what :func:`canonical` takes.
        length: hexadecimal digits kept of the SHA-256.

    Returns:
        The digits.
    """
    text = json.dumps(canonical(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:length]
