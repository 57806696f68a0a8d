"""Recalibration for the worst group: one threshold, the largest within r_t in every group."""

from __future__ import annotations

import numpy as np
import pytest
from service_problem import grouped, grouped_guard

from safeframe import Certified, Conservative, PlugIn, RiskCurve, Shrinkage
from safeframe.risk_scale.odds import from_log_odds
from safeframe.service.log import GuardLog
from safeframe.service.looks import log_e_value
from safeframe.service.recalibration import recalibrate

R_T = 0.1
_MADE = {}


def guard_of(rule, constraint="worst_group", threshold=R_T):
    key = repr((rule, constraint, threshold))
    if key not in _MADE:
        _MADE[key] = grouped_guard(threshold, rule=rule, constraint=constraint)
    return _MADE[key]


def lived(path, guard, n=4000, shift=0.6, seed=1, audit=None, drawn=None):
    log = GuardLog(path, guard, durable=False)
    y, label, group = grouped(n, seed, shift) if drawn is None else drawn
    done = log.act(y, group=group, audit=audit, r_t=max(guard.calibrations))
    known = np.flatnonzero(done.accepted | done.audit)
    log.label([done.ids[i] for i in known], label[known])
    return log, done.guarded.margin, label, group


def own_bound(rule, z, label, tau):
    """A group's bound at a threshold on the log odds, from the definition."""
    below = z < tau
    if isinstance(rule, Shrinkage):
        low = from_log_odds(z) <= rule.low_risk
        ratio = rule.upper_ratio(int(label[low].sum()), from_log_odds(z[low]).sum())
        return float(rule.bound(below.sum(), label[below].sum(), from_log_odds(z[below]).sum(), ratio))
    more = 1 / ((label == 1).sum() + 1) if isinstance(rule, Conservative) else 0.0
    unsafe = min((z[label == 1] < tau).mean() + more, 1.0) * label.mean()
    safe = max((z[label == 0] < tau).mean() - more, 0.0) * (1 - label.mean())
    return unsafe / (unsafe + safe) if unsafe + safe > 0 else 1.0


@pytest.mark.parametrize("rule", [PlugIn(), Conservative(0.0), Shrinkage()])
def test_it_is_the_largest_threshold_within_r_t_in_every_group_by_brute_force(rule, tmp_path):
    guard = guard_of(rule)
    log, z, label, group = lived(tmp_path / "log", guard)
    with log:
        before = log.version().cuts[R_T]["north"].tau
        found = recalibrate(log, 4000).cuts[R_T]
    assert found["north"].tau == found["south"].tau < before
    parts = [(z[mine], label[mine]) for mine in ((z < before) & (group == key) for key in found)]
    # Above the threshold in force nothing is known; below it all that was accepted is labelled.
    fine = [
        t for t in np.append(np.sort(z[z < before]), before)
        if all(own_bound(rule, *part, t) <= R_T for part in parts)
    ]  # fmt: skip
    accepted = z < found["north"].tau
    assert np.array_equal(accepted, z < max(fine))
    assert accepted.any()
    for key, part in zip(found, parts, strict=True):
        assert found[key].bound == pytest.approx(own_bound(rule, *part, found[key].tau))
        assert found[key].bound <= R_T
        assert found[key].n == (accepted & (group == key)).sum()
        assert found[key].k == label[accepted & (group == key)].sum()
    # A threshold of its own for each group would be another one for at least one of them.
    alone = [RiskCurve(*part).largest_threshold(R_T).tau for part in parts]
    assert not isinstance(rule, PlugIn) or min(alone) < max(alone)


def test_a_certified_one_is_certified_in_every_group(tmp_path):
    delta = 0.2
    guard = guard_of(Certified(delta))
    log, z, label, group = lived(tmp_path / "log", guard, 20_000)
    with log:
        before = log.version().cuts[R_T]["north"].tau
        found = recalibrate(log, 20_000)
        cuts = found.cuts[R_T]
        assert cuts["north"].tau == cuts["south"].tau < before
        assert cuts["north"].verdict == cuts["south"].verdict == "new"
        for key in ("north", "south"):
            below = (z < cuts[key].tau) & (group == key)
            evidence = log_e_value(below.sum(), label[below].sum(), R_T)
            assert evidence >= np.log(10 * 2 / delta)  # ten starts, two groups


def test_several_r_t_have_one_threshold_each_and_stay_in_order(tmp_path):
    guard = guard_of(PlugIn(), threshold=(0.02, 0.05, 0.1))
    log, *_ = lived(tmp_path / "log", guard, 8000)
    with log:
        found = recalibrate(log, 8000).cuts
    taus = [{cut.tau for cut in found[r_t].values()} for r_t in (0.02, 0.05, 0.1)]
    assert all(len(one) == 1 for one in taus)
    assert taus[0] < taus[1] or min(taus[0]) <= min(taus[1]) <= min(taus[2])
    assert min(taus[2]) > -np.inf


