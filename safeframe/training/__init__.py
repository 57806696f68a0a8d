"""Training: the loop, the approximate loss and the relaxed bound that it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safeframe.lazy import lazy_names

if TYPE_CHECKING:
    from safeframe.training.loop import TrainingSettings, generator_of, train

__all__ = ["TrainingSettings", "generator_of", "train"]

HOMES = {
    "safeframe.training.loop": (
        "TrainingSettings",
        "generator_of",
        "train",
    ),
}
"""Where each public name is defined."""

__getattr__, __dir__ = lazy_names(__name__, HOMES)
