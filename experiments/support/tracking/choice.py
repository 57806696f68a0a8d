"""Which tracker a run has, and whether a run that is done is with it already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.support.config import TrackingConfig
from experiments.support.tracking.base import NoTracker, Tracker
from experiments.support.tracking.local import TensorBoardTracker
from experiments.support.tracking.weights_and_biases import WandbTracker

TRACKERS = {"wandb": WandbTracker, "tensorboard": TensorBoardTracker}


def start(tracking: TrackingConfig, directory: Path, experiment: str, config: dict[str, Any]) -> Tracker:
    """A tracker for one run.

    Args:
        tracking: the settings.
        directory: of the run.
        experiment: its name.
        config: what the run's results depend on.

    Raises:
        TrackingError: if tracking is asked for and its package is missing.
    """
    if tracking.mode == "none":
        return NoTracker()
    return TRACKERS[tracking.to](tracking, directory, experiment, config)


def mirrored(tracking: TrackingConfig, directory: Path) -> bool:
    """Whether nothing is to be shown any more of a run that is done: no tracker is asked for, or it was."""
    return tracking.mode == "none" or (directory / tracking.to).exists()
