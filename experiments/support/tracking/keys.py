"""The keys under which a run's numbers are tracked: what dashboards may name.

train/NAME/step, train/NAME/loss      while a network is trained
curve/r_t, curve/METHOD/METRIC        results over the threshold, one row for each r_t
METHOD/METRIC, n_t                    the summary: means over all rows of a method and metric; cases
seconds/STAGE                         the summary: how long a stage took
results                               the tidy results, as a table
figures/NAME, episodes/NAME           pictures that the run left
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

R_T = "curve/r_t"
N_T = "n_t"
TABLE = "results"


def key(*parts: str) -> str:
    """Parts joined by slashes; dots within a part are slashes too (trackers read dots as nesting)."""
    return "/".join(part.replace(".", "/") for part in parts)


def loss(name: str) -> tuple[str, str]:
    """Keys of a training's step and loss."""
    return key("train", name, "step"), key("train", name, "loss")


def summary(frame: pd.DataFrame) -> dict[str, float]:
    """Means over the rows of each method and metric, and the number of internal test cases.

    Args:
        frame: tidy results.

    Returns:
        Values by key.
    """
    means = frame.groupby(["method", "metric"])["value"].mean().dropna()
    found = {key(str(method), str(metric)): float(value) for (method, metric), value in means.items()}
    cases = frame["n_t"].dropna()
    return found | ({N_T: float(cases.max())} if len(cases) else {})


def curves(frame: pd.DataFrame) -> list[dict[str, float]]:
    """Results over the threshold: one dictionary for each r_t, ascending, with `curve/r_t` in it.

    Args:
        frame: tidy results.

    Returns:
        Rows; empty where nothing has a threshold.
    """
    over = frame[frame["r_t"].notna() & frame["value"].notna()]
    rows = []
    for r_t, own in over.groupby("r_t"):
        means = own.groupby(["method", "metric"])["value"].mean()
        values = {key("curve", str(m), str(name)): float(value) for (m, name), value in means.items()}
        rows.append({R_T: float(str(r_t)), **values})
    return rows


def seconds(stages: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Times of stages that were not taken from the cache."""
    return {
        key("seconds", name): float(about["seconds"])
        for name, about in stages.items()
        if not about.get("reused") and "seconds" in about
    }


def pictures(directory: Path) -> dict[str, Path]:
    """Pictures that a run left in its directory: figures as PNG, episodes as GIF."""
    found = {key("figures", path.stem): path for path in sorted(directory.glob("*.png"))}
    return found | {key("episodes", path.stem): path for path in sorted(directory.glob("*.gif"))}
