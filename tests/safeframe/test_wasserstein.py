"""Infinity-Wasserstein distances: brute force over all matchings, and boxes against a fine grid."""

import itertools

import numpy as np
import pytest

from safeframe.types import SafeframeError
from safeframe.wasserstein import bottleneck, uniform_box_zeta, wasserstein_infinity


@pytest.mark.parametrize("seed", range(5))
def test_bottleneck_is_the_best_of_all_matchings(seed):
    cost = np.random.default_rng(seed).integers(0, 9, (6, 6)).astype(float)
    best = min(max(cost[i, j] for i, j in enumerate(p)) for p in itertools.permutations(range(6)))
    assert bottleneck(cost) == best


def test_cell_centres_are_half_a_diagonal_away():
    ticks = (np.arange(4) + 0.5) / 4
    points = np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2)
    assert uniform_box_zeta(points, np.zeros(2), np.ones(2), 4) == pytest.approx(np.sqrt(2) / 8)
    moved = uniform_box_zeta(points + np.array([0.3, 0.0]), np.zeros(2), np.ones(2), 4)
    assert np.sqrt(2) / 8 < moved <= np.sqrt(2) / 8 + 0.3


@pytest.mark.parametrize("seed", range(3))
def test_limit_lies_between_both_sides_of_a_fine_grid(seed):
    """W(law, sample) differs from W(fine grid, sample copied) by at most the grid's half diagonal."""
    points = np.random.default_rng(seed).random((9, 2))
    limit = uniform_box_zeta(points, np.zeros(2), np.ones(2), 3)
    fine = (np.stack(np.meshgrid(np.arange(24), np.arange(24)), -1).reshape(-1, 2) + 0.5) / 24
    grid = wasserstein_infinity(fine, np.repeat(points, 64, axis=0))
    half = np.sqrt(2) / 48
    assert limit >= grid - half
    assert limit <= grid + half + np.sqrt(2) / 3  # no worse than moving every point to a cell of its own


@pytest.mark.parametrize(
    "call",
    [
        lambda: bottleneck(np.zeros((2, 3))),
        lambda: bottleneck(np.array([[np.nan]])),
        lambda: uniform_box_zeta(np.zeros((5, 2)), np.zeros(2), np.ones(2), 2),
    ],
)
def test_bad_input(call):
    with pytest.raises(SafeframeError):
        call()
