"""Monitors of several groups: means of wealths by hand, e-BH by hand, rounds, and bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest

from safeframe.service.monitor import RiskMonitor
from safeframe.service.monitors import RiskMonitors
from safeframe.types import SafeframeError


def stream(n, risk, seed=0):
    return (np.random.default_rng(seed).random(n) < risk).astype(int)


def test_the_combined_alarm_is_that_of_the_mean_wealth_at_the_ends_of_rounds():
    ids = ["a", "b", "c"]
    labels = np.column_stack([stream(1500, risk, seed) for seed, risk in enumerate([0.01, 0.05, 0.01])])
    groups = RiskMonitors(0.01, ids)
    alone = {key: RiskMonitor(0.01) for key in ids}
    first = None
    for t, row in enumerate(labels, 1):
        groups.update(row, ids)
        for key, label in zip(ids, row, strict=True):
            alone[key].update(int(label))
        mean = np.mean([one.e_value for one in alone.values()])
        assert np.exp(groups.log_e_value) == pytest.approx(mean, rel=1e-9)
        first = t if first is None and mean >= 20.0 else first
    assert groups.alarm
    assert groups.alarm_at == first
    assert groups.behind == "b"
    assert groups.alarmed == ["b"]
    assert groups.suspects == ["b"]
    report = groups.report()
    assert report.groups["b"].alpha == pytest.approx(0.05 / 3)
    assert "mostly by group 'b'" in str(report)
    # a group's own alarm needs G / alpha
    strict = RiskMonitor(0.01, alpha=0.05 / 3)
    strict.update(labels[:, 1])
    assert report.groups["b"].alarm_at == strict.alarm_at


def test_several_groups_that_are_too_risky_together_raise_the_mean_before_any_of_them():
    """A group's alarm takes G times the wealth, and alone lifts the mean over its bar."""
    labels = dict.fromkeys(range(8), stream(600, 0.15))
    groups = RiskMonitors(0.05, list(range(8)), alpha=0.01)
    first = None
    for t in range(0, 600, 4):
        groups.update({key: one[t : t + 4] for key, one in labels.items()})
        first = groups.rounds if first is None and groups.alarmed else first
    assert first is not None
    assert groups.alarm_at < first


def test_e_bh_by_hand():
    """Wealths 90, 45, 20 and 1 of four groups at alpha .05: bars 80, 40, 26.7 and 20 name the first two."""
    groups = RiskMonitors(0.1, [1, 2, 3, 4])
    for key, wealth in zip([3, 1, 2, 4], [90.0, 45.0, 20.0, 1.0], strict=True):
        groups.monitors[key] = Fixed(wealth)
    assert groups.suspects == [1, 3]
    groups.monitors[2] = Fixed(27.0)
    assert groups.suspects == [1, 2, 3]
    for key in groups.monitors:
        groups.monitors[key] = Fixed(19.9)
    assert groups.suspects == []
    groups.monitors[4] = groups.monitors[3] = groups.monitors[2] = groups.monitors[1] = Fixed(20.0)
    assert groups.suspects == [1, 2, 3, 4]


class Fixed:
    """A monitor of a given wealth."""

    def __init__(self, wealth):
        self.log_e_value = np.log(wealth)


def test_thresholds_by_group_masks_and_one_group_for_all():
    groups = RiskMonitors({"bread": 0.01, "beer": 0.1})
    assert groups.monitors["beer"].r_t == 0.1
    groups.update([1, 0, 0], "beer")
    groups.update([1, 1, 0, 0], ["bread", "beer", "beer", "bread"], [True, False, True, True])
    assert (groups.monitors["beer"].n, groups.monitors["beer"].unsafe) == (4, 1)
    assert (groups.monitors["bread"].n, groups.monitors["bread"].unsafe) == (2, 1)
    assert groups.rounds == 2
    assert "no combined alarm" in str(groups.report())
    groups.update(np.ones(9, int), "bread")
    assert groups.alarm
    groups.restart()
    assert not groups.alarm
    assert groups.monitors["bread"].n == 0


def test_a_restored_state_goes_on_equally():
    ids = ["x", "y"]
    groups = RiskMonitors(0.02, ids)
    labels = {key: stream(900, 0.06, seed) for seed, key in enumerate(ids)}
    for t in range(0, 900, 30):
        groups.update({key: one[t : t + 30] for key, one in labels.items()})
        if t == 450:
            other = RiskMonitors.from_state(json.loads(json.dumps(groups.state(), allow_nan=False)))
        elif t > 450:
            other.update({key: one[t : t + 30] for key, one in labels.items()})
    assert other.report() == groups.report()
    with pytest.raises(SafeframeError, match="no state"):
        RiskMonitors.from_state(groups.monitors["x"].state())
    with pytest.raises(SafeframeError, match="lacks"):
        RiskMonitors.from_state({"kind": "RiskMonitors", "format": 1})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: g.update([0, 1], ["a", "z"]), "'z' is not monitored"),
        (lambda g: g.update({"a": [1], "z": [0]}), "'z' is not monitored"),
        (lambda g: g.update({"a": [1], "b": [2]}), "position 0"),
        (lambda g: g.update([0, 1]), "missing"),
        (lambda g: g.update([0, 1], ["a"] * 3), "shape"),
        (lambda g: g.update([0, 1], "a", [True]), "bools"),
        (lambda g: g.update({"a": [1]}, "a"), "without group="),
        (lambda g: g.update([0, np.nan], "a"), "missing"),
    ],
)
def test_bad_rounds_are_errors_and_count_nothing(call, message):
    groups = RiskMonitors(0.1, ["a", "b"])
    groups.update([1, 0], ["a", "b"])
    before = groups.state()
    with pytest.raises(SafeframeError, match=message):
        call(groups)
    assert groups.state() == before


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((0.1,), "no groups"),
        ((0.1, []), "no groups"),
        ((0.1, ["a", "a"]), "not distinct"),
        (({"a": 0.1}, ["a"]), "named twice"),
        ((0.1, [1.5]), "neither a text"),
        (({"a": 2.0},), "r_t"),
    ],
)
def test_bad_groups_are_errors(args, message):
    with pytest.raises(SafeframeError, match=message):
        RiskMonitors(*args)
