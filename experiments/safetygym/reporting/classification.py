"""Figure 3D: where classification errs.

Shares of unsafe candidates by predicted clearance, and the decision behind every entry of ours: what was
predicted there and what was true.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from experiments.safetygym.records import ENTRIES, METRES_PER_MARGIN, OURS, RELIABILITY
from experiments.safetygym.reporting.figures import GREY, LOOKS, power, robot_title
from experiments.safetygym.reporting.measured import Measured
from experiments.safetygym.reporting.scaling import TRAINED_AT
from experiments.support.results import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOOSEST = 0.025
"""Entries at thresholds up to this one are shown."""
CM = 100.0


def _read(measured: Measured, name: str) -> pd.DataFrame:
    """A table (`ENTRIES`, `RELIABILITY`) of all runs of ours, with a column seed; empty if no run has it."""
    ours = measured.having(int(measured.where(OURS)[0])) if len(measured.where(OURS)) else []
    runs = [measured.runs["saved"].iloc[run] for run in ours]
    tables = [run.table(name).assign(seed=run.seed) for run in runs if run is not None and run.has(name)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def entry_table(by_robot: Mapping[str, Measured]) -> pd.DataFrame:
    """Decisions behind entries per robot and r_t.

    Columns: recorded (entries traced), accepted (decision: an accepted candidate that was unsafe), default
    (decision: the default action), unexplained (labels find no unsafe decision), inevitable (no candidate was
    safe any more at the decision), medians of predicted and true clearance (cm) of accepted ones, of speed
    (m/s) and of the steps from the decision to the entry.
    """
    rows = []
    for robot, measured in by_robot.items():
        found = _read(measured, ENTRIES)
        for r_t, group in found.groupby("r_t") if len(found) else ():
            explained = group["clearance"] <= 0
            accepted = group[explained & (group["candidate"] >= 0)]
            row: dict[str, Any] = {"robot": robot, "r_t": r_t, "recorded": len(group)}
            row |= {"accepted": len(accepted), "unexplained": int((~explained).sum())}
            row["default"] = len(group) - row["accepted"] - row["unexplained"]
            row["inevitable"] = int((group["possible"] <= 0).sum())
            row["predicted_cm"] = -CM * METRES_PER_MARGIN * accepted["margin"].median()
            row["true_cm"] = CM * accepted["clearance"].median()
            rows.append(row | {"speed": group["speed"].median(), "age": group["age"].median()})
    return pd.DataFrame(rows)


def panels(by_robot: Mapping[str, Measured], r_t: float) -> Figure:
    """A row per robot: shares by predicted clearance with tau at r_t, and entries."""
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(
        len(by_robot), 2, figsize=(figures.PAGE[0], 2.5 * len(by_robot)), squeeze=False
    )
    for (left, right), (robot, measured) in zip(grid, by_robot.items(), strict=True):
        table = _read(measured, RELIABILITY)
        table = table[table["n"] > 0]
        clearance = -CM * METRES_PER_MARGIN * 0.5 * (table["low"] + table["high"])
        left.scatter(clearance, table["unsafe"] / table["n"], s=5, color=LOOKS[OURS]["color"], linewidth=0)
        tau = measured.rows("tau", OURS)
        tau = tau[np.isclose(tau["r_t"].astype(float), r_t, rtol=1e-6)]["value"]
        places = -CM * METRES_PER_MARGIN * tau.astype(float)
        for place in places:
            left.axvline(place, color=GREY, linestyle=":", linewidth=0.9)
        if len(places):
            text, corner = f"$\\tau$ at $r_t$ = {power(r_t)}", ("data", "axes fraction")
            left.annotate(text, (places.max(), 1.0), (3, -8), corner, textcoords="offset points",
                          fontsize=6.5, color=GREY)  # fmt: skip
        left.set_xlim(-3, 4)
        seen = table["unsafe"][table["unsafe"] > 0] / table["n"][table["unsafe"] > 0]
        rail = 10 ** np.floor(np.log10(seen.min())) / 3 if len(seen) else 1e-6
        figures.log_axis_with_zero(left, float(rail), 1.0)
        left.set_ylabel("share that is unsafe")
        left.set_title(robot_title(robot), loc="left", fontweight="bold")
        found = _read(measured, ENTRIES)
        found = found[(found["r_t"] <= LOOSEST) & (found["clearance"] <= 0)] if len(found) else found
        for number, (threshold, group) in enumerate(found.groupby("r_t") if len(found) else ()):
            colour, accepted = figures.PALETTE[number % len(figures.PALETTE)], group[group["candidate"] >= 0]
            right.scatter(-CM * METRES_PER_MARGIN * accepted["margin"], CM * accepted["clearance"], s=7,
                          color=colour, linewidth=0, alpha=0.7,
                          label=f"{power(threshold)}: {len(accepted)}")  # fmt: skip
        right.axhline(0.0, color=GREY, linewidth=0.6)
        right.set_ylabel("true clearance, cm")
        if len(found):
            right.legend(title="accepted, unsafe,\nat $r_t$", loc="upper left", bbox_to_anchor=(1.01, 1.0),
                         borderaxespad=0.0, title_fontsize=6.5)  # fmt: skip
        else:
            right.annotate(f"no entry at $r_t \\leq$ {power(LOOSEST)}", (0.5, 0.5), xycoords="axes fraction",
                           ha="center", fontsize=7, color=GREY)  # fmt: skip
    for axes in grid[-1]:
        axes.set_xlabel("predicted clearance, cm")
    return figure


def caption(by_robot: Mapping[str, Measured], source: str, r_t: float) -> str:
    """What figure 3D shows, with n and seeds."""
    parts = [
        f"Safety Gym, {source}, ours. Left: candidates of the internal test data (never trained on) by "
        "predicted clearance, the least distance between predicted braking path and hazard's edge, moved by "
        "the learned offset; share whose label is unsafe; dotted: tau at "
        f"r_t = {r_t:g}, one line per run. Candidates to the right of it are accepted. Right: the decision "
        "behind each entry: predicted and true clearance of accepted candidates that were unsafe. "
        "Decisions that are default actions are in results/tables/safetygym_entries.csv."
    ]
    for robot, measured in by_robot.items():
        table, found = _read(measured, RELIABILITY), _read(measured, ENTRIES)
        shown = found[found["r_t"] <= LOOSEST] if len(found) else found
        seeds = ", ".join(map(str, sorted(set(table["seed"]))))
        parts.append(
            f"{robot_title(robot)}: seeds {seeds}; n = {int(table['n'].sum()):,} candidates, {len(shown)} "
            f"entries traced at r_t up to {LOOSEST:g}."
        )
    return " ".join(parts) + "\n"


def figure_3d(
    by_robot: Mapping[str, Measured], source: str, directory: Path | None = None, r_t: float = TRAINED_AT
) -> list[Path]:
    """Draw figure 3D for the robots whose runs kept entries; paths of png, pdf and txt, [] if none did."""
    having = {robot: m for robot, m in by_robot.items() if len(_read(m, RELIABILITY))}
    if not having:
        return []
    with figures.style():
        return figures.save(panels(having, r_t), "figure_3d", caption(having, source, r_t), directory)
