"""SafetyGuard: what it decides, what it reports, what it refuses, what it saves."""

import numpy as np
import pytest
import torch
from guard_problem import (
    C,
    N,
    calibrated,
    candidate_classifier,
    candidate_model,
    candidates,
    guard,
    margin,
    problem,
)

from safeframe.certificates.cases import cases_needed, clopper_pearson_upper
from safeframe.guard.calibration import TrainedOnWarning
from safeframe.guard.report import EVERYTHING
from safeframe.guard.safety_guard import SafetyGuard
from safeframe.guard.settings import Certified
from safeframe.internal_test import InternalTestData
from safeframe.risk_curve import RiskCurve
from safeframe.selected_risk import SelectedRiskCurve
from safeframe.threshold_rule import Conservative, PlugIn
from safeframe.types import SafeframeError, Status


def test_decides_as_the_risk_curve_says():
    y, label = problem()
    made = guard([0.01, 0.05], prior=0.3, rule=PlugIn(0.1))
    made.calibrate()
    fresh, _ = problem(300, seed=1)
    for r_t in (0.01, 0.05, 0.2):  # the last one by bias correction, not among the thresholds
        tau = RiskCurve(margin(y), label, 0.3, 0.1).largest_threshold(r_t).tau
        found = made.act(fresh, r_t)
        np.testing.assert_array_equal(found.accepted, margin(fresh) < tau)
        np.testing.assert_array_equal(found.action, np.where(found.accepted[:, None], 2.0 * fresh, 0.0))
        np.testing.assert_array_equal(found.bound <= r_t, found.accepted)
        np.testing.assert_array_equal(found.status == Status.OPTIMAL, found.accepted)
        np.testing.assert_array_equal(found.index, np.where(found.accepted, 0, -1))
        assert (found.threshold, found.tau[0]) == (r_t, tau)
        assert found.calibration["all"].accepted_risk <= r_t
        for text, accepted in zip(found.reason, found.accepted, strict=True):
            assert text.startswith("accepted" if accepted else "default action")
            assert f"{tau:.6g}" in text


def test_ten_lines_and_torch_in_torch_out():
    y, label = problem()
    network = torch.nn.Linear(3, 2)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0]]))
        network.bias.copy_(torch.tensor([0.0, -3.0]))
    network.train()
    made = guard(
        classifier=network,
        model=torch.nn.Identity(),
        internal_test=InternalTestData(torch.tensor(y), label),
        rule="plug-in",
    )
    made.calibrate()
    assert network.training, "the module must be left in the mode it was in"
    fresh, _ = problem(100, seed=1)
    of_torch, of_numpy = made.act(torch.tensor(fresh)), made.act(fresh)
    for name in ("action", "accepted", "bound", "tau", "margin", "index"):
        assert isinstance(getattr(of_torch, name), torch.Tensor), name
        assert isinstance(getattr(of_numpy, name), np.ndarray), name
        np.testing.assert_array_equal(getattr(of_torch, name).numpy(), getattr(of_numpy, name))
    assert not of_torch.action.requires_grad
    assert 0 < of_torch.accepted.sum() < 100
    assert len(of_torch.reason) == 100
    expected = made.act(fresh).accepted
    plain = guard(rule=PlugIn())
    plain.calibrate()
    np.testing.assert_array_equal(plain.act(fresh).accepted, expected)


@pytest.mark.parametrize("mode", ["accepted", "selected"])
def test_candidates_and_both_risks(mode):
    y, label = candidates()
    data = InternalTestData(y, label)
    made = guard(
        model=candidate_model, classifier=candidate_classifier, internal_test=data, event=mode, rule=PlugIn()
    )
    found = made.calibrate()[0.05]["all"]
    selected = SelectedRiskCurve(3 * (y - 1), y, label)
    accepted = RiskCurve(3 * (y - 1).ravel(), label.ravel())
    assert found.tau == (selected if mode == "selected" else accepted).largest_threshold(0.05).tau
    assert found.accepted_risk == accepted.bound(found.tau)
    assert found.selected_risk == selected.bound(found.tau)
    if mode == "accepted":
        assert found.selected_risk > 0.1, "the risk that is run is larger, and the report must show it"
    fresh, _ = candidates(200, seed=1)
    acted = made.act(fresh)
    allowed = np.where(3 * (fresh - 1) < found.tau, fresh, -np.inf)
    best = allowed.argmax(axis=1)
    some = np.isfinite(allowed.max(axis=1))
    np.testing.assert_array_equal(acted.index, np.where(some, best, -1))
    np.testing.assert_array_equal(acted.action[:, 0], np.where(some, fresh[np.arange(200), best], 0.0))
    assert acted.action.shape == (200, 2)
    np.testing.assert_array_equal(acted.bound <= 0.05, acted.accepted)
    assert "candidate" in acted.reason[int(np.argmax(some))]


