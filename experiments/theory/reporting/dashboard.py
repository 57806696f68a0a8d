"""The theorems on Weights & Biases."""

from __future__ import annotations

from experiments.support.tracking.panels import Bars, Dashboard, Media, Points, Rows, Section

PARTS = ("theorem_1", "theorem_2", "theorem_3", "validity", "promises")

DASHBOARD = Dashboard(
    experiment="theory",
    title="The theorems",
    about="How often the paper's statements fail on laws whose true risk is known, and how loose they are.",
    sections=(
        Section(
            "Theorems",
            "Failures of Theorem 1's bounds (none is promised), and exponents of Theorem 3.",
            (
                Bars("Theorem 1: failures", ("theory/theory/theorem_1_failures",)),
                Bars(
                    "Theorem 3: exponents",
                    tuple(f"theory/theory/scaling_exponent/nearest_{d}d" for d in (1, 2, 3)),
                ),
                Points(
                    "Slack of the radius against failures",
                    "theory/theory/measured_xi_over_k_zeta",
                    "theory/theory/theorem_1_failures",
                ),
            ),
        ),
        Section(
            "Promises",
            "The largest share of broken promises, and of failing certificates.",
            (
                Bars("Certificates: failure rate", ("certificates/certificates/failure_rate_max",)),
                Bars("Plug-in thresholds: promises broken", ("guard/guard/promises/broken_max/plug_in",)),
            ),
        ),
        Section(
            "Results",
            "The tidy results, the figures that the run drew, and how long its parts took.",
            (
                Rows("Results"),
                Media("Figures", tuple(f"figures/theory_theorem_{i}" for i in (1, 2, 3))),
                Bars("Seconds of parts", tuple(f"seconds/{part}" for part in PARTS)),
            ),
        ),
    ),
)
