"""The theorems' part of the report: its figures, and how often promises are broken."""

from __future__ import annotations

from experiments.support.page.parts import Axis, Frontier, Part

RULES = {"plug-in": "plug-in", "conservative": "conservative testing", "certified": "certified"}
CASES = (50, 200, 1000, 20_000)
REWARD = {"gated": "gated by the threshold", "priced": "priced", "oracle": "oracle"}


def _promises(n: int) -> Frontier:
    return Frontier(
        name=f"theory_promises_{n}",
        title=f"How often a promise is broken, {n:,} cases to calibrate on",
        about="Share of repetitions in which the guard's true risk was above the threshold; a law whose "
        "risk is known.",
        table="tables/theory_promises.csv",
        x=Axis("r_t", "threshold r_t", True),
        y=Axis("share_broken", "promises broken (share)", False, "broken_low", "broken_high"),
        methods=RULES,
        by="rule",
        where={"setting": "plain", "n": n},
        n="repeats",
        units="repetitions",
        interval="Clopper-Pearson, 95 %",
        seeds=("theory.theorem_1_failures", "laws with known truth", "laptop"),
    )


PART = Part(
    experiment="theory",
    title="The theorems",
    about="Laws of measurements and labels for which the true risk is known, so that each statement of the "
    "paper can be counted: how often its bounds fail, how loose they are, and what guards promise.",
    figures=("theory_theorem_*", "theory_promises", "theory_certificates", "theory_*"),
    frontiers=tuple(map(_promises, CASES)),
)
