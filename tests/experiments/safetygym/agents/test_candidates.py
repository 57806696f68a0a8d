"""The candidate grid, and the mass of its bins under a Gaussian."""

import numpy as np
import pytest

from experiments.safetygym.agents.candidates import CandidateGrid, default_grid
from safeframe.types import SafeframeError


def test_the_second_axis_runs_fastest():
    grid = CandidateGrid((-0.5, 0.5), (-1.0, 0.0, 1.0))
    assert len(grid) == 6
    np.testing.assert_array_equal(grid.actions[:4], [[-0.5, -1], [-0.5, 0], [-0.5, 1], [0.5, -1]])
    assert len(default_grid("point")) == 15
    assert len(default_grid("car")) == 25
    assert len(default_grid("car", ([0.0], [-1.0, 1.0]))) == 2


@pytest.mark.parametrize("robot", ["point", "car"])
def test_masses_are_frequencies_of_the_nearest_candidate(robot):
    """A draw belongs to the candidate with the nearest level on each axis, also beyond the outer levels."""
    grid, rng, draws = default_grid(robot), np.random.default_rng(0), 100_000
    scale = np.abs(grid.actions).max(axis=0)
    mean = np.array([[0.3, -0.2], [-1.5, 0.6]]) * scale
    std = np.array([[0.5, 0.8], [0.9, 0.4]]) * scale
    mass = grid.gaussian_mass(mean, std)
    np.testing.assert_allclose(mass.sum(axis=1), 1.0, atol=1e-12)
    for row in range(2):
        sample = rng.normal(mean[row], std[row], (draws, 2))
        index = [
            np.abs(sample[:, axis, None] - np.array(levels)).argmin(axis=1)
            for axis, levels in enumerate((grid.first, grid.second))
        ]
        frequency = np.bincount(index[0] * len(grid.second) + index[1], minlength=len(grid)) / draws
        tolerance = 5 * np.sqrt(mass[row] * (1 - mass[row]) / draws) + 1e-4
        assert (np.abs(frequency - mass[row]) < tolerance).all()


def test_one_spread_serves_all_rows_and_a_narrow_one_picks_one_candidate():
    grid = default_grid("point")
    mean = grid.actions
    mass = grid.gaussian_mass(mean, np.array([1e-4, 1e-4]))
    np.testing.assert_allclose(mass, np.eye(15), atol=1e-9)
    np.testing.assert_array_equal(
        grid.gaussian_mass(mean, np.array([0.1, 0.2])),
        grid.gaussian_mass(mean, np.tile([0.1, 0.2], (15, 1))),
    )


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ((), (0.0,), "candidate set is empty: first has no level"),
        ((0.0,), (), "candidate set is empty: second has no level"),
        ((0.0, 0.0), (0.0,), "levels must increase"),
        ((0.1, -0.1), (0.0,), "levels must increase"),
        ((0.0,), (0.0, 1.5), "within"),
    ],
)
def test_bad_levels_are_refused(first, second, message):
    with pytest.raises(SafeframeError, match=message):
        CandidateGrid(first, second)
