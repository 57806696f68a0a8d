"""How methods are named and drawn: ours bold, the paper's and strong baselines in colours of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.production.records import CHOSEN, PAPERS_BASELINES, STRONG_BASELINES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMES = {
    "ours": "ours",
    "ours_per_product_static": "per product, static",
    "ours_per_product_weekly": "per product, weekly",
    "ours_pooled_static": "pooled, static",
    "ours_pooled_weekly": "pooled, weekly",
    "ours_worst_product_static": "worst product, static",
    "ours_worst_product_weekly": "worst product, weekly",
    "ours_priced_static": "priced, static",
    "ours_priced_weekly": "priced, weekly",
    "ours_knob": "our score, swept",
    "binary": "binary (the paper's)",
    "binary_xi_0": "binary, $\\xi$ = 0",
    "binary_certified": "binary, certified",
    "binary_cross_entropy": "binary, cross-entropy",
    "binary_cross_entropy_xi_0": "cross-entropy, $\\xi$ = 0",
    "mean_variance": "MeanVar, 24 hours",
    "mean_variance_days": "MeanVar, 7 days",
    "two_stage": "TwoStage",
    "end_to_end": "EndToEnd",
    "forecast_law": "forecast law",
    "forecast_law_errors": "forecast law + errors",
    "two_stage_margin": "TwoStage + margin",
    "cross_entropy": "cross-entropy",
    "truth": "true probability",
}
_COLOURS = {
    "ours": "#0072B2",
    "ours_per_product_static": "#009E73",
    "ours_per_product_weekly": "#009E73",
    "ours_pooled_static": "#D55E00",
    "ours_pooled_weekly": "#D55E00",
    "ours_worst_product_static": "#0072B2",
    "ours_worst_product_weekly": "#0072B2",
    "ours_priced_static": "#CC79A7",
    "ours_priced_weekly": "#CC79A7",
    "binary": "#E69F00",
    "binary_xi_0": "#B8860B",
    "mean_variance": "#009E73",
    "mean_variance_days": "#56B4E9",
    "two_stage": "#CC79A7",
    "end_to_end": "#000000",
    "forecast_law": "#009E73",
    "forecast_law_errors": "#56B4E9",
    "two_stage_margin": "#CC79A7",
    "cross_entropy": "#D55E00",
    "truth": "#888888",
}
_MARKERS = {"end_to_end": "v", "two_stage": "D", "ours": "o", "binary": "s"}


def look(method: str) -> dict[str, Any]:
    """Line, marker, colour and label of a method; plain grey for one that is not known."""
    base = method.removesuffix(CHOSEN)
    style: dict[str, Any] = {"label": NAMES.get(base, base), "color": _COLOURS.get(base, "#777777")}
    if method.endswith(CHOSEN):
        return style | {
            "label": f"{style['label']}, chosen",
            "linestyle": ":",
            "marker": "x",
            "linewidth": 0.8,
        }
    style |= {"marker": _MARKERS.get(base, ""), "linewidth": 2.2 if base == "ours" else 1.2}
    return style | ({"linestyle": "--"} if base.endswith("_static") or base == "truth" else {})


def group(methods: Sequence[str], names: Sequence[str]) -> list[str]:
    """Those of `methods` that are in `names`, in its order."""
    return [name for name in names if name in methods]


def papers(methods: Sequence[str]) -> list[str]:
    """The paper's baselines among the methods."""
    return group(methods, PAPERS_BASELINES)


def strong(methods: Sequence[str]) -> list[str]:
    """Strong baselines among the methods, and the true probability where it is known."""
    return group(methods, (*STRONG_BASELINES, "truth"))


@dataclass(frozen=True)
class Label:
    """A name beside the point of a line that it belongs to, in data coordinates."""

    x: float
    y: float
    text: str
    colour: str
    bold: bool = False


def label_beside(axes: Axes, labels: Sequence[Label], least: float = 0.062) -> None:
    """Write names in the margin right of the axes, in the order of their lines' heights and apart from one
    another by `least` of the axes' height, each with a thin leader to its line.
    """
    low, high = axes.get_ylim()
    logarithmic = axes.get_yscale() == "log"
    scaled = (lambda y: np.log(np.maximum(y, low))) if logarithmic else (lambda y: y)
    span = scaled(high) - scaled(low)
    ordered = sorted(labels, key=lambda one: one.y)
    wanted = np.array([(scaled(one.y) - scaled(low)) / span for one in ordered])
    for one, height in zip(ordered, _apart(wanted, least), strict=True):
        axes.annotate(
            one.text, (one.x, one.y), (1.03, height), xycoords="data", textcoords="axes fraction",
            color=one.colour, fontsize=7, va="center", annotation_clip=False,
            fontweight="bold" if one.bold else "normal",
            arrowprops={"arrowstyle": "-", "color": one.colour, "linewidth": 0.5, "alpha": 0.6,
                        "shrinkA": 1, "shrinkB": 1},
        )  # fmt: skip


def _apart(wanted: np.ndarray, least: float) -> np.ndarray:
    """(k,) ascending heights within [0, 1] as near to `wanted` as pushing up, then down, gets them."""
    found = np.clip(wanted, 0.0, 1.0)
    for i in range(1, len(found)):
        found[i] = max(found[i], found[i - 1] + least)
    if len(found) and found[-1] > 1.0:
        found[-1] = 1.0
        for i in range(len(found) - 2, -1, -1):
            found[i] = min(found[i], found[i + 1] - least)
    return found
