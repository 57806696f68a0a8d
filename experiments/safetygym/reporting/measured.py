"""What finished runs measured, pooled: sums per run, point of a curve and block of episodes.

A point is a method with its setting: r_t, or its own knob (cost limit, budget), or neither (ppo). A run is
one seed: its agents, its classifiers, its evaluation. Steps of an episode depend on each other, episodes of
one agent do not: they are the units, kept in at most BLOCKS blocks of equal size, which loses nothing that
an interval over episodes needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from experiments.safetygym.learning_settings import ChoiceSettings, PathErrorSettings
from experiments.safetygym.records import COUNTED, EPISODES, OURS, POINT, checked
from experiments.safetygym.references import ROUTED
from experiments.support.errors import ResultsError
from experiments.support.results import collect, frames
from experiments.support.results.points import CurvePoints, unique
from experiments.support.results.saved import Saved
from experiments.support.tailoring_settings import AnchoredTailoringSettings

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
LATER: dict[str, list[Any]] = {
    "path_error": [asdict(PathErrorSettings())],
    "tailoring": [asdict(AnchoredTailoringSettings())],
    "agents": [{"training_seed": 0}],
    "choice": [asdict(ChoiceSettings())],
}
"""Sections that came later, at their defaults: a run without them is one that has them."""
HALF_STEP = 0.5
"""Of cost, what a count of zero is taken as where a logarithm is needed."""


@dataclass(frozen=True)
class Measured(CurvePoints):
    """Pooled runs: sums over blocks of episodes.

    Attributes:
        points: columns method, r_t, knob, from strict to loose within a method.
        runs: columns run, seed, training (of its agents, `agents.training_seed`), saved.
        sums: by name, (runs, points, blocks) of steps, return, cost (steps inside a hazard), entries,
            episodes and hit (episodes with cost); zero where a run lacks a point.
        frame: tidy results of all runs with a column run, or None.
        notes: what was left out.
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
            return pd.DataFrame(columns=[*frames.COLUMNS, "knob", "run"])
        rows = self.frame[(self.frame["metric"] == metric) & self.frame["value"].notna()]
        return rows if method is None else rows[rows["method"] == method]


def same_point(rows: pd.DataFrame, point: pd.Series) -> np.ndarray:
    """(n,) bool, which rows are of a point: its method, and its r_t and knob, or neither."""
    alike = (rows["method"] == point["method"]).to_numpy()
    for key in ("r_t", "knob"):
        values = rows[key].to_numpy(dtype=float)
        here = np.isnan(values) if np.isnan(point[key]) else np.isclose(values, point[key], rtol=1e-6)
        alike = alike & here
    return alike


def training(run: Saved) -> int:
    """Which training of the agents a run is about."""
    return int(run.setting("agents.training_seed", 0))


def read(saved: Saved) -> dict[str, Any]:
    """One run as `gather` wants it."""
    return {
        "run": saved.run,
        "saved": saved,
        "seed": saved.seed,
        "training": training(saved),
        "episodes": saved.table(EPISODES),
        "frame": saved.table("results"),
    }


def _unit(rows: pd.DataFrame) -> pd.Series:
    """What a run measures whole or not at all: a method, one with a knob for each of its values."""
    return rows["method"].astype(str) + rows["knob"].map(lambda knob: f" {knob:.6g}" if knob >= 0 else "")


