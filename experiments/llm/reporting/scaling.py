"""Figure 4C: the combined score of ours at one threshold against n_t, with a fitted line.

Score = reward on the scale from the default answer (0) to the oracle (1), less one tenth of log10 of the
harmful share among the answers given ((k + 1/2) / (n + 1); without an answer: the share of the model alone).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.llm.reporting.comparison import corrected
from experiments.llm.reporting.figures import LOOKS, TITLES
from experiments.llm.reporting.measured import Measured
from experiments.support.results import figures
from safeframe.scaling_law import ScalingFit, fit_log10

WEIGHT = 0.1
"""Of a tenfold smaller harmful share, in units of the reward's scale."""
COLUMNS = ["n_t", "seed", "score", "reward_share", "harmful", "count", "answered", "default_share"]


def scaling_rows(by_n_t: Mapping[int, Measured], r_t: float, method: str = "ours") -> pd.DataFrame:
    """Per run: n_t, seed, score and what it is made of, sorted by n_t and seed."""
    rows = []
    for n_t, measured in by_n_t.items():
        at = measured.at(method, r_t)
        if at is None:
            continue
        sums = {name: array.sum(axis=2) for name, array in measured.sums.items()}
        reward = sums["reward"] / sums["prompts"]
        nothing, best = (reward[:, measured.where(name)[0]] for name in ("default", "oracle"))
        gained = (reward[:, at] - nothing) / (best - nothing)
        alone = measured.where("ai")[0]
        answered = sums["answered"][:, at]
        shares = corrected(sums["harmful"][:, at], answered)
        unguarded = corrected(sums["harmful"][:, alone], sums["answered"][:, alone])
        for run, seed in enumerate(measured.runs["seed"]):
            used = shares[run] if answered[run] else unguarded[run]
            row = {"n_t": n_t, "seed": int(seed), "score": gained[run] - WEIGHT * np.log10(used)}
            row |= {"reward_share": gained[run], "harmful": shares[run]}
            row |= {"count": int(sums["harmful"][run, at]), "answered": int(answered[run])}
            rows.append(row | {"default_share": 1.0 - answered[run] / sums["prompts"][run, at]})
    return pd.DataFrame(rows, columns=COLUMNS).sort_values(["n_t", "seed"], ignore_index=True)


def scaling_fit(rows: pd.DataFrame) -> ScalingFit | None:
    """Least squares of the score on log10 n_t; None for fewer than two sizes."""
    return fit_log10(rows["n_t"], rows["score"]) if rows["n_t"].nunique() > 1 else None


def figure_4c(
    by_n_t: Mapping[int, Measured], data: str, r_t: float, directory: Path | None = None
) -> list[Path]:
    """Score and harmful share against n_t; an empty list for fewer than two sizes."""
    import matplotlib.pyplot as plt

    rows = scaling_rows(by_n_t, r_t)
    fit = scaling_fit(rows)
    if fit is None:
        return []
    colour = LOOKS["ours"]["color"]
    with figures.style():
        figure, (left, right) = plt.subplots(1, 2, figsize=figures.PAGE)
        grid = np.geomspace(rows["n_t"].min() / 1.5, rows["n_t"].max() * 1.5, 100)
        line, half = fit.at(grid)
        left.fill_between(grid, line - half, line + half, color=colour, alpha=0.15, linewidth=0)
        left.plot(grid, line, color=colour)
        place, count = rows.groupby("n_t").cumcount(), rows.groupby("n_t")["n_t"].transform("size")
        side = rows["n_t"] * 1.1 ** (place - (count - 1) / 2)
        left.scatter(side, rows["score"], s=14, color=colour, alpha=0.8, linewidth=0, zorder=3)
        left.set_ylabel("score")
        shown = f"slope {slope_text(fit)}\nper decade, $R^2$ = {fit.r_squared:.2f}"
        left.annotate(shown, (0.03, 0.97), xycoords="axes fraction", va="top", fontsize=7, color="#555555")
        left.set_title("C", loc="left", fontweight="bold")
        answered = rows["answered"] > 0
        right.scatter(side[answered], 100 * rows["harmful"][answered], s=14, color=colour, linewidth=0)
        right.axhline(100 * r_t, color="#555555", linestyle=":", linewidth=1.0)
        right.annotate("$r_t$", (1.0, 100 * r_t), xycoords=("axes fraction", "data"), xytext=(-3, 3),
                       textcoords="offset points", ha="right", fontsize=7, color="#555555")  # fmt: skip
        silent = ~answered
        hollow = {"s": 14, "facecolor": "white", "edgecolor": colour, "linewidth": 0.8, "zorder": 3}
        right.scatter(side[silent], np.zeros(silent.sum()), label="only default answers", **hollow)
        if silent.any():
            right.legend(loc="center left")
        right.set_ylim(bottom=-0.05 * 100 * r_t)
        right.set_ylabel("harmful share among answers (%)")
        for axes in (left, right):
            axes.set_xscale("log")
            axes.set_xlim(grid[0], grid[-1])
            axes.set_xlabel("labelled candidates $n_t$")
        return figures.save(figure, f"figure_4c_{data}", _caption(rows, fit, data, r_t), directory)


def _caption(rows: pd.DataFrame, fit: ScalingFit, data: str, r_t: float) -> str:
    none = int((rows["answered"] == 0).sum())
    return (
        f"Language generation, {TITLES.get(data, data)}. Score of ours at r_t = {r_t:g} against the labelled "
        f"internal test candidates n_t that thresholds are calibrated on: reward (0: default answer, 1: best "
        f"harmless candidate) less {WEIGHT:g} log10 of the harmful share among the answers given. n = "
        f"{len(rows)} runs, seeds {', '.join(map(str, sorted(set(rows['seed']))))}, n_t = "
        f"{', '.join(f'{n:,}' for n in sorted(set(rows['n_t'])))}; {none} runs gave no answer (score: reward "
        f"0, the harmful share of the model alone; open on the right). Slope {slope_text(fit)} "
        f"per decade, R² = {fit.r_squared:.3f}; band and brackets: 95 % t intervals of line and slope, runs "
        "taken as independent, although those of one seed share prompts and classifier. Points are shifted "
        "sideways by a few per cent.\n"
    )


def slope_text(fit: ScalingFit) -> str:
    """Slope with its interval, as text."""
    given = f" [{fit.low:.2g}, {fit.high:.2g}]" if np.isfinite(fit.low) else ""
    return f"{fit.slope:.2g}{given}"
