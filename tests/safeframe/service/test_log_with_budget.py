"""A budget and a log together: what is withheld is recorded, replayed and counted as what it is."""

from __future__ import annotations

import json
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from guard_problem import candidate_classifier, candidate_model, candidates
from service_problem import calibrated, grouped, grouped_guard, stream

from safeframe import Certified, Conservative, InternalTestData, LongRunBudget, PlugIn, RiskCurve, SafetyGuard
from safeframe.service.log import GuardLog
from safeframe.service.recalibration import recalibrate
from safeframe.service.replay import replay
from safeframe.service.window import newest, read_cases
from safeframe.types import SafeframeError

R_T = 0.1


def rows_of(log, tmp_path):
    log.export(tmp_path / "out.parquet")
    return pd.read_parquet(tmp_path / "out.parquet")


def live(log, budget, days, drift=0.0, n=60, seed=0, **more):
    """Days of n decisions, labels of all of them a day later; the labels in the order of the log."""
    label, before = [], None
    for day in range(days):
        y, unsafe = stream(n, 1000 * seed + day, drift)
        done = log.act(y, budget=budget, **more)
        if before is not None:
            told(log, budget, *before)
        before = done, unsafe
        label.append(unsafe)
    assert before is not None
    told(log, budget, *before)
    return np.concatenate(label)


def told(log, budget, done, unsafe):
    log.label(done.ids, unsafe)
    budget.learn(done.budgeted.ids, unsafe)


@pytest.fixture
def log(tmp_path):
    guard = calibrated(threshold=R_T, rule=PlugIn())
    with GuardLog(tmp_path / "log", guard, keep_measurements=True, durable=False) as made:
        yield made


def test_what_is_withheld_is_recorded_as_such_with_the_reason(log, tmp_path):
    budget = LongRunBudget(log.guard, R_T, reserve=5.0)
    y, label = stream(60, 1)
    done = log.act(y, budget=budget)
    held = done.budgeted.withheld
    assert held.any()
    assert done.accepted.any()
    assert not (held & done.accepted).any()
    assert np.array_equal(held | done.accepted, done.guarded.accepted)
    assert (done.action[held] == -99.0).all()
    rows = rows_of(log, tmp_path)
    assert np.array_equal(rows["accepted"], done.accepted)
    assert np.array_equal(rows["status"] == "withheld", held)
    assert set(rows["status"][done.accepted]) == {"optimal"}
    assert [json.loads(text) for text in rows["action"]] == done.action.tolist()
    assert (rows["candidate"][held] == -1).all()
    assert (rows["bound"][held] <= rows["r_t"][held]).all()  # the guard's, which would accept
    assert all("no room in the budget" in why for why in rows["error"][held])
    first = int(np.flatnonzero(held)[0])
    assert "no room in the budget" in done.explain(first)
    assert log.awaited() == [done.ids[i] for i in np.flatnonzero(done.accepted)]
    labelled = log.label(done.ids, label)
    assert labelled.of_accepted().tolist() == label[done.accepted].tolist()  # what a monitor is shown


def test_the_promise_of_the_budget_counted_in_the_log_while_the_world_is_worse(log, tmp_path):
    budget = LongRunBudget(log.guard, R_T, reserve=20.0, late=60)
    label = live(log, budget, 40, drift=0.9)
    rows = rows_of(log, tmp_path)
    accepted = rows["accepted"].to_numpy().astype(bool)
    assert budget.ledger.accepted == accepted.sum()
    assert budget.ledger.unsafe == label[accepted].sum()
    n, k = np.cumsum(accepted), np.cumsum(label * accepted)
    assert (k <= R_T * n + budget.constant).all()
    assert rows["r_t"].nunique() > 5  # the level went down and up
    alone = label[log.guard.act(np.concatenate([stream(60, day, 0.9)[0] for day in range(40)])).accepted]
    assert alone.mean() > 1.5 * R_T
    assert replay(log).same


