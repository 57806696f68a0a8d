"""A guard in service: what it may know when, what it renews, and what a budget takes back."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.production import records
from experiments.production.guard.service import (
    SERVICES,
    Clock,
    InService,
    Service,
    risk_scale,
    watched,
)
from safeframe.shrinkage import Shrinkage
from safeframe.threshold_rule import Conservative, PlugIn, ThresholdRule

P, YEAR = 3, 2000
CLOCK = Clock(lead=24, delay=24, renew=168, window=1500)


def drifting(seed: int = 0, factor: float = 1.0) -> InService:
    """Two years of p̂ that is right in the first; in the second the odds of an unsafe hour are `factor` times
    as large."""
    rng = np.random.default_rng(seed)
    n = 2 * YEAR
    logit = rng.normal(-3.0, 2.0, (n, P))
    moved = logit + np.log(factor) * (np.arange(n) >= YEAR)[:, None]
    unsafe = rng.random((n, P)) < 1.0 / (1.0 + np.exp(-moved))
    probability = np.clip(1.0 / (1.0 + np.exp(-logit)), 1e-12, 1.0)
    first, second = np.arange(YEAR), np.arange(YEAR, n)
    return InService(probability, unsafe, np.arange(n), first, second, [first], CLOCK)


def test_the_services_are_those_that_the_configuration_knows():
    assert tuple(SERVICES) == records.SERVICES


def test_periods_cover_every_hour_once_and_know_nothing_later_than_a_day_before_the_decision():
    hour = np.arange(5000, 5000 + 1000)
    seen = []
    for stretch, last in CLOCK.periods(hour):
        assert last == hour[stretch][0] - 48
        seen.append(hour[stretch])
    np.testing.assert_array_equal(np.concatenate(seen), hour)
    assert {len(part) for part in seen[:-1]} == {168}
    assert list(Clock(24, 24).periods(hour)) == [(slice(0, 1000), 5000 - 48)]


@pytest.mark.parametrize("name", list(SERVICES))
def test_no_plan_depends_on_an_hour_that_is_not_known_yet(name):
    """Labels from some hour on are turned round: every plan up to 48 hours after it stays."""
    at = YEAR + 900
    before, after = drifting(), drifting()
    after.unsafe = after.unsafe.copy()
    after.unsafe[at:] = ~after.unsafe[at:]
    gates = [served.gates(SERVICES[name], [0.01, 0.1]) for served in (before, after)]
    same = np.arange(YEAR) + YEAR < at + 48
    np.testing.assert_array_equal(gates[0][:, same], gates[1][:, same])
    if SERVICES[name].renewed or SERVICES[name].budget:
        assert (gates[0][:, ~same] != gates[1][:, ~same]).any()
    else:
        np.testing.assert_array_equal(gates[0], gates[1])


def test_a_static_guard_has_the_thresholds_of_the_shared_rule():
    served = drifting()
    gate = served.gates(Service(Conservative()), [0.05])[0]
    odd = (np.arange(YEAR) // 168) % 2 == 1
    for i in range(P):
        rule = ThresholdRule(served.scale[:YEAR, i], served.unsafe[:YEAR, i].astype(int), Conservative(), odd)
        np.testing.assert_array_equal(gate[:, i], served.scale[YEAR:, i] < rule.calibrate(0.05).tau)


def test_the_prior_is_the_largest_share_of_any_known_year():
    served = drifting()
    served.years = [np.arange(500), np.arange(500, YEAR)]
    shares = [served.unsafe[index].mean(axis=0) for index in (*served.years, served.calibration)]
    for i, (low, high) in served.prior(served.calibration).items():
        assert (low, high) == (min(s[i] for s in shares), max(s[i] for s in shares))
    stricter = served.gates(SERVICES["static_prior"], [0.05]).sum()
    assert stricter < served.gates(SERVICES["static"], [0.05]).sum()


def test_a_window_holds_the_newest_known_hours():
    served = drifting()
    np.testing.assert_array_equal(served.known(YEAR - 1), np.arange(YEAR - 1500, YEAR))
    known = served.known(YEAR + 99)
    np.testing.assert_array_equal(known, np.arange(YEAR + 100 - 1500, YEAR + 100))


@pytest.mark.parametrize("constraint", ["per_group", "worst_group"])
def test_a_budget_takes_back_what_a_drift_overspends(constraint):
    served = drifting(factor=4.0)
    alone = Service(Shrinkage(), constraint)
    shares = []
    for service in (alone, Service(Shrinkage(), constraint, budget=True)):
        gate = served.gates(service, [0.1])[0]
        bad = (gate & served.unsafe[YEAR:]).sum(axis=0)
        shares.append((bad / gate.sum(axis=0)).max())
    assert shares[0] > 0.13
    assert shares[1] < shares[0] - 0.01


def test_renewed_thresholds_follow_a_drift():
    served = drifting(factor=4.0)
    late = slice(YEAR // 2, None)
    shares = []
    for name in ("static_plug_in", "rolling_plug_in"):
        gate = served.gates(SERVICES[name], [0.1])[0][late]
        shares.append((gate & served.unsafe[YEAR:][late]).sum() / gate.sum())
    assert shares[1] < shares[0]


def test_where_anything_may_happen_everything_is_made():
    served = drifting()
    for name in ("budget", "static_plug_in", "worst_product"):
        assert served.gates(SERVICES[name], [0.01, 1.0])[1].all()


def test_the_risk_scale_is_calibrated_where_it_was_fitted():
    served = drifting()
    noise = np.random.default_rng(1).normal(size=served.scale.shape)
    found = risk_scale([3.0 * served.scale + 1.0, noise], served.unsafe, served.calibration)
    assert ((found > 0) & (found <= 1)).all()
    for i in range(P):
        expected = found[:YEAR, i].sum()
        assert expected == pytest.approx(served.unsafe[:YEAR, i].sum(), rel=1e-3)
        assert np.corrcoef(np.log(found[:, i]), np.log(served.probability[:, i]))[0, 1] > 0.95


def test_a_monitor_rings_for_a_risk_above_what_was_promised_and_says_when():
    rng = np.random.default_rng(2)
    gate = np.ones(4000, dtype=bool)
    gate[::2] = False
    unsafe = rng.random(4000) < 0.09
    alarm = watched(gate, unsafe, 0.03, 0.05)
    assert alarm.hour is not None
    assert alarm.labels == gate[: alarm.hour + 1].sum()
    assert watched(gate, unsafe, 0.2, 0.05).hour is None
    assert watched(np.zeros(4000, bool), unsafe, 0.03, 0.05).hour is None
    assert watched(gate, unsafe, 1.0, 0.05).hour is None


def test_a_plug_in_guard_with_a_budget_starts_at_its_own_threshold():
    served = drifting()
    plain = served.gates(Service(PlugIn()), [0.1])[0]
    spent = served.gates(Service(PlugIn(), budget=True), [0.1])[0]
    np.testing.assert_array_equal(plain[:48], spent[:48])
    assert not (spent & ~plain).any()
