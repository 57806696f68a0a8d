"""Every kind of guard in service: decided, logged, recalibrated, replayed, restored in the same way."""

from __future__ import annotations

import numpy as np
import pytest
from guard_problem import C, candidate_classifier, candidate_model, candidates
from service_problem import calibrated, classifier, grouped, grouped_guard, model, stream

from safeframe import Certified, Conservative, InternalTestData, PlugIn, SafetyGuard, Shrinkage
from safeframe.guard.settings import Priced
from safeframe.service.log import GuardLog
from safeframe.service.recalibration import recalibrate, restore
from safeframe.service.replay import replay
from safeframe.shrinkage import ShrinkageCurve

R_T = 0.1


def pools(n, seed, drift=0.0):
    """Candidates with their labels, and groups of measurements."""
    pool, bad = candidates(n, seed)
    noise = 0.5 * np.random.default_rng([seed, 9]).normal(size=pool.shape)
    group = np.where(np.random.default_rng([seed, 8]).random(n) < 0.5, "north", "south")
    return pool, (pool + drift + noise > 1.0).astype(int) if drift else bad, group


def choosing_guard(**keywords):
    pool, bad, group = pools(6000, 0)
    data = InternalTestData(pool, bad, group=group if keywords.get("constraint") else None)
    made = SafetyGuard(candidate_model, candidate_classifier, data, R_T, -7.0, **keywords)
    made.calibrate()
    return made


SINGLE = {
    "gated": (calibrated, {"threshold": R_T}),
    "covered": (calibrated, {"threshold": R_T, "coverage": 0.01, "rule": PlugIn()}),
    "certified": (calibrated, {"threshold": R_T, "rule": Certified(0.1)}),
    "shrinkage": (calibrated, {"threshold": R_T, "rule": Shrinkage()}),
    "shrinkage, isotonic": (calibrated, {"threshold": R_T, "rule": Shrinkage(), "scale": "isotonic"}),
}
GROUPED = {
    f"{constraint}, {name}": (grouped_guard, {"constraint": constraint, "rule": rule})
    for constraint in ("per_group", "pooled", "worst_group")
    for name, rule in {
        "plug-in": PlugIn(),
        "conservative": Conservative(),
        "shrinkage": Shrinkage(),
        "certified": Certified(0.2),
    }.items()
}
CHOOSING = {
    "candidates": (choosing_guard, {"rule": PlugIn()}),
    "candidates, pooled": (choosing_guard, {"rule": PlugIn(), "constraint": "pooled"}),
    "candidates, worst_group": (choosing_guard, {"rule": PlugIn(), "constraint": "worst_group"}),
    "candidates, shrinkage": (choosing_guard, {"rule": Shrinkage(), "constraint": "worst_group"}),
    "priced": (choosing_guard, {"rule": PlugIn(), "choice": Priced()}),
    "priced, gated": (choosing_guard, {"rule": Conservative(0.02), "choice": Priced(gate=0.5)}),
    "priced, certified": (choosing_guard, {"rule": Certified(0.2), "choice": Priced()}),
    "priced, per_group": (
        choosing_guard, {"rule": PlugIn(), "choice": Priced(), "constraint": "per_group"}
    ),
}  # fmt: skip
KINDS = {**SINGLE, **GROUPED, **CHOOSING}
_MADE: dict[str, SafetyGuard] = {}


def guard_of(kind):
    if kind not in _MADE:
        make, keywords = KINDS[kind]
        _MADE[kind] = make(**keywords)
    return _MADE[kind]


def measured(kind, n, seed, drift=0.0):
    """Measurements, labels of what is done, and groups or None."""
    if kind in SINGLE:
        return *stream(n, seed, drift), None
    if kind in GROUPED:
        return grouped(n, seed, drift)
    pool, bad, group = pools(n, seed, drift)
    return pool, bad, group if guard_of(kind).settings.constraint else None


def labelled(log, done, label):
    """Label what was accepted, and what is audited and was done or has one action only."""
    index = done.guarded.index
    own = label if label.ndim == 1 else label[np.arange(len(label)), np.clip(index, 0, C - 1)]
    known = np.flatnonzero(done.accepted | (done.audit & (label.ndim == 1)))
    log.label([done.ids[i] for i in known], own[known])
    return own


@pytest.mark.parametrize("kind", KINDS)
def test_accepted_is_bound_within_r_t_also_after_a_recalibration(kind, tmp_path):
    guard, drift = guard_of(kind), 0.25 if kind in CHOOSING else 0.6
    with GuardLog(tmp_path / "log", guard, keep_measurements=True, durable=False) as log:
        y, label, group = measured(kind, 3500, 1, drift)
        done = log.act(y, group=group)
        own = labelled(log, done, label)
        found = recalibrate(log, 3500)
        assert found.changed
        fresh, worse, ids = measured(kind, 1500, 2, drift)
        again, before = log.act(fresh, group=ids), guard.act(fresh, group=ids)
        assert np.array_equal(again.guarded.bound <= R_T, again.accepted)
        assert not (again.accepted & ~before.accepted).any()  # no audits: it never rises
        assert again.accepted.mean() > (0.0 if "certified" in kind else 0.05)
        assert own[done.accepted].mean() > 1.15 * R_T  # before; and now
        index = np.clip(again.guarded.index, 0, C - 1)
        unsafe = worse if worse.ndim == 1 else worse[np.arange(len(worse)), index]
        seen = unsafe[again.accepted]
        assert seen.mean() < R_T + 3.5 * np.sqrt(R_T / len(seen))
        for i in (np.flatnonzero(again.accepted)[0], np.flatnonzero(~again.accepted)[0]):
            assert again.explain(i)
        if guard.settings.delta is None and guard.evidence.score is None:
            for r_t in (0.02, 0.3):  # served by the next stricter one that is listed
                other = log.version().act(fresh, r_t, ids)
                assert np.array_equal(other.bound <= r_t, other.accepted)
                assert np.array_equal(other.accepted, again.accepted & (r_t > R_T))
                assert other.reason
        restore(log, 1)
        assert np.array_equal(log.act(fresh, group=ids).accepted, before.accepted)
        assert replay(log).same


