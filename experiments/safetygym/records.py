"""What a run of Safety Gym keeps, as its writer and its readers both know it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.support.errors import ResultsError
from experiments.support.files import atomic_path

EPISODES, ENTRIES, RELIABILITY = "episodes", "entries", "reliability"
"""A run's tables: a row for each episode; its entries into hazards at every r_t; shares of unsafe candidates
by margin.
"""
POINT = ["method", "r_t", "knob"]
COUNTED = ("steps", "return", "cost", "entries", "defaults", "judged", "unsafe")
COLUMNS = (*POINT, "episode", *COUNTED)
APART = ("hazard_cost", "hazard_entries", "vase_cost", "vase_entries")
"""Columns of episodes where vases cost too: cost and entries, which count both, by themselves."""
OURS = "ours"
PER = 1000.0
"""Steps: return, cost and entries are given per 1,000 steps, the length of an episode."""
METRES_PER_MARGIN = 0.01
"""A margin of a classifier that predicts paths is minus a clearance in centimetres."""


def episodes(table: pd.DataFrame, method: str, r_t: float = np.nan, knob: float = np.nan) -> pd.DataFrame:
    """One point's evaluation, a row for each episode (columns as `COUNTED`; steps 1,000 if absent), as a run
    keeps it.
    """
    point = {"method": method, "r_t": float(r_t), "knob": float(knob), "episode": np.arange(len(table))}
    steps = {} if "steps" in table else {"steps": int(PER)}
    columns = [*COLUMNS, *(name for name in APART if name in table)]
    return table.reset_index(drop=True).assign(**point, **steps)[columns]


def write(tables: Iterable[pd.DataFrame], directory: Path) -> Path:
    """All points of a run, checked, as episodes.parquet in the run's directory."""
    table = checked(pd.concat(list(tables), ignore_index=True), Path(directory).name)
    with atomic_path(Path(directory) / f"{EPISODES}.parquet") as path:
        table.to_parquet(path, index=False)
    return Path(directory) / f"{EPISODES}.parquet"


def checked(table: pd.DataFrame, run: str) -> pd.DataFrame:
    """The table itself. Raises `ResultsError` if it cannot be a run's episodes."""
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise ResultsError(f"episodes of run {run}: missing columns {missing}; needed: {', '.join(COLUMNS)}")
    if table.empty:
        raise ResultsError(f"episodes of run {run}: there are none; evaluate for one episode at least")
    wrong = (table["cost"] < table["entries"]) | (table["cost"] > table["steps"]) | (table["entries"] < 0)
    wrong |= (table["steps"] <= 0) | table["return"].isna() | (table["unsafe"] > table["judged"])
    if wrong.any():
        row = table[wrong].iloc[0].to_dict()
        raise ResultsError(
            f"episodes of run {run}: 0 <= entries <= cost <= steps, steps > 0, unsafe <= judged and a return "
            f"must hold: {row}"
        )
    twice = table.duplicated([*POINT, "episode"])
    if twice.any():
        raise ResultsError(f"episodes of run {run}: {table[twice].iloc[0].to_dict()} twice")
    return table
