"""What is committed of production planning: figures 2, their tables, and the claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.production.records import ALARMS, LIKELIHOODS, ORACLE, PRODUCTS, SERVED, SOURCES, WEEKLY
from experiments.production.reporting import (
    decomposition,
    deployment,
    figures,
    measured,
    mended,
    orders,
    report,
    scaling,
)
from experiments.support.results.collect import Root
from experiments.support.results.points import unique
from experiments.support.results.publish import Target, announce, load_each
from experiments.support.results.saved import RESULTS, Saved

EXPERIMENT = "production"
SWEEP = "python run.py -m +sweep=figure-2"
TABLES = (WEEKLY, PRODUCTS, SERVED, ALARMS, LIKELIHOODS)
"""Raw tables beside the tidy results."""


def load(
    preset: str, where: Mapping[str, Any], root: Root
) -> tuple[dict[str, dict[int, measured.Measured]], list[str]]:
    """Measured runs by source and n_t, and notes on sources without runs; `NoRuns` if none has any."""
    return load_each(SOURCES, lambda source: measured.load(source, preset, where, root))


def runs(preset: str, where: Mapping[str, Any], root: Root) -> list[Saved]:
    """The runs that figures, tables and claims rest on."""
    found, _ = load(preset, where, root)
    kept = [run for by_n_t in found.values() for pool in by_n_t.values() for run in pool.saved]
    for source in SOURCES:
        for some in measured.other_orders(source, preset, where, root).values():
            kept += some
        kept += mended.load(source, preset, where, root)
        for room in (deployment, decomposition):
            for some in room.load(source, preset, where, root).values():
                kept += some
    return unique(kept)


def trim(runs: list[Saved]) -> Callable[[Saved, str, pd.DataFrame], pd.DataFrame]:
    """What raw files keep of a run's tables: all with the largest n_t; of the others, which show the
    scaling in n_t alone, ours at the r_t that it is trained for and the oracle; of mended training what is
    claimed.
    """
    most = max(measured.n_t(run) for run in runs if not run.has(SERVED))

    def kept(run: Saved, name: str, table: pd.DataFrame) -> pd.DataFrame:
        if mended.is_mended(run):
            return table[mended.claimed(table)] if name == RESULTS else table.iloc[:0]
        if measured.n_t(run) == most or run.has(SERVED):
            return table
        if name == PRODUCTS:
            return table[table["method"].eq("ours") & np.isclose(table["r_t"], report.TRAINED_AT, rtol=1e-6)]
        trained = np.isclose(table["r_t"].astype(float), report.TRAINED_AT, rtol=1e-6)
        return table[(table["method"].eq("ours") & trained) | table["method"].eq(ORACLE)]

    return kept


def publish(preset: str, where: Mapping[str, Any], root: Root, target: Target) -> list[Path]:
    """Draw, write and claim everything; the paths of figures and tables."""
    found, notes = load(preset, where, root)
    announce("left out", notes)
    paths: list[Path] = []
    for source, by_n_t in found.items():
        full = by_n_t[max(by_n_t)]
        print(f"{source}: {len(full.runs)} runs, seeds {full.seeds}, n_t = {max(by_n_t):,}")
        announce("note", full.notes)
        paths += figures.figure_2(full, source, directory=target.figures)
        paths += figures.curves_figure(full, source, directory=target.figures)
        paths += scaling.figure_2_scaling(by_n_t, source, directory=target.figures)
        paths += report.write(full, source, target.place)
        missing = report.record(full, source, preset, target.ledger, target.dirty)
        announce("not claimed", missing)
    for source in SOURCES:
        for order, some in measured.other_orders(source, preset, where, root).items():
            pool = measured.gather(measured.read(run) for run in some)
            paths += orders.write(pool, source, order, target.place)
            orders.record(pool, source, order, preset, target)
        mended.record(mended.load(source, preset, where, root), source, preset, target)
        served = deployment.load(source, preset, where, root)
        paths += deployment.publish(served, source, preset, target)
        moved = decomposition.load(source, preset, where, root)
        paths += decomposition.publish(moved, source, preset, target)
    return paths
