"""Where shards of (margin, label) cases come from: re-iterables, callables, parquet files, Ray Datasets."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np

from safeframe.types import SafeframeError

Pair: TypeAlias = tuple[Any, Any] | Mapping[str, Any]
Cases: TypeAlias = Pair | Callable[[], Pair]
T = TypeVar("T")

_COLUMNS = ["margin", "label"]
_WORKERS = 2
_BATCH = 1 << 20
"""Rows of a Ray Dataset that make one shard."""


class _Dataset(Protocol):
    """What is used of a Ray Dataset."""

    def iter_batches(self, *, batch_size: int, batch_format: str) -> Iterable[Mapping[str, np.ndarray]]: ...


Shards: TypeAlias = Iterable[Cases] | Callable[[], Iterable[Cases]] | str | os.PathLike[str] | _Dataset


class Shard(NamedTuple):
    """Some of the cases.

    Attributes:
        name: what errors call it.
        cases: a pair (margin, label), a mapping with these keys, or a callable that returns either.
    """

    name: str
    cases: Cases


def _read_row_group(path: Path, index: int) -> tuple[np.ndarray, np.ndarray]:
    import pyarrow.parquet as parquet

    table = parquet.ParquetFile(path).read_row_group(index, columns=_COLUMNS, use_threads=False)
    for name in _COLUMNS:
        if table.column(name).null_count:
            raise SafeframeError(f"{path.name}, row group {index}: column {name} has missing values")
    margin, label = (table.column(name).to_numpy() for name in _COLUMNS)
    return margin, label


def _parquet(folder: Path) -> Iterator[Shard]:
    """One shard per row group of every file."""
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise SafeframeError(
            "shards in parquet files need pyarrow: pip install pyarrow (or safeframe[pyarrow])"
        ) from error
    files = sorted(folder.glob("*.parquet")) if folder.is_dir() else [folder]
    if not files or not files[0].is_file():
        raise SafeframeError(f"{folder}: expected a parquet file or a folder with *.parquet files")
    for path in files:
        file = parquet.ParquetFile(path)
        missing = [name for name in _COLUMNS if name not in file.schema_arrow.names]
        if missing:
            raise SafeframeError(
                f"{path}: no column {missing[0]!r}; expected columns margin and label, found"
                f" {file.schema_arrow.names}"
            )
        for index in range(file.num_row_groups):
            yield Shard(f"{path.name}, row group {index}", partial(_read_row_group, path, index))


def _numbered(items: Iterable[Cases], kind: str = "shard") -> Iterator[Shard]:
    for index, cases in enumerate(items):
        yield Shard(f"{kind} {index}", cases)


def opener(shards: Shards) -> Callable[[], Iterator[Shard]]:
    """How to pass over the shards, any number of times.

    Args:
        shards: see :meth:`safeframe.risk_curve.RiskCurve.from_shards`.

    Returns:
        A callable that starts a pass.

    Raises:
        SafeframeError: on what can be passed over only once, or not at all.
    """
    if isinstance(shards, str | os.PathLike):
        return partial(_parquet, Path(shards))
    source: Any = shards
    if hasattr(source, "iter_batches"):
        return lambda: _numbered(source.iter_batches(batch_size=_BATCH, batch_format="numpy"), "batch")
    if callable(source):
        again: Any = source
        return lambda: _numbered(again())
    if not isinstance(source, Iterable):
        raise SafeframeError(
            f"shards is {type(source).__name__}; expected a re-iterable of (margin, label), a callable"
            " returning an iterator over them, the path of a folder of parquet files, or a Ray Dataset"
        )
    if iter(source) is source:
        raise SafeframeError(
            f"shards is a one-shot {type(source).__name__}, but they are passed over twice: give a"
            " re-iterable (a list, an object with __iter__) or a callable returning an iterator, such as the"
            " generator function itself"
        )
    return lambda: _numbered(source)


def for_each(shards: Iterator[Shard], work: Callable[[Shard], T]) -> tuple[list[str], list[T]]:
    """Do the work for every shard, two of them at a time (NumPy releases the lock).

    Args:
        shards: the shards; at most one more than is worked on is taken.
        work: called in threads.

    Returns:
        Names of the shards and what ``work`` returned, in their order.
    """
    names: list[str] = []
    results: list[T] = []
    running: deque[Future[T]] = deque()
    with ThreadPoolExecutor(_WORKERS) as pool:
        try:
            for shard in shards:
                names.append(shard.name)
                running.append(pool.submit(work, shard))
                del shard  # not held while the next one is made
                if len(running) >= _WORKERS:
                    results.append(running.popleft().result())
            while running:
                results.append(running.popleft().result())
        finally:
            for future in running:
                future.cancel()
    return names, results
