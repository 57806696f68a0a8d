"""How often a monitor is wrong, counted where it is hard: the risk is exactly r_t, and one may stop any time.

`python run.py experiment=theory` counts more streams (results/tables/theory_monitoring.csv).
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from safeframe.service.monitor import ALTERNATIVES, RiskMonitor
from safeframe.service.monitoring.bets import Bets
from safeframe.service.monitoring.detector import ChangeDetector
from safeframe.service.monitors import RiskMonitors

ALPHA = 0.05
LEVELS = [1e-3, 1e-2, 0.1]
STREAMS = [300, pytest.param(20_000, marks=pytest.mark.long)]


def allowed(n: int, share: float = ALPHA) -> int:
    """So many of n streams, or more, are wrong with probability 1e-3 where the promise just holds."""
    return int(stats.binom.ppf(0.999, n, share))


def streams(rng, n, labels, risk):
    for _ in range(n):
        yield rng.random(labels) < risk


@pytest.mark.parametrize("n", STREAMS)
@pytest.mark.parametrize("r_t", LEVELS)
def test_false_alarms_and_lower_limits_with_stopping_at_any_time(r_t, n):
    """An alarm at any label counts, and so does a limit above the risk at any label (limits never fall)."""
    rng = np.random.default_rng(int(1 / r_t))
    alarms = above = 0
    for labels in streams(rng, n, int(20 / r_t), r_t):
        monitor = RiskMonitor(r_t, ALPHA)
        alarms += monitor.update(labels)
        above += monitor.lower > r_t
    assert alarms <= allowed(n)
    assert above <= allowed(n)
    assert alarms > 0  # it is no test that never says anything


@pytest.mark.parametrize("r_t", [1e-2, 0.1])
def test_the_count_sees_a_test_that_may_not_be_looked_at_often(r_t):
    """The usual binomial test, looked at after every unsafe label: false far more often than alpha."""
    rng, n, false = np.random.default_rng(0), 300, 0
    for labels in streams(rng, n, int(20 / r_t), r_t):
        at = np.flatnonzero(labels) + 1
        false += bool((stats.binom.sf(np.arange(len(at)), at, r_t) <= ALPHA).any())
    assert false > 2 * allowed(n)


@pytest.mark.parametrize("arrival", ["risk chosen in view of the past", "late labels, shuffled"])
def test_false_alarms_where_cases_depend_on_the_past_or_come_in_any_order(arrival):
    """The risk of each next case is 0 or r_t, as whoever wants an alarm chooses; or labels come shuffled."""
    r_t, n, rng, alarms = 0.1, 150, np.random.default_rng(1), 0
    for labels in streams(rng, n, 400, r_t):
        monitor = RiskMonitor(r_t, ALPHA)
        if arrival.startswith("late"):
            monitor.update(rng.permutation(labels))
        else:
            stopped = False
            for label in labels.tolist():
                if monitor.update(int(label and not stopped)) or label:
                    stopped = monitor.e_value > 10.0  # hold what was won
        alarms += monitor.alarm
    assert alarms <= allowed(n)


def dependent(kind: str, rng: np.random.Generator, rounds: int, groups: int, r_t: float) -> np.ndarray:
    """(rounds, groups) labels of risk r_t each that depend on one another within a round."""
    if kind == "the same case in all groups":
        return np.repeat(rng.random((rounds, 1)) < r_t, groups, axis=1)
    if kind == "at most one unsafe":
        hit = rng.random(rounds) < r_t * groups
        return hit[:, None] & (rng.integers(0, groups, rounds)[:, None] == np.arange(groups))
    return rng.random((rounds, groups)) < r_t


@pytest.mark.parametrize("n", [120, pytest.param(2000, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", ["the same case in all groups", "at most one unsafe", "independent"])
def test_groups_together_under_dependence(kind, n):
    r_t, groups, rounds = 0.1, 4, 120
    rng, combined, any_group = np.random.default_rng(2), 0, 0
    for _ in range(n):
        monitors = RiskMonitors(r_t, list(range(groups)), ALPHA)
        labels = dependent(kind, rng, rounds, groups, r_t)
        for start in range(0, rounds, 12):
            monitors.update(dict(enumerate(labels[start : start + 12].T)))
        combined += monitors.alarm
        any_group += bool(monitors.alarmed)
    assert combined <= allowed(n)
    assert any_group <= allowed(n)


def test_groups_that_e_bh_names():
    """Two of six groups are too risky: the mean share of false ones among those named is at most alpha."""
    rng, shares, found = np.random.default_rng(3), [], 0
    for _ in range(100):
        monitors = RiskMonitors(0.05, list(range(6)), 0.2)
        risk = np.array([0.2, 0.2, 0.05, 0.05, 0.05, 0.05])
        monitors.update(dict(enumerate((rng.random((150, 6)) < risk).T)))
        named = monitors.suspects
        shares.append(sum(key > 1 for key in named) / max(len(named), 1))
        found += sum(key < 2 for key in named)
    assert np.mean(shares) <= 0.2
    assert found > 150


@pytest.mark.parametrize("risk", [0.1, 0.05])
def test_a_detector_rings_falsely_no_more_often_than_it_says(risk):
    """Mean labels until it rings, with its standard error; a stream that does not ring counts as long as it
    was watched, which can only lower the mean.
    """
    rng, lengths = np.random.default_rng(4), []
    for labels in streams(rng, 150, 4000, risk):
        detector = ChangeDetector(Bets(ALTERNATIVES), 0.1, arl=200.0)
        detector.advance(np.flatnonzero(labels)[:300])
        lengths.append(detector.rang_at or 2000)
    assert np.mean(lengths) + 3 * np.std(lengths) / np.sqrt(150) >= 200.0


def test_power_at_three_times_r_t():
    """The mixture is as fast as the right one of its six bets would be, or faster: the others win too."""
    rng = np.random.default_rng(5)
    found = []
    for labels in streams(rng, 100, 40_000, 3e-3):
        monitor = RiskMonitor(1e-3, ALPHA)
        assert monitor.update(labels)
        found.append(monitor.alarm_at)
    growth = 1e-3 * (3 * np.log(3) - 2)
    assert 1000 < np.median(found) < np.log(6 / ALPHA) / growth
