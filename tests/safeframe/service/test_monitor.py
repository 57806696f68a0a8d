"""The monitor against products by hand, in any batches, over 10^7 labels, and with bad input."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeframe.service.monitor import ALTERNATIVES, FINE, RiskMonitor
from safeframe.service.monitoring.bets import LOWEST, Bets, rung_value
from safeframe.service.monitoring.detector import ChangeDetector
from safeframe.types import SafeframeError


def stream(n: int, risk: float, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(n) < risk).astype(int)


def wealth_by_hand(labels: np.ndarray, r: float, alternatives=ALTERNATIVES) -> np.ndarray:
    """(n, j) wealth of each bet after each label, as products."""
    q = np.minimum(np.array(alternatives) * r, (1 + r) / 2)
    return np.cumprod(np.where(labels[:, None] == 1, q / r, (1 - q) / (1 - r)), axis=0)


def splits(labels: np.ndarray, seed: int) -> list[np.ndarray]:
    cuts = np.sort(np.random.default_rng(seed).integers(0, len(labels), 7))
    return np.split(labels, cuts)


@pytest.mark.parametrize(("r_t", "risk"), [(1e-3, 5e-3), (1e-2, 2e-2), (0.1, 0.15), (0.5, 0.7)])
def test_wealth_alarm_and_change_are_those_of_the_products(r_t, risk):
    labels = np.concatenate([stream(1000, r_t, 1), stream(2000, risk, 2)])
    by_hand = wealth_by_hand(labels, r_t)
    mean = by_hand.mean(axis=1)
    monitor = RiskMonitor(r_t)
    monitor.update(labels)
    assert monitor.e_value == pytest.approx(mean[-1], rel=1e-9)
    assert monitor.p_value == pytest.approx(1 / max(mean.max(), 1.0), rel=1e-9)
    over = np.flatnonzero(mean >= 20.0)
    assert monitor.alarm_at == (int(over[0]) + 1 if over.size else None)
    assert over.size
    # the change: over alternatives and places, the largest likelihood ratio of what came after
    q = np.minimum(np.array(ALTERNATIVES) * r_t, (1 + r_t) / 2)
    step = np.where(labels[:, None] == 1, np.log(q / r_t), np.log((1 - q) / (1 - r_t)))
    until = np.vstack([np.zeros(len(q)), np.cumsum(step, axis=0)[: monitor.alarm_at]])
    gain = until[-1] - until
    best = np.unravel_index(gain.argmax(), gain.shape)
    assert gain[monitor.change].max() == pytest.approx(gain[best])
    assert monitor.change == best[0]


def test_the_change_is_found_where_it_is():
    """Risks of 40 streams rise tenfold after 1,000 labels: the estimates lie around that."""
    found = []
    for seed in range(40):
        monitor = RiskMonitor(1e-2, alpha=1e-3)
        monitor.update(np.concatenate([stream(1000, 1e-2, seed), stream(9000, 0.1, 1000 + seed)]))
        assert monitor.change is not None
        found.append(monitor.change - 1000)
    assert abs(np.median(found)) <= 15
    assert np.percentile(np.abs(found), 90) < 100


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 1), min_size=1, max_size=60), st.integers(0, 99), st.sampled_from([0.01, 0.3]))
def test_batches_single_labels_and_restored_states_agree(labels, seed, r_t):
    array = np.array(labels)
    whole, single, parts = (RiskMonitor(r_t, alpha=0.2, arl=50.0) for _ in range(3))
    whole.update(array)
    for label in labels:
        single.update(label)
    for part in splits(array, seed):
        parts.update(part)
        parts = RiskMonitor.from_state(json.loads(json.dumps(parts.state(), allow_nan=False)))
    assert single.report() == whole.report()
    assert parts.report() == whole.report()
    for name, value in whole.state().items():
        assert single.state()[name] == parts.state()[name]
        if name != "detector":
            assert single.state()[name] == value


def test_ten_million_labels_lose_no_digits():
    from fractions import Fraction

    r_t, n, k = 1e-3, 10**7, 10_300
    labels = np.zeros(n, dtype=np.int8)
    labels[:: n // k][:k] = 1
    labels[np.flatnonzero(labels)[k:]] = 0
    monitor = RiskMonitor(r_t, alternatives=[1.5])
    monitor.update(labels)
    q, r = Fraction(1.5 * r_t), Fraction(r_t)
    exact = k * math.log(q / r) + (n - k) * (math.log1p(-1.5 * r_t) - math.log1p(-r_t))
    assert monitor.n == n
    assert monitor.unsafe == k
    assert monitor.log_e_value == pytest.approx(exact, rel=1e-9)
    assert len(json.dumps(monitor.state())) < 1500


def test_lower_limit_is_the_largest_risk_that_was_rejected():
    """Against the definition: at each label the wealth against r, and the largest r whose wealth ever passed
    the bar, on a grid finer than the monitor's ladder.
    """
    labels = stream(400, 0.2, 3)
    monitor = RiskMonitor(0.05, alpha=0.1)
    seen = []
    for label in labels:
        monitor.update(int(label))
        seen.append(monitor.lower)
    grid = np.linspace(0.001, 0.3, 3000)
    passed = np.array([(wealth_by_hand(labels, r, FINE).mean(axis=1)).max() >= 10.0 for r in grid])
    assert passed[: passed.sum()].all()  # the wealth falls in r
    assert monitor.lower == pytest.approx(grid[passed].max(), rel=2e-3)
    assert (np.diff(seen) >= 0).all()
    assert 0.0 < monitor.lower < 0.2


def test_lower_limit_tends_to_a_constant_risk():
    monitor = RiskMonitor(1e-3)
    monitor.update(stream(2_000_000, 0.05))
    assert 0.97 * 0.05 < monitor.lower < 0.05


def test_rungs_go_down_to_nothing():
    assert rung_value(LOWEST) == 0.0
    assert 0.0 < rung_value(LOWEST - 1) < 1e-12
    assert Bets([2.0]).lower_limit(0, 0, 3.0) == LOWEST
    assert Bets([2.0]).lower_limit(0, 100, 3.0) == LOWEST
    high = Bets([1.5, 3.0]).lower_limit(100, 100, 3.0)
    assert 0.5 < rung_value(high) < 1.0
    assert Bets([1.5, 3.0]).lower_limit(100, 100, 3.0, high + 500) == high


@pytest.mark.parametrize("r_t", [0.05, 0.4])
def test_detector_is_the_sum_over_all_starts(r_t):
    labels = stream(300, 0.2, 4)
    bets = Bets(ALTERNATIVES)
    detector = ChangeDetector(bets, r_t, arl=1e4)
    detector.advance(np.flatnonzero(labels))
    factor = wealth_by_hand(labels, r_t) / np.vstack([np.ones(6), wealth_by_hand(labels, r_t)[:-1]])
    total = np.array([sum(np.prod(factor[s:n], axis=0).mean() for s in range(n)) for n in range(1, 301)])
    assert detector.log_value(300) == pytest.approx(math.log(total[-1]), rel=1e-9)
    after_unsafe = np.flatnonzero((total >= 1e4) & (labels == 1))
    assert detector.rang_at == (int(after_unsafe[0]) + 1 if after_unsafe.size else None)
    assert ChangeDetector(bets, r_t, 1e4).log_value(0) == -math.inf


def test_the_detector_sees_a_late_change_sooner_than_the_alarm():
    labels = np.concatenate([np.zeros(100_000, int), stream(20_000, 1e-2)])
    monitor = RiskMonitor(1e-3, arl=1e5)
    monitor.update(labels)
    assert 100_000 < monitor.detector.rang_at < 100_600
    assert monitor.alarm_at is not None
    assert monitor.detector.rang_at < monitor.alarm_at - 5000
    assert abs(monitor.change - 100_000) < 300
    assert "detector rang" in str(monitor.report())
    monitor.restart()
    assert (monitor.n, monitor.alarm, monitor.change, monitor.lower) == (0, False, None, 0.0)
    assert not monitor.detector.rang


def test_only_accepted_decisions_count_and_labels_after_an_alarm_do():
    labels, accepted = stream(5000, 0.2), stream(5000, 0.6, 9).astype(bool)
    one, two = RiskMonitor(0.1), RiskMonitor(0.1)
    assert one.update(labels, accepted)
    two.update(labels[accepted])
    assert one.report() == two.report()
    assert one.n == accepted.sum() > one.alarm_at
    assert "alarm after" in str(one.report())
    quiet = RiskMonitor(0.1)
    assert quiet.update([]) is False
    assert quiet.update(np.array([True, False]), np.array([False, False])) is False
    assert quiet.n == 0
    assert "no alarm" in str(quiet.report())
    assert math.isinf(RiskMonitor.from_state(one.state() | {"n": 9000, "unsafe": 9000}).e_value)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (2, "is 2; 0 is safe|position 0"),
        (-1, "position 0"),
        ([0, 1, 3], "position 2"),
        (0.5, "expected bools"),
        (float("nan"), "missing"),
        ([0, None], "missing"),
        ("unsafe", "labels hold"),
        ([[0, 1]], "shape"),
    ],
)
def test_bad_labels_are_errors_and_count_nothing(label, message):
    monitor = RiskMonitor(0.1)
    monitor.update([1, 0])
    before = monitor.state()
    with pytest.raises(SafeframeError, match=message):
        monitor.update(label)
    assert monitor.state() == before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"r_t": 0.0}, "r_t is 0"),
        ({"r_t": 1.0}, "r_t is 1"),
        ({"r_t": float("nan")}, "r_t"),
        ({"r_t": "much"}, "number in"),
        ({"alpha": 0.0}, "alpha"),
        ({"alternatives": [1.0, 2.0]}, "above 1"),
        ({"alternatives": []}, "above 1"),
        ({"alternatives": [float("inf")]}, "above 1"),
        ({"weights": [1.0]}, "one per alternative"),
        ({"weights": [1.0] * 5 + [0.0]}, "positive"),
        ({"arl": 1.0}, "arl"),
    ],
)
def test_bad_settings_are_errors(given, message):
    with pytest.raises(SafeframeError, match=message):
        RiskMonitor(**{"r_t": 0.1, **given})


def test_bad_masks_and_states_are_errors():
    monitor = RiskMonitor(0.1)
    with pytest.raises(SafeframeError, match="bools"):
        monitor.update([0, 1], [True])
    with pytest.raises(SafeframeError, match="bools"):
        monitor.update([0, 1], [1, 0])
    with pytest.raises(SafeframeError, match="no state"):
        RiskMonitor.from_state({"kind": "RiskMonitors"})
    with pytest.raises(SafeframeError, match="format 2"):
        RiskMonitor.from_state(monitor.state() | {"format": 2})
    broken = monitor.state()
    del broken["most"]
    with pytest.raises(SafeframeError, match="lacks 'most'"):
        RiskMonitor.from_state(broken)


def test_a_weighted_mixture_is_the_weighted_mean():
    labels = stream(200, 0.3)
    monitor = RiskMonitor(0.1, alternatives=[2.0, 4.0], weights=[3.0, 1.0])
    monitor.update(labels)
    by_hand = wealth_by_hand(labels, 0.1, [2.0, 4.0])[-1]
    assert monitor.e_value == pytest.approx(0.75 * by_hand[0] + 0.25 * by_hand[1], rel=1e-9)
