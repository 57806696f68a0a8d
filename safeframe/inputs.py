"""What a batch of measurements may be, and what labels may be.

A batch is one of: a NumPy array, a torch tensor, a frame or series of pandas or polars, a list of texts (or
of other records), a plain sequence of numbers, or a mapping of such batches of one length (a dictionary of
tensors, a ``BatchEncoding`` of transformers). Cases lie along the first axis. No library is imported here:
frames are known by what they can do.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from safeframe.tensors import as_tensor, is_tensor, to_numpy
from safeframe.types import LabelArray, SafeframeError, numbers

_EXPECTED = (
    "an array, a tensor, a frame or series, a list of texts, a sequence of numbers, or a mapping of those, "
    "with one row per case"
)


def as_batch(measurement: Any) -> Any:
    """A batch of measurements in the form that models get.

    Args:
        measurement: one of the kinds named above.

    Returns:
        The same object where it has a shape or is a mapping; a list of texts, records, or parts of unequal
            length as a list; other sequences as an array.

    Raises:
        SafeframeError: on a single text or number, on what has no order or length, on entries of a mapping
            whose lengths differ.
    """
    if isinstance(measurement, Mapping):
        length(measurement)
        return measurement
    shape = getattr(measurement, "shape", None)
    if shape is not None:
        if len(shape) == 0:
            raise SafeframeError(
                f"a measurement without axes ({measurement!r}) is no batch; put it in a list"
            )
        return measurement
    if isinstance(measurement, (str, bytes)):
        raise SafeframeError("a single text is no batch of measurements; put it in a list")
    if hasattr(measurement, "__array__"):
        return as_batch(np.asarray(measurement))
    if not isinstance(measurement, Sequence):
        raise SafeframeError(
            f"measurements of type {type(measurement).__name__}; expected {_EXPECTED}"
            + ("; collect() a lazy frame first" if hasattr(measurement, "collect") else "")
        )
    return _of_sequence(measurement)


def _of_sequence(measurement: Sequence[Any]) -> Any:
    if any(isinstance(row, (str, bytes, Mapping)) for row in measurement[:1]):
        return list(measurement)
    if len(measurement) and is_tensor(measurement[0]) and all(map(is_tensor, measurement)):
        if len({tuple(row.shape) for row in measurement}) > 1:
            return list(measurement)
        import torch

        return torch.stack(list(measurement))
    try:
        array = np.asarray(measurement)
    except ValueError:  # rows of unequal length
        return list(measurement)
    return list(measurement) if array.dtype.kind in "OUS" else array


def length(measurement: Any) -> int:
    """Number of cases in a batch of measurements.

    Args:
        measurement: a batch.

    Returns:
        Its length along the first axis.

    Raises:
        SafeframeError: on entries of a mapping that have other lengths, or none.
    """
    if not isinstance(measurement, Mapping):
        shape = getattr(measurement, "shape", None)
        return len(measurement) if shape is None else int(shape[0])
    lengths = {}
    for key, entry in measurement.items():
        single = isinstance(entry, (str, bytes)) or getattr(entry, "shape", None) == ()
        if single or not (hasattr(entry, "shape") or hasattr(entry, "__len__")):
            raise SafeframeError(f"entry {key!r} of the measurements is {entry!r}; expected one row per case")
        lengths[key] = length(entry)
    if len(set(lengths.values())) != 1:
        raise SafeframeError(f"the measurements' entries have lengths {lengths}; expected one length for all")
    return next(iter(lengths.values()))


def rows(measurement: Any, index: slice | int | np.ndarray) -> Any:
    """Some cases of a batch of measurements, as a batch of the same kind.

    Args:
        measurement: a batch.
        index: a slice; one position, which gives a batch of one; (k,) positions; or (n,) bool.

    Returns:
        The chosen cases. A mapping stays one of its type where that is a dictionary or a ``UserDict``, which
            ``BatchEncoding`` is.
    """
    if not isinstance(index, slice):
        chosen = np.asarray(index)
        if chosen.ndim == 0:
            chosen = chosen[None]
        index = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen.astype(np.int64)
    return _take(measurement, index)


def _take(measurement: Any, index: Any) -> Any:
    if isinstance(measurement, Mapping):
        taken = {key: _take(entry, index) for key, entry in measurement.items()}
        return type(measurement)(taken) if isinstance(measurement, UserDict) else taken
    if hasattr(measurement, "iloc"):
        return measurement.iloc[index]
    if isinstance(index, slice):
        return measurement[index]
    if is_tensor(measurement):
        return measurement[as_tensor(index).to(measurement.device)]
    if isinstance(measurement, Sequence) and not hasattr(measurement, "shape"):
        return [measurement[position] for position in index.tolist()]
    return measurement[index]


def holds_nan(measurement: Any) -> bool:
    """Whether a batch of measurements holds NaN or missing values.

    Args:
        measurement: a batch.

    Returns:
        True where one of its numbers is NaN, or a frame or list has a missing entry.
    """
    if isinstance(measurement, Mapping):
        return any(map(holds_nan, measurement.values()))
    if is_tensor(measurement):
        return bool((measurement != measurement).any())
    if hasattr(measurement, "isna"):  # pandas
        return bool(np.asarray(measurement.isna()).any())
    if hasattr(measurement, "get_columns"):  # polars
        return any(map(holds_nan, measurement.get_columns()))
    if hasattr(measurement, "null_count") and measurement.null_count():
        return True
    if isinstance(measurement, (list, tuple)):
        return any(row is None or (isinstance(row, float) and row != row) for row in measurement)
    array = to_numpy(measurement)
    return array.dtype.kind in "fc" and bool(np.isnan(array).any())


def as_labels(label: Any, unsafe: Any = None) -> LabelArray:
    """Labels as integers.

    Args:
        label: (n,), or (n, c) with candidates: bools, integers, whole floats, texts or categories; an array,
            a tensor, a series or a list.
        unsafe: the value, or several, that says unsafe; all others are safe, and there is at most one other,
            so that a misspelt value is not taken for safe. None: True and 1 are unsafe, as they stand.

    Returns:
        Integers of the same shape: 0 safe and 1 unsafe, or the classes given where ``unsafe`` is None.

    Raises:
        SafeframeError: on missing labels, texts without ``unsafe``, values that are no integers, values of
            ``unsafe`` that do not occur, and more than one other value.
    """
    array = to_numpy(label)
    if array.dtype.kind in "US" and isinstance(label, (list, tuple)):  # NaN has become "nan"
        array = np.asarray(label, object)
    missing = np.flatnonzero(_missing(array.reshape(-1)))
    if missing.size:
        raise SafeframeError(
            f"{missing.size} of {array.size} labels are missing (NaN or None), the first at position "
            f"{int(missing[0])}: label those cases or leave them out"
        )
    if unsafe is not None:
        return _by_value(array, label, unsafe)
    if array.dtype.kind == "O":
        kinds = {type(item) for item in array.ravel().tolist()}
        if kinds <= {bool, int, float, np.bool_}:
            array = numbers(array, "label")
    if array.dtype.kind not in "biuf" or (array.dtype.kind == "f" and (array != np.round(array)).any()):
        raise SafeframeError(
            f"labels hold the values {_named(array)}; expected bools, or integers from 0 on with 1 unsafe; "
            "or say by unsafe=... which value is the unsafe one"
        )
    return array if array.dtype.kind in "iu" else array.astype(np.int64)


def _by_value(array: np.ndarray, label: Any, unsafe: Any) -> LabelArray:
    several = isinstance(unsafe, Collection) and not isinstance(unsafe, (str, bytes))
    wanted = list(unsafe) if several else [unsafe]
    found = _values(array)
    categories = getattr(getattr(label, "dtype", None), "categories", None)
    possible = found if categories is None else [*found, *to_numpy(categories).tolist()]
    absent = [value for value in wanted if value not in possible]
    if absent:
        raise SafeframeError(f"unsafe={unsafe!r}, but the labels hold the values {_named(array)}")
    others = [value for value in found if value not in wanted]
    if len(others) > 1:
        raise SafeframeError(
            f"labels hold the values {_named(array)}: beside unsafe={unsafe!r} there may be one other, the "
            "safe one; pass bools (label == unsafe value) where several are safe"
        )
    return np.logical_or.reduce([array == value for value in wanted]).astype(np.int64)


def _missing(flat: np.ndarray) -> Any:
    if flat.dtype.kind == "f":
        return np.isnan(flat)
    if flat.dtype.kind not in "OT":
        return ()
    names = ("NAType", "NaTType")
    return [item is None or type(item).__name__ in names or (item != item) is True for item in flat.tolist()]


def _values(array: np.ndarray) -> list[Any]:
    """The distinct values; in their order of appearance where they may be of several types."""
    if array.dtype.kind == "O":
        flat = array.reshape(-1).tolist()
        try:
            return list(dict.fromkeys(flat))
        except TypeError:  # a value that is no key, as a dictionary: only for a message
            return [value for i, value in enumerate(flat) if not any(value is one for one in flat[:i])]
    return np.unique(array).tolist()


def _named(array: np.ndarray, most: int = 8) -> str:
    found = _values(array)
    return f"{found[:most]!r}"[:-1] + (", ...]" if len(found) > most else "]")
