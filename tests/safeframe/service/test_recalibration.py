"""Recalibration: which cases count, what each window leads to, versions, swapping, restoring."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import numpy as np
import pytest
from guard_problem import candidate_classifier, candidate_model, candidates
from service_problem import calibrated, stream

from safeframe import Certified, InternalTestData, PlugIn, RiskCurve, SafetyGuard
from safeframe.service.cuts import Cut, cuts_text, least_of_looser, read_cuts
from safeframe.service.log import GuardLog
from safeframe.service.recalibration import recalibrate, restore
from safeframe.service.thresholds import at_odds, new_cuts
from safeframe.service.window import Cases, newest, read_cases
from safeframe.types import SafeframeError


def cut_of(found, r_t=0.05, group="all"):
    return found.cuts[r_t][group]


def lived(path, guard, n=2000, shift=0.6, seed=1, **keywords):
    """A log of n decisions, the accepted and the audited of which are labelled."""
    log = GuardLog(path, guard, durable=False, **keywords)
    live(log, n, shift, seed)
    return log


def live(log, n, shift, seed, **more):
    y, label = stream(n, seed, shift)
    done = log.act(y, **more)
    known = np.flatnonzero(done.accepted | done.audit)
    log.label([done.ids[i] for i in known], label[known])
    return y, label, done


def test_the_plug_in_rule_on_accepted_cases_is_the_curve_of_all_cases_below_the_threshold(tmp_path):
    with lived(tmp_path / "log", calibrated(rule=PlugIn()), 3000) as log:
        y, label = stream(3000, 1, 0.6)
        before = log.version().cuts[0.05]["all"].tau
        found = recalibrate(log, 3000)
        # The accepted cases alone tell P(unsafe | margin < t) for every t below the threshold.
        expected = RiskCurve(y[:, 0], label).largest_threshold(0.05)
        assert expected.tau < before
        assert cut_of(found).tau == expected.tau
        assert cut_of(found).verdict == "new"
        assert (found.version, found.changed) == (2, True)
        assert log.act(y).version == 2
        assert np.array_equal(log.act(y).accepted, y[:, 0] < expected.tau)
        done = log.act(y[:50])
        assert ((done.guarded.bound <= 0.05) == done.accepted).all()
        assert "accept margin" in " ".join(done.guarded.reason)
        assert f"{cut_of(found).k:,} unsafe among" in str(found)


def test_nothing_changes_where_nothing_drifts_and_nothing_rises_without_audits(tmp_path):
    with lived(tmp_path / "log", calibrated(rule=PlugIn()), 4000, shift=-1.0) as log:
        found = recalibrate(log, 4000)
        assert not found.changed
        assert "without audited cases it does not rise" in cut_of(found).why
        assert found.version == 1
        assert "still in force" in str(found)


@pytest.mark.parametrize("rule", [PlugIn(), Certified(0.1)])
def test_audited_cases_let_a_threshold_rise(tmp_path, rule):
    with lived(tmp_path / "log", calibrated(rule=rule), 20_000, shift=-1.0, audit=0.3) as log:
        before = log.version().cuts[0.05]["all"].tau
        found = recalibrate(log, 20_000)
        assert cut_of(found).tau > before + 0.1
        y, _ = stream(500, 7)
        assert np.array_equal(log.act(y).accepted, y[:, 0] < cut_of(found).tau)


def test_rejected_cases_that_were_labelled_by_choice_do_not_count(tmp_path):
    guard = calibrated(rule=PlugIn())
    with GuardLog(tmp_path / "log", guard, durable=False) as log:
        y, label = stream(4000, 1, -1.0)
        done = log.act(y)
        log.label(done.ids, label)  # all of them, although only accepted cases are asked for
        found = recalibrate(log, 4000)
        assert found.n_left_out == int((~done.accepted).sum())
        assert not found.changed


def test_an_audited_case_that_was_rejected_and_has_no_label_counts_as_unsafe(tmp_path):
    with GuardLog(tmp_path / "log", calibrated(rule=PlugIn()), durable=False, audit=1.0) as log:
        y, label = stream(4000, 1, -1.0)
        done = log.act(y)
        known = np.flatnonzero(done.accepted)
        log.label([done.ids[i] for i in known], label[known])
        strict = cut_of(recalibrate(log, 4000)).tau
        rest = np.flatnonzero(~done.accepted)
        log.label([done.ids[i] for i in rest], label[rest])
        assert strict == RiskCurve(y[:, 0], np.where(done.accepted, label, 1)).largest_threshold(0.05).tau
        assert cut_of(recalibrate(log, 4000)).tau == RiskCurve(y[:, 0], label).largest_threshold(0.05).tau


def test_a_window_without_an_unsafe_case_keeps_the_threshold_and_says_so(tmp_path):
    guard = calibrated()
    with GuardLog(tmp_path / "log", guard, durable=False) as log:
        done = log.act(np.full((3000, 1), -3.0))
        log.label(done.ids, np.zeros(3000, int))
        found = recalibrate(log, 3000)
        assert cut_of(found).verdict == "kept"
        assert "no unsafe case" in cut_of(found).why
        assert "the threshold stays" in str(found)
        assert not found.changed


def test_a_window_of_too_few_cases_keeps_the_threshold_unless_it_speaks_against_it(tmp_path):
    with GuardLog(tmp_path / "a", calibrated(), durable=False) as log:
        done = log.act(np.full((30, 1), -1.0))
        log.label(done.ids, [1] + [0] * 29)
        assert cut_of(recalibrate(log, 30)).verdict == "kept"
    with GuardLog(tmp_path / "b", calibrated(), durable=False) as log:
        done = log.act(np.full((30, 1), -1.0))
        log.label(done.ids, [1] * 20 + [0] * 10)
        found = recalibrate(log, 30)
        assert cut_of(found).verdict == "refused"
        assert cut_of(found).tau == -np.inf
        done = log.act(stream(100)[0])
        assert not done.accepted.any()
        assert set(done.guarded.counts) == {"infeasible"}
        again = recalibrate(log, 30)  # nothing is accepted any more: nothing is known below the threshold
        assert not again.changed
        restore(log, 1, "the labels were wrong")
        assert log.act(stream(100)[0]).accepted.any()


def test_unlabelled_accepted_cases_are_left_out_or_unsafe(tmp_path):
    with GuardLog(tmp_path / "log", calibrated(rule=PlugIn()), durable=False) as log:
        y, label = stream(3000, 1, 0.0)
        done = log.act(y)
        known = np.flatnonzero(done.accepted)[::2]
        log.label([done.ids[i] for i in known], label[known])
        found = recalibrate(log, 3000)
        assert found.n_labelled == len(known)
        assert found.n_unlabelled == done.accepted.sum() - len(known)
        assert cut_of(recalibrate(log, 3000, unlabelled="unsafe")).tau < -2.5
        with pytest.raises(SafeframeError, match="unlabelled is 'no'"):
            recalibrate(log, 3000, unlabelled="no")


def test_odds_stand_a_further_drift(tmp_path):
    for r_t, factor in ((0.05, 3.0), (0.2, 0.5), (1.0, 2.0)):
        level = at_odds(r_t, factor)
        worse = factor * level / (factor * level + 1 - level)
        assert worse == pytest.approx(r_t)
    taus = []
    for odds in (1.0, 2.0):
        with lived(tmp_path / f"{odds}", calibrated(rule=PlugIn()), 5000) as log:
            taus.append(cut_of(recalibrate(log, 5000, odds=odds)).tau)
    assert taus[1] < taus[0]
    with lived(tmp_path / "log", calibrated(), 10) as log, pytest.raises(SafeframeError, match="odds is 0"):
        recalibrate(log, 10, odds=0.0)


def test_windows_in_decisions_and_in_time(tmp_path):
    with GuardLog(tmp_path / "log", calibrated(), durable=False) as log:
        with pytest.raises(SafeframeError, match="no decision"):
            recalibrate(log, 10)
        for day in range(20):
            live(log, 10, 0.0, day, time=86_400.0 * day)
        base = log.database
        assert (newest(base, 50, None, False).first, newest(base, 50, None, False).last) == (151, 200)
        assert newest(base, 10**6, None, False).first == 1
        three = newest(base, timedelta(days=3), None, False)
        assert (three.first, three.last) == (161, 200)
        earlier = newest(base, timedelta(days=3), 86_400.0 * 10 + 5, False)
        assert (earlier.first, earlier.last) == (81, 110)
        # Steps of half a window from the first decision on, fixed before the cases are seen.
        assert newest(base, 50, None, True).first == 151
        assert newest(base, 60, None, True) == newest(base, 60, 86_400.0 * 19, True)
        assert newest(base, 60, None, True).first == 121
        assert newest(base, 60, None, True).start == 4
        stepped = newest(base, timedelta(days=4), None, True)
        assert (stepped.first, stepped.start) == (141, 7)
        for bad in (0, -5, timedelta(0)):
            with pytest.raises(SafeframeError, match="window is"):
                recalibrate(log, bad)


def test_a_certified_log_keeps_to_one_window(tmp_path):
    with lived(tmp_path / "log", calibrated(rule=Certified(0.1)), 4000) as log:
        recalibrate(log, 2000)
        recalibrate(log, 2000)
        for window, odds in ((1000, 1.0), (timedelta(days=1), 1.0), (2000, 2.0)):
            with pytest.raises(SafeframeError, match="keep to them"):
                recalibrate(log, window, odds=odds)


def test_several_thresholds_and_groups(tmp_path):
    y, label = stream(8000)
    group = np.where(np.arange(8000) % 2, "north", "south")
    data = InternalTestData(y, label, group=group)
    guard = SafetyGuard(
        lambda y: y[:, 0], lambda y: y[:, 0], data, [0.02, 0.1], -9.0, constraint="per_group", rule=PlugIn()
    )
    guard.calibrate()
    with GuardLog(tmp_path / "log", guard, durable=False) as log:
        y, label = stream(4000, 5)
        group = np.where(np.arange(4000) % 2, "north", "south")
        label[group == "north"] = stream(4000, 5, 0.8)[1][group == "north"]  # only the north drifts
        done = log.act(y, r_t=0.1, group=group)
        log.label(done.ids, label)
        found = recalibrate(log, 4000)
        first = log.version(1).cuts
        for r_t in (0.02, 0.1):
            assert found.cuts[r_t]["north"].tau < first[r_t]["north"].tau - 0.3
            assert found.cuts[r_t]["south"].tau > first[r_t]["south"].tau - 0.3
        done = log.act(y, r_t=0.02, group=group)
        tau = np.where(group == "north", found.cuts[0.02]["north"].tau, found.cuts[0.02]["south"].tau)
        assert np.array_equal(done.accepted, y[:, 0] < tau)


def test_a_choice_among_candidates_is_vetoed_and_not_changed(tmp_path):
    pool, bad = candidates(6000)
    guard = SafetyGuard(
        candidate_model, candidate_classifier, InternalTestData(pool, bad), 0.2, -7.0, rule=PlugIn()
    )
    guard.calibrate()
    with GuardLog(tmp_path / "log", guard, durable=False, audit=0.2) as log:
        pool, bad = candidates(6000, 3)
        worse = ((pool + 0.7 + 0.5 * np.random.default_rng(9).normal(size=pool.shape)) > 1.0).astype(int)
        done = log.act(pool)
        row = np.flatnonzero(done.accepted)
        index = done.guarded.index
        log.label([done.ids[i] for i in row], worse[row, index[row]])
        found = recalibrate(log, 6000)
        cut = cut_of(found, 0.2)
        assert -np.inf < cut.tau < guard.calibrations[0.2]["all"].tau
        again, own = log.act(pool), guard.act(pool)
        kept = own.accepted & (own.margin < cut.tau)
        assert np.array_equal(again.accepted, kept)
        assert (again.guarded.index == np.where(kept, own.index, -1)).all()
        assert (again.action[kept] == own.action[kept]).all()
        assert (again.action[~kept] == -7.0).all()
        assert ((again.guarded.bound <= 0.2) == kept).all()
        assert worse[np.flatnonzero(kept), own.index[kept]].mean() == pytest.approx(cut.k / cut.n)
        with pytest.raises(SafeframeError, match="not among the recalibrated"):
            log.act(pool, r_t=0.15)


def test_audits_beyond_a_choosing_guard_s_own_threshold_do_not_dilute_what_is_below():
    """There another candidate would have been chosen: safe ones there say nothing of those below."""
    pool, bad = candidates(6000)
    data = InternalTestData(pool, bad)
    guard = SafetyGuard(candidate_model, candidate_classifier, data, 0.2, -7.0, rule=PlugIn())
    guard.calibrate()
    own = guard.calibrations[0.2]["all"].tau
    margin = np.concatenate([
        np.linspace(own - 1.5, own - 1.01, 100), np.linspace(own - 0.9, own - 0.1, 300),
        np.linspace(own + 0.1, own + 1.0, 4000), np.full(50, np.inf),
    ])  # fmt: skip
    unsafe = np.concatenate([np.arange(100) % 10 == 0, np.arange(300) % 2 == 0, np.zeros(4050, bool)])
    n, former = len(margin), own - 1.0
    tau, everything = np.full(n, former), np.full(n, "all", object)
    cases = Cases(
        margin, tau, np.full(n, 0.2), margin < tau, np.ones(n, bool), unsafe.astype(int), everything
    )
    cut = new_cuts(guard, {0.2: {"all": Cut(former)}}, cases.counted("left out"), 0)[0.2]["all"]
    assert cut.tau < own - 0.8
    assert unsafe[margin < cut.tau].mean() <= 0.2


def test_cases_count_where_they_would_have_been_labelled_whatever_their_margin():
    """Pooling them with those of a stricter threshold would halve the risk that is seen."""
    margin = np.array([-2.0, -1.0, -0.5, -2.0, -1.0, -0.5, 0.5])
    tau = np.array([0.0, 0.0, 0.0, -1.5, -1.5, -1.5, 0.0])
    accepted = margin < tau
    audit = np.array([0, 0, 0, 0, 0, 1, 0], bool)
    unsafe = np.array([0, 1, 1, 0, -1, 1, -1])
    group = np.full(7, "all", object)
    cases = Cases(margin, tau, np.full(7, 0.1), accepted, audit, unsafe, group).counted("left out")
    n, k = cases.counts(np.array([-1.5, 0.0, 1.0]))
    assert n.tolist() == [2, 4, 1]  # the fourth case does not count for 0, the audited one always does
    assert k.tolist() == [0, 3, 1]
    rng = np.random.default_rng(0)  # against counting threshold by threshold
    margin, tau = rng.integers(-5, 5, 500) / 2.0, rng.integers(-5, 5, 500) / 2.0
    audit, label = rng.random(500) < 0.3, rng.integers(0, 2, 500)
    group = np.full(500, "all", object)
    cases = Cases(margin, tau, np.full(500, 0.1), margin < tau, audit, label, group).counted("left out")
    grid = np.unique(np.append(margin, 9.0))
    n, k = cases.counts(grid)
    assert n.tolist() == [len(cases.up_to(t).margin) for t in grid]
    assert k.tolist() == [cases.up_to(t).unsafe.sum() for t in grid]


def test_thresholds_are_kept_as_text_and_stay_in_order():
    cuts = {0.1: {"a": Cut(0.5), 3: Cut(-np.inf, "refused", "x")}, 0.01: {"a": Cut(0.7, "kept"), 3: Cut(0.1)}}
    assert read_cuts(cuts_text(cuts)).keys() == cuts.keys()
    lowered = least_of_looser(cuts)
    assert lowered[0.01]["a"].tau == 0.5
    assert lowered[0.01][3].tau == -np.inf
    assert lowered[0.1]["a"].tau == 0.5


def test_each_batch_is_decided_by_one_version_while_they_are_swapped(tmp_path):
    with lived(tmp_path / "log", calibrated(), 3000) as log:
        assert recalibrate(log, 3000).changed
        y, _ = stream(300, 8)
        stop = threading.Event()

        def act():
            seen = []
            while not stop.is_set() or len(seen) < 3:
                done = log.act(y)
                seen.append((done.version, done.accepted))
            return seen

        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(act) for _ in range(4)]
            for i in range(30):
                restore(log, 1 + i % 2)
                time.sleep(0.003)
            stop.set()
            seen = [one for future in running for one in future.result()]
        expected = {number: log.version(number).act(y).accepted for number in (1, 2)}
        assert all(np.array_equal(accepted, expected[number]) for number, accepted in seen)
        assert not np.array_equal(expected[1], expected[2])
        assert {number for number, _ in seen} == {1, 2}
        taus = {number: log.version(number).cuts[0.05]["all"].tau for number in (1, 2)}
        rows = log.database.read("SELECT DISTINCT batch, version, tau FROM decisions")
        assert len(rows) == len({row[0] for row in rows})
        assert all(tau == taus[version] for _, version, tau in rows)


def test_another_process_s_calibration_is_taken_up_and_old_ones_are_restored_after_a_restart(tmp_path):
    mine = lived(tmp_path / "log", calibrated(), 3000)
    other = GuardLog(tmp_path / "log", calibrated(), durable=False)
    found = recalibrate(other, 3000)
    y, _ = stream(100, 4)
    assert mine.act(y).version == 2
    assert np.array_equal(mine.act(y).accepted, y[:, 0] < cut_of(found).tau)
    mine.close()
    other.close()
    with GuardLog(tmp_path / "log", calibrated(), durable=False) as log:
        assert log.version().number == 2
        restore(log, 1, "a false alarm")
        assert np.array_equal(log.act(y).accepted, calibrated().act(y).accepted)
    with GuardLog(tmp_path / "log", calibrated(), durable=False) as log:
        assert log.version().number == 1
        assert [one["version"] for one in log.calibrations.switches()] == [1, 2, 1]
        assert log.calibrations.switches()[2]["reason"] == "a false alarm"
        restore(log, 2)
        assert log.act(y).version == 2
        with pytest.raises(SafeframeError, match="no calibration 3"):
            restore(log, 3)


def test_two_recalibrations_at_once_do_not_overwrite_each_other(tmp_path):
    with lived(tmp_path / "log", calibrated(), 3000) as log:
        cuts = log.version().cuts
        log.calibrations.put_in_force("first", 1, cuts)
        with pytest.raises(SafeframeError, match="put in force meanwhile"):
            log.calibrations.put_in_force("second", 1, cuts)


def test_a_window_is_read_as_it_was_written(tmp_path):
    y, label = stream(400, 2)
    y[7] = np.nan  # in error, so no case
    with GuardLog(tmp_path / "log", calibrated(), durable=False, audit=0.5) as log:
        done = log.act(y)
        log.label(done.ids[:100], label[:100])
        log.correct(done.ids[0], 1 - label[0], "wrong")
        cases = read_cases(log.database, newest(log.database, 400, None, False))
    kept = np.arange(400) != 7
    label[0] = 1 - label[0]
    assert np.array_equal(cases.margin, y[kept, 0])
    assert np.array_equal(cases.accepted, done.accepted[kept])
    assert np.array_equal(cases.audit, done.audit[kept])
    assert np.array_equal(cases.unsafe, np.where(np.arange(400) < 100, label, -1)[kept])
    assert (cases.tau == log.version().cuts[0.05]["all"].tau).all()


def test_a_conservative_guard_s_rule_is_its_own(tmp_path):
    with lived(tmp_path / "log", calibrated(), 6000, shift=0.3) as log:
        former = log.version().cuts
        cases = read_cases(log.database, newest(log.database, 6000, None, False)).counted("left out")
        cut = new_cuts(log.guard, former, cases, 0)[0.05]["all"]
        plain = new_cuts(calibrated(rule=PlugIn()), former, cases, 0)[0.05]["all"]
        assert cut.tau < plain.tau  # a radius, its mass and one case more are counted
        assert cut.bound <= 0.05


@pytest.mark.parametrize("rule", ["conservative", "plug-in"])
def test_an_r_t_that_is_not_listed_is_served_by_the_next_stricter_one(tmp_path, rule):
    guard = calibrated(threshold=[0.02, 0.1], rule=rule)
    y, label = stream(6000, 1, 0.4)
    with GuardLog(tmp_path / "log", guard, durable=False) as log:
        done = log.act(y, r_t=0.1)
        known = np.flatnonzero(done.accepted)
        log.label([done.ids[i] for i in known], label[known])
        cuts = recalibrate(log, 6000).cuts
        for r_t, served in ((0.05, 0.02), (0.1, 0.1), (0.5, 0.1)):
            assert np.array_equal(log.act(y, r_t=r_t).accepted, y[:, 0] < cuts[served]["all"].tau)
        assert not log.act(y, r_t=0.001).accepted.any()


def test_rules_that_a_recalibration_does_not_know_are_named(tmp_path):
    with lived(tmp_path / "log", calibrated(), 100) as log:
        object.__setattr__(log.guard.settings, "rule", "some other rule")
        with pytest.raises(SafeframeError, match="Conservative, PlugIn, Shrinkage and Certified"):
            recalibrate(log, 100)
