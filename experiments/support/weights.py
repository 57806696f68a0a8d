"""Weights of networks: a digest, which stages that use a trained network depend on, and files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

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


def save_weights(weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write weights as `torch.load` reads them; the same bytes for the same weights, whatever the path."""
    with path.open("wb") as file:  # given a path, torch writes its name into the file
        torch.save(dict(weights), file)
