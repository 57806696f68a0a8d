"""Figure 3B: the score of ours at one threshold against n_t, the internal test cases, with a fitted line.

Score = return - 10 log10(cost), both per 1,000 steps; no cost at all counts as half a step in the fewest
steps that any of the runs took. A robot that always brakes has a good score too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.safetygym.records import OURS, PER
from experiments.safetygym.reporting.figures import GREY, LOOKS, robot_title
from experiments.safetygym.reporting.measured import Loaded, Measured
from experiments.safetygym.reporting.rates import floored
from experiments.support.results import figures
from safeframe.scaling_law import ScalingFit, fit_log10

TRAINED_AT = 1e-4


def scaling_rows(by_n_t: Mapping[int, Measured], r_t: float = TRAINED_AT, method: str = OURS) -> pd.DataFrame:
    """Per run: n_t, seed, return, cost and score per 1,000 steps at r_t, counts of steps and of steps with
    cost (columns steps, cost_total), share of default actions; sorted by n_t and seed. Costs below half a
    step in the fewest steps of any run count as that, so that no run scores more for having run longer.
    """
    rows = []
    for n_t, measured in by_n_t.items():
        at = measured.at(method, r_t)
        if at is None:
            continue
        for run in measured.having(at):
            total = {name: float(values[run, at].sum()) for name, values in measured.sums.items()}
            earned = PER * total["return"] / total["steps"]
            row = {"n_t": n_t, "seed": int(measured.runs["seed"].iloc[run]), "return": earned}
            row |= {"cost": PER * total["cost"] / total["steps"]}
            row |= {"default_share": total["defaults"] / total["steps"]}
            rows.append(row | {"steps": round(total["steps"]), "cost_total": round(total["cost"])})
    columns = ["n_t", "seed", "return", "cost", "default_share", "steps", "cost_total"]
    table = pd.DataFrame(rows, columns=columns).sort_values(["n_t", "seed"], ignore_index=True)
    least = floored(0.0, float(table["steps"].min())) if len(table) else 0.0
    table.insert(4, "score", table["return"] - 10 * np.log10(np.maximum(table["cost"], least)))
    return table


def scaling_fit(rows: pd.DataFrame) -> ScalingFit | None:
    """Least squares of the score on log10 n_t, runs taken as independent; None for fewer than two sizes."""
    if rows["n_t"].nunique() < 2:
        return None
    return fit_log10(rows["n_t"].to_numpy(), rows["score"].to_numpy())


def figure_3b(
    by_robot: Mapping[str, Loaded], source: str, directory: Path | None = None, r_t: float = TRAINED_AT
) -> list[Path]:
    """A panel per robot that was run at two n_t or more.

    Returns:
        Paths of png, pdf and txt; an empty list if none was.
    """
    import matplotlib.pyplot as plt

    tables = {robot: scaling_rows(loaded.by_n_t, r_t) for robot, loaded in by_robot.items()}
    fits = {robot: fit for robot, rows in tables.items() if (fit := scaling_fit(rows)) is not None}
    if not fits:
        return []
    with figures.style():
        width = figures.PAGE[0] if len(fits) > 1 else 4.2
        figure, grid = plt.subplots(1, len(fits), figsize=(width, figures.PAGE[1]), squeeze=False)
        for axes, (robot, fit) in zip(grid[0], fits.items(), strict=True):
            rows, colour = tables[robot], LOOKS[OURS]["color"]
            reach = np.geomspace(rows["n_t"].min() / 1.6, rows["n_t"].max() * 1.6, 100)
            line, half = fit.at(reach)
            axes.fill_between(reach, line - half, line + half, color=colour, alpha=0.15, linewidth=0)
            axes.plot(reach, line, color=colour)
            side = _side_by_side(rows)
            for zero, face in ((False, colour), (True, "white")):
                chosen = (rows["cost_total"] == 0).to_numpy() == zero
                label = "no step with cost" if zero else None
                axes.scatter(
                    side[chosen], rows["score"][chosen], s=14, facecolor=face, edgecolor=colour,
                    linewidth=0.9, zorder=3, label=label if chosen.any() else None,
                )  # fmt: skip
            if (rows["cost_total"] == 0).any():
                axes.legend(loc="lower right")
            axes.set_xscale("log")
            axes.set_xlabel("internal test cases $n_t$")
            axes.set_title(robot_title(robot), loc="left", fontweight="bold")
            shown = f"slope {slope_text(fit)}\nper decade, $R^2$ = {fit.r_squared:.2f}"
            axes.annotate(shown, (0.03, 0.97), xycoords="axes fraction", va="top", fontsize=7, color=GREY)
        grid[0][0].set_ylabel("score = return $-$ 10 log$_{10}$ cost")
        text = caption({robot: tables[robot] for robot in fits}, fits, source, r_t)
        return figures.save(figure, "figure_3b", text, directory)


def _side_by_side(rows: pd.DataFrame) -> np.ndarray:
    """n_t, shifted by a few per cent so that runs of the same n_t do not hide each other."""
    place, count = rows.groupby("n_t").cumcount(), rows.groupby("n_t")["n_t"].transform("size")
    return (rows["n_t"] * 1.12 ** (place - (count - 1) / 2)).to_numpy()


def slope_text(fit: ScalingFit) -> str:
    """Slope with its interval, as text."""
    given = f" [{fit.low:.2g}, {fit.high:.2g}]" if np.isfinite(fit.low) else ""
    return f"{fit.slope:.2g}{given}"


def caption(
    tables: Mapping[str, pd.DataFrame], fits: Mapping[str, ScalingFit], source: str, r_t: float
) -> str:
    """What figure 3B shows, with n, seeds and which interval."""
    parts = [
        f"Safety Gym, {source}. Score of ours at r_t = {r_t:g}, return - 10 log10(cost), both per 1,000 "
        "steps, "
        "against the internal test cases n_t that thresholds are calibrated on."
    ]
    for robot, fit in fits.items():
        rows = tables[robot]
        sizes, zero = sorted(rows["n_t"].unique()), int((rows["cost_total"] == 0).sum())
        parts.append(
            f"{robot_title(robot)}: n = {len(rows)} runs, seeds "
            f"{', '.join(map(str, sorted(set(rows['seed']))))}, "
            f"n_t = {', '.join(f'{size:,}' for size in sizes)}; {rows['steps'].min():,} to "
            f"{rows['steps'].max():,} steps each; slope {slope_text(fit)} per decade, R² = "
            f"{fit.r_squared:.3f}; "
            f"{zero} without a step with cost."
        )
    parts.append(
        "Points: runs, shifted sideways by a few per cent; open: no step with cost, which counts as half a "
        "step in the fewest steps of any run (so a robot that always brakes scores well). Line: least "
        "squares on log10 n_t; band and brackets: 95 % t intervals of line and slope, runs taken as "
        "independent, although those of one seed share agent and classifier data."
    )
    return " ".join(parts) + "\n"
