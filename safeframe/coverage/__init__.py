"""Is this input like the internal test data? A guard by distance, and nearest neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safeframe.lazy import lazy_names

if TYPE_CHECKING:
    from safeframe.coverage.coverage_guard import (
        CoverageGuard,
        CoverageSettings,
        conditional_inflation,
        fit_coverage,
        flat_features,
        split_reference,
        tolerance_rank,
    )

__all__ = [
    "CoverageGuard",
    "CoverageSettings",
    "conditional_inflation",
    "fit_coverage",
    "flat_features",
    "split_reference",
    "tolerance_rank",
]

HOMES = {
    "safeframe.coverage.coverage_guard": (
        "CoverageGuard",
        "CoverageSettings",
        "conditional_inflation",
        "fit_coverage",
        "flat_features",
        "split_reference",
        "tolerance_rank",
    ),
}
"""Where each public name is defined."""

__getattr__, __dir__ = lazy_names(__name__, HOMES)
