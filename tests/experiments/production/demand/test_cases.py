"""Demand as cases: windows, quarters, calendar, and the known law of the synthetic data."""

import time

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, norm

from experiments.production.demand import synthetic as synthetic_module
from experiments.production.demand.series import build_cases, calendar_of
from experiments.production.demand.sources import HOURS_PER_QUARTER, Quarter, synthetic, truth_probability
from safeframe.types import SafeframeError


@pytest.fixture(scope="module")
def made():
    return synthetic(0)


def test_small_series_cut_by_hand():
    raw = np.arange(4 * 10, dtype=float)[:, None] + np.array([0.0, 100, 200, 300])
    data = build_cases(
        raw,
        np.arange(40),
        ["a", "b", "c", "d"],
        raw[3:13].min(axis=0),
        raw[3:13].max(axis=0),
        lookback=3,
        lead=2,
        hours_per_quarter=9,
        order=(0, 1, 2, 3),
        source="test",
    )
    # 40 hours = 36 + 4, and a full history needs 3 + 2 - 1 = 4.
    assert data.target_hour.tolist() == list(range(4, 40))
    assert np.bincount(data.quarter).tolist() == [9, 9, 9, 9]
    scaled = np.clip((np.arange(40) - 3) / 9 * 10, 0, 10)
    np.testing.assert_allclose(data.series, np.repeat(scaled[:, None], 4, axis=1), rtol=1e-6)
    case = 5  # target hour 9: measured hours 5, 6, 7
    np.testing.assert_allclose(data.measurement[case, :, 2], scaled[[5, 6, 7]], rtol=1e-6)
    np.testing.assert_allclose(data.demand[case], scaled[9], rtol=1e-6)
    assert data.unsafe[:, 0].tolist() == (data.demand[:, 0] < 3).tolist()
    assert data.clip.above[0].tolist() == [0.0] * 4
    assert data.clip.above[1].tolist() == [1.0] * 4
    np.testing.assert_allclose(data.clip.share, [(3 + 27) / 40] * 4)


def test_measurement_ends_lead_hours_before_the_target(made):
    rng = np.random.default_rng(0)
    for lookback, lead in ((24, 24), (24, 1), (6, 48)):
        data = synthetic(1, lookback=lookback, lead=lead, hours_per_quarter=200)
        assert data.measurement.shape == (800, lookback, 4)
        for case in rng.integers(0, len(data), 20):
            last = data.target_hour[case] - lead
            expected = data.series[last - lookback + 1 : last + 1]
            np.testing.assert_array_equal(data.measurement[case], expected)
            np.testing.assert_array_equal(data.demand[case], data.series[data.target_hour[case]])
    assert made.measurement.shape == (4 * HOURS_PER_QUARTER, 24, 4)
    assert made.measurement.dtype == made.series.dtype == np.float32


def test_quarters_are_consecutive_equal_and_disjoint(made):
    assert np.bincount(made.quarter).tolist() == [HOURS_PER_QUARTER] * 4
    assert (np.diff(made.quarter) >= 0).all()
    assert (np.diff(made.target_hour) == 1).all()
    both = made.where(Quarter.TRAINING, Quarter.INTERNAL_TEST_TRAINING)
    assert both.tolist() == list(range(2 * HOURS_PER_QUARTER))


def test_calendar():
    moments = pd.to_datetime(["1970-01-01 00:00", "2021-01-01 23:00", "2024-02-29 05:00", "2024-12-31 12:00"])
    hours = moments.values.astype("datetime64[h]").astype(np.int64)
    expected = np.stack([moments.hour, moments.day_of_week, moments.day_of_year], axis=1)
    np.testing.assert_array_equal(calendar_of(hours), expected)


def test_calendar_features_lie_on_circles(made):
    features = made.calendar_features()
    assert features.shape == (len(made), 6)
    np.testing.assert_allclose(features[:, :3] ** 2 + features[:, 3:] ** 2, 1, rtol=1e-5)


@pytest.mark.parametrize("name", ["lookback", "lead", "hours_per_quarter"])
@pytest.mark.parametrize("value", [0, -1, 2.5, True])
def test_impossible_windows(name, value):
    with pytest.raises(SafeframeError, match=f"{name} = "):
        synthetic(0, **{name: value})


