"""Figure 3C: does the promise hold? Unsafe among accepted actions against r_t, per step and per episode."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from experiments.safetygym.records import OURS, PER
from experiments.safetygym.references import ROUTED
from experiments.safetygym.reporting.comparison import worst
from experiments.safetygym.reporting.figures import GREY, LOOKS, curve, rail_below, robot_title, units
from experiments.safetygym.reporting.measured import Measured
from experiments.safetygym.reporting.rates import curves
from experiments.support.results import figures
from experiments.support.results.largest import sentence

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = (OURS, OURS + ROUTED, "ours_xi_0", "ours_unguarded_data", "ours_logged", "guarded_ppo")
UNGUARDED = ("ppo", "ppo_lag")


def panels(by_robot: Mapping[str, Measured]) -> Figure:
    """Per robot a column: above per accepted action, below per episode; one legend below."""
    import matplotlib.pyplot as plt

    tables = {robot: curves(measured) for robot, measured in by_robot.items()}
    every = pd.concat(list(tables.values()))
    every = every[every["method"].isin(SHOWN)]
    width = figures.PAGE[0] if len(tables) > 1 else 4.4
    figure, grid = plt.subplots(
        2, len(tables), figsize=(width, 5.0), sharex=True, sharey="row", squeeze=False, height_ratios=(1, 0.9)
    )
    names = [method for method in SHOWN if (every["method"] == method).any()]
    labels: dict[str, Any] = {}
    reach = np.array([every["r_t"].min() / 1.6, 1.6])
    fine = np.geomspace(*reach, 200)
    for row, (name, promised) in enumerate(
        {"unsafe": fine, "violation": 1 - (1 - fine.clip(max=1)) ** PER}.items()
    ):
        rail = rail_below(pd.concat([every[name], every[f"{name}_limit"]]))
        for axes, (robot, table) in zip(grid[row], tables.items(), strict=True):
            for index, method in enumerate(names):
                rows = table[(table["method"] == method) & table[name].notna()]
                if len(rows):
                    curve(axes, rows, "r_t", name, rail, 1.07 ** (index - (len(names) - 1) / 2))
            axes.plot(fine, promised, color=GREY, linestyle=":", linewidth=1.0, zorder=1)
            axes.set_xscale("log")
            if row == 0:
                axes.set_title(robot_title(robot), loc="left", fontweight="bold")
                _bound(axes, by_robot[robot])
            else:
                _levels(axes, table, reach)
                axes.set_xlabel("threshold $r_t$")
            labels |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        for axes in grid[row]:
            figures.log_axis_with_zero(axes, rail, 1.0)
            axes.set_xlim(*reach)
    for axes, text in zip(grid[:, 0], ("y = x", "1 $-$ (1 $-$ $r_t$)$^{1000}$"), strict=True):
        place = {"xycoords": "axes fraction", "ha": "right", "fontsize": 7, "color": GREY}
        axes.annotate(f"dotted: {text}", (0.98, 0.12), **place)
    grid[0][0].set_ylabel("unsafe among accepted actions")
    grid[1][0].set_ylabel("episodes with cost")
    figure.legend(labels.values(), labels.keys(), loc="outside lower center", ncols=4 if width > 5 else 3)
    return figure


def _bound(axes: Axes, measured: Measured) -> None:
    """The calibrated bound of ours, mean over runs."""
    rows = measured.rows("bound", OURS)
    if len(rows):
        mean = rows.groupby("r_t")["value"].mean()
        mean = mean[mean > 0]
        style = {"color": LOOKS[OURS]["color"], "linewidth": 0.9, "linestyle": (0, (5, 1.5, 1, 1.5))}
        axes.plot(mean.index, mean, label="calibrated bound (ours)", zorder=3, **style)


def _levels(axes: Axes, table: pd.DataFrame, reach: np.ndarray) -> None:
    """Agents without a guard, which have no r_t, as level lines: the least of their settings."""
    for method in UNGUARDED:
        rows = table[table["method"] == method]
        if len(rows):
            style = {"color": LOOKS[method]["color"], "linewidth": 0.9, "alpha": 0.8}
            label = {"ppo": "PPO, no guard", "ppo_lag": "PPO-Lag, strictest, no guard"}[method]
            axes.hlines(rows["violation"].min(), *reach, linestyle=(0, (4, 1.5)), label=label, **style)


def caption(by_robot: Mapping[str, Measured], source: str) -> str:
    """What figure 3C shows, with n, seeds and which interval."""
    parts = [
        f"Safety Gym, {source}. Above: share of truly unsafe among accepted actions (labels looked up in the "
        "simulator every so many steps) against r_t, which it must not exceed (dotted); dash-dotted: the "
        "bound that "
        "was calibrated, mean over runs. Below: share of episodes with cost; dotted: what r_t at each of "
        "1,000 steps "
        "would allow if steps were independent; level lines: agents without a guard."
    ]
    for robot, measured in by_robot.items():
        judged = measured.sums["judged"].sum(axis=(0, 2)).astype(int)
        judged = judged[judged > 0]
        looked = (
            f"; {judged.min():,} to {judged.max():,} accepted actions judged per point" if len(judged) else ""
        )
        parts.append(f"{robot_title(robot)}: {units(measured)}{looked}.")
        for name, method in (("ours", OURS), ("ours with routed agents", OURS + ROUTED)):
            parts.append(sentence(f"unsafe share of {name}", worst(measured, method), "runs and episodes"))
    parts.append(
        "On the line marked 0: none was seen; the bar ends at the one-sided 95 % upper limit. Points are "
        "shifted "
        "sideways by a few per cent so that they do not hide each other."
    )
    return " ".join(part for part in parts if part) + "\n"


def figure_3c(by_robot: Mapping[str, Measured], source: str, directory: Path | None = None) -> list[Path]:
    """Draw figure 3C of one robot or several; paths of png, pdf and txt, none if nothing was guarded."""
    if not any(len(measured.where(method)) for measured in by_robot.values() for method in SHOWN):
        return []
    with figures.style():
        return figures.save(panels(by_robot), "figure_3c", caption(by_robot, source), directory)
