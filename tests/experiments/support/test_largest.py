"""The largest ratio over thresholds: known answers, how often its interval misses, what may be said of it."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.support.results.largest import at_least, floored, largest_ratio, verdict
from safeframe.certificates.cases import clopper_pearson_upper

R_T = np.array([0.01, 0.1])


def draw(rng, rates, runs=5, blocks=40, cases=200):
    n = np.full((runs, len(rates), blocks), cases)
    return rng.binomial(n, np.asarray(rates)[None, :, None]), n


def test_the_value_is_the_largest_and_the_interval_holds_it():
    bad, n = draw(np.random.default_rng(0), [0.008, 0.05])
    value, low, high, count = largest_ratio(bad, n, R_T)
    assert value == pytest.approx(max(bad.sum(axis=(0, 2)) / n.sum(axis=(0, 2)) / R_T))
    assert low <= value <= high
    assert count == 5 * 40 * 200
    assert largest_ratio(bad, n, R_T) == (value, low, high, count)


def test_the_interval_is_of_the_maximum_and_not_of_the_place():
    """Two thresholds that are as bad as one another: the maximum leans up where one alone does not."""
    rng, misses, trials = np.random.default_rng(1), 0, 200
    for _ in range(trials):
        bad, n = draw(rng, [0.009, 0.09], blocks=20)
        _, low, high, _ = largest_ratio(bad, n, R_T, draws=200)
        misses += not low <= 0.9 <= high
    assert misses <= 0.05 * trials + 3 * np.sqrt(0.05 * 0.95 * trials)


def test_what_was_not_counted_is_passed_over_and_nothing_is_said_of_nothing():
    bad, n = draw(np.random.default_rng(2), [0.5, 0.05])
    n[:, 0] = bad[:, 0] = 0
    value, _, _, _ = largest_ratio(bad, n, R_T)
    assert value == pytest.approx(bad[:, 1].sum() / n[:, 1].sum() / 0.1)
    value, low, high, count = largest_ratio(0 * bad, 0 * n, R_T)
    assert np.isnan([value, low, high]).all()
    assert count == 0


def test_where_nothing_bad_was_seen_the_limit_is_exact():
    n = np.full((2, 2, 10), 50)
    value, low, high, count = largest_ratio(0 * n, n, R_T)
    assert (value, low, count) == (0.0, 0.0, 1000)
    assert high == pytest.approx(clopper_pearson_upper(0, 1000, 0.05) / 0.01)


def test_runs_on_the_same_blocks_share_their_draw():
    """Five runs that counted the same cases say as much about other cases as one of them."""
    one, n = draw(np.random.default_rng(3), [0.008, 0.05], runs=1)
    five, of = np.repeat(one, 5, axis=0), np.repeat(n, 5, axis=0)
    apart = largest_ratio(five, of, R_T)
    shared = largest_ratio(five, of, R_T, np.zeros(5, int))
    assert shared[2] - shared[1] > 1.5 * (apart[2] - apart[1])


@pytest.mark.parametrize(
    ("value", "low", "high", "said"),
    [
        (0.9, 0.8, 1.0, "kept"),
        (0.9, 0.8, 1.01, "not seen to break"),
        (1.1, 0.8, 1.3, "exceeded, the interval holds 1"),
        (1.4, 1.1, 1.9, "broken"),
        (0.9, np.nan, np.nan, "below 1"),
    ],
)
def test_kept_is_said_only_where_the_upper_limit_is_at_most_one(value, low, high, said):
    assert verdict(value, low, high) == said


@pytest.mark.parametrize(
    ("value", "shown"), [(346.9, 340.0), (9.87, 9.8), (0.999, 0.99), (100.0, 100.0), (28.0, 28.0), (0.0, 0.0)]
)
def test_at_least_is_rounded_down(value, shown):
    assert floored(value) == pytest.approx(shown)
    assert floored(value) <= value


@pytest.mark.parametrize(
    ("value", "shown"),
    [(962.99, "962"), (1986.9, "1,980"), (8.2, "8.2"), (8.199, "8.19"), (0.33479, "0.334")],
)
def test_at_least_as_text(value, shown):
    assert at_least(value) == shown
