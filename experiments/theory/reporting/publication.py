"""What is committed of the theorems: their figures, tables and claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.support.results.collect import Root
from experiments.support.results.publish import Target
from experiments.support.results.saved import Saved
from experiments.theory import records
from experiments.theory.reporting import figures, report

EXPERIMENT = "theory"
SWEEP = "python run.py experiment=theory preset=laptop seed=5"
TABLES = records.TABLES
"""Raw tables beside the tidy results."""


def runs(preset: str, where: Mapping[str, Any], root: Root) -> list[Saved]:
    """The run that figures, tables and claims rest on."""
    return [report.load(preset, where, root)]


def trim(runs: list[Saved]) -> Callable[[Saved, str, pd.DataFrame], pd.DataFrame]:
    """What raw files keep of a run's tables: all."""
    return lambda run, name, table: table


def publish(preset: str, where: Mapping[str, Any], root: Root, target: Target) -> list[Path]:
    """Draw, write and claim everything; the paths of figures and tables."""
    run = report.load(preset, where, root)
    paths = figures.draw(run, target.figures) + report.write(run, target.place)
    report.record(run, preset, target.ledger, target.dirty)
    return paths
