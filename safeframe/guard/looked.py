"""What model and classifier say of a batch, and how parts of a batch are put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from safeframe.types import FloatArray, SafeframeError


@dataclass(frozen=True, eq=False)
class Looked:
    """What model and classifier say of a batch of n measurements.

    Attributes:
        action: (n, ...) actions, or (n, c, ...) candidates; zeros (or another value of its type) in rows with
            an error. None where every row has one because of what was raised.
        score: (n, c) float64 scores of the candidates, -inf where absent and in rows with an error; None
            without candidates.
        margin: (n,), or (n, c) with candidates; +inf in rows with an error, and where the classifier gives no
            finite margin for an absent candidate.
        error: (n,) objects, the reason of each error and "" elsewhere; None where there is none.
    """

    action: np.ndarray | None
    score: FloatArray | None
    margin: FloatArray
    error: np.ndarray | None = None


def marked(found: Looked, reason: np.ndarray) -> Looked:
    """Rows with an error, made harmless.

    Args:
        found: of n rows; its arrays are not changed.
        reason: (n,) objects, "" where nothing is wrong.

    Returns:
        The same with zeros as actions, scores -inf and margins +inf in rows with an error.
    """
    bad = reason != ""
    copy = owned(found)
    if copy.action is not None:
        copy.action[bad] = np.zeros((), copy.action.dtype)
    if copy.score is None:
        copy.margin[bad] = np.inf
        return replace(copy, error=reason)
    copy.score[bad] = -np.inf
    copy.margin[bad] = np.inf
    return replace(copy, margin=without_nan(copy.margin), error=reason)


def without_nan(margin: FloatArray) -> FloatArray:
    """Margins of candidates, +inf where they are not finite.

    Args:
        margin: (n, c); what is not finite there belongs to absent candidates.

    Returns:
        The same array where all are finite, else a copy.
    """
    fine = np.isfinite(margin)
    return margin if fine.all() else np.where(fine, margin, np.asarray(np.inf, margin.dtype))


def owned(found: Looked) -> Looked:
    """A copy, for models that write all of their answers into one array.

    Args:
        found: what model and classifier said.

    Returns:
        The same in arrays of its own.
    """
    action = None if found.action is None else found.action.copy()
    score = None if found.score is None else found.score.copy()
    return Looked(action, score, found.margin.copy(), found.error)


def joined(parts: Sequence[Looked]) -> Looked:
    """Parts of a batch, one after the other.

    Args:
        parts: at least one.

    Returns:
        The batch.

    Raises:
        SafeframeError: where actions or candidates of the parts have different shapes.
    """
    if len(parts) == 1:
        return parts[0]
    known = next((part for part in parts if part.action is not None), None)
    error = None
    if any(part.error is not None for part in parts):
        error = np.concatenate(
            [np.full(len(p.margin), "", object) if p.error is None else p.error for p in parts]
        )
    if known is None:
        return Looked(None, None, np.concatenate([part.margin for part in parts]), error)
    nowhere = np.array([], np.int64)
    whole = [
        spread(known, nowhere, part.error) if part.action is None and part.error is not None else part
        for part in parts
    ]
    actions = [part.action for part in whole if part.action is not None]
    scores = [part.score for part in whole if part.score is not None]
    shapes = {
        (array.shape[1:], score is None)
        for array, score in ((p.action, p.score) for p in whole)
        if array is not None
    }
    if len(shapes) > 1:
        raise SafeframeError(
            "the model's actions or candidates have other shapes from one part of the batch to the next: "
            f"{sorted({shape for shape, _ in shapes})}"
        )
    margin = np.concatenate([part.margin for part in whole])
    return Looked(np.concatenate(actions), np.concatenate(scores) if scores else None, margin, error)


def spread(found: Looked, where: np.ndarray, reason: np.ndarray) -> Looked:
    """Rows put back among rows with an error.

    Args:
        found: of the rows ``where`` (where there are none of them, of any rows: only shapes and types count).
        where: (k,) positions.
        reason: (n,) objects, why the other rows are missing.

    Returns:
        All n rows.
    """
    error = reason.copy()
    if found.error is not None and len(where):
        error[where] = found.error

    def filled(part: np.ndarray, value: Any) -> np.ndarray:
        whole = np.zeros((len(reason), *part.shape[1:]), part.dtype)
        if value is not None:
            whole[:] = value
        if len(where):
            whole[where] = part
        return whole

    action = None if found.action is None else filled(found.action, None)
    score = None if found.score is None else filled(found.score, -np.inf)
    return Looked(action, score, filled(found.margin, np.inf), error)
