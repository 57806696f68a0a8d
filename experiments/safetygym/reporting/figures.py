"""Figure 3A: cost against return, every baseline over its own knob and the guard over r_t, a panel per robot.

Drawn from saved results only. Points pool the runs. Where no step had cost, the point lies on the line
marked 0 and its bar ends at the one-sided 95 % upper limit (`rates`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from experiments.safetygym.reporting.comparison import BASELINES
from experiments.safetygym.reporting.measured import Measured
from experiments.safetygym.reporting.rates import curves
from experiments.support.results import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES = {
    "ours": "ours",
    "ppo": "PPO",
    "ppo_gaussian": "PPO, Gaussian policy",
    "ppo_lag": "PPO-Lag",
    "ppo_lag_long": "PPO-Lag, $3 \\cdot 10^7$ steps",
    "ppo_barrier": "PPO-Barrier",
    "saute": "Sauté PPO",
    "guarded_ppo": "guard around PPO",
    "guarded_ppo_lag": "guard around PPO-Lag",
    "ours_plug_in": "the paper's rule alone",
    "ours_measured_radius": "measured radius $\\xi$",
    "ours_xi_0": "radius $\\xi$ = 0",
    "ours_cross_entropy": "cross-entropy only",
    "ours_mended_training": "mended approximate loss",
    "ours_logits": "logits, half-size network",
    "ours_unguarded_data": "calibrated on unguarded data",
    "ours_logged": "logged labels",
    "ours_branched": "branched labels",
    "ours_per_candidate": "calibrated per candidate",
    "ours_priced": "ours, risk priced",
    "ours_routed": "ours, routed",
    "ours_path_error": "score less the path's predicted error",
}
HOLLOW: dict[str, Any] = {"linestyle": "--", "markerfacecolor": "white"}
LOOKS: dict[str, dict[str, Any]] = {
    "ours": {"color": "#0072B2", "marker": "o"},
    "ppo": {"color": "#000000", "marker": "v"},
    "ppo_gaussian": {"color": "#999999", "marker": "<"},
    "ppo_lag": {"color": "#D55E00", "marker": "s"},
    "ppo_lag_long": {"color": "#D55E00", "marker": "D", **HOLLOW},
    "ppo_barrier": {"color": "#009E73", "marker": "^"},
    "saute": {"color": "#CC79A7", "marker": "D"},
    "guarded_ppo": {"color": "#000000", "marker": "o", **HOLLOW},
    "guarded_ppo_lag": {"color": "#D55E00", "marker": "o", **HOLLOW},
    "ours_plug_in": {"color": "#0072B2", "marker": "X", **HOLLOW},
    "ours_measured_radius": {"color": "#0072B2", "marker": "s", **HOLLOW},
    "ours_xi_0": {"color": "#56B4E9", "marker": "o", **HOLLOW},
    "ours_cross_entropy": {"color": "#E69F00", "marker": "s", **HOLLOW},
    "ours_mended_training": {"color": "#E69F00", "marker": "o", **HOLLOW},
    "ours_logits": {"color": "#009E73", "marker": "^", **HOLLOW},
    "ours_unguarded_data": {"color": "#CC79A7", "marker": "D", **HOLLOW},
    "ours_logged": {"color": "#555555", "marker": "P", **HOLLOW},
    "ours_priced": {"color": "#0072B2", "marker": "P", **HOLLOW},
    "ours_routed": {"color": "#56B4E9", "marker": "o"},
}
SHOWN = ("ours", "ours_routed", "ours_priced", *BASELINES, "guarded_ppo", "guarded_ppo_lag")
GREY = "#555555"


def look(method: str) -> dict[str, Any]:
    """Line, marker, colour and label of a method; a plain grey for one that is not known."""
    return {"label": NAMES.get(method, method), **LOOKS.get(method, {"color": "#777777", "marker": "X"})}


def rail_below(values: np.ndarray | pd.Series) -> float:
    """Where the line that stands for zero lies: below every positive value."""
    seen = np.asarray(values, dtype=float)
    seen = seen[np.isfinite(seen) & (seen > 0)]
    return float(10 ** (np.floor(np.log10(seen.min() if len(seen) else 1.0)) - 0.5))


def panels(by_robot: Mapping[str, Measured]) -> Figure:
    """A panel per robot, one legend below."""
    import matplotlib.pyplot as plt

    tables = {robot: _shown(measured) for robot, measured in by_robot.items()}
    every = pd.concat(list(tables.values()))
    rail = rail_below(pd.concat([every["cost"], every["cost_limit"]]))
    width = figures.PAGE[0] if len(tables) > 1 else 4.4
    figure, grid = plt.subplots(1, len(tables), figsize=(width, 3.6), sharey=True, squeeze=False)
    labels: dict[str, Any] = {}
    for axes, (robot, table) in zip(grid[0], tables.items(), strict=True):
        for method in sorted(table["method"].unique(), key=lambda m: SHOWN.index(m) if m in SHOWN else 99):
            curve(axes, table[table["method"] == method], "return", "cost", rail)
        room = 0.08 * float(np.ptp(table["return"])) + 0.5  # bars of few runs may leave the frame
        axes.set_xlim(table["return"].min() - room, table["return"].max() + room)
        _ends(axes, table[table["method"] == "ours"], rail)
        axes.set_title(robot_title(robot), loc="left", fontweight="bold")
        axes.set_xlabel("return per 1,000 steps")
        labels |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    for axes in grid[0]:
        figures.log_axis_with_zero(axes, rail, max(float(every["cost_high"].max()), 1.0))
    level_2 = any(robot.startswith("goal2_") for robot in tables)
    what = "hazards and vases" if level_2 else "steps in a hazard"
    grid[0][0].set_ylabel(f"cost ({what}) per 1,000 steps")
    figure.legend(labels.values(), labels.keys(), loc="outside lower center", ncols=4 if width > 5 else 3)
    return figure


def robot_title(robot: str) -> str:
    return {"point": "PointGoal1", "car": "CarGoal1", "goal2_point": "PointGoal2"}.get(robot, robot)


def cost_name(robot: str) -> str:
    """What a step costs for."""
    level_2 = "steps in a hazard, or with a vase touched or moving"
    return level_2 if robot.startswith("goal2_") else "steps in a hazard"


def entry_name(robot: str) -> str:
    """What is entered, where costs that begin are counted."""
    return "into a hazard or into contact with a vase" if robot.startswith("goal2_") else "into a hazard"


def _shown(measured: Measured) -> pd.DataFrame:
    """The methods that figure 3A is about; where none was run (an ablation by itself), those that were."""
    table = curves(measured)
    some = table["method"].isin(SHOWN)
    return table[some | (not some.any())]


def curve(axes: Axes, rows: pd.DataFrame, x: str, y: str, rail: float, shift: float = 1.0) -> None:
    """A method's points, strict to loose, joined, with bars; zero counts on the rail with upper limits."""
    style = look(str(rows["method"].iloc[0]))
    zero = rows[f"{y}_limit"].notna().to_numpy()
    across = rows[x].to_numpy(dtype=float) * shift
    height = np.where(zero, rail, rows[y])
    axes.plot(across, height, **style, zorder=4 if style["label"] == NAMES["ours"] else 3)
    bars = {"color": style["color"], "linewidth": 0.8, "alpha": 0.6, "zorder": 2}
    low = np.where(zero, rail, np.maximum(rows[f"{y}_low"], rail))
    high = np.where(zero, rows[f"{y}_limit"], rows[f"{y}_high"])
    axes.vlines(across, low, high, **bars)
    axes.scatter(across[zero], high[zero], marker="_", s=18, **bars)
    if f"{x}_low" in rows and rows[f"{x}_low"].notna().all():
        axes.hlines(height, rows[f"{x}_low"], rows[f"{x}_high"], **bars)


