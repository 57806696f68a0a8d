"""Checkpoints that are whole or refused.

A checksum travels in the file, so damage is noticed before anything is loaded.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

from experiments.support.errors import CacheError
from experiments.support.files import atomic_write

HEADER = b"safeframe-checkpoint-1\n"


def write_checked(path: Path, payload: bytes) -> None:
    """Write `payload` with its checksum, atomically."""
    atomic_write(path, HEADER + hashlib.sha256(payload).digest() + payload)


def read_checked(path: Path) -> bytes | None:
    """What `write_checked` wrote, None if there is no file; `CacheError` if the file is damaged."""
    if not path.exists():
        return None
    content = path.read_bytes()
    start = len(HEADER) + 32
    if (
        content[: len(HEADER)] != HEADER
        or hashlib.sha256(content[start:]).digest() != content[len(HEADER) : start]
    ):
        raise CacheError(
            f"the checkpoint {path} is damaged; delete it to start this stage from its beginning"
        )
    return content[start:]


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Save tensors, numbers, text and containers of them (what `torch.load(weights_only=True)` reads)."""
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_checked(path, buffer.getvalue())


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The saved state, None if there is none; `CacheError` if it is damaged."""
    import torch

    payload = read_checked(path)
    return None if payload is None else torch.load(io.BytesIO(payload), weights_only=True)