def test_absent_candidates_are_never_taken():
    y, label = candidates()
    absent = lambda v: (v, np.where(np.arange(C) % 2 == 0, v, -np.inf))  # noqa: E731
    made = guard(
        model=absent,
        classifier=candidate_classifier,
        internal_test=InternalTestData(y, label),
        event="selected",
    )
    made.calibrate()
    acted = made.act(candidates(100, seed=2)[0])
    assert (acted.index[acted.accepted] % 2 == 0).all()


def test_no_threshold_qualifies_always_default_and_says_how_many_cases():
    y, _ = problem()
    label = (np.random.default_rng(0).random(N) < 0.3).astype(int)
    made = guard(1e-4, internal_test=InternalTestData(y, label), default_action=-7.0)
    reversed_label = np.where(margin(y) == margin(y).min(), 1, label)  # the safest-looking case is unsafe
    made = guard(1e-4, internal_test=InternalTestData(y, reversed_label), default_action=-7.0)
    found = made.calibrate()[1e-4]["all"]
    assert (found.tau, found.feasible, found.accepted_risk) == (-np.inf, False, 1.0)
    acted = made.act(y[:4])
    np.testing.assert_array_equal(acted.action, np.full((4, 3), -7.0))
    assert not acted.accepted.any()
    assert (acted.status == Status.INFEASIBLE).all()
    assert "29,956 accepted cases" in acted.explain(0)


def test_too_few_cases_for_the_threshold_are_told():
    summary = guard(1e-6).calibrate()[1e-6]["all"].summary
    assert summary.startswith("no threshold qualifies"), "a bound below 1 / n is never reported"
    plug_in = guard(1e-6, rule="plug-in").calibrate()[1e-6]["all"].summary
    assert "too few for a certificate" in plug_in
    assert f"{cases_needed(1e-6):,}" in summary


def test_groups_have_their_own_thresholds():
    y, label = problem()
    group = np.arange(N) % 2
    label = np.where(
        group == 1, (y[:, 0] + 0.5 * np.random.default_rng(5).normal(size=N) > 2).astype(int), label
    )
    made = guard(
        0.05,
        internal_test=InternalTestData(y, label, group),
        constraint="per_group",
        prior={0: 0.2, 1: 0.05},
        rule=PlugIn(),
    )
    found = made.calibrate()[0.05]
    for key in (0, 1):
        rows = group == key
        prior = {0: 0.2, 1: 0.05}[key]
        assert found[key].tau == RiskCurve(margin(y[rows]), label[rows], prior).largest_threshold(0.05).tau
    assert found[0].tau < found[1].tau
    acted = made.act(y[:10], group=group[:10])
    np.testing.assert_array_equal(acted.tau, [found[g].tau for g in group[:10]])
    assert "group 1" in acted.explain(int(np.flatnonzero((group[:10] == 1) & acted.accepted)[0]))
    for ids, message in [
        (None, "needs one id"),
        ([0, 1], "shape"),
        ([3] * 10, "group 3 has no internal test"),
    ]:
        with pytest.raises(SafeframeError, match=message):
            made.act(y[:10], group=ids)
    with pytest.raises(SafeframeError, match="no constraint over groups"):
        calibrated().act(y[:10], group=group[:10])
    with pytest.raises(SafeframeError, match="prior has no entry for group 1"):
        guard(
            internal_test=InternalTestData(y, label, group), constraint="per_group", prior={0: 0.2}
        ).calibrate()


