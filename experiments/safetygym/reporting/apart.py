"""Runs with a table and claims of their own, beside figure 3: another level, other agents, other thresholds.

Where vases cost, cost and entries count hazards and vases alike; the columns `hazard_entries` and
`vase_entries` have them apart (means over runs, per 1,000 steps, of costs that begin: of hazards, of vases
touched or moving).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.safetygym.records import OURS
from experiments.safetygym.references import ROUTED, TASK_OF
from experiments.safetygym.reporting import comparison, figures, measured, report
from experiments.safetygym.reporting.measured import Loaded, Measured, same_point
from experiments.safetygym.reporting.rates import CLAIMED, curves, over_threshold
from experiments.safetygym.reporting.scaling import TRAINED_AT
from experiments.support.results.collect import Root
from experiments.support.results.publish import Claimant, Target, announce, write_tables
from experiments.support.results.saved import NoRuns

SWEEP = "python run.py -m +sweep=figure-3-{}"
MEANS = ("hazard_entries", "vase_entries", "tau")
"""Tidy metrics that the table has as means over runs."""


@dataclass(frozen=True)
class Apart:
    """What belongs together.

    Attributes:
        robot: whose agents: the beginning of their files' names.
        sweep: that makes the runs, and what else its command takes.
        name: of the runs (the configuration's), and behind it the table's ending.
        r_t: threshold that claims are of.
        preset: that the sweep has.
    """

    robot: str
    sweep: str
    name: str = OURS
    r_t: float = TRAINED_AT
    preset: str = "laptop"

    @property
    def task(self) -> str:
        """The task's name."""
        return TASK_OF[self.robot]

    @property
    def title(self) -> str:
        """Second part of every claim: robot, and what is special about its runs."""
        return self.robot + self.name.removeprefix(OURS)

    @property
    def table(self) -> str:
        """Name of its table, and of its figure if it has one."""
        return "goal2" if self.title == "goal2_point" else self.title

    def command(self, preset: str) -> str:
        """What makes its runs."""
        return SWEEP.format(self.sweep) + (f" preset={preset}" if preset != self.preset else "")

    def load(self, preset: str, where: Mapping[str, Any], root: Root) -> Loaded | None:
        """Its runs, their guarded method called ours; None if there are none, or if others are asked for."""
        if where.get("task", self.task) != self.task:
            return None
        named = {} if self.name == OURS else {"name": self.name}
        try:
            loaded = measured.load(self.task, preset, {**named, **where}, root)
        except NoRuns:
            return None
        if self.name == OURS:
            return loaded
        return dataclasses.replace(loaded, full=self._as_ours(loaded.full), trainings=None)

    def _as_ours(self, pool: Measured) -> Measured:
        def renamed(rows: pd.DataFrame) -> pd.DataFrame:
            method = rows["method"].where(rows["method"] != self.name, OURS)
            return rows.assign(method=method.str.removesuffix(ROUTED))

        frame = None if pool.frame is None else renamed(pool.frame)
        return dataclasses.replace(pool, points=renamed(pool.points), frame=frame)

    def publish(self, loaded: Loaded, preset: str, target: Target) -> list[Path]:
        """Table, claims and, for another level, figure; their paths."""
        pool = loaded.full
        print(f"{self.title}: {len(pool.runs)} runs, seeds {pool.seeds}, n_t = {loaded.n_t:,}")
        announce("note", pool.notes)
        paths = write_tables({f"safetygym_{self.table}": table(pool)}, target.place)
        if self.title == self.robot:
            source = f"preset {preset}"
            paths += figures.figure_3a({self.robot: pool}, source, target.figures, f"figure_3_{self.table}")
        missing = report.record(
            self.title, loaded, preset, self.task, target.ledger, self.r_t, target.dirty,
            self.command(preset),
        )  # fmt: skip
        announce("not claimed", missing)
        self._claim_baselines(loaded, preset, target)
        return paths

    def _claim_baselines(self, loaded: Loaded, preset: str, target: Target) -> None:
        """What every agent without a guard earns, costs and enters, useful or not."""
        claim = Claimant(
            "safetygym", loaded.saved, self.command(preset), target.ledger, target.dirty,
            seeds=loaded.full.seeds, preset=preset, data=self.task,
        )  # fmt: skip
        for row in curves(loaded.full).to_dict("records"):
            if row["method"] not in comparison.BASELINES:
                continue
            name = f"{self.title}.{row['method']}" + (f"_{row['knob']:g}" if np.isfinite(row["knob"]) else "")
            for rate, shown, scale in CLAIMED:
                ends = (scale * row[f"{rate}{end}"] for end in ("", "_low", "_high"))
                claim(f"{name}_{shown}", *ends, row["steps"])


PARTS = (
    Apart("goal2_point", "goal2"),
    Apart("car", "strict", "ours_strict", 1e-6, "paper"),
    Apart("car", "strict +ablation=routed name=ours_strict_routed", "ours_strict_routed", 1e-6, "paper"),
    Apart("point", "routed", OURS + ROUTED),
    Apart("car", "routed", OURS + ROUTED),
    Apart("goal2_point", "goal2 +ablation=routed agent.baselines=[]", OURS + ROUTED),
)


def table(pool: Measured) -> pd.DataFrame:
    """One row per point: `rates.curves`, what is unsafe over r_t, and the MEANS."""
    rows = over_threshold(curves(pool))
    for metric in MEANS:
        found = pool.rows(metric)
        rows[metric] = [
            found.loc[same_point(found, point), "value"].mean() if len(found) else np.nan
            for _, point in rows.iterrows()
        ]
    return rows
