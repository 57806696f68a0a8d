"""What finished runs measured, pooled: sums per run, point of a curve and block of episodes.

A point is a method with its setting: r_t, or its own knob (cost limit, budget), or neither (ppo). A run is
one seed: its agents, its classifiers, its evaluation. Steps of an episode depend on each other, episodes of
one agent do not: they are the units, kept in at most BLOCKS blocks of equal size, which loses nothing that
an interval over episodes needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from experiments.support.errors import ResultsError
from experiments.support.files import atomic_path
from experiments.support.results import collect
from experiments.support.results import frames as results
from experiments.support.results.points import CurvePoints

EPISODES = "episodes.parquet"
POINT = ["method", "r_t", "knob"]
COUNTED = ("steps", "return", "cost", "entries", "defaults", "judged", "unsafe")
COLUMNS = (*POINT, "episode", *COUNTED)
OURS = "ours"
BLOCKS = 100
FREE = (
    "seed",
    "internal_test.n_t",
    "agent.baselines",
    "evaluation.thresholds",
    "evaluation.baseline_steps",
    "evaluation.steps_at_r_t",
)
"""Settings that pooled runs may differ in."""
PER = 1000.0
"""Steps: return, cost and entries are given per 1,000 steps, the length of an episode."""
HALF_STEP = 0.5
"""Of cost, what a count of zero is taken as where a logarithm is needed."""


@dataclass(frozen=True)
class Measured(CurvePoints):
    """`sums[name]` (runs, points, blocks) of steps, return, cost (steps inside a hazard), entries, episodes
    and hit (episodes with cost); zero where a run lacks a point.

    `points`: columns method, r_t, knob, from strict to loose within a method. `runs`: columns run, seed,
    directory. `frame`: tidy results of all runs with a column run, or None. `notes`: what was left out.
    """

    points: pd.DataFrame
    runs: pd.DataFrame
    sums: dict[str, np.ndarray]
    frame: pd.DataFrame | None = None
    notes: list[str] = field(default_factory=list)

    def at(self, method: str, r_t: float) -> int | None:
        """A method's point at the largest threshold that is not above r_t; None if there is none."""
        found = [i for i in self.where(method) if self.points["r_t"].iloc[i] <= r_t * (1 + 1e-6)]
        return int(max(found, key=lambda i: self.points["r_t"].iloc[i])) if found else None

    def having(self, at: int) -> np.ndarray:
        """Indices of the runs that have a point."""
        return np.flatnonzero(self.sums["episodes"][:, at].sum(axis=1) > 0)

    def total(self, name: str, at: int) -> float:
        return float(self.sums[name][:, at].sum())

    def rows(self, metric: str, method: str | None = None) -> pd.DataFrame:
        """Tidy rows of a metric that have a value; empty without tidy results."""
        if self.frame is None:
            return pd.DataFrame(columns=[*results.COLUMNS, "knob", "run"])
        rows = self.frame[(self.frame["metric"] == metric) & self.frame["value"].notna()]
        return rows if method is None else rows[rows["method"] == method]


def episodes(table: pd.DataFrame, method: str, r_t: float = np.nan, knob: float = np.nan) -> pd.DataFrame:
    """One point's evaluation, a row for each episode (columns as `COUNTED`; steps 1,000 if absent), as a run
    keeps it.
    """
    point = {"method": method, "r_t": float(r_t), "knob": float(knob), "episode": np.arange(len(table))}
    steps = {} if "steps" in table else {"steps": int(PER)}
    return table.reset_index(drop=True).assign(**point, **steps)[list(COLUMNS)]


def write(tables: Iterable[pd.DataFrame], directory: Path) -> Path:
    """All points of a run, checked, as episodes.parquet in the run's directory."""
    table = checked(pd.concat(list(tables), ignore_index=True), Path(directory).name)
    with atomic_path(Path(directory) / EPISODES) as path:
        table.to_parquet(path, index=False)
    return Path(directory) / EPISODES


def read(directory: Path, finished: bool = True) -> dict[str, Any]:
    """One run's files as `gather` wants them; `finished`: the tidy results too, checked against DONE."""
    path = Path(directory) / EPISODES
    if not path.is_file():
        raise ResultsError(
            f"{path} is missing: was the run made by an older version? force=true runs it again"
        )
    place = path.parent / "config.yaml"
    config = OmegaConf.load(place) if place.is_file() else None
    return {
        "run": path.parent.name,
        "directory": path.parent,
        "seed": OmegaConf.select(config, "seed", default=0) if config is not None else 0,
        "episodes": pd.read_parquet(path),
        "frame": results.read(path.parent) if finished else None,
    }


