"""What finished runs measured, pooled: counts and revenue per run, point of a curve, and week of validation.

A point is a method with its setting: r_t, or its own knob (larger is stricter), or neither (oracle). A run is
one seed on one order of the quarters. Several runs may validate on the same hours (they share a
`realisation`): then they differ by training alone, and interval over runs says nothing about another year.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from experiments.production.records import (
    COMMITTED_ORDER,
    ORACLE,
    PARTS,
    POINT,
    PRODUCTS,
    WEEKLY,
    WEEKLY_COLUMNS,
)
from experiments.support.errors import ResultsError
from experiments.support.results import collect
from experiments.support.results.points import CurvePoints
from experiments.support.results.saved import NoRuns, Saved


@dataclass(frozen=True)
class Measured(CurvePoints):
    """Pooled runs: sums over the hours of each week.

    Attributes:
        points: columns method, r_t, knob, from strict to loose within a method.
        runs: columns run, seed, order, saved.
        produced: (runs, points, weeks) how often a product was produced.
        violations: (runs, points, weeks) how often one was produced although demand was below 3.
        revenue: (runs, points, weeks).
        hours: (runs, weeks).
        realisation: (runs,): runs with the same number validate on the same hours.
        frame: tidy results with a column run, or None.
        notes: what was left out.
    """

    points: pd.DataFrame
    runs: pd.DataFrame
    produced: np.ndarray
    violations: np.ndarray
    revenue: np.ndarray
    hours: np.ndarray
    realisation: np.ndarray
    frame: pd.DataFrame | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def oracle(self) -> int:
        """The oracle's point. Raises `ResultsError` if it was not run."""
        found = self.where(ORACLE)
        if len(found) != 1:
            raise ResultsError(f"weekly results: {len(found)} points of {ORACLE!r}; exactly one is needed")
        return int(found[0])

    @property
    def shared(self) -> float:
        """Runs per realisation of demand: 1 where every run validates on hours of its own."""
        return len(self.runs) / len(set(self.realisation.tolist()))

    def metric(self, name: str, method: str, r_t: float) -> pd.DataFrame:
        """Rows of a tidy metric at r_t; empty if any run lacks it.

        One per run, in the order of `runs`; columns value, n.
        """
        if self.frame is None:
            return pd.DataFrame(columns=["value", "n"])
        rows = self.frame[(self.frame["method"] == method) & (self.frame["metric"] == name)]
        rows = rows[np.isclose(rows["r_t"].to_numpy(dtype=float), r_t, rtol=1e-6)].set_index("run")
        rows = rows.reindex(self.runs["run"])[["value", "n"]]
        return rows if not rows["value"].isna().any() else rows.iloc[:0]


def gather(parts: Iterable[Mapping[str, Any]]) -> Measured:
    """Pool runs, each a mapping with run, seed, order, weekly (table) and perhaps frame (tidy) and saved.

    Points that some run lacks are left out, with a note. Raises `ResultsError` for no runs, for missing
    columns, for runs of different lengths, and for counts that cannot be.
    """
    parts = [dict(part) for part in parts]
    if not parts:
        raise ResultsError("no runs to pool")
    tables = [_checked(part["weekly"], part["run"]) for part in parts]
    indexed = [_keyed(table) for table in tables]
    counts = pd.Series(np.concatenate([table["point"].unique() for table in indexed])).value_counts()
    lacking = sorted(str(_shown(point)) for point, count in counts.items() if count < len(parts))
    notes = [f"left out, since some runs lack it: {', '.join(lacking)}"] if lacking else []
    kept = [point for point, count in counts.items() if count == len(parts)]
    kept.sort(key=_strict_first(list(dict.fromkeys(tables[0]["method"]))))
    weeks = sorted(indexed[0]["week"].unique())
    sums = {name: np.zeros((len(parts), len(kept), len(weeks))) for name in (*WEEKLY_COLUMNS[5:], "hours")}
    for run, table in enumerate(indexed):
        for name, values in sums.items():
            wide = table.pivot(index="point", columns="week", values=name)
            if sorted(wide.columns) != weeks or wide.loc[kept].isna().to_numpy().any():
                raise ResultsError(
                    f"weekly results of run {parts[run]['run']}: weeks differ between points or runs"
                )
            values[run] = wide.loc[kept, weeks].to_numpy(dtype=float)
    points = pd.DataFrame([_shown(point) for point in kept], columns=POINT)
    runs = pd.DataFrame([{k: p.get(k) for k in ("run", "seed", "order", "saved")} for p in parts])
    frames = [part["frame"].assign(run=part["run"]) for part in parts if part.get("frame") is not None]
    found = Measured(
        points=points,
        runs=runs,
        produced=sums["produced"],
        violations=sums["violations"],
        revenue=sums["revenue"],
        hours=sums["hours"][:, 0],
        realisation=np.zeros(len(parts), dtype=int),
        frame=pd.concat(frames, ignore_index=True) if len(frames) == len(parts) else None,
        notes=notes,
    )
    found.realisation[:] = _realisations(found.revenue[:, found.oracle])
    return found


