"""SafetyGuard: a model, a classifier and internal test data joined to act within thresholds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safeframe.lazy import lazy_names

if TYPE_CHECKING:
    from safeframe.guard.report import GuardedActions
    from safeframe.guard.safety_guard import SafetyGuard

__all__ = ["GuardedActions", "SafetyGuard"]

HOMES = {
    "safeframe.guard.report": ("GuardedActions",),
    "safeframe.guard.safety_guard": ("SafetyGuard",),
}
"""Where each public name is defined."""

__getattr__, __dir__ = lazy_names(__name__, HOMES)
