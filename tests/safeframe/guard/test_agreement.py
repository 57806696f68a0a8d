"""Accepted exactly where the bound is at most r_t, and explain says the same: in every mode of a guard."""

import itertools

import numpy as np
import pytest
import torch
from guard_problem import candidate_classifier, candidate_model, candidates, classifier, model, problem

from safeframe.guard.safety_guard import SafetyGuard
from safeframe.guard.settings import Certified
from safeframe.internal_test import InternalTestData
from safeframe.shrinkage import Shrinkage
from safeframe.threshold_rule import Conservative, PlugIn
from safeframe.types import SafeframeError, Status

RULES = {
    "plug-in": PlugIn(),
    "paper": PlugIn(0.05, "paper"),
    "measured": Conservative(),
    "fixed": Conservative(0.1),
    "certified": Certified(0.1),
    "shrinkage": Shrinkage(),
}
CONSTRAINTS = (None, "per_group", "pooled", "worst_group")
EVENTS = ("accepted", "selected", "accepted of candidates")
PRIORS = {"none": None, "number": 0.2, "interval": (0.05, 0.3), "observed": "observed"}
LEVELS = (1e-4, 1e-2, 0.07, 0.3, 1.0)


def made(rule, event, prior, constraint, coverage, kind, n=900):
    pool = event != "accepted"
    y, label = candidates(n) if pool else problem(n)
    if kind is torch.float32:
        measurement = torch.tensor(y, dtype=kind)
    else:
        measurement = y.astype(kind)
    data = InternalTestData(measurement, label, np.arange(n) % 2, block=np.arange(n) // 100)
    guard = SafetyGuard(
        candidate_model if pool else model, candidate_classifier if pool else classifier, data, LEVELS, 0.0,
        rule=RULES[rule], event=event.split()[0], prior=PRIORS[prior], constraint=constraint,
        coverage=0.05 if coverage else None,
    )  # fmt: skip
    guard.calibrate()
    return guard, measurement[:150] * 1.3


@pytest.fixture(autouse=True)
def on_tensors(monkeypatch):
    """The helpers' callables use NumPy: give them arrays."""
    for name in ("model", "classifier", "candidate_model", "candidate_classifier"):
        function = globals()[name]
        monkeypatch.setitem(globals(), name, lambda y, f=function: f(np.asarray(y)))


@pytest.mark.parametrize("kind", [np.float64, np.float32, torch.float32], ids=["float64", "float32", "torch"])
@pytest.mark.parametrize(("event", "prior"), list(itertools.product(EVENTS, PRIORS)))
@pytest.mark.parametrize("rule", RULES)
def test_accepted_exactly_where_the_bound_is_at_most_r_t(rule, event, prior, kind):
    if rule == "certified" and event == "accepted of candidates":
        with pytest.raises(SafeframeError, match="event is 'accepted', but a certificate needs independent"):
            made(rule, event, prior, None, False, kind)
        return
    for constraint in CONSTRAINTS:
        # coverage does not meet the rule: with and without it in turn
        coverage = (CONSTRAINTS.index(constraint) + list(PRIORS).index(prior)) % 2 == 0
        guard, fresh = made(rule, event, prior, constraint, coverage, kind)
        group = None if constraint is None else np.arange(150) % 2
        others = () if rule == "certified" else (0.013, 0.2)
        for r_t in (*LEVELS, *others):
            acted = guard.act(fresh, r_t, group)
            accepted, bound = np.asarray(acted.accepted), np.asarray(acted.bound)
            np.testing.assert_array_equal(accepted, bound <= r_t)
            np.testing.assert_array_equal(accepted, acted.status == Status.OPTIMAL)
            if rule in ("measured", "fixed", "shrinkage"):
                assert (bound > 0).all(), "no bound of zero"
            for i in range(0, 150, 10):
                text = acted.explain(i)
                assert ("accepted: margin" in text) == bool(accepted[i])
                if "would be accepted from r_t" in text:
                    assert float(text.split("from r_t = ")[1].split()[0]) >= r_t * 0.99


def test_a_rejected_case_is_never_told_a_threshold_below_the_one_in_force():
    guard, fresh = made("certified", "accepted", "none", None, False, np.float64)
    acted = guard.act(fresh, 0.07)
    rejected = ~acted.accepted
    assert rejected.any()
    assert (acted.bound[rejected] > 0.07).all()