def test_a_recalibration_counts_what_was_accepted_and_not_what_was_withheld(log):
    """Against counting by hand; the labels of withheld cases are there and must not be used."""
    budget = LongRunBudget(log.guard, R_T, reserve=8.0, late=60)
    label = live(log, budget, 60, drift=0.5)
    cases = read_cases(log.database, newest(log.database, 3600, None, False))
    statuses = np.array([row[0] for row in log.database.read("SELECT status FROM decisions ORDER BY seq")])
    held = statuses == "withheld"
    assert 50 < held.sum() < 3000
    assert not cases.accepted[held].any()
    former = log.version().cuts[R_T]["all"].tau
    found = recalibrate(log, 3600)
    assert found.n_left_out == (~cases.accepted).sum()
    # Those that were decided at a lower level count for thresholds up to its own only.
    kept = cases.accepted & (cases.tau >= former)
    expected = RiskCurve(cases.margin[kept], label[kept]).largest_threshold(R_T).tau
    assert found.cuts[R_T]["all"].tau == expected < former
    assert found.n_labelled == cases.accepted.sum()
    done = log.act(stream(50, 9)[0], budget=budget)  # goes on at the new thresholds
    assert done.version == 2
    assert (done.guarded.tau <= expected).all()


def test_audited_withheld_cases_count(tmp_path):
    guard = calibrated(threshold=R_T, rule=PlugIn())
    with GuardLog(tmp_path / "log", guard, durable=False) as log:
        budget = LongRunBudget(guard, R_T, reserve=5.0)
        y, label = stream(2000, 1, 0.5)
        done = log.act(y, budget=budget, audit=np.ones(2000, bool))
        assert done.budgeted.withheld.sum() > 1000
        log.label(done.ids, label)
        found = recalibrate(log, 2000)
        expected = RiskCurve(y[:, 0], label).largest_threshold(R_T).tau
        assert found.cuts[R_T]["all"].tau == expected


@pytest.mark.parametrize("what", ["accepted", "action", "margin"])
def test_a_replay_tells_a_withheld_decision_that_was_changed_or_that_the_guard_would_not_accept(what, log):
    budget = LongRunBudget(log.guard, R_T, reserve=5.0)
    done = log.act(stream(60, 1)[0], budget=budget)
    held, rejected = done.budgeted.withheld, ~done.guarded.accepted
    i = int(np.flatnonzero(rejected if what == "accepted" else held)[0])
    change = {
        "accepted": "status = 'withheld'",  # although the guard rejected it
        "action": "action = '3.0'",
        "margin": "margin = margin + 1",
    }[what]
    with log.database.write() as connection:
        connection.execute(f"UPDATE decisions SET {change} WHERE seq = ?", (i + 1,))
    first = replay(log).first
    assert first is not None
    assert first.id == done.ids[i]
    assert first.what == {"accepted": "status"}.get(what, what)


def test_where_the_log_cannot_write_the_budget_is_as_before(log):
    budget = LongRunBudget(log.guard, R_T, reserve=5.0, late=10)
    done = log.act(stream(40, 1)[0], ids=range(40), budget=budget, time=100.0)
    before, n = budget.state(), len(log)
    for bad in ({"ids": range(40)}, {"ids": range(40, 80), "time": 1.0}):
        with pytest.raises(SafeframeError):
            log.act(stream(40, 2)[0], budget=budget, **bad)
        assert budget.state() == before
        assert len(log) == n
    with pytest.raises(SafeframeError, match="give no r_t"):
        log.act(stream(4, 2)[0], r_t=R_T, budget=budget)
    with pytest.raises(SafeframeError, match="of another guard"):
        log.act(stream(4, 2)[0], budget=LongRunBudget(calibrated(threshold=0.05), R_T))
    assert budget.state() == before
    same = calibrated(threshold=R_T, rule=PlugIn())  # made anew, of the same evidence
    assert log.act(stream(4, 2)[0], budget=LongRunBudget(same, R_T)).accepted.any()
    assert done.budgeted.ids.tolist() == list(range(40))


