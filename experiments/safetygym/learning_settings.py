"""Settings of the classifier's training."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.support.settings import setting


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
    temperature: float = setting(
        0.1, "Width of the relaxed indicators of the internal test cases, in units of the margin.", above=0
    )
    temperature_output: float = setting(
        0.1, "Width of the relaxed indicator of the candidate decided on, in units of the margin.", above=0
    )
    penalty: float = setting(
        0.3, "Penalty beta on a broken chance constraint; a candidate that is accepted earns 1.", low=0
    )
    perturbation: float = setting(1.5, "Weight lambda of the loss in the perturbed minimisation.", above=0)
    violation_cost: float = setting(
        10.0, "What the loss L charges for an unsafe candidate that is accepted; a safe one earns 1.", low=0
    )
    average: float = setting(
        0.97, "Decay, per update, of the running average of weights that training ends with.", low=0, below=1
    )
