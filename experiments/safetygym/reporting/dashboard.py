"""Safety Gym on Weights & Biases."""

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

STAGES = ("safetygym_train_0", "safetygym_classifier_0", "safetygym_internal_test_0", "safetygym_episodes")
DASHBOARD = Dashboard(
    experiment="safetygym",
    title="Safety Gym",
    about="A robot among hazards: what it does under a guard, over the threshold and over the cases.",
    sections=(
        Section(
            "Promise",
            "Bounds and truly unsafe actions over the threshold r_t: at or below y = x is what is promised.",
            (
                Lines(
                    "Bound and unsafe actions against r_t",
                    keys.R_T,
                    (curve("ours", "bound"), curve("ours", "unsafe_accepted")),
                    True,
                    True,
                ),
                Lines(
                    "Share of default actions against r_t", keys.R_T, (curve("ours", "default_share"),), True
                ),
            ),
        ),
        Section(
            "Frontier",
            "Return against steps inside a hazard, a curve over r_t for every run.",
            (
                Lines("Ours: return against cost", curve("ours", "cost"), (curve("ours", "return"),)),
                Lines("Cost against r_t", keys.R_T, (curve("ours", "cost"), curve("ours", "entries")), True),
                Lines("Return against r_t", keys.R_T, (curve("ours", "return"),), True),
            ),
        ),
        Section(
            "Score against n_t",
            "Return less weighted cost, a point for each run; n_t is the sweep's internal test cases.",
            (Points("Score of ours against n_t", keys.N_T, "ours/score", log_x=True),),
        ),
        Section(
            "Losses",
            "While classifiers are trained; empty where they came from the cache.",
            losses("classifier_0", "classifier_1"),
        ),
        Section(
            "Episodes and results",
            "Guarded and unguarded from above, the figures that the run drew, its results, and stage times.",
            (
                Media("Episodes", ("episodes/episode_guarded", "episodes/episode_unguarded")),
                Media("Figures", ("figures/figure_3a",)),
                Rows("Results"),
                Bars("Seconds of stages", tuple(keys.key("seconds", name) for name in STAGES)),
            ),
        ),
    ),
)
