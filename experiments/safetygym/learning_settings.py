"""Settings of the classifier's training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class LearningSettings:
    """steps, batch, rate, random_paths (paths from random velocities beside those seen, Point): of the
    warm-up (paths or cross-entropy). tailored_steps, tailored_rate: of the approximate loss, with `inputs`
    and `test_states` states a step; temperature of the relaxed indicators and output in margin units; penalty
    beta, perturbation lambda, violation_cost in L; average: decay of the averaged weights."""

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