def _checked(weekly: pd.DataFrame, run: str) -> pd.DataFrame:
    missing = [name for name in WEEKLY_COLUMNS if name not in weekly]
    if missing:
        raise ResultsError(
            f"weekly results of run {run}: missing columns {missing}; needed: {', '.join(WEEKLY_COLUMNS)}"
        )
    wrong = (
        (weekly["violations"] > weekly["produced"]) | (weekly["violations"] < 0) | weekly["revenue"].isna()
    )
    if wrong.any():
        row = weekly[wrong].iloc[0].to_dict()
        raise ResultsError(
            f"weekly results of run {run}: 0 <= violations <= produced and revenue must hold: {row}"
        )
    return weekly


def _keyed(table: pd.DataFrame) -> pd.DataFrame:
    """A column `point`: method, r_t, knob as text, so that NaN equals NaN and rounding does not matter."""
    key = [
        f"{m}|{r:.9g}|{k:.9g}" for m, r, k in zip(table["method"], table["r_t"], table["knob"], strict=True)
    ]
    table = table.assign(point=key)
    if table.duplicated(["point", "week"]).any():
        raise ResultsError(
            f"weekly results: {table[table.duplicated(['point', 'week'])].iloc[0].to_dict()} twice"
        )
    return table


def _shown(point: str) -> tuple[str, float, float]:
    method, r_t, knob = point.split("|")
    return method, float(r_t), float(knob)


def _strict_first(methods: list[str]):
    def order(point: str) -> tuple:
        method, r_t, knob = _shown(point)
        return methods.index(method), np.nan_to_num(r_t), -np.nan_to_num(knob)

    return order


def _realisations(oracle: np.ndarray) -> list[int]:
    """Runs whose oracle earns the same in every week validate on the same hours."""
    found: list[np.ndarray] = []
    numbers = []
    for weekly in oracle:
        same = [i for i, other in enumerate(found) if np.allclose(other, weekly, rtol=1e-4)]
        numbers.append(same[0] if same else len(found))
        found += [] if same else [weekly]
    return numbers


def read(saved: Saved) -> dict[str, Any]:
    """One run as `gather` wants it."""
    return {
        "run": saved.run,
        "saved": saved,
        "seed": saved.seed,
        "order": _order(saved),
        "weekly": saved.table(WEEKLY),
        "frame": saved.table("results"),
    }


def load(
    source: str, preset: str, where: Mapping[str, Any] | None = None, root: collect.Root = collect.RUNS
) -> dict[int, Measured]:
    """Finished runs on `source` in the committed order of the quarters, by the internal test cases that they
    calibrate on (n_t), largest first: all methods with the largest, the guard alone with the others.

    Runs that differ in more than seed, n_t and what is measured are not pooled: those of the configuration
    with the most runs (then the latest) are taken, and the notes say what was left out; `where`
    ({"training.steps": 400}) chooses. Raises `NoRuns` if there are none.
    """
    runs = [run for run in _figure_2(source, preset, where, root) if _order(run) == COMMITTED_ORDER]
    if not runs:
        raise NoRuns(f"no finished run of figure 2 on {source}, preset {preset}")
    best, notes = collect.comparable(runs, (*_FREE, "evaluation.n_t"))
    most = max(n_t(run) for run in best)
    found = {}
    for size in sorted({n_t(run) for run in best}, reverse=True):
        some = [run for run in best if n_t(run) == size and (size < most or set(_parts(run)) == set(PARTS))]
        if not some:
            raise NoRuns(f"no run of figure 2 on {source} with n_t = {size:,} and every method")
        found[size] = gather(read(run) for run in collect.one_a_seed(some, _points))
        found[size].notes.extend(notes)
    return found


def other_orders(
    source: str, preset: str, where: Mapping[str, Any] | None = None, root: collect.Root = collect.RUNS
) -> dict[tuple[int, ...], list[Saved]]:
    """Finished runs of the guard in other orders of the quarters, with the largest n_t of each."""
    found: dict[tuple[int, ...], list[Saved]] = {}
    try:
        runs = _figure_2(source, preset, where, root)
    except NoRuns:
        return found
    for order in sorted({_order(run) for run in runs} - {COMMITTED_ORDER}):
        best, _ = collect.comparable([run for run in runs if _order(run) == order], _FREE)
        found[order] = collect.one_a_seed(best, _points)
    return found


_FREE = ("seed", "data.path", "evaluation.parts")


def _points(run: Saved) -> int:
    """How many points a run has: runs of one seed may differ in what they measure and where the data lie."""
    return len(run.table(WEEKLY)[POINT].drop_duplicates())


def _figure_2(source: str, preset: str, where: Mapping[str, Any] | None, root: collect.Root) -> list[Saved]:
    wanted = {"data.source": source, "preset": preset, **(where or {})}
    runs = collect.required("production", wanted, root)
    return [run for run in runs if run.has(PRODUCTS) and not run.setting("tailoring.relative")]


def _order(run: Saved) -> tuple[int, ...]:
    return tuple(run.setting("data.order") or COMMITTED_ORDER)


def _parts(run: Saved) -> list[str]:
    return list(run.setting("evaluation.parts") or PARTS)


def n_t(run: Saved) -> int:
    """Internal test cases that a run calibrates on."""
    full, asked = int(run.setting("data.hours_per_quarter")), run.setting("evaluation.n_t")
    return full if asked is None else min(int(asked), full)