def gather(parts: Iterable[Mapping[str, Any]]) -> Measured:
    """Pool runs, each a mapping with run, seed, episodes (table) and perhaps frame (tidy) and directory.

    Points that some, not all, of the runs that have the method lack are left out, with a note. Raises
    `ResultsError` for no runs, missing columns, points given twice and counts that cannot be.
    """
    parts = [dict(part) for part in parts]
    if not parts:
        raise ResultsError("no runs to pool")
    tables = [checked(part["episodes"], part["run"]) for part in parts]
    points = [set(map(tuple, table[POINT].fillna(-1.0).drop_duplicates().to_numpy())) for table in tables]
    having: dict[str, int] = {}
    for found in points:
        for method in {point[0] for point in found}:
            having[method] = having.get(method, 0) + 1
    everywhere = [p for p in set().union(*points) if sum(p in found for found in points) == having[p[0]]]
    lacking = sorted(set().union(*points) - set(everywhere))
    shorter = [f"{m} at {r:.3g}" if r >= 0 else f"{m} at {k:.3g}" if k >= 0 else m for m, r, k in lacking]
    order = list(dict.fromkeys(method for table in tables for method in table["method"].unique()))
    everywhere.sort(key=lambda p: (order.index(p[0]), p[1], p[2]))
    blocks = min(BLOCKS, min(int(table.groupby(POINT, dropna=False).size().min()) for table in tables))
    sums = {
        name: np.zeros((len(parts), len(everywhere), blocks))
        for name in (*COUNTED, "episodes", "hit", "unsafe_hit")
    }
    for run, table in enumerate(tables):
        table = table.assign(episodes=1, hit=table["cost"] > 0, unsafe_hit=table["unsafe"] > 0)
        table[["r_t", "knob"]] = table[["r_t", "knob"]].fillna(-1.0)
        for point, group in table.groupby(POINT, sort=False):
            if point in everywhere:
                starts = np.linspace(0, len(group), blocks, endpoint=False).astype(int)
                for name, array in sums.items():
                    array[run, everywhere.index(point)] = np.add.reduceat(
                        group[name].to_numpy(dtype=float), starts
                    )
    shown = pd.DataFrame(everywhere, columns=POINT).astype({"r_t": float, "knob": float})
    shown[["r_t", "knob"]] = shown[["r_t", "knob"]].where(shown[["r_t", "knob"]] >= 0)
    frames = [part["frame"].assign(run=part["run"]) for part in parts if part.get("frame") is not None]
    return Measured(
        points=shown,
        runs=pd.DataFrame([{k: part.get(k) for k in ("run", "seed", "directory")} for part in parts]),
        sums=sums,
        frame=pd.concat(frames, ignore_index=True) if len(frames) == len(parts) else None,
        notes=[f"left out, since some runs lack it: {', '.join(shorter)}"] if lacking else [],
    )


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


@dataclass(frozen=True)
class Loaded:
    """Runs of a task. `full`: those with most thresholds, every method, all calibrated on `n_t` cases.
    `by_n_t`: those of ours that differ in nothing but seed and n_t, by n_t, largest first; perhaps other
    settings than `full`.
    """

    full: Measured
    n_t: int
    by_n_t: dict[int, Measured]


def load(task: str, preset: str, where: Mapping[str, Any] | None = None, root: Path = collect.RUNS) -> Loaded:
    """Finished runs of a task.

    Runs of one method that differ in more than seed, n_t, baselines and thresholds are not pooled: those of
    the configuration with most thresholds (then the most runs, then the latest) are taken, and the notes
    say what was left out; `where` chooses. Baselines come from the runs of ours if there are any, since the
    others repeat them. Raises `ResultsError` if there are none.
    """
    wanted = {"task": task, "preset": preset, **(where or {})}
    by_name: dict[str, list[Path]] = {}
    for directory in collect.finished("safetygym", wanted, root):
        by_name.setdefault(_setting(directory, "name", OURS), []).append(directory)
    if not by_name:
        shown = ", ".join(f"{key}={value}" for key, value in wanted.items())
        raise ResultsError(f"no finished run of safetygym with {shown} under {root}")
    scaling, _ = collect.comparable(
        by_name.get(OURS, []), FREE, lambda group: (len(_sizes(group)), len(group))
    )
    notes: list[str] = []
    chosen: dict[str, list[Path]] = {}
    for name, directories in by_name.items():
        chosen[name], _ = collect.comparable(directories, FREE, _most_thresholds)
        rest = [x for x in directories if x in chosen[name] or x not in scaling]
        notes += [f"{name}: {note}" for note in collect.comparable(rest, FREE, _most_thresholds)[1]]
    first = chosen.get(OURS) or next(iter(chosen.values()))
    n_t = max((_most_thresholds([x for x in first if _n_t(x) == size])[0], size) for size in _sizes(first))[1]
    parts = []
    for name, directories in chosen.items():
        for part in map(read, (x for x in directories if _n_t(x) == n_t)):
            if name != OURS and OURS in chosen:
                for key in ("episodes", "frame"):
                    part[key] = part[key][part[key]["method"] == name]
            parts.append(part)
    full = gather(parts)
    full.notes.extend(notes)
    sizes = sorted(_sizes(scaling), reverse=True)
    return Loaded(
        full, n_t, {size: gather(map(read, (x for x in scaling if _n_t(x) == size))) for size in sizes}
    )


def _setting(directory: Path, key: str, default: Any) -> Any:
    return OmegaConf.select(OmegaConf.load(directory / "config.yaml"), key, default=default)


def _n_t(directory: Path) -> int:
    return int(_setting(directory, "internal_test.n_t", 0))


def _sizes(directories: list[Path]) -> set[int]:
    return {_n_t(directory) for directory in directories}


def _most_sizes(directories: list[Path]) -> tuple[int, int]:
    return len(_sizes(directories)), len(directories)


def _most_thresholds(directories: list[Path]) -> tuple[int, int]:
    most = max(len(_setting(directory, "evaluation.thresholds", [])) for directory in directories)
    return most, len(directories)
