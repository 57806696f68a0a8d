"""NumPy arrays and torch tensors alike; torch is imported only where a tensor is made of one that is not."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


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
    """An array as a tensor that shares its memory.

    Args:
        value: array of any shape.

    Returns:
        The tensor, on the CPU.
    """
    import torch

    return torch.from_numpy(value)


def to_numpy(value: Any) -> np.ndarray:
    """A NumPy view or copy of an array, tensor or sequence.

    Args:
        value: what is converted; a tensor may be on any device.

    Returns:
        An array of the same shape.
    """
    return value.detach().cpu().numpy() if is_tensor(value) else np.asarray(value)


def like(value: np.ndarray, measurement: Any) -> Any:
    """An array in the kind of a measurement.

    Args:
        value: array of any shape.
        measurement: what decides the kind.

    Returns:
        ``value`` as a tensor on the measurement's device where that is a tensor, else unchanged.
    """
    return as_tensor(value).to(measurement.device) if is_tensor(measurement) else value
