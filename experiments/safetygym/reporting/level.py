"""PointGoal2, a level that nothing was tuned to: its curves as table and figure, and its claims.

Cost and entries count hazards and vases alike; the columns `hazard_entries` and `vase_entries` have them
apart (means over runs, per 1,000 steps, of costs that begin: of hazards, of vases touched or moving).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.safetygym.references import TASK_OF
from experiments.safetygym.reporting import comparison, figures, measured, report
from experiments.safetygym.reporting.measured import Loaded, Measured, same_point
from experiments.safetygym.reporting.rates import CLAIMED, curves, over_threshold
from experiments.support.results.collect import Root
from experiments.support.results.publish import Claimant, Target, announce, write_tables
from experiments.support.results.saved import NoRuns

NAME = "goal2_point"
TASK = TASK_OF[NAME]
COMMAND = "python run.py -m +sweep=figure-3-goal2"
APART = ("hazard_entries", "vase_entries")


def load(preset: str, where: Mapping[str, Any], root: Root) -> Loaded | None:
    """Measured runs of the level; None if there are none, or if other tasks are asked for."""
    if where.get("task", TASK) != TASK:
        return None
    try:
        return measured.load(TASK, preset, where, root)
    except NoRuns:
        return None


def table(pool: Measured) -> pd.DataFrame:
    """One row per point: `rates.curves`, hazards and vases apart, and what is unsafe over r_t."""
    rows = curves(pool)
    for metric in APART:
        found = pool.rows(metric)
        rows[metric] = [
            found.loc[same_point(found, point), "value"].mean() if len(found) else np.nan
            for _, point in rows.iterrows()
        ]
    return over_threshold(rows)


def publish(loaded: Loaded, preset: str, target: Target) -> list[Path]:
    """Figure, table and claims of the level; paths of figure and table."""
    pool = loaded.full
    print(f"{NAME}: {len(pool.runs)} runs, seeds {pool.seeds}, n_t = {loaded.n_t:,}")
    announce("note", pool.notes)
    paths = figures.figure_3a({NAME: pool}, f"preset {preset}", target.figures, "figure_3_goal2")
    paths += write_tables({"safetygym_goal2": table(pool)}, target.place)
    safer = comparison.times_safer(pool)
    missing = report.record(
        NAME, loaded, preset, TASK, safer, target.ledger, dirty=target.dirty, command=COMMAND
    )
    announce("not claimed", missing)
    claim_baselines(loaded, preset, target)
    return paths


def claim_baselines(loaded: Loaded, preset: str, target: Target) -> None:
    """What every agent without a guard earns, costs and enters, useful or not."""
    pool = loaded.full
    claim = Claimant(
        "safetygym", loaded.saved, COMMAND, target.ledger, target.dirty,
        seeds=pool.seeds, preset=preset, data=TASK,
    )  # fmt: skip
    for row in curves(pool).to_dict("records"):
        if row["method"] not in comparison.BASELINES:
            continue
        name = f"{NAME}.{row['method']}" + (f"_{row['knob']:g}" if np.isfinite(row["knob"]) else "")
        for rate, shown, scale in CLAIMED:
            ends = (scale * row[f"{rate}{end}"] for end in ("", "_low", "_high"))
            claim(f"{name}_{shown}", *ends, row["steps"])
