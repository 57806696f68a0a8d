"""Large batches through a model whose memory holds small ones.

A step of the approximate loss needs the margins of a thousand cases at once. In small parts, each of which is
computed again when its gradient is needed, only one part's activations are in memory (activation
checkpointing, Chen et al., arXiv 1604.06174). Values and gradients are those of one batch, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from safeframe.types import SafeframeError


def in_parts(function: Callable[[Tensor], Tensor], rows: Tensor, size: int | None) -> Tensor:
    """A function of rows, part by part.

    Args:
        function: (k,) rows -> (k, ...), with or without a gradient.
        rows: (n,) of the cases.
        size: rows of a part, > 0; None computes all of them at once.

    Returns:
        (n, ...) values.

    Raises:
        SafeframeError: on a size that is not > 0.
    """
    if size is None or (size >= len(rows) and size > 0):
        return function(rows)
    if size <= 0:
        raise SafeframeError(f"parts of {size} rows; they must be > 0")
    parts = []
    for part in rows.split(size):
        value = checkpoint(function, part, use_reentrant=False)
        assert isinstance(value, Tensor)
        parts.append(value)
    return torch.cat(parts)
