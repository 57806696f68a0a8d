"""Settings of the classifier's training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class LearningSettings:
    """How the classifier is trained: a warm-up (paths or cross-entropy), then the approximate loss.

    Attributes:
        steps: of the warm-up.
        random_paths: paths from random velocities beside those seen (Point), for the warm-up.
        batch: cases of a step of the warm-up.
        rate: learning rate of the warm-up.
        tailored_steps: of the approximate loss.
        tailored_rate: its learning rate.
        inputs: states of a step that act as inputs.
        test_states: states of a step that act as internal test data.
        temperature: of the relaxed indicators, in margin units.
        temperature_output: of the relaxed output, in margin units.
        penalty: beta.
        perturbation: lambda.
        violation_cost: of an unsafe action in L.
        average: decay of the averaged weights.
    """

    steps: int = 6000
    random_paths: int = 60_000
    batch: int = 1000
    rate: float = 4e-3
    tailored_steps: int = 40
    tailored_rate: float = 5e-3
    inputs: int = 1000
    test_states: int = 3000
    temperature: float = 0.1
    temperature_output: float = 0.1
    penalty: float = 0.3
    perturbation: float = 1.5
    violation_cost: float = 10.0
    average: float = 0.97
