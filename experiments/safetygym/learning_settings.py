"""Settings of the classifier's training, and of what the guard does with its margins."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.support import common_settings as common
from experiments.support.settings import setting


@dataclass
class PathErrorSettings:
    """A classifier of paths that knows its own error: an upper quantile of it is taken off the clearance."""

    quantile: float = setting(
        0.0,
        "Level of the predicted quantile of how far the true path leaves the predicted one; 0: the score is "
        "the clearance alone.",
        low=0,
        below=1,
    )
    above: float = setting(
        0.8, "Quantiles up to this one, in cm, cost nothing; the threshold allows for them.", low=0
    )
    weight: float = setting(2.0, "How many times the rest of the quantile is taken off the clearance.", low=0)
    hidden: list[int] = setting(
        [64, 64], "Widths of the hidden layers that predict it, in units.", low=1, at_least_one="width"
    )
    steps: int = setting(
        2000, "Updates of its training, after the warm-up, of `learning.batch` states.", low=1
    )
    rate: float = setting(2e-3, "Peak of its one-cycle learning rate.", above=0)


CHOICES = ("gate", "priced")


@dataclass
class ChoiceSettings:
    """What the guard does with risky candidates."""

    rule: str = setting(
        "gate",
        "How risky candidates are met: gate takes only those below a threshold; priced takes all, the "
        "riskier the rarer: a draw from pi(a) exp(-mu p(a)) at the calibrated price mu.",
        choices=CHOICES,
    )
    width: float = setting(
        0.2,
        "Of p = 1 / (1 + exp(-margin / width)) where risk is priced, in units of margins: cm for paths.",
        above=0,
    )


@dataclass
class LearningSettings:
    """Training of the classifier: a warm-up (paths or cross-entropy), then the approximate loss."""

    steps: int = setting(6000, "Updates of the warm-up.", low=1)
    random_paths: int = setting(
        60_000,
        "Braking paths from random velocities that the warm-up sees beside those collected (Point with "
        "kind=path).",
        low=0,
    )
    batch: int = setting(1000, "States of an update of the warm-up.", low=1)
    rate: float = setting(4e-3, "Peak of the warm-up's one-cycle learning rate.", above=0)
    tailored_steps: int = setting(40, "Updates by the approximate loss; 0 leaves it out.", low=0)
    tailored_rate: float = setting(5e-3, "Learning rate of the approximate loss.", above=0)
    inputs: int = setting(1000, "States, with one candidate each, that an update decides on.", low=1)
    test_states: int = setting(
        3000, "States, with all candidates, that carry the bound in an update as internal test data.", low=1
    )
    temperature: float = common.temperature(0.1)
    temperature_output: float = common.temperature_output(0.1)
    penalty: float = common.penalty(0.3, "what an accepted candidate earns")
    perturbation: float = common.perturbation(1.5)
    violation_cost: float = common.violation_cost(
        10.0, "an unsafe candidate that is accepted", "what a safe one earns"
    )
    average: float = common.average(0.97)
