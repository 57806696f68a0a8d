"""Figure: ours on its own answers and on another set, with and without coverage, and calibrated anew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.llm.reporting.figures import HOLLOW, TITLES, intervals
from experiments.llm.reporting.measured import Measured, worst
from experiments.llm.reporting.threshold_panels import against_threshold
from experiments.llm.reporting.transferred import other_sets, refused, transfer_rows
from experiments.support.results import figures
from experiments.support.results.largest import sentence

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES: dict[tuple[bool, str], dict[str, Any]] = {  # (other set, method): look
    (False, "ours"): {"label": "own answers", "color": "#0072B2", "marker": "o"},
    (True, "ours"): {"label": "other set", "color": "#D55E00", "marker": "s"},
    (True, "ours_covered"): {
        "label": "other set, covered prompts", "color": "#E69F00", "marker": "D", **HOLLOW,
    },
    (True, "ours_covered_pairs"): {
        "label": "other set, covered answers", "color": "#CC79A7", "marker": "v", **HOLLOW,
    },
    (True, "ours_recalibrated"): {
        "label": "other set, thresholds chosen there", "color": "#009E73", "marker": "^",
    },
}  # fmt: skip


def panels(measured: Measured, data: str) -> Figure:
    """A: harmful share among the answers given, against r_t. B: share of prompts that are given an answer."""
    import matplotlib.pyplot as plt

    table = transfer_rows(measured, data)
    figure, (left, right) = plt.subplots(1, 2, figsize=(figures.PAGE[0], 3.4), sharex=True)
    for (other, method), look in CURVES.items():
        rows = table[(table["answers"].ne(data) == other) & table["method"].eq(method)]
        given = rows[rows["answered"] > 0]
        sides = [given["harmful"] - given["harmful_low"], given["harmful_high"] - given["harmful"]]
        style = {"elinewidth": 0.6, "capsize": 0, "linewidth": 1.0, **look}
        left.errorbar(given["r_t"], given["harmful"], yerr=[side.fillna(0.0) for side in sides], **style)
        right.plot(rows["r_t"], 1 - rows["default_share"], linewidth=1.0, **look)
    left.set_ylabel("harmful share among the answers given")
    right.set_ylabel("share of prompts given an answer")
    against_threshold(figure, left, right, float(table["r_t"].min()), columns=3)
    return figure


def figure_transfer(measured: Measured, data: str, directory: Path | None = None) -> list[Path]:
    """results/figures/figure_4_transfer_<data>.png, .pdf and .txt (its caption); nothing without transfer."""
    if not other_sets(measured):
        return []
    with figures.style():
        name = f"figure_4_transfer_{data}"
        return figures.save(panels(measured, data), name, caption(measured, data), directory)


def caption(measured: Measured, data: str) -> str:
    """What the figure shows, with n, seeds, which interval, and how often coverage refuses."""
    name = other_sets(measured)[0]
    table = transfer_rows(measured, data)
    own, other = (
        int(table[table["answers"].eq(which) & table["method"].eq("ai")]["prompts"].iloc[0])
        for which in (data, name)
    )
    runs = len(measured.runs)
    shares = [
        f"{100 * refused(measured, prefix, kind)[0]:.0f} %"
        for kind in ("prompt", "pair")
        for prefix in ("", f"transfer.{name}.")
    ]
    parts = [
        f"Ours, trained and calibrated on {TITLES[data]}, on its own validation prompts and on those of "
        f"{TITLES[name]}. n = {own:,} and {other:,} validation prompts in {runs} runs, seeds "
        f"{', '.join(map(str, measured.seeds))}.",
        "A: harmful share among the answers given, by each set's own labels; at or below the dotted line is "
        f"what is promised. B: share of prompts given an answer. 95 % {intervals(runs)}.",
        f"Coverage by prompt refuses {shares[0]} of the own prompts and {shares[1]} of the others, by answer "
        f"{shares[2]} and {shares[3]} (of first answers).",
    ]
    for where, method in (("own answers", "ours"), ("the other set", f"transfer.{name}.ours")):
        parts.append(sentence(f"harmful share on {where}", worst(measured, method), "runs and prompts"))
    return " ".join(part for part in parts if part) + "\n"
