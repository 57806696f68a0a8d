"""Mirroring a run to Weights & Biases. Never needed: the files in the run's directory are the record."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, Protocol

from experiments.support.config import TrackingConfig
from experiments.support.errors import TrackingError

log = logging.getLogger(__name__)


class Tracker(Protocol):
    """What a run tells a tracker."""

    def log(self, metrics: dict[str, float], step: int | None = None) -> None: ...

    def finish(self, summary: dict[str, Any], failed: bool = False) -> None: ...


class NoTracker:
    """Tracks nothing."""

    def log(self, metrics: dict[str, float], step: int | None = None) -> None:
        pass

    def finish(self, summary: dict[str, Any], failed: bool = False) -> None:
        pass


class WandbTracker:
    """A Weights & Biases run with our run's id, so that a run done again is the same run there."""

    def __init__(self, tracking: TrackingConfig, directory: Path, experiment: str, config: dict[str, Any]):
        try:
            import wandb
        except ImportError as error:
            raise TrackingError(
                "tracking=wandb needs the package wandb (pip install wandb); or run with tracking=none"
            ) from error
        self.run = wandb.init(
            project=tracking.project,
            entity=tracking.entity,
            mode=resolve_mode(tracking.mode),
            dir=str(directory),
            id=directory.name,
            name=f"{experiment}-{directory.name[:6]}",
            group=experiment,
            resume="allow",
            config=config,
            settings=wandb.Settings(silent=True, disable_git=True),
        )

    def log(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.run.log(metrics, step=step)

    def finish(self, summary: dict[str, Any], failed: bool = False) -> None:
        self.run.summary.update(summary)
        self.run.finish(exit_code=1 if failed else 0)


def resolve_mode(mode: str) -> str:
    """`auto` is online with a key and offline without; other modes are themselves.

    The key is WANDB_API_KEY or in ~/.netrc.
    """
    if mode != "auto":
        return mode
    if os.environ.get("WANDB_MODE"):
        return os.environ["WANDB_MODE"]
    return "online" if has_key() else "offline"


def has_key() -> bool:
    """Whether this machine is logged in to Weights & Biases."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return "wandb" in netrc.read_text()
    except OSError:
        return False


def start(tracking: TrackingConfig, directory: Path, experiment: str, config: dict[str, Any]) -> Tracker:
    """A tracker for one run; raises `TrackingError` if tracking is asked for and the package is missing."""
    if tracking.mode == "none":
        return NoTracker()
    return WandbTracker(tracking, directory, experiment, config)
