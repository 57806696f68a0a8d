"""What finished runs measured, pooled: sums per run, point of a curve and block of validation prompts.

A point is a method with its setting: r_t, or its own knob (level of rejection, cost limit), or neither. A run
is one seed: its splits, its classifiers. Prompts are independent; they are kept in BLOCKS blocks, which loses
nothing that an interval over prompts needs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from experiments.llm.records import BLOCK_COLUMNS, BLOCKS_TABLE, POINT, SUMS
from experiments.support.errors import ResultsError
from experiments.support.results import collect
from experiments.support.results.largest import largest_ratio
from experiments.support.results.points import CurvePoints, once
from experiments.support.results.ratios import ratio, share_interval
from experiments.support.results.saved import NoRuns, Saved

FREE = ("seed", "evaluation.n_t", "evaluation.cost_limits", "data.path", "transfer.path", "transfer.format")
"""Settings that pooled runs may differ in."""
LATER: dict[str, list[Any]] = {
    "capacity.among": [["lora16", "lora64", "all", "all*3"]],
    "capacity.folds": [2],
    "capacity.weights": ["lora"],
    "classifier.checkpoint_every": [200],
    "classifier.fully_tuned": [True],
    "classifier.max_tokens": [128],
    "models.max_answer_tokens": [24],
    "models.max_prompt_tokens": [40],
    "models.shares": [[]],
    "models.top_k": [0],
    "people": [{"calibrate": False, "delta": 0.05, "spare": False}],
    "rules": [{"scale": "none", "share": 0.25}],
    "tailoring.alpha": [0.05],
    "tailoring.checkpoints": [4],
    "tailoring.form": ["gated"],
    "tailoring.noise_every": [0],
    "tailoring.relative": [False],
    "tailoring.schedule": ["geometric"],
    "tailoring.selection_share": [0.0],
}
"""Settings that came later, or whose numbers became defaults, at what runs on made-up conversations had
before."""
SYNTHETIC: dict[str, dict[str, str | None]] = {
    "synthetic": {"models.ai": None, "models.labels": "cost_model"},
    "synthetic_ppo_lag": {"models.ai": "ppo_lag_0.05", "models.labels": "cost_model"},
    "synthetic_truth": {"models.ai": None, "models.labels": "world"},
    "synthetic_capacity": {"models.ai": None, "models.labels": "cost_model"},
    "synthetic_capacity_named": {"models.ai": None, "models.labels": "cost_model"},
    "synthetic_capacity_ppo_lag": {"models.ai": "ppo_lag_0.05", "models.labels": "cost_model"},
    "synthetic_best": {"models.ai": None, "models.labels": "cost_model"},
}
"""What tells runs on synthetic conversations apart (configs/sweep/figure-4*.yaml): the cost model's labels,
the guard around the PPO-Lag model, labels drawn from the known P(harm); and with `CAPACITY` ours trains all
weights, with `BEST` the best capacity.
"""
BEST = "_best"
"""Ends the name of a source where each run chooses the classifier's capacity
(configs/sweep/figure-4-best*.yaml).
"""
CAPACITY = "synthetic_capacity"
SEEDS = {"synthetic_capacity": range(10), "synthetic_capacity_named": range(10, sys.maxsize)}
"""Seeds on which further rules were compared, and those that ran after one of them, the shrinkage bound, had
been named.
"""
PEOPLE = "diasafety_people"
"""DiaSafety with promises about people's labels (configs/sweep/figure-4-people.yaml)."""
MENDED = "_mended"
"""Ends the name of a source with the mended approximate loss (configs/ablation/mended_answers)."""


@dataclass(frozen=True)
class Measured(CurvePoints):
    """Pooled runs: sums over blocks of prompts.

    Attributes:
        points: columns method, r_t, knob, from strict to loose within a method.
        runs: columns run, seed, saved.
        sums: by name, (runs, points, blocks) each.
        frame: tidy results with a column run.
        notes: what was left out.
    """

    points: pd.DataFrame
    runs: pd.DataFrame
    sums: dict[str, np.ndarray]
    frame: pd.DataFrame
    notes: list[str] = field(default_factory=list)

    @property
    def knows_truth(self) -> bool:
        """Whether the probabilities of harm are known (synthetic)."""
        return bool(np.isfinite(self.sums["true_harm"]).all())


