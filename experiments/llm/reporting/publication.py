"""What is committed of language generation: figures 4, their tables, and the claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.llm.records import BLOCKS_TABLE
from experiments.llm.reporting import (
    figures,
    measured,
    people_figure,
    report,
    scaling,
    transfer_figure,
)
from experiments.support.results.collect import Root
from experiments.support.results.points import unique
from experiments.support.results.publish import Target, announce, load_each
from experiments.support.results.saved import Saved

EXPERIMENT = "llm"
SWEEP = "python run.py -m +sweep=figure-4"
TABLES = (BLOCKS_TABLE,)
"""Raw tables beside the tidy results."""
DATA = (
    *measured.SYNTHETIC, "pku", "diasafety", measured.PEOPLE, "hub", "chat",
    *(source + measured.BEST for source in ("pku", "diasafety")),
    *(source + measured.MENDED for source in ("synthetic", "pku", "diasafety")),
)  # fmt: skip


def load(
    preset: str, where: Mapping[str, Any], root: Root
) -> tuple[dict[str, dict[int, measured.Measured]], list[str]]:
    """Measured runs by source of answers and n_t, and notes on sources without runs. `NoRuns` if none has
    any.
    """
    return load_each(DATA, lambda data: measured.load(data, preset, where, root))


def runs(preset: str, where: Mapping[str, Any], root: Root) -> list[Saved]:
    """The runs that figures, tables and claims rest on."""
    found, _ = load(preset, where, root)
    return unique(run for by_n_t in found.values() for pool in by_n_t.values() for run in pool.saved)


def trim(runs: list[Saved]) -> Callable[[Saved, str, pd.DataFrame], pd.DataFrame]:
    """What raw files keep of a run's tables: all of those with the most labelled candidates; of the
    others, which show the scaling in n_t alone, ours at the r_t that it is trained for, and what has no
    threshold.
    """
    whole = {size(run) for run in runs}
    most = None if None in whole else max(whole - {None}, default=None)

    def kept(run: Saved, name: str, table: pd.DataFrame) -> pd.DataFrame:
        if size(run) == most:
            return table
        at = table["r_t"].astype(float)
        ours = table["method"].eq("ours") & (np.isclose(at, run.setting("r_t"), rtol=1e-6) | at.isna())
        return table[ours | table["method"].isin(("default", "oracle", "ai"))]

    return kept


def size(run: Saved) -> int | None:
    """Labelled candidates that a run's thresholds rest on; None: all there are."""
    return run.setting("evaluation.n_t")


def publish(preset: str, where: Mapping[str, Any], root: Root, target: Target) -> list[Path]:
    """Draw, write and claim everything; the paths of figures and tables."""
    found, notes = load(preset, where, root)
    announce("left out", notes)
    paths: list[Path] = []
    for data, by_n_t in found.items():
        full = by_n_t[max(by_n_t)]
        r_t = measured.trained_at(full)
        print(f"{data}: {len(full.runs)} runs, seeds {full.seeds}, n_t = {max(by_n_t):,}")
        announce("note", full.notes)
        drawn = people_figure.figure_people if data == measured.PEOPLE else figures.figure_4
        paths += drawn(full, data, target.figures)
        paths += scaling.figure_4c(by_n_t, data, r_t, target.figures)
        paths += transfer_figure.figure_transfer(full, data, target.figures)
        paths += report.write(by_n_t, data, r_t, target.place)
        announce("not claimed", report.record(by_n_t, data, preset, r_t, target.ledger, target.dirty))
    return paths
