"""NumPy arrays, torch tensors and frames alike; torch is imported only where a tensor is made."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

_TENSOR_KINDS = "biufc"  # bools, integers, floats, complex numbers


def is_tensor(value: Any) -> bool:
    """Whether a value is a torch tensor.

    Args:
        value: anything.

    Returns:
        True for a tensor.
    """
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def as_tensor(value: np.ndarray) -> torch.Tensor:
    """An array as a tensor that shares its memory where torch can.

    Args:
        value: array of numbers, of any shape.

    Returns:
        The tensor, on the CPU; a copy where the array is read-only, has steps backwards or another byte
            order; float64 for extended precision.
    """
    import torch

    flags = value.flags
    if flags.c_contiguous and flags.writeable and value.dtype.isnative and value.itemsize <= 8:
        return torch.from_numpy(value)
    kind = np.float64 if value.dtype.kind == "f" and value.dtype.itemsize > 8 else value.dtype
    array = value.astype(np.dtype(kind).newbyteorder("="), copy=False)
    if not array.flags.writeable or min(array.strides, default=0) < 0:
        array = array.copy()
    return torch.from_numpy(array)


def to_numpy(value: Any) -> np.ndarray:
    """A NumPy view or copy of an array, tensor, frame or sequence.

    Args:
        value: what is converted; a tensor may be on any device and need gradients; frames and series are
            those of pandas, polars and the like.

    Returns:
        An array of the same shape. What NumPy lacks (bfloat16) or seldom computes in (float16 of a tensor)
            is raised to float32. Numbers of a frame with missing ones are float64 with NaN.
    """
    if is_tensor(value):
        if value.element_size() < 4 and value.is_floating_point():
            value = value.float()
        return value.numpy(force=True)
    if hasattr(value, "to_numpy"):
        return _of_frame(value)
    if isinstance(value, (list, tuple)) and value and is_tensor(value[0]):
        return np.stack([to_numpy(part) for part in value])
    array = np.asarray(value)
    if array.dtype.kind != "V":
        return array
    narrow = array.dtype.name.startswith(("bfloat", "float"))  # of ml_dtypes
    return array.astype(np.float32) if narrow else array


def _of_frame(frame: Any) -> np.ndarray:
    """The values of a frame or series; numbers that pandas or polars keep as objects become float64."""
    array = np.asarray(frame.to_numpy())
    if array.dtype != object or any(isinstance(item, (str, bytes)) for item in array.flat):
        return array
    try:
        if hasattr(frame, "iloc"):
            return np.asarray(frame.to_numpy(dtype=np.float64, na_value=np.nan))
        return array.astype(np.float64)
    except (TypeError, ValueError):  # no numbers: dates, categories, lists
        return array


def like(value: np.ndarray, measurement: Any) -> Any:
    """An array in the kind of a measurement.

    Args:
        value: array of any shape.
        measurement: what decides the kind; a mapping is of the kind of its first entry.

    Returns:
        ``value`` as a tensor on the measurement's device where that is a tensor and ``value`` holds numbers,
            else unchanged.
    """
    return all_like([value], measurement)[0]


def all_like(values: Sequence[np.ndarray], measurement: Any) -> list[Any]:
    """Arrays in the kind of a measurement, which is looked at once.

    Args:
        values: arrays of any shapes.
        measurement: as :func:`like` takes it.

    Returns:
        What :func:`like` gives for each of them.
    """
    if isinstance(measurement, Mapping):
        measurement = next(iter(measurement.values()), None)
    if not is_tensor(measurement):
        return list(values)
    made: list[Any] = [as_tensor(value) if value.dtype.kind in _TENSOR_KINDS else value for value in values]
    device = measurement.device
    return made if device.type == "cpu" else [one.to(device) if is_tensor(one) else one for one in made]