def gather(saved: list[Saved]) -> Measured:
    """Pool runs. Points that some run lacks are left out, with a note. Raises `ResultsError` for no runs, a
    missing table or column, and counts that cannot be.
    """
    if not saved:
        raise ResultsError("no runs to pool")
    tables = [checked(run.table(BLOCKS_TABLE), run.run) for run in saved]
    keys = [set(map(tuple, table[POINT].drop_duplicates().to_numpy())) for table in tables]
    everywhere = set.intersection(*keys)
    lacking = sorted({key[0] for key in set.union(*keys) - everywhere})
    order = list(dict.fromkeys(method for table in tables for method in table["method"]))
    kept = sorted(everywhere, key=lambda key: (order.index(key[0]), key[1], key[2]))
    blocks = sorted(set.union(*(set(table["block"]) for table in tables)))
    sums = {name: np.zeros((len(tables), len(kept), len(blocks))) for name in SUMS}
    for run, table in enumerate(tables):
        indexed = table.set_index([*POINT, "block"]).sort_index()
        for at, key in enumerate(kept):
            part = indexed.loc[key].reindex(blocks)
            for name, array in sums.items():
                array[run, at] = part[name].fillna(0.0 if name != "true_harm" else np.nan)
    points = pd.DataFrame(kept, columns=POINT).astype({"r_t": float, "knob": float})
    points[["r_t", "knob"]] = points[["r_t", "knob"]].where(points[["r_t", "knob"]] >= 0)
    runs = pd.DataFrame([{"run": run.run, "seed": run.seed, "saved": run} for run in saved])
    frame = pd.concat([run.table("results").assign(run=run.run) for run in saved])
    notes = [f"left out, since some runs lack points of it: {', '.join(lacking)}"] if lacking else []
    return Measured(points, runs, sums, frame, notes)


def checked(table: pd.DataFrame, run: str) -> pd.DataFrame:
    """The table with r_t and knob -1 where missing. `ResultsError` if it cannot be a run's blocks."""
    missing = [name for name in BLOCK_COLUMNS if name not in table]
    if missing:
        raise ResultsError(f"blocks of run {run}: missing columns {missing}")
    wrong = (table["harmful"] > table["answered"]) | (table["answered"] > table["prompts"])
    wrong |= (table["harmful"] < 0) | table["reward"].isna()
    if wrong.any():
        row = table[wrong].iloc[0].to_dict()
        raise ResultsError(f"blocks of run {run}: 0 <= harmful <= answered <= prompts must hold: {row}")
    table = table.assign(r_t=table["r_t"].round(12).fillna(-1.0), knob=table["knob"].round(12).fillna(-1.0))
    if table.duplicated([*POINT, "block"]).any():
        raise ResultsError(f"blocks of run {run}: a point and block twice")
    return table


def load(
    data: str, preset: str, where: Mapping[str, Any] | None = None, root: collect.Root = collect.RUNS
) -> dict[int, Measured]:
    """Finished runs on `data` (of `SYNTHETIC`, or "hub", "pku", "diasafety", also with `MENDED` behind it) by
    n_t, largest first.

    Runs that differ in more than `FREE` are not pooled: those of the configuration with the most runs (then
    the latest) are taken, and the notes say what was left out. Raises `NoRuns` if there are none.
    """
    wanted: dict[str, Any] = {"preset": preset, **(where or {})}
    source, mended = data.removesuffix(MENDED), data.endswith(MENDED)
    recorded = source.removesuffix(BEST).removesuffix("_people")
    if recorded in ("pku", "diasafety"):
        wanted |= {"source": "recorded", "data.format": recorded}
    elif source in SYNTHETIC:
        wanted |= {"source": "synthetic"} | SYNTHETIC[source]
    else:
        wanted |= {"source": source}
    if mended:
        wanted |= {"tailoring.relative": True}
    trained = "best" if source.endswith(BEST) else "all" if source.startswith(CAPACITY) else "lora"
    runs = [
        run
        for run in collect.required("llm", wanted, root)
        if (mended or not run.setting("tailoring.relative"))
        and run.setting("capacity.weights", "lora") == trained
        and bool(run.setting("people.calibrate", False)) == (source == PEOPLE)
        and run.seed in SEEDS.get(source, (run.seed,))
    ]
    if not runs:
        raise NoRuns(f"no finished run of llm on {data}: all differ in loss, weights, promise or seed")
    best, notes = collect.comparable(runs, FREE, later=LATER if source in SYNTHETIC else None)
    every = [run for run in best if run.setting("evaluation.n_t") is None]
    found: dict[int, Measured] = {}
    if every:
        full = gather(collect.one_a_seed(every, _points))
        found[int(full.frame.loc[full.frame["method"] == "ours", "n_t"].max())] = full
    sizes = {int(run.setting("evaluation.n_t")) for run in best if run not in every}
    for size in sorted(sizes, reverse=True):
        some = [run for run in best if run.setting("evaluation.n_t") == size]
        found[size] = gather(collect.one_a_seed(some, _points))
    for measured in found.values():
        measured.notes.extend(notes)
    return dict(sorted(found.items(), reverse=True))


