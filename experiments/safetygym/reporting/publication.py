"""What is committed of Safety Gym: figures 3, their tables, and the claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.safetygym.records import ENTRIES, EPISODES, RELIABILITY
from experiments.safetygym.reporting import (
    ablations,
    apart,
    classification,
    figures,
    guarantee,
    measured,
    report,
    scaling,
)
from experiments.support.results.collect import Root
from experiments.support.results.points import unique
from experiments.support.results.publish import Target, announce, load_each
from experiments.support.results.saved import Saved

EXPERIMENT = "safetygym"
SWEEP = "python run.py -m +sweep=figure-3"
TABLES = (EPISODES, ENTRIES, RELIABILITY)
"""Raw tables beside the tidy results."""
MOST_ENTRIES = 1000


def load(preset: str, where: Mapping[str, Any], root: Root) -> tuple[dict[str, measured.Loaded], list[str]]:
    """Measured runs by robot, and notes on robots without runs. `NoRuns` if none has any."""
    tasks = report.TASKS
    return load_each(tasks, lambda robot: measured.load(tasks[robot], preset, where, root))


def runs(preset: str, where: Mapping[str, Any], root: Root) -> list[Saved]:
    """The runs that figures, tables and claims rest on."""
    found = list(load(preset, where, root)[0].values())
    found += [other for part in apart.PARTS if (other := part.load(preset, where, root)) is not None]
    return unique(run for loaded in found for run in loaded.kept)


def trim(runs: list[Saved]) -> Callable[[Saved, str, pd.DataFrame], pd.DataFrame]:
    """What raw files keep of a run's tables: episodes in blocks (`measured.in_blocks`), of the entries that
    were traced the first MOST_ENTRIES at every r_t, the rest whole."""

    def kept(run: Saved, name: str, table: pd.DataFrame) -> pd.DataFrame:
        if name == ENTRIES and len(table):
            return table.groupby("r_t", sort=False).head(MOST_ENTRIES).reset_index(drop=True)
        return measured.in_blocks(table, run.run) if name == EPISODES else table

    return kept


def publish(preset: str, where: Mapping[str, Any], root: Root, target: Target) -> list[Path]:
    """Draw, write and claim everything; the paths of figures and tables."""
    by_robot, notes = load(preset, where, root)
    announce("left out", notes)
    full = {robot: loaded.full for robot, loaded in by_robot.items()}
    for robot, pool in full.items():
        print(f"{robot}: {len(pool.runs)} runs, seeds {pool.seeds}, n_t = {by_robot[robot].n_t:,}")
        announce("note", pool.notes)
    source, place = f"preset {preset}", target.figures
    paths = figures.figure_3a(full, source, place)
    paths += scaling.figure_3b(by_robot, source, place)
    paths += guarantee.figure_3c(full, source, place)
    paths += classification.figure_3d(full, source, place)
    paths += ablations.figure_ablations(full, source, place)
    paths += report.write(by_robot, target.place)
    for robot, loaded in by_robot.items():
        missing = report.record(robot, loaded, preset, report.TASKS[robot], target.ledger, dirty=target.dirty)
        announce("not claimed", missing)
    for part in apart.PARTS:
        if (other := part.load(preset, where, root)) is not None:
            paths += part.publish(other, preset, target)
    return paths
