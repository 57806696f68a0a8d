"""What comes in: labels of decisions, and states that were kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from safeframe.inputs import as_labels
from safeframe.tensors import to_numpy
from safeframe.types import IntArray, SafeframeError


def checked_labels(label: Any, accepted: Any = None) -> IntArray:
    """Labels of accepted decisions as integers.

    Args:
        label: one label or (n,), each 0 safe or 1 unsafe.
        accepted: (n,) bool: the others are left out; None: all were accepted.

    Returns:
        (m,) labels.

    Raises:
        SafeframeError: on labels that are missing or neither 0 nor 1, or shapes that differ.
    """
    labels = np.atleast_1d(as_labels(label))
    if labels.ndim != 1:
        raise SafeframeError(f"labels have shape {labels.shape}; expected one label or (n,)")
    other = np.flatnonzero((labels != 0) & (labels != 1))
    if other.size:
        raise SafeframeError(
            f"the label at position {int(other[0])} is {labels[other[0]]!r}; 0 is safe and 1 is unsafe"
        )
    if accepted is None:
        return labels
    kept = np.atleast_1d(to_numpy(accepted))
    if kept.dtype != np.bool_ or kept.shape != labels.shape:
        raise SafeframeError(
            f"accepted has shape {kept.shape} and type {kept.dtype}; expected {labels.shape} bools"
        )
    return labels[kept]


@contextmanager
def restoring(state: Any, kind: str, version: int, what: str) -> Iterator[None]:
    """What goes on from a state reads it within this context.

    Args:
        state: what was saved.
        kind: the name that it must bear.
        version: the format that it must have.
        what: it is a state of, in words.

    Returns:
        A context in which an entry that is missing is an error in words.

    Raises:
        SafeframeError: on a state of another kind or format, or one that lacks what is read.
    """
    if not isinstance(state, dict) or state.get("kind") != kind:
        raise SafeframeError(f"this is no state of a {kind}; pass what its state() gave")
    if state.get("format") != version:
        raise SafeframeError(f"the state has format {state.get('format')!r}; this version reads {version}")
    try:
        yield
    except KeyError as error:
        raise SafeframeError(f"the state of the {what} lacks {error.args[0]!r}") from error