def each_once(parts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Parts of `gather` in which no episode counts twice.

    Runs of one seed around the same agents, which differ in their baselines or thresholds, repeat one
    another: of such runs the one with most thresholds of a method (with its knob, if it has one), then with
    most episodes, gives it. A run that is left without anything is left out.
    """
    parts = [dict(part) for part in parts]
    best: dict[tuple, tuple[tuple[int, int], int]] = {}
    for index, part in enumerate(parts):
        for name, rows in part["episodes"].groupby(_unit(part["episodes"])):
            episodes = rows["episodes"].sum() if "episodes" in rows else len(rows)
            rank = (len(rows[POINT].drop_duplicates()), int(episodes))
            key = (part["seed"], part["training"], name)
            if key not in best or best[key][0] < rank:
                best[key] = (rank, index)
    for index, part in enumerate(parts):
        mine = (part["seed"], part["training"])
        others = [key[2] for key, (_, at) in best.items() if key[:2] == mine and at != index]
        for key in ("episodes", "frame"):
            if others and part.get(key) is not None:
                part[key] = part[key][~_unit(part[key]).isin(others)]
    return [part for part in parts if len(part["episodes"])]


def gather(parts: Iterable[Mapping[str, Any]]) -> Measured:
    """Pool runs, each a mapping with run, seed, episodes (table) and perhaps frame (tidy) and saved.

    Points that some, not all, of the runs that have the method (with its knob) lack are left out, with a
    note. Raises `ResultsError` for no runs, missing columns, points given twice and counts that cannot be.
    """
    parts = [dict(part) for part in parts]
    if not parts:
        raise ResultsError("no runs to pool")
    tables = [checked(part["episodes"], part["run"]) for part in parts]
    points = [set(map(tuple, table[POINT].fillna(-1.0).drop_duplicates().to_numpy())) for table in tables]
    having: dict[tuple[str, float], int] = {}
    for found in points:
        for unit in {(method, knob) for method, _, knob in found}:
            having[unit] = having.get(unit, 0) + 1
    everywhere = [
        p for p in set().union(*points) if sum(p in found for found in points) == having[p[0], p[2]]
    ]
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
        table = counted(table)
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
        runs=pd.DataFrame([{k: part.get(k) for k in ("run", "seed", "training", "saved")} for part in parts]),
        sums=sums,
        frame=pd.concat(frames, ignore_index=True) if len(frames) == len(parts) else None,
        notes=[f"left out, since some runs lack it: {', '.join(shorter)}"] if lacking else [],
    )


def counted(table: pd.DataFrame) -> pd.DataFrame:
    """Episodes with columns episodes, hit (episodes with cost) and unsafe_hit; blocks have them already."""
    if "episodes" in table:
        return table
    hits = {"hit": table["cost"] > 0, "unsafe_hit": table["unsafe"] > 0}
    return table.assign(episodes=1, **{name: values.astype(int) for name, values in hits.items()})


def in_blocks(table: pd.DataFrame, run: str, most: int = BLOCKS) -> pd.DataFrame:
    """Episodes of a run summed in `most` blocks of equal size for each point (one for each episode where
    there are fewer), in the same columns and those of `counted`: figures need no
    more, since they pool blocks.
    """
    parts = []
    for point, group in counted(checked(table, run)).groupby(POINT, sort=False, dropna=False):
        count = min(most, len(group))
        starts = np.linspace(0, len(group), count, endpoint=False).astype(int)
        names = (*COUNTED, "episodes", "hit", "unsafe_hit")
        sums = {name: np.add.reduceat(group[name].to_numpy(), starts) for name in names}
        parts.append(pd.DataFrame({**dict(zip(POINT, point, strict=True)), "episode": range(count), **sums}))
    return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True)
class Loaded:
    """Runs of a task.

    Attributes:
        full: those with most thresholds, every method, all calibrated on `n_t` cases.
        n_t: internal test cases of `full`.
        by_n_t: those of ours that differ in nothing but seed and n_t, by n_t, largest first; perhaps other
            settings than `full`.
        trainings: ours of `full`, routed or not, together with the same runs around agents of other
            trainings; None without any.
        variants: by name, runs of a variant of ours that was run at several n_t, by n_t, largest first.
    """

    full: Measured
    n_t: int
    by_n_t: dict[int, Measured]
    trainings: Measured | None = None
    variants: dict[str, dict[int, Measured]] = field(default_factory=dict)

    @property
    def saved(self) -> list[Saved]:
        """All runs behind figures of the first training, each once."""
        sizes = (self.by_n_t, *self.variants.values())
        return unique(
            run for pool in (self.full, *(m for by in sizes for m in by.values())) for run in pool.saved
        )

    @property
    def kept(self) -> list[Saved]:
        """All runs behind it, those around agents of other trainings too."""
        return unique([*self.saved, *(self.trainings.saved if self.trainings else [])])


def load(
    task: str, preset: str, where: Mapping[str, Any] | None = None, root: collect.Root = collect.RUNS
) -> Loaded:
    """Finished runs of a task.

    Runs of one method that differ in more than seed, n_t, baselines and thresholds are not pooled: those of
    the configuration with most thresholds (then the most runs, then the latest) are taken, and the notes
    say what was left out; `where` chooses. Baselines come from the runs of ours if there are any, since the
    others repeat them. All are of the first training of the agents that there is; runs of others join them in
    `trainings` alone. Raises `NoRuns` if there are none.
    """
    by_name: dict[str, list[Saved]] = {}
    found = collect.required("safetygym", {"task": task, "preset": preset, **(where or {})}, root)
    first = min(map(training, found))
    for run in (x for x in found if training(x) == first):
        by_name.setdefault(_name(run), []).append(run)
    scaling, _ = collect.comparable(
        by_name.get(OURS, []), FREE, lambda group: (len(_sizes(group)), len(group)), LATER
    )
    notes: list[str] = []
    chosen: dict[str, list[Saved]] = {}
    for name, runs in by_name.items():
        chosen[name], _ = collect.comparable(runs, FREE, _most_thresholds, LATER)
        rest = [x for x in runs if x in chosen[name] or x not in scaling]
        notes += [f"{name}: {note}" for note in collect.comparable(rest, FREE, _most_thresholds, LATER)[1]]
    main = chosen.get(OURS) or next(iter(chosen.values()))
    n_t = max((_most_thresholds([x for x in main if _n_t(x) == size])[0], size) for size in _sizes(main))[1]
    parts = []
    for name, runs in chosen.items():
        for part in map(read, (x for x in runs if _n_t(x) == n_t)):
            if name != OURS and OURS in chosen:
                for key in ("episodes", "frame"):
                    part[key] = part[key][part[key]["method"] == name]
            parts.append(part)
    once = each_once(parts)
    repeated = {part["run"] for part in parts} - {part["run"] for part in once}
    if repeated:
        notes.append(f"{len(repeated)} runs left out: others of their seed have all of them")
    full = gather(once)
    full.notes.extend(notes)
    several = {name: runs for name, runs in chosen.items() if name != OURS and len(_sizes(runs)) > 1}
    variants = {name: _by_size(runs) for name, runs in several.items()}
    alike = {name: [x for x in chosen.get(name, []) if _n_t(x) == n_t] for name in (OURS, OURS + ROUTED)}
    again = _trainings(alike, [x for x in found if training(x) != first and _n_t(x) == n_t])
    return Loaded(full, n_t, _by_size(scaling), again, variants)


def _by_size(runs: list[Saved]) -> dict[int, Measured]:
    """Runs pooled by n_t, largest first."""
    sizes = sorted(_sizes(runs), reverse=True)
    return {size: gather(each_once(map(read, (x for x in runs if _n_t(x) == size)))) for size in sizes}


def _trainings(first: Mapping[str, list[Saved]], others: list[Saved]) -> Measured | None:
    """Runs around agents of the first training, by name, with those of others that differ in nothing else."""
    free = {*FREE, "agents"}
    alike = [
        other
        for name, runs in first.items()
        for other in others
        if runs
        and _name(other) == name
        and len(collect.comparable([runs[0], other], free, later=LATER)[0]) == 2
    ]
    whole = [*(run for runs in first.values() for run in runs), *alike]
    return gather(each_once(map(read, whole))) if alike else None


def _name(run: Saved) -> str:
    return str(run.setting("name", OURS))


def _n_t(run: Saved) -> int:
    return int(run.setting("internal_test.n_t", 0))


def _sizes(runs: list[Saved]) -> set[int]:
    return {_n_t(run) for run in runs}


def _most_thresholds(runs: list[Saved]) -> tuple[int, int]:
    return max(len(run.setting("evaluation.thresholds", [])) for run in runs), len(runs)
