"""A digest of a network's weights: what stages that use a trained network depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch


def digest_of(weights: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of weights by name, as hexadecimal text: of their names, types, shapes and bytes.

    In whatever order they come and wherever they are (CPU, GPU); a state dictionary or a part of one.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