def _ends(axes: Axes, rows: pd.DataFrame, rail: float) -> None:
    """r_t at the ends of ours' curve: the strict one to its left where there is room, for what does better
    with as few costs stands to its right."""
    if rows.empty:
        return
    left, right = axes.get_xlim()
    for at, place in ((0, (5, 15)), (-1, (5, -9))):  # clear of the curve, which rises to the right
        row, side = rows.iloc[at], "left"
        if at == 0 and row["return"] - left > 0.3 * (right - left):
            place, side = (-6, 6), "right"
        height = max(row["cost"], rail)
        text = f"$r_t$ = {power(row['r_t'])}"
        axes.annotate(text, (row["return"], height), place, textcoords="offset points", ha=side,
                      fontsize=6.5, color=LOOKS["ours"]["color"], zorder=5,
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6})  # fmt: skip


def power(value: float) -> str:
    """1e-05 as 10^-5 in mathematics; other numbers as they are."""
    exponent = np.log10(value)
    return (
        f"$10^{{{exponent:.0f}}}$"
        if abs(exponent - round(exponent)) < 1e-6 and value < 0.01
        else f"{value:.2g}"
    )


def units(measured: Measured) -> str:
    """n, seeds and intervals, as every caption says them."""
    episodes = measured.sums["episodes"].sum(axis=(0, 2))
    low, high = int(episodes.min()), int(episodes.max())
    runs = max(len(measured.having(at)) for at in range(len(measured.points)))
    count = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    over = "t over runs" if runs > 1 else "t over episodes"
    return (
        f"{runs} run{'s' * (runs > 1)} of a method (seed{'s' * (len(measured.seeds) > 1)} "
        f"{', '.join(map(str, measured.seeds))}), n = {count} episodes of 1,000 steps per point; intervals "
        f"95 %, {over}, for counts at least as wide as Clopper-Pearson for the share of episodes with cost"
    )


def caption(by_robot: Mapping[str, Measured], source: str) -> str:
    """What figure 3A shows, with n, seeds and which interval."""
    what = [cost_name(robot) for robot in by_robot if robot.startswith("goal2_")] or ["steps inside a hazard"]
    routed = any("ours_routed" in measured.methods for measured in by_robot.values())
    parts = [f"Safety Gym, {source}. Cost ({what[0]}) against return, both per 1,000 steps."]
    parts += [f"{robot_title(robot)}: {units(measured)}." for robot, measured in by_robot.items()]
    parts += [
        "On the line marked 0: no step with cost was seen; the bar ends at the one-sided 95 % upper limit "
        "(Clopper-Pearson for the share of episodes with cost, times the mean cost of such an episode at the "
        "method's strictest points that have some).",
        "Joined: PPO-Lag over its cost limits, Sauté over its budgets, ours and the guards around agents "
        "trained without one (open circles) over r_t. Agents are the same in every run; a run's seed is of "
        "data, "
        "classifier and episodes.",
        *(["Routed: the agent sees its goal where a route around the hazards begins."] if routed else []),
        *(f"Note: {note}." for measured in by_robot.values() for note in measured.notes),
    ]
    return " ".join(parts) + "\n"


def figure_3a(
    by_robot: Mapping[str, Measured], source: str, directory: Path | None = None, name: str = "figure_3a"
) -> list[Path]:
    """Draw figure 3A of one robot or several ({"point": measured, ...}); paths of png, pdf and txt."""
    with figures.style():
        return figures.save(panels(by_robot), name, caption(by_robot, source), directory)