def test_it_rises_only_where_audits_of_every_group_allow_it(tmp_path):
    guard = guard_of(PlugIn())
    drawn = grouped(12_000, 3, -0.8)  # safer than it was
    before = next(iter(guard.calibrations[R_T].values())).tau
    everywhere = np.arange(12_000) % 2 == 0
    taus = {}
    for name, audit in {
        "everywhere": everywhere,
        "north only": everywhere & (drawn[2] == "north"),
        "nowhere": np.zeros(12_000, bool),
    }.items():
        log, z, label, group = lived(tmp_path / name, guard, audit=audit, drawn=drawn)
        with log:
            cuts = recalibrate(log, 20_000).cuts[R_T]
        assert cuts["north"].tau == cuts["south"].tau
        taus[name] = cuts["north"].tau
        if name == "everywhere":
            for key in cuts:
                seen = audit & (group == key)
                assert own_bound(PlugIn(), z[seen], label[seen], cuts[key].tau) <= R_T
    assert taus["everywhere"] > before + 0.3
    assert taus["north only"] == taus["nowhere"] == before


def test_a_group_that_the_window_cannot_calibrate_keeps_its_promise_and_follows_where_it_falls(tmp_path):
    guard = guard_of(PlugIn())
    y, label, group = grouped(4000, 1, 0.6)
    kept = (group == "north") | (np.cumsum(group == "south") <= 5)
    label[group == "south"] = 0
    log, *_ = lived(tmp_path / "log", guard, drawn=(y[kept], label[kept], group[kept]))
    with log:
        before = log.version().cuts[R_T]["south"].tau
        found = recalibrate(log, 4000)
        cuts = found.cuts[R_T]
        assert cuts["south"].tau == cuts["north"].tau < before
        assert cuts["south"].verdict == "new"
        assert "no unsafe case" in cuts["south"].why
        assert "keeps the promise that it had" in cuts["south"].why
        assert cuts["south"].bound == R_T
        assert cuts["north"].binding == cuts["south"].binding == "north"


def test_where_no_group_can_be_calibrated_the_threshold_stays(tmp_path):
    for rule in (PlugIn(), Certified(0.2)):
        guard = guard_of(rule)
        y, label, group = grouped(30, 1, 0.0)
        log, *_ = lived(tmp_path / repr(rule), guard, drawn=(y, 0 * label, group))
        with log:
            found = recalibrate(log, 30)
            assert not found.changed
            assert {cut.verdict for cut in found.cuts[R_T].values()} == {"kept"}


def test_one_group_s_window_against_the_threshold_refuses_for_all(tmp_path):
    for rule in (PlugIn(), Conservative(), Certified(0.2), Shrinkage()):
        guard = guard_of(rule)
        y, label, group = grouped(6000, 1, 0.0)
        label[group == "north"] = 1
        log, *_ = lived(tmp_path / repr(rule), guard, drawn=(y, label, group))
        with log:
            found = recalibrate(log, 6000)
            cuts = found.cuts[R_T]
            assert {cut.tau for cut in cuts.values()} == {-np.inf}
            assert {cut.binding for cut in cuts.values()} == {"north"}
            done = log.act(y[:50], group=group[:50])
            assert not done.accepted.any()
            assert (done.guarded.bound == np.inf).all()
            assert "least of all in group 'north'" in done.explain(0)


def test_no_common_threshold_although_every_group_has_one(tmp_path):
    """North is safe below -1 only in part of the log odds where south is not, and the other way round."""
    guard = guard_of(PlugIn())
    y, _, group = grouped(8000, 1, 0.0)
    z = guard.act(y, group=group).margin
    tau = next(iter(guard.calibrations[R_T].values())).tau
    middle = np.median(z[z < tau])
    rng = np.random.default_rng(0)
    # South: unsafe cases are among the lowest; only the whole qualifies. North: they are above the middle.
    south = (z < middle) & (rng.random(8000) < 0.18)
    north = (z >= middle) & (rng.random(8000) < 0.5)
    label = np.where(group == "south", south, north).astype(int)
    log, *_ = lived(tmp_path / "log", guard, drawn=(y, label, group))
    with log:
        cuts = recalibrate(log, 8000).cuts[R_T]
        below = z < tau
        each = [
            RiskCurve(z[below & (group == key)], label[below & (group == key)]).largest_threshold(R_T).tau
            for key in ("north", "south")
        ]
        assert min(each) > -np.inf
        assert {cut.tau for cut in cuts.values()} == {-np.inf}
        assert "in every group at once" in cuts["north"].why


def test_pooled_counts_everything_together_and_per_group_each_alone(tmp_path):
    y, label, group = grouped(8000, 1, 0.6)
    for constraint in ("pooled", "per_group"):
        guard = guard_of(PlugIn(), constraint)
        log, z, *_ = lived(tmp_path / constraint, guard, drawn=(y, label, group))
        with log:
            cuts = recalibrate(log, 8000).cuts[R_T]
            first = log.version(1).cuts[R_T]
        for key, cut in cuts.items():
            seen = z < first[key].tau
            seen &= True if key == "all" else group == key
            assert cut.tau == RiskCurve(z[seen], label[seen]).largest_threshold(R_T).tau
        assert set(cuts) == ({"all"} if constraint == "pooled" else {"north", "south"})
        assert constraint == "pooled" or np.array_equal(z, y[:, 0])  # logits; else log odds
        assert constraint == "per_group" or not np.allclose(z, y[:, 0])
