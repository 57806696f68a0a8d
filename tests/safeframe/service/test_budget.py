"""The long-run promise on sequences that were made to break it, by counting; then with a guard."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeframe.guard.safety_guard import SafetyGuard
from safeframe.guard.settings import Certified
from safeframe.internal_test import InternalTestData
from safeframe.service.budget import LongRunBudget
from safeframe.service.ledger import BudgetLedger
from safeframe.threshold_rule import PlugIn
from safeframe.types import SafeframeError


class Truth:
    """The labels of all decisions, known to the test only."""

    def __init__(self, ledger):
        self.ledger, self.label, self.taken = ledger, [], []
        self.violations = self.accepted = 0

    def step(self, wanted, label, barred=None):
        ids, taken = self.ledger.take(np.atleast_1d(wanted), barred)
        labels = np.atleast_1d(label)
        self.label += labels.tolist()
        self.taken += taken.tolist()
        self.violations += int(labels[taken].sum())
        self.accepted += int(taken.sum())
        self.check()
        return ids, taken

    def learn(self, ids):
        self.ledger.learn(ids, [self.label[i] for i in ids])
        self.check()

    def check(self):
        ledger = self.ledger
        n = len(self.taken) if ledger.per == "decision" else self.accepted
        assert self.accepted == ledger.accepted
        assert self.violations <= ledger.r_t * n + ledger.constant + 1e-6
        if n:
            assert self.violations / n <= ledger.promised + 1e-9
        assert 0.0 < ledger.level <= ledger.r_t


KINDS = [
    {},
    {"recover_after": None, "reserve": 5.0},
    {"late": 7},
    {"late": 7, "recover_after": 3},
    {"per": "decision"},
    {"per": "decision", "late": 4, "reserve": 1.0},
    {"reserve": 1.0, "recover_after": 1},
]


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(KINDS), st.sampled_from([0.01, 0.1, 0.5, 0.9]))
def test_the_promise_holds_on_any_sequence_with_labels_in_any_order(data, kind, r_t):
    truth = Truth(BudgetLedger(r_t, **kind))
    for _ in range(data.draw(st.integers(1, 25))):
        n = data.draw(st.integers(1, 12))
        wanted = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
        truth.step(np.array(wanted), data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
        waiting = sorted(truth.ledger.waiting)
        if waiting:
            come = data.draw(st.lists(st.sampled_from(waiting), unique=True))
            if come:
                truth.learn(come)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("delay", [0, 1, 30])
def test_all_unsafe(kind, delay):
    truth = Truth(BudgetLedger(0.1, **kind))
    queue = []
    for _ in range(600):
        ids, taken = truth.step(True, 1)
        queue.append(ids if taken[0] else None)
        if len(queue) > delay and (come := queue[-1 - delay]) is not None:
            truth.learn(come)
    ledger = truth.ledger
    if ledger.per == "accepted":
        assert truth.violations <= ledger.constant / 0.9 + 1e-9
    else:  # what is rejected pays back: about r_t of all decisions
        assert truth.violations == pytest.approx(60 + ledger.constant, abs=8)
    if kind.get("recover_after", "auto") is None:
        assert ledger.constant == 5.0
        assert ledger.exhausted


@pytest.mark.parametrize("kind", KINDS)
def test_an_adversary_that_looks_at_the_level_and_the_room(kind):
    """Safe while the budget is strained, to earn; unsafe as soon as it is relaxed."""
    truth = Truth(BudgetLedger(0.05, **kind))
    for _ in range(3000):
        ledger = truth.ledger
        relaxed = ledger.level > 0.5 * ledger.r_t and ledger.room > 0
        ids, taken = truth.step(True, int(relaxed))
        if taken[0]:
            truth.learn(ids)
    assert truth.violations > 10


@pytest.mark.parametrize("kind", KINDS)
def test_alternating_labels_a_day_late(kind):
    truth = Truth(BudgetLedger(0.2, **kind))
    yesterday = np.empty(0, int)
    for day in range(60):
        label = (np.arange(24) + day) % 2
        ids, taken = truth.step(np.ones(24, bool), label)
        if len(yesterday):
            truth.learn(yesterday)
        yesterday = ids[taken]


def test_the_constant_is_the_least_possible_up_to_one_violation():
    """All unsafe, nothing withheld longer than the promise needs: the bound is met within one case."""
    truth = Truth(BudgetLedger(0.1, recover_after=None))
    for _ in range(50):
        ids, taken = truth.step(True, 1)
        if taken[0]:
            truth.learn(ids)
    assert truth.violations > 0.1 * truth.violations + truth.ledger.constant - 1


def test_recovers_from_a_burst():
    """A burst of unsafe cases stops it; good cases afterwards are accepted again, at the full level in the
    end.
    """
    truth = Truth(BudgetLedger(0.05, reserve=5.0))
    for label in [1] * 200 + [0] * 3000:
        ids, taken = truth.step(True, label)
        if taken[0]:
            truth.learn(ids)
    ledger = truth.ledger
    assert ledger.level == ledger.r_t
    assert sum(truth.taken[-1000:]) == 1000
    assert ledger.constant < 5.0 + math.log2(1 + 3200 / 20)
    never = Truth(BudgetLedger(0.05, reserve=5.0, recover_after=None))
    for label in [1] * 200 + [0] * 3000:
        ids, taken = never.step(True, label)
        if taken[0]:
            never.learn(ids)
    assert never.ledger.constant == 5.0
    assert sum(never.taken[-1000:]) == 0  # the price of a constant that does not grow


def test_rejected_decisions_pay_back_where_the_promise_is_per_decision():
    truth = Truth(BudgetLedger(0.05, per="decision", recover_after=None))
    for label in [1] * 100 + [0] * 3000:
        ids, taken = truth.step(True, label)
        if taken[0]:
            truth.learn(ids)
    assert truth.ledger.level == 0.05
    assert sum(truth.taken[-1000:]) == 1000


def test_decisions_that_wait_count_as_unsafe_or_enter_the_constant():
    strict, late = BudgetLedger(0.01, reserve=5.0), BudgetLedger(0.01, reserve=5.0, late=24)
    assert (strict.constant, late.constant) == (5.0, pytest.approx(5 + 0.99 * 24))
    assert strict.take(np.ones(100, bool))[1].sum() == 5
    ids, taken = late.take(np.ones(100, bool))
    assert taken.sum() == 29
    assert late.take(np.ones(10, bool))[1].sum() == 0
    assert late.withheld == strict.withheld == 0  # they wait for labels, not for the world to change
    late.learn(ids[taken], np.zeros(29, int))
    assert late.room == 29


def test_levels():
    ledger = BudgetLedger(0.01, reserve=4.0, strictest=0.01)
    assert ledger.level == 0.01
    assert ledger.promised == 1.0
    ids, _ = ledger.take([True, True])
    ledger.learn(ids, [1, 1])
    assert ledger.debt == pytest.approx(1.98)
    assert ledger.level == pytest.approx(0.01 * 0.01 ** (1.98 / 4))
    lowered = ledger.level
    ledger.take(np.zeros(250, bool), np.ones(250, bool))  # the lowered level bars what r_t would accept
    assert ledger.level == pytest.approx(4 * lowered)
    ledger.take(np.zeros(10**4, bool), np.ones(10**4, bool))
    assert ledger.level == 0.01
    ids, _ = ledger.take([True])
    ledger.learn(ids, 0)
    assert ledger.level == 0.01
    ids, _ = ledger.take([True])
    ledger.learn(ids, 1)
    assert ledger.level < lowered


def test_second_labels_rejected_ones_and_corrections():
    ledger = BudgetLedger(0.1)
    ids, _ = ledger.take([True, False, True])
    assert ledger.learn(ids, [0, 1, 0]) == 2
    assert ledger.learn(ids[0], 1) == 0
    assert (ledger.unsafe, ledger.safe, ledger.ignored) == (0, 2, 2)
    ledger.revise(1)
    assert (ledger.unsafe, ledger.safe) == (1, 1)
    with pytest.raises(SafeframeError, match="cannot be corrected"):
        ledger.revise(2)


def test_a_restored_ledger_goes_on_equally():
    ledger = BudgetLedger(0.1, late=3, recover_after=5)
    rng = np.random.default_rng(0)
    both = [ledger]
    for step in range(60):
        if step == 30:
            other = BudgetLedger.from_state(json.loads(json.dumps(ledger.state())))
            both.append(other)
        wanted = rng.random(5) < 0.8
        come, labels = sorted(ledger.waiting)[:3], rng.integers(0, 2, 3)
        found = []
        for one in both:
            one.learn(come, labels[: len(come)]) if come else None
            found.append(one.take(wanted, ~wanted)[1].tolist())
        assert found[0] == found[-1]
    assert other.state() == ledger.state()
    with pytest.raises(SafeframeError, match="no state"):
        BudgetLedger.from_state({})
    state = ledger.state()
    del state["unsafe"]
    with pytest.raises(SafeframeError, match="lacks 'unsafe'"):
        BudgetLedger.from_state(state)


@pytest.mark.parametrize(
    ("ids", "label", "message"),
    [
        ([9], [0], "id 9 is of no decision"),
        ([-1], [0], "id -1"),
        ([0, 0], [0, 0], "twice"),
        ([0, 1], [0], "shape"),
        ([0.5], [0], "integers"),
        ([0], [2], "position 0"),
        ([0], [float("nan")], "missing"),
    ],
)
def test_bad_labels_are_errors_and_enter_nothing(ids, label, message):
    ledger = BudgetLedger(0.1)
    ledger.take(np.ones(3, bool))
    before = ledger.state()
    with pytest.raises(SafeframeError, match=message):
        ledger.learn(ids, label)
    assert ledger.state() == before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"r_t": 0.0}, "r_t"),
        ({"r_t": 1.0}, "r_t"),
        ({"reserve": 0.5}, "below 1"),
        ({"reserve": math.inf}, "reserve"),
        ({"per": "episode"}, "per"),
        ({"late": -1}, "late"),
        ({"late": 1.5}, "late"),
        ({"recover_after": 0}, "recover_after"),
        ({"strictest": 1.0}, "strictest"),
    ],
)
def test_bad_settings_are_errors(given, message):
    with pytest.raises(SafeframeError, match=message):
        BudgetLedger(**{"r_t": 0.1, **given})


def problem(rule, n=4000, **chosen):
    """Margins are the measurements; P(unsafe) grows with them."""
    rng = np.random.default_rng(0)
    y = rng.normal(-2.0, 2.0, size=n)
    label = (rng.random(n) < 1 / (1 + np.exp(-2 * y))).astype(int)
    guard = SafetyGuard(
        lambda y: y + 100.0,
        lambda y: np.column_stack([np.zeros(len(y)), y]),
        InternalTestData(y, label),
        chosen.pop("threshold", 0.05),
        0.0,
        rule=rule,
        **chosen,
    )
    guard.calibrate()
    return guard


@pytest.mark.parametrize("rule", [PlugIn(), "conservative"], ids=["plug-in", "conservative"])
@pytest.mark.parametrize(("every", "delay"), [(2, 0), (2, 20), (15, 5)])
def test_an_adversary_against_a_guard(rule, every, delay):
    """It knows the threshold in force and sends unsafe cases just below it; the others are safe."""
    budget = LongRunBudget(problem(rule), 0.05, late=10)
    violations, accepted, queue = 0, 0, []
    for step in range(800):
        attack = step % every == 0
        tau = min(float(budget.guard.act(np.zeros(1), r_t=budget.level).tau[0]), 10.0)
        y = np.array([tau - 1e-3 if attack and tau > -np.inf else -8.0])
        done = budget.act(y)
        assert done.action[0] == (y[0] + 100.0 if done.accepted[0] else 0.0)
        accepted += int(done.accepted[0])
        violations += int(done.accepted[0] and attack)
        assert violations <= 0.05 * accepted + budget.constant + 1e-6
        queue.append((done.ids, int(attack)))
        if len(queue) > delay:
            budget.learn(*queue[-1 - delay])
    assert violations > 10  # it does what it can
    assert accepted > (300 if every == 15 else 20)
    assert "whatever comes" in str(budget)


def test_without_violations_the_budget_does_what_the_guard_does():
    guard = problem(PlugIn())
    budget = LongRunBudget(guard, 0.05, late=1000)
    y = np.random.default_rng(1).normal(-2.0, 2.0, size=300)
    done, alone = budget.act(y), guard.act(y, r_t=0.05)
    np.testing.assert_array_equal(done.action, alone.action)
    np.testing.assert_array_equal(done.accepted, alone.accepted)
    assert done.level == 0.05
    assert not done.withheld.any()
    assert done.explain(0) == alone.explain(0)


def test_what_the_budget_withholds_is_said_and_other_rows_are_as_they_were():
    import torch

    budget = LongRunBudget(problem(PlugIn()), 0.05, reserve=5.0)
    done = budget.act(torch.full((8,), -6.0))
    assert isinstance(done.action, torch.Tensor)
    assert done.accepted.tolist() == [True] * 5 + [False] * 3
    assert done.action.tolist() == [94.0] * 5 + [0.0] * 3
    assert done.withheld.tolist() == [False] * 5 + [True] * 3
    assert "no room in the budget" in done.explain(7)
    assert "accepted" in done.explain(0)
    assert "stopped" in str(budget)
    again = LongRunBudget.from_state(budget.guard, json.loads(json.dumps(budget.state())))
    assert again.learn(done.ids[:5], [0, 0, 0, 0, 1]) == 5
    assert again.constant == budget.constant
    assert again.level < 0.05


def test_a_certified_guard_serves_its_certified_levels_only():
    guard = problem(Certified(0.1), n=20000, threshold=(0.02, 0.05, 0.1))
    budget = LongRunBudget(guard, 0.1, reserve=8.0, late=1)
    assert budget.act(np.full(3, -6.0)).level == 0.1
    budget.learn([0, 1, 2], [1, 1, 0])
    assert 0.02 < budget.level < 0.05
    assert budget.act(np.full(2, -6.0)).level == 0.02
    budget.learn([3, 4], [1, 1])
    assert budget.level < 0.02
    done = budget.act(np.full(3, -6.0))
    assert done.level == 0.0
    assert not done.accepted.any()
    assert budget.ledger.barred == 3


def test_the_promise_holds_while_the_guard_is_wrong_by_a_factor():
    """Unsafe cases are three times as many as the guard believes: alone it exceeds r_t, with the budget the
    share comes down to r_t.
    """
    guard = problem(PlugIn(), n=20000)
    rng = np.random.default_rng(2)
    budget = LongRunBudget(guard, 0.05, late=50)
    counts = np.zeros((2, 2))
    for _ in range(600):
        y = rng.normal(-2.0, 2.0, size=50)
        odds = 3 * np.exp(2 * y)
        label = (rng.random(50) < odds / (1 + odds)).astype(int)
        done, alone = budget.act(y), guard.act(y, r_t=0.05)
        budget.learn(done.ids, label)
        for row, taken in enumerate((done.accepted, alone.accepted)):
            counts[row] += label[taken].sum(), taken.sum()
    with_budget, without = counts[:, 0] / counts[:, 1]
    assert without > 0.09
    assert with_budget <= budget.promised
    assert with_budget < 0.0515  # and in fact it is r_t itself
    assert counts[0, 1] > 0.8 * counts[1, 1]
