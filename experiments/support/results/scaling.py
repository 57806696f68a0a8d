"""Figures of something over n_t, the internal test cases: points of runs with a fitted line in log10 n_t."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from experiments.support.results.figures import GREY
from safeframe.scaling_law import ScalingFit, fit_log10

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REACH = 1.6
"""The line goes so far beyond the smallest and the largest n_t."""


def fit(rows: pd.DataFrame, name: str) -> ScalingFit | None:
    """Least squares of a column on log10 n_t, runs taken as independent; None for fewer than two sizes."""
    if rows.empty or rows["n_t"].nunique() < 2:
        return None
    return fit_log10(rows["n_t"].to_numpy(), rows[name].to_numpy())


def slope_text(found: ScalingFit) -> str:
    """Slope with its interval, as text."""
    given = f" [{found.low:.2g}, {found.high:.2g}]" if np.isfinite(found.low) else ""
    return f"{found.slope:.2g}{given}"


def side_by_side(rows: pd.DataFrame, by: float = 1.12) -> np.ndarray:
    """n_t, shifted by a few per cent so that runs of the same n_t do not hide each other."""
    place, count = rows.groupby("n_t").cumcount(), rows.groupby("n_t")["n_t"].transform("size")
    return (rows["n_t"] * by ** (place - (count - 1) / 2)).to_numpy()


def line(axes: Axes, rows: pd.DataFrame, found: ScalingFit, colour: str) -> None:
    """The fitted line with its band, the slope in the corner, n_t on a logarithmic axis."""
    ends = rows["n_t"].min() / REACH, rows["n_t"].max() * REACH
    grid = np.geomspace(*ends, 100)
    fitted, half = found.at(grid)
    axes.fill_between(grid, fitted - half, fitted + half, color=colour, alpha=0.15, linewidth=0)
    axes.plot(grid, fitted, color=colour)
    text = f"slope {slope_text(found)}\nper decade, $R^2$ = {found.r_squared:.2f}"
    axes.annotate(text, (0.03, 0.97), xycoords="axes fraction", va="top", fontsize=7, color=GREY)
    over_n_t(axes, *ends)


def over_n_t(axes: Axes, low: float, high: float, label: str = "internal test cases $n_t$") -> None:
    """Make the horizontal axis that of n_t."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_xlabel(label)


def listed(values: Any, style: Callable[[Any], str] = str) -> str:
    """Different values in order, as text."""
    return ", ".join(style(value) for value in sorted(set(values)))
