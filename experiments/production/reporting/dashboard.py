"""Production planning on Weights & Biases."""

from __future__ import annotations

from experiments.support.tracking import keys
from experiments.support.tracking.panels import (
    Bars,
    Dashboard,
    Lines,
    Media,
    Points,
    Rows,
    Section,
    curve,
    losses,
)

GUARDED = ("ours", "ours_per_product_static", "ours_pooled_weekly", "binary")
DASHBOARD = Dashboard(
    experiment="production",
    title="Production planning",
    about="Violations and revenue of a plan under a chance constraint, over threshold and cases.",
    sections=(
        Section(
            "Promise",
            "Violations over the threshold r_t: at or below y = x is what is promised.",
            (
                Lines(
                    "Violations against r_t",
                    keys.R_T,
                    tuple(curve(m, "violation") for m in GUARDED),
                    True,
                    True,
                ),
                Lines(
                    "Acceptance against r_t", keys.R_T, tuple(curve(m, "acceptance") for m in GUARDED), True
                ),
            ),
        ),
        Section(
            "Frontier",
            "Revenue against violations, a curve over r_t for every run; the means of all methods.",
            (
                Lines(
                    "Ours: revenue against violations",
                    curve("ours", "violation"),
                    (curve("ours", "revenue"),),
                    True,
                ),
                Lines("Revenue against r_t", keys.R_T, tuple(curve(m, "revenue") for m in GUARDED), True),
            ),
        ),
        Section(
            "Score against n_t",
            "Mean revenue over all thresholds, a point for each run; n_t is the sweep's internal test cases.",
            (Points("Revenue of ours against n_t", keys.N_T, "ours/revenue", log_x=True),),
        ),
        Section(
            "Losses",
            "While networks are trained; empty where they came from the cache.",
            losses("demand", "safety", "cross_entropy"),
        ),
        Section(
            "Results",
            "The tidy results, the figures that the run drew, and how long stages took.",
            (
                Rows("Results"),
                Media("Figures", ("figures/figure_2a_2b",)),
                Bars("Seconds of stages", ("seconds/demand", "seconds/safety", "seconds/guard")),
            ),
        ),
    ),
)
