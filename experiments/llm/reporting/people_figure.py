"""Figure: what people say of the labelled pairs that guards accept, and how many they accept, over r_t."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.llm.records import ERRORS
from experiments.llm.reporting.figures import HOLLOW, TITLES, intervals
from experiments.llm.reporting.labels import PROMISED, label_rows, largest_of
from experiments.llm.reporting.measured import Measured
from experiments.llm.reporting.threshold_panels import against_threshold
from experiments.support.results import figures
from experiments.support.results.largest import sentence

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES: dict[str, dict[str, Any]] = {
    "ours": {"label": "ours, by the judge's labels", "color": "#0072B2", "marker": "o"},
    "ours_people": {"label": "ours, by people's labels", "color": "#009E73", "marker": "^"},
    "ours_denoised": {
        "label": "ours, judge's labels corrected where its errors allow it", "color": "#CC79A7",
        "marker": "v", **HOLLOW,
    },
    "ours_denoised_untested": {
        "label": "the same without the test", "color": "#D55E00", "marker": "s", **HOLLOW,
    },
}  # fmt: skip


def panels(measured: Measured) -> Figure:
    """A: unsafe by people among accepted pairs, against r_t. B: share of the pairs that is accepted."""
    import matplotlib.pyplot as plt

    table = label_rows(measured)
    figure, (left, right) = plt.subplots(1, 2, figsize=(figures.PAGE[0], 3.5), sharex=True)
    for method, look in CURVES.items():
        own = table[table["method"] == method]
        said = own[(own["metric"] == "accepted_pairs.human") & (own["n"] > 0)]
        sides = [said["value"] - said["low"], said["high"] - said["value"]]
        style = {"elinewidth": 0.6, "capsize": 0, "linewidth": 1.0, **look}
        left.errorbar(said["r_t"], said["value"], yerr=[s.fillna(0.0) for s in sides], **style)
        given = own[own["metric"] == "accepted_pairs.answered"]
        right.plot(given["r_t"], given["value"].fillna(0.0), linewidth=1.0, **look)
    left.set_ylabel("unsafe by people among accepted pairs")
    right.set_ylabel("share of pairs accepted")
    against_threshold(figure, left, right, float(table["r_t"].min()), columns=2)
    return figure


def figure_people(measured: Measured, data: str, directory: Path | None = None) -> list[Path]:
    """results/figures/figure_4_<data>.png, .pdf and .txt (its caption)."""
    with figures.style():
        return figures.save(panels(measured), f"figure_4_{data}", caption(measured, data), directory)


def caption(measured: Measured, data: str) -> str:
    """What the figure shows, with n, seeds, which interval, and what the test of the errors says."""
    table = label_rows(measured).set_index(["method", "metric"])
    runs = len(measured.runs)
    pairs = int(table.loc[("ours", "accepted_pairs.answered"), "n"].max())
    refuted = table.loc[(ERRORS, "independence_refuted"), "value"]
    parts = [
        f"{TITLES[data]}, and people's. n = {pairs:,} human-labelled pairs of validation prompts in {runs} "
        f"runs, seeds {', '.join(map(str, measured.seeds))}. A: share that people call unsafe of the pairs "
        "that a guard accepts; at or below the dotted line is what is promised about people's labels. B: "
        f"share of the pairs that it accepts. 95 % {intervals(runs)}. Thresholds at which nothing was "
        "accepted have no point in A.",
        f"That the judge's errors do not go with the margin was refuted in {round(refuted * runs)} of {runs} "
        "runs.",
    ]
    for method in ("ours", *PROMISED):
        found = largest_of(measured, method, "human")
        parts.append(sentence(f"share of {method}", found, "runs") if found else "")
    return " ".join(part for part in parts if part) + "\n"
