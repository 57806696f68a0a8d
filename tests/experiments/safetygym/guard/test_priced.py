"""Risk priced instead of gated: draws against probabilities, bounds against counting."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetygym_margins import Given, Linear, behaviour, decided
from safetygym_small import POINT, driven, untrained

from experiments.safetygym.config import SafetyGymConfig
from experiments.safetygym.evaluation import jobs
from experiments.safetygym.guard.calibration import gumbel_scores
from experiments.safetygym.guard.guarding import Guard, GuardedPolicy
from experiments.safetygym.guard.priced import PricedCalibration, PricedGuard, bound_at, guard_of, priced_risk
from experiments.safetygym.guard.sent import sent
from experiments.safetygym.learning_settings import ChoiceSettings
from experiments.safetygym.sim.task import get_task
from experiments.safetygym.states.internal_data import Shard
from experiments.support.errors import ConfigError
from safeframe.threshold_rule import Conservative, PlugIn
from safeframe.types import SQRT2, SafeframeError

TASK = get_task(POINT)
WIDTH = 0.4
PRICED = ChoiceSettings("priced", WIDTH)


@pytest.fixture(scope="module")
def data():
    return [behaviour(3000, 0, 3.0, 2.0), behaviour(2000, 1, 6.0, 2.5)]


def counted(shard, score, mu: float, shift: float) -> float:
    """Share of unsafe candidates among those that a price chooses, margins moved to the worst."""
    margin = Linear().margin(shard.observation).astype(np.float64)
    margin = np.where(shard.unsafe == 1, margin - shift, margin + shift)
    chosen = (score - mu / (1 + np.exp(-margin / WIDTH))).argmax(axis=1)
    return float(shard.unsafe[np.arange(len(chosen)), chosen].mean())


@pytest.mark.parametrize("rule", [PlugIn(0.1), Conservative(0.1)])
def test_bounds_are_those_of_counting(data, rule):
    agent = decided()
    for mu in (0.0, 0.3, 2.0, 15.0):
        for shard in data:
            score, n = gumbel_scores(agent, shard.observation, 4), len(shard.observation)
            share = counted(shard, score, mu, SQRT2 * 0.1)
            if isinstance(rule, Conservative):
                share = (share * n + 1) / (n + 1)
            bound = bound_at(mu, Linear(), agent, shard, rule, WIDTH, 4)  # type: ignore[arg-type]
            assert bound == pytest.approx(share, abs=1e-9)


def test_data_that_lack_a_class_promise_nothing_and_unlabelled_ones_are_refused(data):
    agent, shard = decided(), data[0]
    safe = Shard(shard.observation, np.zeros_like(shard.unsafe))
    assert bound_at(1.0, Linear(), agent, safe, PlugIn(0.0), WIDTH) == 1.0  # type: ignore[arg-type]
    logged = Shard(shard.observation, np.where(shard.unsafe == 1, -1, shard.unsafe).astype(np.int8))
    with pytest.raises(SafeframeError, match="use backup labels"):
        bound_at(1.0, Linear(), agent, logged, PlugIn(0.0), WIDTH)  # type: ignore[arg-type]


def test_a_price_is_taken_only_if_all_stricter_ones_keep_r_t(data):
    """Data of the prices are of different risk, so that bounds do not fall with the price."""
    agent = decided()
    by_price = {0.0: data[0], 1.0: data[1], 4.0: data[0], 16.0: data[1]}
    found = PricedCalibration(Linear(), agent, by_price, PlugIn(0.0), WIDTH)  # type: ignore[arg-type]
    assert found.prices.tolist() == [16.0, 4.0, 1.0, 0.0]
    for i, price in enumerate(found.prices):
        score = gumbel_scores(agent, by_price[price].observation, i)
        assert found.bounds[i] == pytest.approx(counted(by_price[price], score, price, 0.0), abs=1e-9)
    for r_t in (*found.bounds, 1e-6, 1.0):
        choice = found.threshold(r_t)
        allowed = [k for k in range(4) if (found.bounds[: k + 1] <= r_t).all()]
        assert choice.feasible == bool(allowed)
        assert choice.tau == (-found.prices[allowed[-1]] if allowed else -np.inf)
        assert choice.bound <= r_t or not allowed
    taus = [one.tau for one in found.thresholds((0.3, 1e-6, 0.05)).values()]
    assert taus == sorted(taus)
    assert (found.level(np.array([[-1.0, 1.0]])) == priced_risk(np.array([[-1.0, 1.0]]), WIDTH)).all()
    assert found.reliability()["n"].sum() > 0


def test_draws_follow_the_policy_and_the_price():
    """One observation many times: shares are pi exp(-mu p), normalised."""
    agent, n, mu = decided(), 40_000, 1.5
    observation = np.repeat(driven(POINT, 1, 40, 0).last_observation, n, axis=0)
    margin = np.linspace(-1.0, 1.0, 15).astype(np.float32)
    policy = GuardedPolicy(agent, PricedGuard(Given(np.tile(margin, (n, 1))), -mu, WIDTH), 0, TASK)
    policy(observation)
    expected = agent.candidate_probabilities(observation[:1])[0] * np.exp(-mu * priced_risk(margin, WIDTH))
    expected /= expected.sum()
    share = np.bincount(policy.candidate, minlength=15) / n
    assert np.abs(share - expected).max() < 5 * np.sqrt(0.25 / n)
    plain = agent.candidate_probabilities(observation[:1])[0]
    assert np.abs(share - plain).max() > 10 * np.sqrt(0.25 / n)


def test_a_price_of_nothing_is_the_agent_and_an_infinite_one_brakes():
    observation = driven(POINT, 300, 40, 0).last_observation.copy()
    agent, margins = untrained(), np.random.default_rng(0).normal(size=(300, 15)).astype(np.float32)
    free = GuardedPolicy(agent, PricedGuard(Given(margins), 0.0, WIDTH), 3, TASK)
    gate = GuardedPolicy(agent, Guard(Given(margins), np.inf), 3, TASK)
    np.testing.assert_array_equal(free(observation), gate(observation))
    given = Given(margins)
    given.margin(observation)  # from here on also of some of them
    refused = GuardedPolicy(agent, PricedGuard(given, -np.inf, WIDTH), 3, TASK)
    refused(observation)
    assert (refused.candidate == -1).all()


def test_workers_get_the_guard_of_the_run_and_gates_while_it_learns(tmp_path):
    config = replace(SafetyGymConfig(), choice=PRICED)
    given = Given(np.zeros((1, 15)))
    assert guard_of(config, given, -2.0) == PricedGuard(given, -2.0, WIDTH)
    assert type(guard_of(SafetyGymConfig(), given, -2.0)) is Guard
    assert sent(config, tmp_path, PricedGuard(given, -2.0, WIDTH)).config.choice == PRICED
    assert sent(config, tmp_path, Guard(given, -2.0)).config.choice.rule == "gate"
    assert config.choice == PRICED


@pytest.mark.parametrize("change", [{"xi": "measured"}, {"calibrate": "accepted"}])
def test_what_cannot_be_priced_is_refused(change):
    config = SafetyGymConfig()
    config = replace(config, choice=PRICED, evaluation=replace(config.evaluation, **change))
    with pytest.raises(ConfigError, match="priced is calibrated for the action that is selected"):
        config.validate()


def test_a_block_says_that_its_risk_is_priced(monkeypatch):
    monkeypatch.setattr(jobs, "digest_of", lambda weights: "weights")
    config, keys = SafetyGymConfig(), []
    for choice in (config.choice, PRICED, replace(PRICED, width=0.1)):
        of = replace(config, choice=choice)
        job = jobs.blocks(of, {}, 1000, config.agent_file("ours"), 1, {"some": torch.zeros(1)}, -1.0)[0]
        keys.append(str(job.key))
    assert len(set(keys)) == 3
    assert "choice" not in keys[0]
