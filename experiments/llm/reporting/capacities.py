"""What capacities of the classifier came to on held-out training prompts, where runs chose among them."""

from __future__ import annotations

import pandas as pd

from experiments.llm.reporting.measured import Measured
from experiments.support.results.ratios import mean_interval

PREFIX = "capacity."
"""Begins the methods that are no methods but capacities of the classifier."""


def capacity_rows(measured: Measured) -> pd.DataFrame:
    """What each capacity of the classifier came to on held-out training prompts (`guard.held_out`), over
    runs: reward and auc with t intervals, by how much it earns less than the one that a run took, and how
    many runs took it. Empty where none was chosen.
    """
    frame = measured.frame[measured.frame["method"].str.startswith(PREFIX)]
    if frame.empty:
        return pd.DataFrame()
    wide = frame.pivot_table(index=["run", "method"], columns="metric", values="value", sort=False)
    wide = wide.rename(columns=lambda name: name.removeprefix("held_out.")).reset_index()
    taken = wide[wide["chosen"] == 1].set_index("run")["reward"]
    wide["behind"] = wide["run"].map(taken) - wide["reward"]
    rows = []
    for method, some in wide.groupby("method", sort=False):
        row = {"capacity": str(method).removeprefix(PREFIX), "r_t": float(frame["r_t"].iloc[0])}
        for name in ("reward", "auc", "behind"):
            keys = (name, f"{name}_low", f"{name}_high")
            row |= dict(zip(keys, mean_interval(some[name].to_numpy(dtype=float)), strict=True))
        row |= {"taken": int(some["chosen"].sum()), "runs": len(some), "prompts": int(frame["n"].max())}
        rows.append(row)
    return pd.DataFrame(rows)


def lines(measured: Measured) -> list[str]:
    """The same of a run, for its summary."""
    return [
        f"capacity {row['capacity']}: held-out reward {row['reward']:.3f}, AUC {row['auc']:.3f}"
        + ", taken" * bool(row["taken"])
        for row in capacity_rows(measured).to_dict("records")
    ]
