"""What a run tells a tracker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pandas as pd


@dataclass(frozen=True)
class Record:
    """A finished run, as its files hold it.

    Attributes:
        directory: of the run: its pictures and files of results.
        frame: its tidy results.
        stages: what the manifest says of each stage, by name ("seconds", "hash").
        weights: files of trained weights, by the stage that made them.
    """

    directory: Path
    frame: pd.DataFrame
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    weights: Mapping[str, Path] = field(default_factory=dict)


class Tracker(Protocol):
    """What a run tells a tracker."""

    watching: bool
    """Whether anything is kept; where not, losses are not even read."""

    def log(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Numbers of this moment."""

    def trained(self, name: str, step: int, loss: float) -> None:
        """The loss of a training after some steps."""

    def results(self, record: Record) -> None:
        """The run is done; these are its results."""

    def finish(self, summary: dict[str, Any], failed: bool = False) -> None:
        """Nothing more comes."""


class NoTracker:
    """Tracks nothing."""

    watching = False

    def log(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Nothing."""

    def trained(self, name: str, step: int, loss: float) -> None:
        """Nothing."""

    def results(self, record: Record) -> None:
        """Nothing."""

    def finish(self, summary: dict[str, Any], failed: bool = False) -> None:
        """Nothing."""
