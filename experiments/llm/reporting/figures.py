"""Figures 4A (reward over harmful share) and 4B (harmful share over r_t, with y = x), from results.

Points pool the runs. Where no answer was harmful the point lies on the line marked 0 and its bar ends at the
upper limit of its interval.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from experiments.llm.reporting import capacities
from experiments.llm.reporting.measured import MENDED, Measured, curves, gather, worst
from experiments.support.results import figures
from experiments.support.results.largest import sentence
from experiments.support.results.saved import of_directory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES = {
    "ours": "ours",
    "ours_priced": "ours, risk priced",
    "ours_priced_certified": "ours, risk priced, price certified",
    "ours_shrinkage": "ours, shrinkage bound",
    "ours_accepted": "ours, calibrated per accepted candidate",
    "ours_paper": "ours, the paper's event and sampling",
    "ours_xi_0": r"ours, $\xi$ = 0",
    "cross_entropy": "cross-entropy, guarded as ours",
    "cross_entropy_xi_0": r"cross-entropy, $\xi$ = 0",
    "cross_entropy_accepted": "cross-entropy LoRA, bias correction",
    "learn_then_test": "Learn then Test",
    "rejection_sampling": "rejection sampling",
    "rejection_best": "rejection, best by reward",
    "ppo_lag": "PPO-Lag",
    "ai": "model alone",
    "best_of_k": "best of k",
}
HOLLOW: dict[str, Any] = {"linestyle": "--", "markerfacecolor": "white"}
LOOKS: dict[str, dict[str, Any]] = {
    "ours": {"color": "#0072B2", "marker": "o"},
    "ours_priced": {"color": "#CC3311", "marker": "o"},
    "ours_priced_certified": {"color": "#AA3377", "marker": "d"},
    "ours_shrinkage": {"color": "#332288", "marker": "s"},
    "ours_accepted": {"color": "#56B4E9", "marker": "o", **HOLLOW},
    "ours_paper": {"color": "#009E73", "marker": "^", **HOLLOW},
    "ours_xi_0": {"color": "#E69F00", "marker": "D", **HOLLOW},
    "cross_entropy": {"color": "#E69F00", "marker": "D", **HOLLOW},
    "cross_entropy_accepted": {"color": "#D55E00", "marker": "s"},
    "learn_then_test": {"color": "#CC79A7", "marker": "P"},
    "rejection_sampling": {"color": "#009E73", "marker": "^"},
    "rejection_best": {"color": "#009E73", "marker": "v", **HOLLOW},
    "ppo_lag": {"color": "#777777", "marker": "X"},
    "ai": {"color": "#000000", "marker": "*", "markersize": 7},
    "best_of_k": {"color": "#000000", "marker": "D"},
}
IN_A = (
    "ours", "ours_priced", "ours_priced_certified", "ours_shrinkage", "cross_entropy_accepted",
    "learn_then_test", "rejection_sampling", "rejection_best", "ppo_lag", "ai", "best_of_k",
)  # fmt: skip
IN_B = (
    "ours",
    "ours_priced",
    "ours_priced_certified",
    "ours_shrinkage",
    "ours_accepted",
    "ours_paper",
    "ours_xi_0",
    "cross_entropy_accepted",
    "learn_then_test",
)
TITLES = {
    "synthetic": "synthetic conversations",
    "synthetic_ppo_lag": "synthetic conversations, guard around PPO-Lag",
    "synthetic_truth": "synthetic conversations, labels drawn from the known probability of harm",
    "synthetic_capacity": "synthetic conversations, ours trains all weights",
    "synthetic_capacity_named": "synthetic conversations, all weights tuned, seeds after the rule was named",
    "synthetic_capacity_ppo_lag": "synthetic conversations, guard around PPO-Lag, ours trains all weights",
    "synthetic_best": "synthetic conversations, capacity chosen on training prompts",
    "pku": "PKU-SafeRLHF, human labels",
    "diasafety": "DiaSafety, judge's labels",
    "diasafety_people": "DiaSafety, judge's labels",
    "pku_best": "PKU-SafeRLHF, human labels, capacity chosen on training prompts",
    "diasafety_best": "DiaSafety, judge's labels, capacity chosen on training prompts",
    "hub": "pretrained models",
    "chat": "a small chat model, cost model's labels",
}
TITLES |= {name + MENDED: f"{title}, mended approximate loss" for name, title in TITLES.items()}
GREY = "#555555"


def panels(measured: Measured) -> Figure:
    """A, B, and the share of default answers."""
    import matplotlib.pyplot as plt

    table = curves(measured)
    table = table[table["answered"] > 0]
    shown = table[table["method"].isin({*IN_A, *IN_B})]
    rail = _rail(shown)
    figure, (left, right) = plt.subplots(1, 2, figsize=(figures.PAGE[0], 3.9), sharey=True)
    labels: dict[str, Any] = {}
    for axes, names, x in ((left, IN_A, "reward"), (right, IN_B, "r_t")):
        for method in names:
            _curve(axes, table[table["method"] == method], method, x, rail)
        labels |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figures.log_axis_with_zero(left, rail, float(shown["harmful_high"].fillna(shown["harmful"]).max()))
    left.set_xlabel("mean reward (default answers included)")
    left.set_ylabel("harmful share among the answers given")
    left.set_title("A", loc="left", fontweight="bold")
    right.set_title("B", loc="left", fontweight="bold")
    right.set_xscale("log")
    ends = np.array([table["r_t"].min(), 1.0])
    right.plot(ends, ends, color=GREY, linestyle=":", linewidth=1.0)
    right.annotate("$y = r_t$", (ends[1], ends[1]), xytext=(-4, -2), textcoords="offset points", ha="right",
                   va="top", fontsize=7, color=GREY)  # fmt: skip
    right.set_xlabel("threshold $r_t$")
    names = [name.replace(" LoRA", "") if _capacity_chosen(measured) else name for name in labels]
    figure.legend(labels.values(), names, loc="outside lower center", ncols=3)
    return figure


def _capacity_chosen(measured: Measured) -> bool:
    """Whether runs chose their classifiers' capacity, the baselines' too."""
    return any(run.setting("capacity.weights") == "best" for run in measured.saved)


def _rail(table: pd.DataFrame) -> float:
    """Where the line that stands for zero lies: below every positive value."""
    seen = pd.concat([table["harmful"], table["harmful_high"]])
    seen = seen[np.isfinite(seen) & (seen > 0)]
    return float(10 ** (np.floor(np.log10(seen.min() if len(seen) else 0.1)) - 0.4))


def _curve(axes: Axes, rows: pd.DataFrame, method: str, x: str, rail: float) -> None:
    if rows.empty:
        return
    value = np.maximum(rows["harmful"], rail)
    ends = [
        np.maximum(value - np.maximum(rows["harmful_low"].fillna(rows["harmful"]), rail), 0.0),
        np.maximum(rows["harmful_high"].fillna(rows["harmful"]) - value, 0.0),
    ]
    sideways = None
    if x == "reward":
        sideways = [(rows[x] - rows["reward_low"]).fillna(0.0), (rows["reward_high"] - rows[x]).fillna(0.0)]
    style = {"label": NAMES.get(method, method), **LOOKS[method]}
    axes.errorbar(rows[x], value, yerr=ends, xerr=sideways, elinewidth=0.6, capsize=0, linewidth=1.0, **style)


def figure_4(measured: Measured, data: str, directory: Path | None = None, note: str = "") -> list[Path]:
    """results/figures/figure_4_<data>.png, .pdf and .txt (its caption)."""
    with figures.style():
        return figures.save(panels(measured), f"figure_4_{data}", caption(measured, data, note), directory)


def intervals(runs: int) -> str:
    """Which 95 % intervals of shares a caption speaks of."""
    if runs == 1:
        return "exact binomial over answers"
    return "t intervals over runs (exact binomial where no answer was harmful)"


def caption(measured: Measured, data: str, note: str = "") -> str:
    """What the figure shows, with n, seeds and which interval."""
    prompts = int(measured.sums["prompts"][:, 0].sum())
    runs = len(measured.runs)
    refused = curves(measured)
    refused = refused[(refused["method"] == "ours") & (refused["answered"] == 0)]["r_t"]
    parts = [
        f"Language generation, {TITLES.get(data, data)}{note}. n = {prompts:,} validation prompts in {runs} "
        f"runs, seeds {', '.join(map(str, measured.seeds))}. Harmful share: among the answers given, by the "
        "labels that the guard is calibrated with. A: against mean reward, every method over its knob "
        "(guards: r_t). B: against r_t; at or below the dotted line is what is promised. 95 % "
        f"{intervals(runs)}; points "
        "on the line marked 0: no harmful answer, the bar ends at the upper limit.",
        "Thresholds at which nothing but the default answer was given have no point.",
    ]
    if _capacity_chosen(measured):
        parts.append("Every classifier, those of the baselines too, is of the capacity that its run chose.")
    parts.append(sentence("harmful share of ours", worst(measured, "ours"), "runs and prompts"))
    if len(refused):
        parts.append("Ours refused at r_t = " + ", ".join(f"{r_t:.2g}" for r_t in refused) + ".")
    return " ".join(part for part in parts if part) + "\n"


def draw(directory: Path) -> list[Path]:
    """A run's own figure, in its directory."""
    measured = gather([of_directory(directory, finished=False)])
    return figure_4(measured, "run", directory, note=", one run")


def summary(directory: Path) -> str:
    """A run's table: every method and setting with harmful shares, reward and default answers."""
    measured = gather([of_directory(directory, finished=False)])
    table = curves(measured)
    width = max(map(len, table["method"]))
    lines = [
        f"{'method':{width}s} {'setting':>10s} {'harmful':>9s} {'of accepted':>11s} {'reward':>8s} "
        f"{'default':>8s}"
    ]
    for row in table.to_dict("records"):
        setting = f"r_t {row['r_t']:.3g}" if np.isfinite(row["r_t"]) else ""
        setting = f"{row['knob']:g}" if np.isfinite(row["knob"]) else setting
        cells = [f"{row[name]:.4f}" if np.isfinite(row[name]) else "" for name in ("harmful", "accepted")]
        lines.append(
            f"{row['method']:{width}s} {setting:>10s} {cells[0]:>9s} {cells[1]:>11s} {row['reward']:>8.3f} "
            f"{row['default_share']:>8.1%}"
        )
    lines += capacities.lines(measured)
    lines.append("harmful: share among the answers given, by label; of accepted: among accepted candidates")
    return "\n".join(lines)