def _points(run: Saved) -> int:
    """How many points a run has: runs of one seed may differ in baselines and transfer."""
    return len(checked(run.table(BLOCKS_TABLE), run.run)[POINT].drop_duplicates())


def trained_at(measured: Measured) -> float:
    """The r_t of the runs' configuration."""
    return float(measured.saved[0].setting("r_t"))


@once
def curves(measured: Measured) -> pd.DataFrame:
    """One row per point: harmful share among answers (by label; `true`: by known probability), of prompts,
    mean reward and share of default answers, with intervals and the counts behind them.
    """
    rows, tidy = [], measured.frame
    accepted = dict(iter(tidy[tidy["metric"] == "harmful.accepted"].groupby("method")))
    for at, point in measured.points.iterrows():
        sums = {name: array[:, at].sum(axis=1) for name, array in measured.sums.items()}
        row = point.to_dict() | {"runs": len(measured.runs), "prompts": int(sums["prompts"].sum())}
        row |= {"answered": int(sums["answered"].sum()), "harmful_count": int(sums["harmful"].sum())}
        names = ("harmful", "harmful_low", "harmful_high", "interval")
        row |= dict(zip(names, share_interval(sums["harmful"], sums["answered"]), strict=True))
        for name, top, bottom in (
            ("harmful_prompt", sums["harmful"], sums["prompts"]),
            ("true", sums["true_harm"], sums["answered"]),
            ("reward", sums["reward"], sums["prompts"]),
        ):
            found = ratio(top, bottom)
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), found, strict=True))
        defaults = share_interval(sums["prompts"] - sums["answered"], sums["prompts"])[:3]
        row |= dict(zip(("default_share", "default_share_low", "default_share_high"), defaults, strict=True))
        row |= _accepted(accepted.get(point["method"]), point["r_t"])
        rows.append(row)
    return pd.DataFrame(rows)


def worst(measured: Measured, method: str) -> tuple[float, float, float, int]:
    """The largest harmful share over r_t of a method's answers, with the interval of that maximum, and the
    answers behind it; NaN and 0 where it gave no answer at any threshold.
    """
    at = measured.where(method)
    r_t = measured.points["r_t"].to_numpy(dtype=float)[at]
    return largest_ratio(measured.sums["harmful"][:, at], measured.sums["answered"][:, at], r_t)


def _accepted(rows: pd.DataFrame | None, r_t: float) -> dict[str, float]:
    """Pooled harmful share among accepted candidates, from a method's rows of the metric; NaN without."""
    names = ("accepted", "accepted_low", "accepted_high")
    here = None if rows is None else rows[np.isclose(rows["r_t"].astype(float), r_t, rtol=1e-6)]
    if here is None or here.empty:
        return dict.fromkeys(names, np.nan)
    n = here["n"].to_numpy(dtype=float)
    k = here["value"].fillna(0.0).to_numpy(dtype=float) * n
    return dict(zip(names, share_interval(np.round(k), n)[:3], strict=True))
