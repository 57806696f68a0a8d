"""Features of a batch for the test of unlike inputs; a row without features disturbs no other."""

from __future__ import annotations

from typing import Any

import numpy as np

from safeframe.coverage.coverage_guard import Features, flat_features
from safeframe.inputs import as_batch, rows
from safeframe.types import FloatArray, SafeframeError


def features_of(
    function: Features, measurement: Any, n: int, strict: bool
) -> tuple[FloatArray, np.ndarray | None]:
    """Features of n measurements.

    Args:
        function: measurement -> (n, d).
        measurement: n cases.
        n: how many.
        strict: raise on rows without features instead of marking them.

    Returns:
        (n, d) features, and (n,) objects with the reason for rows that have none ("" for the others); None
            where all have some.

    Raises:
        SafeframeError: on another number of rows; with ``strict`` also on features that are not finite. What
            ``function`` raises is then passed on.
    """
    reason = None
    try:
        found = flat_features(function(measurement))
    except Exception:
        if strict or n == 0:
            raise
        found, reason = _one_by_one(function, measurement, n)
    if len(found) != n:
        raise SafeframeError(f"coverage_features gave {len(found)} rows for {n} measurements")
    fine = np.isfinite(found).all(axis=1)
    if fine.all():
        return found, reason
    if strict:
        return found, None  # the distance refuses them
    reason = np.full(n, "", object) if reason is None else reason
    reason[~fine & (reason == "")] = "the features for coverage hold NaN or infinite values"
    return found, reason


def _one_by_one(function: Features, measurement: Any, n: int) -> tuple[FloatArray, np.ndarray]:
    batch, reason = as_batch(measurement), np.full(n, "", object)
    parts: list[FloatArray | None] = []
    for i in range(n):
        try:
            parts.append(flat_features(function(rows(batch, i))))
        except Exception as error:  # noqa: BLE001  any failure of the user's function
            reason[i] = f"{type(error).__name__}: {error}"
            parts.append(None)
    width = next((part.shape[1] for part in parts if part is not None), 1)
    return np.concatenate([np.zeros((1, width)) if part is None else part for part in parts]), reason
