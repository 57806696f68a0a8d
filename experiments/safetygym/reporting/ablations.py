"""What each part of the method is worth: every variant of the guard at the r_t it was trained for.

A variant is ours with one thing changed, run under a name of its own (configs/ablation).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from experiments.safetygym.records import OURS
from experiments.safetygym.reporting.comparison import BASELINES
from experiments.safetygym.reporting.figures import GREY, NAMES, rail_below, robot_title, units
from experiments.safetygym.reporting.measured import Measured
from experiments.safetygym.reporting.rates import curves
from experiments.safetygym.reporting.scaling import TRAINED_AT
from experiments.support.results import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROBOTS = {
    "point": {"color": figures.PALETTE[0], "marker": "o"},
    "car": {"color": figures.PALETTE[1], "marker": "s"},
}
SHOWN = {"return": "return", "cost": "cost", "unsafe": "unsafe accepted", "default_share": "default actions"}


def ablation_table(by_robot: Mapping[str, Measured], r_t: float = TRAINED_AT) -> pd.DataFrame:
    """One row per robot and variant at r_t (ours first): every rate with its interval, counts, the bound
    and the acceptance that were calibrated (means over runs), and xi.
    """
    rows = []
    for robot, measured in by_robot.items():
        table = curves(measured)
        variants = [m for m in measured.methods if m not in BASELINES and measured.at(m, r_t) is not None]
        for method in sorted(variants, key=lambda m: (m != OURS, _place(m))):
            at = measured.at(method, r_t)
            assert at is not None
            row = {"robot": robot} | table.loc[at].drop("knob").to_dict()
            for metric in ("bound", "acceptance"):
                tidy = measured.rows(metric, method)
                tidy = tidy[np.isclose(tidy["r_t"].astype(float), row["r_t"], rtol=1e-6)]
                row[metric] = float(tidy["value"].mean()) if len(tidy) else np.nan
                row["xi"] = float(tidy["xi"].mean()) if len(tidy) else np.nan
            rows.append(row)
    return pd.DataFrame(rows)


def _place(method: str) -> int:
    names = list(NAMES)
    return names.index(method) if method in names else len(names)


def panels(table: pd.DataFrame, r_t: float) -> Figure:
    """A row per variant, a panel per quantity, robots beside each other."""
    import matplotlib.pyplot as plt

    methods = list(dict.fromkeys(table.sort_values("method", key=lambda m: m.map(_place))["method"]))
    methods = sorted(methods, key=lambda m: m != OURS)
    robots = list(dict.fromkeys(table["robot"]))
    figure, grid = plt.subplots(
        1, len(SHOWN), figsize=(figures.PAGE[0], 1.25 + 0.28 * len(methods)), sharey=True, squeeze=False
    )
    for axes, (name, label) in zip(grid[0], SHOWN.items(), strict=True):
        logarithmic = name in ("cost", "unsafe")
        rail = rail_below(pd.concat([table[name], table[f"{name}_limit"]])) if logarithmic else -np.inf
        for number, robot in enumerate(robots):
            rows = table[table["robot"] == robot].set_index("method").reindex(methods)
            shift = 0.2 * (number - (len(robots) - 1) / 2)
            _dots(axes, rows, name, np.arange(len(methods)) + shift, rail, robot)
        if logarithmic:
            high = table[[f"{name}_high", name]].max(axis=None)
            shown = r_t if name == "unsafe" else 0.0
            figures.log_axis_with_zero(axes, rail, max(float(high), 10 * rail, shown), "x")
        if name == "unsafe":
            axes.axvline(r_t, color=GREY, linestyle=":", linewidth=1.0)
            axes.annotate("$r_t$", (r_t, 1.0), (2, -7), ("data", "axes fraction"), textcoords="offset points",
                          fontsize=7, color=GREY)  # fmt: skip
        axes.set_xlabel(label)
        axes.grid(visible=False, axis="y")
    grid[0][0].set_yticks(range(len(methods)), [NAMES.get(method, method) for method in methods])
    grid[0][0].set_ylim(len(methods) - 0.5, -0.5)
    handles, labels = grid[0][0].get_legend_handles_labels()
    if len(robots) > 1:
        figure.legend(handles, labels, loc="outside lower center", ncols=len(robots))
    return figure


def _dots(axes: Axes, rows: pd.DataFrame, name: str, height: np.ndarray, rail: float, robot: str) -> None:
    style = ROBOTS.get(robot, {"color": "#777777", "marker": "X"})
    limit = rows.get(f"{name}_limit", pd.Series(np.nan, rows.index))
    zero = limit.notna().to_numpy()
    value = np.where(zero & np.isfinite(rail), rail, rows[name])
    low = np.maximum(np.where(zero, value, rows[f"{name}_low"]), rail)
    high = np.where(zero, limit, rows[f"{name}_high"])
    axes.hlines(height, low, high, color=style["color"], linewidth=0.9, alpha=0.7)
    axes.plot(value, height, linestyle="none", label=robot_title(robot), **style)


def caption(by_robot: Mapping[str, Measured], source: str, r_t: float) -> str:
    """What the figure of ablations shows, with n, seeds and which interval."""
    parts = [
        f"Safety Gym, {source}. Variants of the guard at r_t = {r_t:g}, each ours with one thing changed; "
        "guards "
        "around PPO and PPO-Lag: around agents trained without one. Return and cost (steps inside a hazard) "
        "per "
        "1,000 steps; share of truly unsafe among accepted actions (dotted: r_t); share of default actions."
    ]
    parts += [f"{robot_title(robot)}: {units(measured)}." for robot, measured in by_robot.items()]
    parts.append("On the line marked 0: none was seen; the bar ends at the one-sided 95 % upper limit.")
    return " ".join(parts) + "\n"


def figure_ablations(
    by_robot: Mapping[str, Measured], source: str, directory: Path | None = None, r_t: float = TRAINED_AT
) -> list[Path]:
    """Draw the ablations; paths of png, pdf and txt, an empty list if only ours was run."""
    table = ablation_table(by_robot, r_t)
    if table.empty or set(table["method"]) <= {OURS}:
        return []
    with figures.style():
        return figures.save(
            panels(table, r_t), "figure_3_ablations", caption(by_robot, source, r_t), directory
        )