def test_tensors_groups_and_candidates(tmp_path):
    guard = grouped_guard(R_T, rule=PlugIn(), constraint="worst_group")
    with GuardLog(tmp_path / "a", guard, keep_measurements=True, durable=False) as log:
        budget = LongRunBudget(guard, R_T, reserve=5.0)
        y, _, group = grouped(50, 1)
        done = log.act(torch.as_tensor(y), group=group, budget=budget)
        assert isinstance(done.action, torch.Tensor)
        assert isinstance(done.accepted, torch.Tensor)
        assert done.budgeted.withheld.any()
        assert replay(log).same
    pool, bad = candidates(4000)
    for choice in ("gated", "priced"):
        made = SafetyGuard(
            candidate_model, candidate_classifier, InternalTestData(pool, bad), [0.05, R_T], -7.0,
            rule=PlugIn(), choice=choice,
        )  # fmt: skip
        made.calibrate()
        with GuardLog(tmp_path / choice, made, keep_measurements=True, durable=False) as log:
            budget = LongRunBudget(made, R_T, reserve=5.0, late=10)
            fresh, labels = candidates(600, 3)
            for part in np.split(np.arange(600), 10):
                done = log.act(fresh[part], budget=budget)
                own = labels[part, np.clip(done.guarded.index, 0, None)]
                taken = np.flatnonzero(done.accepted)
                log.label([done.ids[i] for i in taken], own[taken])
                budget.learn(done.budgeted.ids[taken], own[taken])
                assert (done.action[done.budgeted.withheld] == -7.0).all()
            levels = {row[0] for row in log.database.read("SELECT DISTINCT r_t FROM decisions")}
            assert levels <= {0.05, R_T}  # those that are listed, so that a recalibration can count them
            assert replay(log).same
            recalibrate(log, 600)
            done = log.act(fresh[:50], budget=budget)
            assert np.array_equal(done.guarded.bound <= done.guarded.threshold, done.guarded.accepted)
            assert replay(log).same


@pytest.mark.parametrize("rule", [PlugIn(), Conservative(0.0)])
def test_a_priced_guard_under_a_budget_does_not_stop_for_good(rule):
    """At a strict r_t its price accepts next to nothing, so that next to nothing would be learnt there."""
    pool, bad = candidates(4000)
    guard = SafetyGuard(
        candidate_model, candidate_classifier, InternalTestData(pool, bad), [1e-6, R_T], -7.0,
        rule=rule, choice="priced",
    )  # fmt: skip
    guard.calibrate()
    budget = LongRunBudget(guard, R_T, reserve=4.0)
    done = budget.act(pool[:3])
    budget.learn(done.ids[done.accepted], np.ones(done.accepted.sum(), int))
    assert budget.level < R_T
    for _ in range(40):
        done = budget.act(pool[:5])
        budget.learn(done.ids[done.accepted], np.zeros(done.accepted.sum(), int))
    assert budget.act(pool[:5]).accepted.any()


def test_a_certified_guard_serves_its_listed_levels_also_after_a_recalibration(tmp_path):
    guard = calibrated(8000, threshold=[0.05, 0.2], rule=Certified(0.2))
    with GuardLog(tmp_path / "log", guard, keep_measurements=True, durable=False) as log:
        budget = LongRunBudget(guard, 0.2, reserve=20.0, late=60)
        live(log, budget, 60, drift=0.4)
        recalibrate(log, 3600)
        live(log, budget, 5, drift=0.4, seed=1)
        levels = {row[0] for row in log.database.read("SELECT DISTINCT r_t FROM decisions")}
        assert levels <= {0.05, 0.2}
        assert replay(log).same


def test_the_log_goes_on_while_another_thread_acts_without_a_budget(log):
    budget = LongRunBudget(log.guard, R_T, reserve=5.0)
    y, _ = stream(20, 1)
    other = threading.Thread(target=lambda: [log.act(y) for _ in range(20)])
    other.start()
    for _ in range(20):
        log.act(y, budget=budget)
    other.join()
    rows = log.database.read("SELECT count(DISTINCT batch), count(*) FROM decisions")
    assert rows == [(40, 800)]
    assert replay(log).same
