"""Schedules: ends, ratios and differences, Theorem 2 along them, bad input."""

import itertools
import math

import pytest

from experiments.theory.laws.problems import discrete_problem
from safeframe.training.schedules import Schedule, as_schedule, constant, geometric, linear
from safeframe.types import SafeframeError


@pytest.mark.parametrize(
    "schedule", [constant(2.0), geometric(1.5, 0.1), geometric(0.3, 3.0), linear(1.0, -1.0)]
)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_first_and_last_step(schedule, steps):
    assert schedule.at(0, steps) == schedule.start
    assert schedule.at(steps - 1, steps) == (schedule.start if steps == 1 else schedule.end)


def test_equal_ratios_and_differences():
    ratios = [b / a for a, b in itertools.pairwise(geometric(8.0, 1.0).at(k, 4) for k in range(4))]
    assert ratios == pytest.approx([0.5] * 3)
    steps = [b - a for a, b in itertools.pairwise(linear(0.0, 3.0).at(k, 4) for k in range(4))]
    assert steps == pytest.approx([1.0] * 3)


def test_the_loss_tends_to_that_of_the_action_taken_along_a_schedule():
    """Theorem 2: beta up, lambda down; the distance of L~ from L* falls to nothing."""
    problem, output = discrete_problem(400, 0, coupling=0.1)
    exact = problem.exact(output)
    beta, weight = geometric(0.3, 1e4), geometric(1.5, 1e-4)
    gaps = [
        float((problem.approximate(beta.at(k, 5), weight.at(k, 5))(output) - exact).abs().mean())
        for k in range(5)
    ]
    assert all(later <= max(earlier, 1e-9) for earlier, later in itertools.pairwise(gaps))
    assert gaps[0] > 0.3
    assert gaps[-1] < 1e-3


@pytest.mark.parametrize(
    ("start", "end", "kind", "message"),
    [
        (1.0, 2.0, "constant", "must be the same"),
        (0.0, 2.0, "geometric", "must be > 0"),
        (1.0, -2.0, "geometric", "must be > 0"),
        (math.nan, 1.0, "linear", "finite"),
        (1.0, math.inf, "geometric", "finite"),
        (1.0, 2.0, "cosine", "constant, geometric or linear"),
    ],
)
def test_schedules_that_there_are_not(start, end, kind, message):
    with pytest.raises(SafeframeError, match=message):
        Schedule(start, end, kind)


@pytest.mark.parametrize("step", [-1, 5, 6])
def test_a_step_outside_the_training(step):
    with pytest.raises(SafeframeError, match="steps count from 0"):
        constant(1.0).at(step, 5)


def test_numbers_are_constants():
    assert as_schedule(0.3) == constant(0.3)
    assert as_schedule(geometric(1.0, 2.0)).end == 2.0
    with pytest.raises(SafeframeError, match="finite"):
        as_schedule(math.nan)