def test_synthetic_is_seeded_and_fast():
    start = time.perf_counter()
    first = synthetic(3)
    assert time.perf_counter() - start < 2
    np.testing.assert_array_equal(first.series, synthetic(3).series)
    assert (first.series != synthetic(4).series).mean() > 0.9
    for seed in (-1, 1.5, "a", True):
        with pytest.raises(SafeframeError, match="seed"):
            synthetic(seed)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_synthetic_has_the_stated_scale_and_risk(seed):
    data = synthetic(seed)
    assert data.series.min() >= 0
    assert data.series.max() <= 10
    assert (data.clip.share < 0.02).all()
    share = data.unsafe.mean(axis=0)
    assert ((share > 0.08) & (share < 0.35)).all()


def test_synthetic_follows_its_known_law(made):
    """The truth is the law: calibrated as a probability, and as a distribution over its whole range."""
    probability = truth_probability(made)
    assert ((probability >= 0) & (probability <= 1)).all()
    for low, high in ((0, 0.01), (0.01, 0.1), (0.1, 0.3), (0.3, 0.7), (0.7, 1)):
        for i in range(4):
            case = (probability[:, i] >= low) & (probability[:, i] < high)
            case &= np.arange(len(made)) % 25 == 0  # noise that no two of these cases share
            n, k = int(case.sum()), int(made.unsafe[case, i].sum())
            assert binomtest(k, n, probability[case, i].mean()).pvalue > 1e-4
    inside = (made.demand > 0) & (made.demand < 10)
    u = norm.cdf((made.demand - made.truth_mean) / made.truth_sd)
    for i in range(4):
        histogram = np.histogram(u[inside[:, i], i], bins=10, range=(0, 1))[0]
        np.testing.assert_allclose(histogram / histogram.sum(), 0.1, atol=0.012)


def test_synthetic_law_by_simulation(monkeypatch):
    """New shocks in the last `lead` hours before one target give the stated mean and spread."""
    module = synthetic_module
    reference = module.synthetic(0, hours_per_quarter=50)
    case, lead = 120, 24
    original = module._ingredients
    fresh = np.random.default_rng(9)

    def replaced(rng, hours):
        mean, sigma, shock = original(rng, hours)
        at = module.BURN_IN + int(reference.target_hour[case])
        noise = fresh.standard_normal((lead, 5))
        shock[at - lead + 1 : at + 1] = (
            np.sqrt(module.COMMON) * noise[:, :1] + np.sqrt(1 - module.COMMON) * noise[:, 1:]
        )
        return mean, sigma, shock

    monkeypatch.setattr(module, "_ingredients", replaced)
    draws = np.array([module.synthetic(0, hours_per_quarter=50).demand[case] for _ in range(600)])
    sd = reference.truth_sd[case]
    np.testing.assert_allclose(draws.mean(axis=0), reference.truth_mean[case], atol=4 * sd.max() / 600**0.5)
    np.testing.assert_allclose(draws.std(axis=0), sd, rtol=0.12)


def test_synthetic_risk_is_no_function_of_the_mean_alone(made):
    """Among cases with the same true mean the true risk differs by more than a factor of ten."""
    probability = truth_probability(made)
    for i in range(4):
        near = np.abs(made.truth_mean[:, i] - 4.5) < 0.1
        low, high = np.quantile(probability[near, i], [0.1, 0.9])
        assert near.sum() > 500
        assert high > 10 * low


def test_synthetic_regime_shows_in_the_measurement(made):
    """Roughness of the 24 measured hours correlates with the true spread of the target beyond its hour."""
    roughness = np.log(np.diff(made.measurement, n=2, axis=1).std(axis=1))
    spread = np.log(made.truth_sd)
    for i in range(4):
        hour = made.calendar[:, 0]
        mean_of_hour = np.array([spread[hour == h, i].mean() for h in range(24)])
        assert np.corrcoef(roughness[:, i], spread[:, i] - mean_of_hour[hour])[0, 1] > 0.3