def test_trained_on_data_are_refused_left_out_or_covered_by_a_radius():
    y, label = problem()
    data = InternalTestData(y, label, trained_on=np.arange(N) < N // 2)
    with pytest.warns(TrainedOnWarning, match="1000 of 2000"):
        partly = calibrated(internal_test=data, rule=PlugIn())
    assert partly.calibrations[0.05]["all"].n_t == N // 2
    half = RiskCurve(margin(y[N // 2 :]), label[N // 2 :])
    assert partly.calibrations[0.05]["all"].tau == half.largest_threshold(0.05).tau
    assert calibrated(internal_test=data, rule=PlugIn(0.2)).calibrations[0.05]["all"].n_t == N
    data.mark_trained_on()
    for keywords, message in [({}, "were trained on"), ({"rule": Conservative()}, "were trained on"),
                              ({"rule": PlugIn(0.1), "certificate_delta": 0.05}, "held-out")]:  # fmt: skip
        with pytest.raises(SafeframeError, match=message):
            calibrated(internal_test=data, **keywords)
    assert calibrated(internal_test=data, rule=PlugIn(0.2)).calibrations[0.05]["all"].n_t == N


def test_measured_radius_makes_it_stricter():
    found = calibrated().calibrations[0.05]["all"]
    assert found.radius > 0.0
    assert found.tau < calibrated(rule=PlugIn()).calibrations[0.05]["all"].tau


@pytest.mark.parametrize("rule", ["plug-in", "certificate"])
@pytest.mark.parametrize("prior", [None, 0.1])
def test_certificates(rule, prior):
    found = calibrated(certificate_delta=0.1, rule=rule, prior=prior).calibrations[0.05]["all"]
    assert found.certificate is not None
    assert found.certificate.confidence == pytest.approx(0.9)
    assert 100 < found.certificate.n < N // 2, "only the half set aside counts"
    if rule == "certificate":
        assert found.feasible
        assert found.certificate.value == 0.05
    else:
        one_half = clopper_pearson_upper(found.certificate.k, found.certificate.n, 0.1)
        assert prior is not None or found.certificate.value == pytest.approx(one_half)
    two = calibrated(threshold=[0.05, 0.1], certificate_delta=0.1, rule=rule, prior=prior)
    assert two.calibrations[0.05]["all"].certificate.confidence == pytest.approx(0.95), (
        "Bonferroni over thresholds"
    )
    with pytest.raises(SafeframeError, match="no certificate"):
        two.act(problem(3)[0], r_t=0.07)


def test_certificate_of_the_selected_action_and_one_out_of_reach():
    y, label = candidates()
    keywords = {
        "model": candidate_model,
        "classifier": candidate_classifier,
        "internal_test": InternalTestData(y, label),
    }
    found = calibrated(event="selected", certificate_delta=0.1, rule="certificate", **keywords)
    assert found.calibrations[0.05]["all"].certificate.event == "P(unsafe | selected)"
    out_of_reach = calibrated(threshold=1e-4, certificate_delta=0.05, rule="certificate")
    acted = out_of_reach.act(problem(3)[0])
    assert not acted.accepted.any()
    assert "29,956" in acted.explain(0)


def test_classifier_may_see_the_action():
    seen = lambda v, action: np.stack([0.0 * v[:, 0], 3.0 * (action[:, 0] / 2.0 - 1.0)], axis=-1)  # noqa: E731
    made = calibrated(classifier=seen, classify_actions=True)
    assert made.calibrations[0.05]["all"].tau == pytest.approx(calibrated().calibrations[0.05]["all"].tau)


def test_actions_may_be_texts_or_integers():
    y, _ = problem(50, seed=3)
    texts = calibrated(
        model=lambda v: np.array(["go"] * len(v)), default_action="I cannot help with that"
    ).act(y)
    assert set(texts.action.tolist()) == {"go", "I cannot help with that"}
    whole = calibrated(model=lambda v: np.ones(len(v), int), default_action=-1).act(y)
    assert whole.action.dtype == int
    assert set(whole.action.tolist()) == {1, -1}


def test_empty_batch():
    acted = calibrated().act(np.zeros((0, 3)))
    assert acted.action.shape == (0, 3)
    assert acted.reason == []


def test_a_group_of_which_a_half_lacks_a_class_accepts_nothing_and_says_why():
    y, label = problem(400)
    group = np.where(np.arange(400) % 40 == 0, "rare", "common")
    rare = np.flatnonzero(group == "rare")
    label[rare] = np.arange(len(rare)) == 3
    two = InternalTestData(y, label, group)
    made = calibrated(threshold=[0.05, 1.0], internal_test=two, constraint="per_group")
    found = made.calibrations[0.05]
    assert found["common"].feasible
    assert not found["rare"].feasible
    assert "no unsafe case in the" in found["rare"].summary
    for r_t in (0.05, 1.0):
        acted = made.act(y, r_t, group)
        assert not acted.accepted[rare].any()
        assert (acted.bound[rare] == np.inf).all()
        assert "the radius cannot be measured" in acted.explain(int(rare[0]))
    assert (
        calibrated(internal_test=two, constraint="per_group", rule="plug-in")
        .calibrations[0.05]["rare"]
        .feasible
    )


@pytest.mark.parametrize("rule", ["plug-in", "conservative"])
def test_where_everything_may_be_accepted_the_bound_is_that_of_everything(rule):
    label = problem()[1]
    found = calibrated(threshold=[0.6, 1.0], rule=rule).calibrations
    assert found[0.6]["all"].tau == np.inf
    assert label.mean() <= found[0.6]["all"].accepted_risk < 0.6


@pytest.mark.parametrize("prior", [0.0, 1.0, (0.2, 1.0)])
def test_with_candidates_a_prior_of_0_or_1_is_refused(prior):
    data = InternalTestData(*candidates())
    with pytest.raises(SafeframeError, match="both excluded"):
        calibrated(model=candidate_model, classifier=candidate_classifier, internal_test=data, prior=prior)


@pytest.mark.parametrize("keywords", [{"certificate_delta": 0.1}, {"rule": Certified(0.1)}])
def test_a_certificate_of_accepted_candidates_is_refused(keywords):
    """Candidates of one measurement depend on one another; that of the selected action is another event."""
    y, label = candidates()
    made = SafetyGuard(
        candidate_model,
        candidate_classifier,
        InternalTestData(y, label),
        0.3,
        0.0,
        event="accepted",
        **keywords,
    )
    with pytest.raises(SafeframeError, match="take event='selected'"):
        made.calibrate()
    chosen = SafetyGuard(
        candidate_model, candidate_classifier, InternalTestData(y, label), 0.3, 0.0, **keywords
    )
    chosen.calibrate()
    assert chosen.calibrations[0.3][EVERYTHING].certificate.event == "P(unsafe | selected)"
