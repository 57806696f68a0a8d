"""PriceRule: what each of its three parts adds, and what it does where cases lack a class."""

import numpy as np
import pytest

from safeframe.priced.rule import PriceRule
from safeframe.risk_scale import LogisticRisk
from safeframe.threshold_rule import Conservative, PlugIn, ThresholdRule
from safeframe.types import SafeframeError


def problem(seed=0, n=3000, c=6):
    rng = np.random.default_rng(seed)
    margin = rng.normal(size=(n, c))
    label = (rng.random((n, c)) < 1 / (1 + np.exp(3.0 - 3.0 * margin))).astype(int)
    return margin, margin + 0.5 * rng.normal(size=(n, c)), label


SCALE = LogisticRisk.fit(problem(9)[0].ravel(), problem(9)[2].ravel())


def test_parts_add_up_in_their_order_and_the_last_is_the_bound():
    rule = PriceRule(*problem(), SCALE, Conservative(share=0.1), prior=(0.05, 0.2))
    for r_t in (0.03, 0.1):
        found = rule.calibrate(r_t)
        assert found.price.feasible
        parts = rule.parts(found.price)
        assert list(parts) == ["seen", "prior", "radius", "few cases"]
        assert (np.diff(list(parts.values())) >= 0).all()
        assert parts["few cases"] == found.price.bound <= r_t
        assert found.slack == 0.1 * r_t
        assert found.radius == rule.radius(r_t, found.price.charged_from, found.price.gate) > 0.0
        assert parts["seen"] == found.price.n_unsafe_acted / found.price.n_acted


def test_the_plug_in_rule_is_the_curve_alone():
    rule = PriceRule(*problem(), SCALE, PlugIn(), charges=(1.0,))
    assert rule.calibrate(0.05).price == rule.plain(0.05).least_price()
    given = PriceRule(*problem(), SCALE, PlugIn(0.2), charges=(1.0,)).calibrate(0.05)
    assert given.radius == 0.2
    assert given.price.mu > rule.calibrate(0.05).price.mu


def test_a_looser_level_never_earns_less():
    rule = PriceRule(*problem(1, 400), SCALE, Conservative(0.0, 0.0))
    levels = np.geomspace(1e-3, 1.0, 12)
    found = rule.prices(levels)
    earned = [one.price.mean_reward for one in found]
    assert (np.diff(earned) >= 0).all()
    for r_t, one in zip(levels, found, strict=True):
        assert not one.price.feasible or one.price.bound <= one.price.r_t <= r_t
    assert not found[0].price.feasible
    assert found[-1].price.feasible


def test_of_the_levels_charged_from_the_one_that_earns_most_is_taken():
    each = [
        PriceRule(*problem(), SCALE, Conservative(), charges=(c,)).calibrate(0.05) for c in (1.0, 0.5, 0.25)
    ]
    every = PriceRule(*problem(), SCALE, Conservative(), charges=(1.0, 0.5, 0.25)).calibrate(0.05)
    best = max(each, key=lambda one: one.price.mean_reward)
    assert every == best
    assert best.price.charged_from < 0.05, "the parts of the rule leave less than r_t for the risk itself"
    for charges in ((), (0.0,), (1.5,)):
        with pytest.raises(SafeframeError, match="charges"):
            PriceRule(*problem(), SCALE, PlugIn(), charges=charges)


@pytest.mark.parametrize("seed", range(4))
def test_with_a_measured_radius_it_earns_no_less_than_the_gate_alone(seed):
    margin, reward, label = problem(seed)
    reward = np.where(reward < 0.0, -np.inf, reward)
    for r_t in (0.02, 0.05, 0.1, 0.3):
        tau = ThresholdRule(margin, label, Conservative(), None, reward, "selected").calibrate(r_t).tau
        alone = np.where(margin < tau, reward, 0.0).max(axis=1).clip(0.0).mean()
        priced = PriceRule(margin, reward, label, SCALE, Conservative()).calibrate(r_t).price
        assert priced.mean_reward >= alone - 1e-12
        assert priced.bound <= r_t or not priced.feasible


def test_stricter_gates_are_tried_only_where_the_radius_is_measured():
    for rule in (PlugIn(), Conservative(0.1)):
        assert PriceRule(*problem(), SCALE, rule, gate=1.0).calibrate(0.05).price.gate == 1.0
    found = [PriceRule(*problem(s), SCALE, Conservative(), gate=1.0).calibrate(0.05).price for s in range(3)]
    assert all(price.gate <= 1.0 for price in found)
    assert any(price.gate < 1.0 for price in found)


@pytest.mark.parametrize("rule", [PlugIn(), Conservative(), Conservative(0.1)])
@pytest.mark.parametrize("absent", [0, 1])
def test_without_a_class_it_refuses_and_says_why(rule, absent):
    margin, reward, label = problem(2, 50)
    found = PriceRule(margin, reward, np.full(label.shape, 1 - absent), SCALE, rule)
    choice = found.calibrate(0.1)
    assert not choice.price.feasible
    assert ("safe", "unsafe")[absent] in choice.refused


def test_a_price_that_earns_less_than_the_default_action_is_not_taken():
    margin, reward, label = problem(3)
    choice = PriceRule(margin, reward - 2.0, label, SCALE, PlugIn(), charges=(1.0,)).calibrate(0.02)
    assert not choice.price.feasible
    assert "earns -" in choice.refused
