"""Language generation on Weights & Biases."""

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

GUARDED = ("ours", "ours_accepted", "ours_paper", "learn_then_test")
DASHBOARD = Dashboard(
    experiment="llm",
    title="Language generation",
    about="A chat model's answers under a guard: harm and reward over the threshold and over the cases.",
    sections=(
        Section(
            "Promise",
            "Harmful answers over the threshold r_t: at or below y = x is what is promised.",
            (
                Lines(
                    "Harmful prompts against r_t",
                    keys.R_T,
                    tuple(curve(m, "harmful.prompt") for m in GUARDED),
                    True,
                    True,
                ),
                Lines(
                    "Default answers against r_t",
                    keys.R_T,
                    tuple(curve(m, "default_share") for m in GUARDED),
                    True,
                ),
            ),
        ),
        Section(
            "Frontier",
            "Reward against harm, a curve over r_t for every run.",
            (
                Lines(
                    "Ours: reward against harm",
                    curve("ours", "harmful.prompt"),
                    (curve("ours", "reward"),),
                    True,
                ),
                Lines("Reward against r_t", keys.R_T, tuple(curve(m, "reward") for m in GUARDED), True),
            ),
        ),
        Section(
            "Score against n_t",
            "Mean reward over all thresholds, a point for each run; n_t is the sweep's labelled candidates.",
            (Points("Reward of ours against n_t", keys.N_T, "ours/reward", log_x=True),),
        ),
        Section(
            "Losses",
            "While classifiers are trained; empty where they came from the cache.",
            losses("cross_entropy"),
        ),
        Section(
            "Results",
            "The tidy results, the figures that the run drew, and how long stages took.",
            (
                Rows("Results"),
                Media("Figures", ("figures/figure_4_run",)),
                Bars("Seconds of stages", ("seconds/cross_entropy", "seconds/margins")),
            ),
        ),
    ),
)
