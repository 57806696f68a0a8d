"""Fits in log10 of a size: known lines, an independent solver, coverage of the interval, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from safeframe.scaling_law import fit_log10
from safeframe.types import SafeframeError

SIZES = np.repeat([1e3, 1e4, 1e5, 1e6, 1e7], 3)


def test_exact_line_is_recovered():
    fit = fit_log10(SIZES, 3.0 + 2.5 * np.log10(SIZES))
    assert fit.slope == pytest.approx(2.5)
    assert fit.intercept == pytest.approx(3.0)
    assert fit.r_squared == pytest.approx(1.0)
    assert (fit.low, fit.high) == (pytest.approx(2.5), pytest.approx(2.5))
    value, half = fit.at([1e2, 1e8])
    assert value == pytest.approx([8.0, 23.0])
    assert half == pytest.approx([0.0, 0.0], abs=1e-6)


def test_agrees_with_another_solver():
    rng = np.random.default_rng(0)
    y = 1.0 + 0.7 * np.log10(SIZES) + rng.normal(0, 0.5, len(SIZES))
    fit, other = fit_log10(SIZES, y), stats.linregress(np.log10(SIZES), y)
    assert fit.slope == pytest.approx(other.slope)
    assert fit.r_squared == pytest.approx(other.rvalue**2)
    t = stats.t.ppf(0.975, len(y) - 2)
    assert fit.high - fit.slope == pytest.approx(t * other.stderr)
    assert fit.at([1.0])[1][0] == pytest.approx(t * other.intercept_stderr)  # log10 1 = 0


def test_interval_of_the_slope_covers_as_often_as_it_says():
    rng = np.random.default_rng(1)
    fits = [fit_log10(SIZES, 2 * np.log10(SIZES) + rng.normal(0, 1, len(SIZES)), 0.9) for _ in range(2000)]
    covered = np.mean([fit.low <= 2 <= fit.high for fit in fits])
    assert pytest.approx(covered, abs=4 * np.sqrt(0.09 / 2000)) == 0.9


def test_two_points_have_no_interval_and_flat_data_no_r_squared():
    fit = fit_log10([10, 100], [1.0, 2.0])
    assert fit.slope == pytest.approx(1.0)
    assert np.isnan([fit.low, fit.high, fit.at([10])[1][0]]).all()
    assert np.isnan(fit_log10([10, 100, 1000], [1.0, 1.0, 1.0]).r_squared)


@pytest.mark.parametrize(
    ("x", "y", "level", "message"),
    [
        ([1, 2], [1, 2, 3], 0.95, "alike"),
        ([0, 2], [1, 2], 0.95, "positive"),
        ([2, 2], [1, 2], 0.95, "1 different x"),
        ([1, 2], [1, np.nan], 0.95, "finite"),
        ([1, 2], [1, 2], 1.0, "level"),
    ],
)
def test_bad_input(x, y, level, message):
    with pytest.raises(SafeframeError, match=message):
        fit_log10(x, y, level)
