"""The safety network, its likelihood, and what the past alone says: against direct computation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import logistic

from experiments.production.config import ModelConfig
from experiments.production.demand.synthetic import synthetic
from experiments.production.models import history, safety
from experiments.production.models.networks import Inputs, SequenceNetwork


@pytest.fixture(scope="module")
def data():
    return synthetic(3, hours_per_quarter=400)


@pytest.mark.parametrize("calendar", [0, 6])
def test_the_safety_network_has_no_more_parameters_than_the_demand_network(calendar):
    def size(network: torch.nn.Module) -> int:
        return sum(weight.numel() for weight in network.parameters())

    model = ModelConfig()
    mine = safety.SafetyNetwork(4, safety.OUTPUTS * 4, model.safety_hidden, calendar)
    assert size(mine) <= size(SequenceNetwork(4, 4, model.hidden, calendar))


def test_likelihood_is_that_of_a_logistic_law_and_of_eleven_thresholds(data):
    inputs = Inputs(data, True)
    torch.manual_seed(0)
    network = safety.SafetyNetwork(4, safety.OUTPUTS * 4, 5, 6)
    index = torch.arange(50)
    output = inputs.of(network, index)
    found = safety.likelihood(inputs)(output, index).item()
    mean, scale, odds = (part.detach().double().numpy() for part in safety.parts(output))
    demand = data.demand[:50].astype(np.float64)
    law = -logistic(mean, scale).logpdf(demand).mean()
    below = demand[:, :, None] < np.array(safety.CUTS)
    chance = 1 / (1 + np.exp(-odds))
    ordinal = -np.log(np.where(below, chance, 1 - chance)).mean()
    assert found == pytest.approx(law + ordinal, rel=1e-5)
    heads = safety.heads(output.detach().double().numpy(), demand)
    assert np.allclose(1 / (1 + np.exp(-heads.law)), logistic(mean, scale).cdf(3.0), rtol=1e-4)
    assert np.allclose(heads.ordinal, odds[:, :, 4])
    assert np.allclose(heads.error, (mean - demand) / scale)


def test_past_hours_and_the_same_hour_of_seven_days(data):
    mean, spread = history.of_past_hours(data)
    days, days_spread = history.of_same_hour(data)
    for case in (0, 200, len(data) - 1):
        hour = data.target_hour[case]
        past = data.series[hour - 47 : hour - 23].astype(np.float64)
        assert np.allclose(mean[case], past.mean(axis=0))
        assert np.allclose(spread[case], past.std(axis=0))
        same = np.array([data.series[hour - 24 * k] for k in range(1, 8) if hour >= 24 * k], dtype=np.float64)
        assert np.allclose(days[case], same.mean(axis=0))
        assert np.allclose(days_spread[case], same.std(axis=0))


@pytest.mark.parametrize("days", [7, 14])
def test_days_below_are_distances_in_spreads_and_far_ones_are_cut(data, days):
    found = history.days_below(data, 3.0, days)
    for case in (0, 600, len(data) - 1):
        hour = data.target_hour[case]
        same = np.array([data.series[hour - 24 * k] for k in range(1, days + 1) if hour >= 24 * k], float)
        expected = np.clip((3.0 - same.mean(axis=0)) / (same.std(axis=0) + 0.3), -15, 15)
        assert np.allclose(found[case], expected)
    alike = replace(data, series=np.full_like(data.series, 9.0))
    assert np.allclose(history.days_below(alike, 3.0, days)[400:], -15.0)  # 6 below in spreads of .3 is 20


def test_recent_errors_are_means_of_what_is_known(data):
    error = np.random.default_rng(0).normal(size=(len(data), 4))
    found = history.recent_errors(error, data.target_hour, 24)
    at = 700
    windows = ([24], [24 * k for k in range(1, 8)], range(24, 48), range(24, 192))
    for values, lags in zip(found, windows, strict=True):
        assert np.allclose(values[at], np.mean([error[at - lag] for lag in lags], axis=0))
        assert np.allclose(values[:24], 0.0)  # nothing is known before the first case's errors are


@pytest.mark.parametrize("usual", [1.0, 1.8])
def test_roughness_is_the_root_mean_square_of_known_errors_beside_usual_ones(data, usual):
    error = usual * np.random.default_rng(0).normal(size=(len(data), 4))
    found, at = history.roughness(error, data.target_hour, 24, 72, usual), 700
    square = np.mean([error[at - lag] ** 2 for lag in range(24, 96)], axis=0) / usual**2
    assert np.allclose(found[at], np.sqrt((72 * square + 5) / 77))
    assert (found[:24] == 1.0).all()  # nothing is known of errors
    assert found[200:].mean() == pytest.approx(1.0, abs=0.03)
    twice = history.roughness(2 * error, data.target_hour, 24, 168, usual)[700:].mean()
    assert twice == pytest.approx(2.0, abs=0.1)
    wild = np.full_like(error, 1e9)
    assert np.allclose(
        history.roughness(wild, data.target_hour, 24, 72, usual)[at], np.sqrt((72 * 36 + 5) / 77)
    )


@pytest.mark.parametrize("lead", [1, 24, 30])
def test_recent_errors_and_the_same_hour_know_no_future(data, lead):
    """Change everything later than `lead` hours before a case: what it is told does not change."""
    at, rng = 600, np.random.default_rng(1)
    error = rng.normal(size=(len(data), 4))
    changed = error.copy()
    changed[at - lead + 1 :] += 5.0
    first, second = (
        [
            *history.recent_errors(values, data.target_hour, lead),
            history.roughness(values, data.target_hour, lead, 72, 1.0),
        ]
        for values in (error, changed)
    )
    assert all(np.array_equal(a[: at + 1], b[: at + 1]) for a, b in zip(first, second, strict=True))
    for i in (2, 4):
        assert not np.array_equal(first[i][at + 1], second[i][at + 1])
    series = data.series.copy()
    series[data.target_hour[at] - lead + 1 :] = 0.0
    for one in (replace(data, lead=lead), replace(data, lead=lead, series=series)):
        found = [*history.of_same_hour(one), history.days_below(one, 3.0, 14)]
        if one.series is data.series:
            kept = found
    assert all(np.array_equal(a[at], b[at]) for a, b in zip(kept, found, strict=True))
