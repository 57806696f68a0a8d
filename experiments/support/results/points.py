"""Points of curves: a method with its setting, r_t or a knob of its own, as pooled results hold them."""

from __future__ import annotations

import numpy as np
import pandas as pd


class CurvePoints:
    """What tables of pooled runs have in common. `points`: columns method, r_t, knob, from strict to loose
    within a method. `runs`: a column seed.
    """

    points: pd.DataFrame
    runs: pd.DataFrame

    def where(self, method: str) -> np.ndarray:
        """Indices of a method's points, from strict to loose; empty if it was not run."""
        return np.flatnonzero((self.points["method"] == method).to_numpy())

    def at(self, method: str, r_t: float) -> int | None:
        """The index of a method's point at r_t, None if there is none."""
        found = [i for i in self.where(method) if np.isclose(self.points["r_t"].iloc[i], r_t, rtol=1e-6)]
        return int(found[0]) if found else None

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(self.points["method"]))

    @property
    def seeds(self) -> list[int]:
        return sorted({int(seed) for seed in self.runs["seed"]})
