"""Points of curves: a method with its setting, r_t or a knob of its own, as pooled results hold them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from experiments.support.results.saved import Saved


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