def test_the_scale_of_risk_stays_where_thresholds_move(tmp_path):
    for kind in ("worst_group, plug-in", "pooled, shrinkage", "shrinkage"):
        guard = guard_of(kind)
        with GuardLog(tmp_path / kind, guard, durable=False) as log:
            y, label, group = measured(kind, 4000, 1, 0.6)
            labelled(log, log.act(y, group=group), label)
            assert recalibrate(log, 4000).changed
            now = log.version().act(y, group=group)
            assert np.array_equal(now.margin, guard.act(y, group=group).margin)
            first = next(iter(guard._rulings.values())).scales
            assert all(ruling.scales is first for ruling in log.version().guard._rulings.values())


def test_a_recalibration_is_the_same_from_another_process_that_loads_it(tmp_path):
    """What is stored, read again: thresholds, the group that binds, shares of groups that are pooled."""
    for kind in ("worst_group, conservative", "pooled, conservative"):
        guard = guard_of(kind)
        with GuardLog(tmp_path / kind, guard, durable=False) as log:
            y, label, group = measured(kind, 4000, 1, 0.6)
            labelled(log, log.act(y, group=group), label)
            found = recalibrate(log, 4000)
            with GuardLog(tmp_path / kind, guard, durable=False) as other:
                assert other.version().cuts == found.cuts
                shown = other.act(y, group=group).guarded
            if "pooled" in kind:
                (cut,) = found.cuts[R_T].values()
                assert set(cut.members) == {"north", "south"}
                assert sum(share.n_unsafe_accepted for share in cut.members.values()) == cut.k
                assert sum(share.n_accepted for share in cut.members.values()) == cut.n
                assert sum(share.n_t for share in cut.members.values()) == cut.n_window
                assert max(share.bound for share in cut.members.values()) < 1
                assert shown.shares == cut.members
                assert "group 'north': " in str(found)
            else:
                cuts = found.cuts[R_T]
                worst = max(cuts, key=lambda key: cuts[key].bound)
                assert {one.binding for one in shown.calibration.values()} == {worst}
                assert {one.accepted_risk for one in shown.calibration.values()} == {
                    cut.bound for cut in cuts.values()
                }


@pytest.mark.parametrize("kind", ["shrinkage", "shrinkage, isotonic", "per_group, shrinkage"])
def test_the_shrinkage_rule_s_threshold_is_that_of_its_curve_on_the_guard_s_own_scale(kind, tmp_path):
    guard = guard_of(kind)
    with GuardLog(tmp_path / "log", guard, durable=False) as log:
        y, label, group = measured(kind, 3500, 1, 0.6)
        labelled(log, log.act(y, group=group), label)
        first, cuts = log.version().cuts[R_T], recalibrate(log, 3500).cuts[R_T]
    scales = next(iter(guard._rulings.values())).scales
    for key, cut in cuts.items():
        kept = y[:, 0] < first[key].tau
        kept &= True if group is None else group == key
        p = scales.probability(y[kept, 0], None if group is None else group[kept])
        curve = ShrinkageCurve(y[kept, 0], label[kept], p, Shrinkage())
        assert cut.tau == curve.largest_threshold(R_T).tau < first[key].tau
        assert cut.bound == curve.bound(cut.tau) <= R_T


def test_the_shrinkage_rule_needs_no_unsafe_case_and_others_keep_what_they_had(tmp_path):
    for kind, verdict in (("shrinkage", "new"), ("gated", "kept")):
        with GuardLog(tmp_path / kind, guard_of(kind), durable=False) as log:
            done = log.act(np.full((400, 1), -3.0))
            log.label(done.ids, np.zeros(400, int))
            found = recalibrate(log, 400)
            assert found.cuts[R_T]["all"].verdict == verdict
            assert not found.changed


@pytest.mark.parametrize("kind", ["worst_group, conservative", "pooled, shrinkage", "per_group, certified"])
def test_after_a_restart_with_a_guard_that_was_saved(kind, tmp_path):
    guard = guard_of(kind)
    guard.save(tmp_path / "guard")
    y, label, group = measured(kind, 3500, 1, 0.6)
    with GuardLog(tmp_path / "log", guard, keep_measurements=True, durable=False) as log:
        labelled(log, log.act(y, group=group), label)
        assert recalibrate(log, 3500).changed
        before = log.act(y, group=group)
    loaded = SafetyGuard.load(tmp_path / "guard", model, classifier)
    with GuardLog(tmp_path / "log", loaded, keep_measurements=True, durable=False) as log:
        again = log.act(y, group=group)
        assert (again.version, before.version) == (2, 2)
        assert np.array_equal(again.accepted, before.accepted)
        assert np.array_equal(again.guarded.margin, before.guarded.margin)
        assert replay(log).same
        assert replay(log, guard).same
