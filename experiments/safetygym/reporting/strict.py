"""The Car under thresholds far below figure 3's, calibrated on more cases than the paper's: table and claims.

What can be promised ends where one unsafe state more than was seen exceeds r_t; more cases move that end.
Runs of `+sweep=figure-3-strict` are known by their name (`NAME`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.safetygym.references import TASK_OF
from experiments.safetygym.reporting import measured
from experiments.safetygym.reporting.measured import Loaded, Measured, same_point
from experiments.safetygym.reporting.rates import CLAIMED, curves, over_threshold
from experiments.support.results.collect import Root
from experiments.support.results.publish import Claimant, Target, announce, write_tables
from experiments.support.results.saved import NoRuns

ROBOT, NAME = "car", "ours_strict"
COMMAND = "python run.py -m +sweep=figure-3-strict"


def load(preset: str, where: Mapping[str, Any], root: Root) -> Loaded | None:
    """Measured runs under strict thresholds; None if there are none, or if other tasks are asked for."""
    if where.get("task", TASK_OF[ROBOT]) != TASK_OF[ROBOT]:
        return None
    try:
        return measured.load(TASK_OF[ROBOT], preset, {"name": NAME, **where}, root)
    except NoRuns:
        return None


def table(pool: Measured) -> pd.DataFrame:
    """One row per threshold: `rates.curves`, what is unsafe over r_t, and tau (mean over runs)."""
    rows = over_threshold(curves(pool))
    rows = rows[rows["method"] == NAME]
    found = pool.rows("tau")
    return rows.assign(
        tau=[found.loc[same_point(found, point), "value"].mean() for _, point in rows.iterrows()]
    )


def publish(loaded: Loaded, preset: str, target: Target) -> list[Path]:
    """Table and claims (at the strictest threshold); the table's path."""
    pool = loaded.full
    print(f"{ROBOT}, strict: {len(pool.runs)} runs, seeds {pool.seeds}, n_t = {loaded.n_t:,}")
    announce("note", pool.notes)
    rows = table(pool)
    claim = Claimant(
        "safetygym", loaded.saved, COMMAND, target.ledger, target.dirty,
        seeds=pool.seeds, preset=preset, data=TASK_OF[ROBOT],
    )  # fmt: skip
    strictest = rows.loc[rows["r_t"].idxmin()]
    for rate, shown, scale in CLAIMED:
        ends = (scale * strictest[f"{rate}{end}"] for end in ("", "_low", "_high"))
        claim(f"{ROBOT}.strict_{shown}", *ends, strictest["steps"])
    return write_tables({"safetygym_strict": rows}, target.place)
