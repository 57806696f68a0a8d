"""Points of curves: a method with its setting, r_t or a knob of its own, as pooled results hold them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
import pandas as pd

from experiments.support.results.saved import Saved

P = ParamSpec("P")
Pool = TypeVar("Pool", bound="CurvePoints")


def unique(runs: Iterable[Saved]) -> list[Saved]:
    """Runs without those that are there already, by their id."""
    return list({run.run: run for run in runs}.values())


class CurvePoints:
    """What tables of pooled runs have in common.

    Attributes:
        points: columns method, r_t, knob, from strict to loose within a method.
        runs: columns seed and saved (None where a run was made up).
    """

    points: pd.DataFrame
    runs: pd.DataFrame

    def where(self, method: str) -> np.ndarray:
        """Indices of a method's points, from strict to loose; empty if it was not run."""
        return np.flatnonzero((self.points["method"] == method).to_numpy())

    def at(self, method: str, r_t: float) -> int | None:
        """Where a method's point at r_t is.

        Args:
            method: its name.
            r_t: threshold, equal within 1e-6 of its size.

        Returns:
            The index, None if there is none.
        """
        found = [i for i in self.where(method) if np.isclose(self.points["r_t"].iloc[i], r_t, rtol=1e-6)]
        return int(found[0]) if found else None

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(self.points["method"]))

    @property
    def saved(self) -> list[Saved]:
        """The runs themselves."""
        return [run for run in self.runs["saved"] if run is not None]

    @property
    def seeds(self) -> list[int]:
        return sorted({int(seed) for seed in self.runs["seed"]})


def once(table: Callable[Concatenate[Pool, P], pd.DataFrame]) -> Callable[Concatenate[Pool, P], pd.DataFrame]:
    """The function, working out its table once for each pool of runs and arguments (which must be hashable).

    Figures, tables and claims ask for the same ones. Each gets a copy; they are kept as long as the pool is.
    """
    signature = inspect.signature(table)

    @functools.wraps(table)
    def found(pool: Pool, /, *args: P.args, **options: P.kwargs) -> pd.DataFrame:
        kept = vars(pool).setdefault("_tables", {})
        bound = signature.bind(pool, *args, **options)
        bound.apply_defaults()
        key = (table, *list(bound.arguments.values())[1:])
        if key not in kept:
            kept[key] = table(pool, *args, **options)
        return kept[key].copy()

    return found
