"""A guard that prices risk: acted exactly where the price found acts, in every mode; reports, files."""

import itertools
import json

import numpy as np
import pytest
import torch
from guard_problem import C, candidate_classifier, candidate_model, candidates, classifier, model, problem

from safeframe.guard.evidence import Evidence, split_for_price
from safeframe.guard.files import _JSON, _digest
from safeframe.guard.safety_guard import SafetyGuard
from safeframe.guard.settings import Certified, Priced
from safeframe.internal_test import InternalTestData
from safeframe.optimisation.priced import choose_priced
from safeframe.threshold_rule import Conservative, PlugIn
from safeframe.types import SafeframeError, Status

RULES = {
    "plug-in": PlugIn(),
    "measured": Conservative(),
    "fixed": Conservative(0.1),
    "certified": Certified(0.1),
}
PRIORS = {"none": None, "number": 0.2, "interval": (0.05, 0.3), "observed": "observed"}
LEVELS = (1e-4, 1e-2, 0.07, 0.3, 1.0)
CHOICES = {
    "logistic": Priced(),
    "isotonic, gate": Priced("isotonic", 0.2, 1.5),
    "own": Priced(lambda margin: 1 / (1 + np.exp(1.0 - margin)), -0.3),
}


def made(rule, prior, grouped, coverage, kind, choice, n=1200, **more):
    y, label = candidates(n)
    measurement = torch.tensor(y, dtype=kind) if kind is torch.float32 else y.astype(kind)
    data = InternalTestData(measurement, label, np.arange(n) % 2, block=np.arange(n) // 100)
    guard = SafetyGuard(
        lambda y: candidate_model(np.asarray(y)), lambda y: candidate_classifier(np.asarray(y)), data, LEVELS,
        0.0, rule=RULES[rule], prior=PRIORS[prior], constraint="per_group" if grouped else None,
        coverage=0.05 if coverage else None, choice=choice, **more,
    )  # fmt: skip
    guard.calibrate()
    return guard, measurement[:150] * 1.3


def calibrated(choice="priced", n=2000, threshold=0.05, **keywords):
    y, label = candidates(n)
    keywords.setdefault("internal_test", InternalTestData(y, label))
    guard = SafetyGuard(
        candidate_model,
        candidate_classifier,
        threshold=threshold,
        default_action=0.0,
        choice=choice,
        **keywords,
    )
    guard.calibrate()
    return guard


KINDS = {"float64": np.float64, "float32": np.float32, "torch": torch.float32}
FEW = [
    ("plug-in", "none", "float64", "logistic", True),
    ("plug-in", "number", "float32", "own", False),
    ("measured", "observed", "torch", "isotonic, gate", True),
    ("measured", "none", "float32", "logistic", False),
    ("fixed", "interval", "float64", "own", True),
    ("certified", "none", "torch", "logistic", False),
    ("certified", "interval", "float32", "isotonic, gate", True),
]
ALL = itertools.product(RULES, PRIORS, KINDS, CHOICES, (False, True))
LONG = [pytest.param(*one, marks=pytest.mark.long) for one in ALL if one not in FEW]


@pytest.mark.parametrize(("rule", "prior", "kind", "name", "grouped"), FEW + LONG)
def test_acted_exactly_where_the_price_found_acts_and_the_bound_is_at_most_r_t(
    rule, prior, kind, name, grouped
):
    some = False
    coverage, choice = name == "logistic", CHOICES[name]
    guard, fresh = made(rule, prior, grouped, coverage, KINDS[kind], choice)
    group = np.arange(150) % 2 if grouped else None
    others = () if rule == "certified" else (0.013, 0.2, 1e-5)
    for r_t in (*LEVELS, *others):
        acted = guard.act(fresh, r_t, group)
        accepted, bound, index = (np.asarray(x) for x in (acted.accepted, acted.bound, acted.index))
        np.testing.assert_array_equal(accepted, bound <= r_t)
        np.testing.assert_array_equal(accepted, acted.status == Status.OPTIMAL)
        np.testing.assert_array_equal(accepted, index >= 0)
        some |= accepted.any()
        for key, found in acted.calibration.items():
            mine = np.ones(150, bool) if not grouped else group == key
            terms = found.priced
            assert (terms.price < np.inf) == found.feasible
            assert not found.feasible or (found.selected_risk <= terms.r_t <= r_t)
            if not found.feasible:
                assert not accepted[mine].any()
                continue
            reward = np.asarray(fresh, np.float64)[mine]
            margin = np.asarray(candidate_classifier(np.asarray(fresh)), np.float64)[mine, :, 1]
            risk, price, level = terms.scale.probability(margin), terms.price, terms.charged_from
            wanted = choose_priced(
                risk, reward, price, level, terms.default_reward, margin < terms.gate
            ).index
            if acted.covered is not None:
                wanted = np.where(np.asarray(acted.covered)[mine], wanted, -1)
            np.testing.assert_array_equal(index[mine], wanted)
        for i in range(0, 150, 30):
            assert ("taken at the price" in acted.explain(i)) == bool(accepted[i])
    assert some


def test_a_listed_threshold_is_what_the_curve_of_the_cases_left_says():
    guard = calibrated(Priced(share=0.3, charges=(1.0,)), rule=PlugIn(), threshold=[0.02, 0.05])
    from safeframe.priced.curve import PricedRiskCurve
    from safeframe.risk_scale import LogisticRisk

    evidence = guard.evidence
    fits, counts = split_for_price(evidence, 0.3, 0)
    assert (len(fits), len(counts)) == (600, 1400)
    scale = LogisticRisk.fit(evidence.margin[fits].ravel(), evidence.label[fits].ravel())
    for r_t in (0.02, 0.05):
        curve = PricedRiskCurve(
            evidence.margin[counts], evidence.score[counts], evidence.label[counts], r_t, scale
        )
        found, wanted = guard.calibrations[r_t]["all"], curve.least_price()
        assert (found.priced.price, found.selected_risk) == (wanted.mu, wanted.bound)
        assert (found.n_accepted, found.n_unsafe_accepted, found.n_t) == (
            wanted.n_acted,
            wanted.n_unsafe_acted,
            1400,
        )


def test_explain_says_the_price_and_which_candidate_lost_to_it():
    guard = calibrated(rule=PlugIn(), threshold=0.1)
    terms = guard.calibrations[0.1]["all"].priced
    y = np.array([[2.0, 0.4, -1.0, -1.5, -2.0], [2.3, -2.0, -1.9, -1.8, -0.6], [0.1, 0.0, 0.0, 0.0, 0.0]])
    acted = guard.act(y)
    assert acted.index.tolist() == [1, -1, 0]
    lost = float(terms.scale.probability(3.0))
    first = acted.explain(0)
    assert f"candidate 1 taken at the price {terms.price:.4g} of risk: reward 0.4" in first
    assert f"candidate 0 of more reward (reward 2, risk {lost:.3g}, worth" in first
    assert "lost to it" in first
    assert f"bounds P(unsafe | acted) <= {terms.bound:.3g}" in first
    worth = y[1] - terms.price * (terms.scale.probability(3.0 * (y[1] - 1.0)) - terms.charged_from)
    best = int(worth.argmax())
    assert best != 0
    second = acted.explain(1)
    assert second.startswith(
        f"default action: at the price {terms.price:.4g} of risk candidate {best} (reward {y[1, best]:.4g}"
    )
    assert "loses to the default action's 0; so does candidate 0, of the largest reward" in second
    assert "no other has more reward" in acted.explain(2)


def test_default_reward_and_scores_shifted_by_it_are_the_same():
    one = calibrated(Priced(default_reward=0.7))
    y, label = candidates()
    other = SafetyGuard(
        lambda y: (candidate_model(y)[0], y - 0.7), candidate_classifier,
        InternalTestData(y, label), 0.05, 0.0, choice="priced",
    )  # fmt: skip
    other.calibrate()
    fresh = candidates(300, 5)[0]
    np.testing.assert_array_equal(one.act(fresh).index, other.act(fresh).index)
    assert calibrated().act(fresh).accepted.sum() > one.act(fresh).accepted.sum()


def test_groups_have_their_own_price_and_scale():
    y, label = candidates(4000)
    group = np.where(np.arange(4000) % 2, "b", "a")
    label[group == "b"] |= np.random.default_rng(0).random((2000, C)) < 0.02
    guard = calibrated(
        internal_test=InternalTestData(y, label, group), constraint="per_group", threshold=0.06
    )
    found = guard.calibrations[0.06]
    assert found["a"].priced.mean_reward > found["b"].priced.mean_reward > 0.0
    assert found["a"].priced.scale is not found["b"].priced.scale
    acted = guard.act(y[:100], group=group[:100])
    assert "in group 'a'" in acted.explain(0)
    assert "in group 'b'" in acted.explain(1)


def test_an_unlisted_threshold_is_served_by_the_next_stricter_one():
    guard = calibrated(rule=PlugIn(), threshold=[0.03, 0.1])
    fresh = candidates(300, 5)[0]
    for r_t, served in ((0.05, 0.03), (0.5, 0.1)):
        np.testing.assert_array_equal(guard.act(fresh, r_t).index, guard.act(fresh, served).index)
        assert guard.act(fresh, r_t).threshold == r_t
        assert f"found for r_t = {served:g}" in guard.act(fresh, r_t).calibration["all"].summary
    below = guard.act(fresh, 0.01)
    assert not below.accepted.any()
    assert "all of them looser" in below.explain(0)
    with pytest.raises(SafeframeError, match="no certificate"):
        calibrated(rule=Certified(0.1)).act(fresh, 0.02)


def test_certificates():
    for rule in (Certified(0.1), Conservative()):
        more = {} if isinstance(rule, Certified) else {"certificate_delta": 0.1}
        found = calibrated(rule=rule, threshold=[0.02, 0.1], n=4000, **more).calibrations[0.1]["all"]
        assert found.certificate.event == "P(unsafe | acted)"
        assert found.certificate.confidence == pytest.approx(0.95)
        assert found.feasible
        assert "the threshold" not in found.certificate.assumed
        if isinstance(rule, Certified):
            assert found.certificate.value == 0.1
    covered = calibrated(rule=Certified(0.1), threshold=0.1, coverage=0.05).calibrations[0.1]["all"]
    assert covered.certificate.event == "P(unsafe | acted and covered)"


def test_parts_of_the_bound():
    found = calibrated(rule=Conservative(share=0.1), threshold=0.1).calibrations[0.1]["all"]
    assert list(found.parts) == ["seen", "prior", "radius", "few cases"]
    assert found.parts["few cases"] == found.selected_risk <= 0.1
    assert np.isnan(found.accepted_risk)
    assert found.radius > 0.0


def test_rows_that_cannot_be_judged_take_the_default_action_and_disturb_no_other():
    guard = calibrated()
    fresh = candidates(40, 7)[0]
    bad = fresh.copy()
    bad[3], bad[9, 1] = np.nan, np.inf
    whole, acted = guard.act(fresh), guard.act(bad)
    assert acted.status[[3, 9]].tolist() == ["error", "error"]
    assert np.isinf(acted.bound[[3, 9]]).all()
    assert "cannot be judged" in acted.explain(3)
    rest = np.setdiff1d(np.arange(40), [3, 9])
    np.testing.assert_array_equal(acted.index[rest], whole.index[rest])
    assert guard.act(np.full((2, C), np.nan)).counts == {"error": 2}


def test_absent_candidates_are_never_taken():
    y, label = candidates()
    absent = np.random.default_rng(0).random(y.shape) < 0.4
    score = lambda y: np.where(np.abs(y * 1e3 % 1.0) < 0.4, -np.inf, y)  # noqa: E731
    guard = SafetyGuard(
        lambda y: (candidate_model(y)[0], score(y)), candidate_classifier,
        InternalTestData(y, label), 0.05, 0.0, choice="priced",
    )  # fmt: skip
    guard.calibrate()
    acted = guard.act(y)
    taken = np.flatnonzero(acted.accepted)
    assert len(taken)
    assert (score(y)[taken, acted.index[taken]] > -np.inf).all()
    assert absent.any()


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("grouped", [False, True])
def test_saved_and_loaded_it_acts_alike(tmp_path, name, grouped):
    choice = CHOICES[name]
    guard, fresh = made("measured", "observed", grouped, False, np.float64, choice)
    guard.save(tmp_path)
    own = choice.scale if name == "own" else None
    back = SafetyGuard.load(tmp_path, guard.model, guard.classifier, scale=own)
    assert back.settings == guard.settings
    assert back.calibrations == guard.calibrations
    group = np.arange(150) % 2 if grouped else None
    for r_t in LEVELS:
        one, other = guard.act(fresh, r_t, group), back.act(fresh, r_t, group)
        np.testing.assert_array_equal(one.index, other.index)
        np.testing.assert_array_equal(one.bound, other.bound)
    wrong = None if name == "own" else (lambda margin: margin)
    with pytest.raises(SafeframeError, match="scale"):
        SafetyGuard.load(tmp_path, guard.model, guard.classifier, scale=wrong)


def test_another_scale_of_ones_own_is_noticed_where_it_changes_prices(tmp_path):
    guard = calibrated(CHOICES["own"])
    guard.save(tmp_path)
    with pytest.raises(SafeframeError, match="other thresholds"):
        SafetyGuard.load(tmp_path, guard.model, guard.classifier, scale=lambda m: 1 / (1 + np.exp(-m)))


def test_guards_of_format_2_are_still_read(tmp_path):
    y, label = problem()
    guard = SafetyGuard(model, classifier, InternalTestData(y, label), 0.05, 0.0)
    guard.calibrate()
    guard.save(tmp_path)
    body = json.loads(json.loads((tmp_path / _JSON).read_text())["guard"])
    body["format"] = 2
    del body["settings"]["settings"]["choice"]
    text = json.dumps(body)
    (tmp_path / _JSON).write_text(json.dumps({"sha256": _digest(text.encode()), "guard": text}))
    np.testing.assert_array_equal(
        SafetyGuard.load(tmp_path, model, classifier).act(y).bound, guard.act(y).bound
    )


def evidence(n, block=None):
    return Evidence(np.zeros((n, 2)), np.zeros((n, 2), int), np.zeros((n, 2)), None, np.zeros(n, bool), block)


def test_the_scale_is_fitted_on_whole_blocks():
    block = np.arange(100) // 7
    fits, counts = split_for_price(evidence(100, block), 0.25, 3)
    assert not set(block[fits]) & set(block[counts])
    assert sorted([*fits, *counts]) == list(range(100))
    assert len(set(block[fits])) == 4
    again = split_for_price(evidence(100, block), 0.25, 3)
    np.testing.assert_array_equal(fits, again[0])
    assert not np.array_equal(fits, split_for_price(evidence(100, block), 0.25, 4)[0])
    for n, share in ((2, 0.01), (2, 0.99), (50, 0.999)):
        fits, counts = split_for_price(evidence(n), share, 0)
        assert len(fits) >= 1
        assert len(counts) >= 1
    with pytest.raises(SafeframeError, match="2 blocks"):
        split_for_price(evidence(10, np.arange(10) // 5), 0.5, 0)
    with pytest.raises(SafeframeError, match="1 cases"):
        split_for_price(evidence(1), 0.5, 0)


def test_few_unsafe_cases_refuse_and_say_why():
    y, label = candidates(300)
    only = np.zeros_like(label)
    only[7, 2] = 1
    for rule, more in itertools.product(
        (Conservative(), PlugIn(), Certified(0.1)), ({}, {"certificate_delta": 0.1})
    ):
        if isinstance(rule, Certified) and more:
            continue
        guard = calibrated(internal_test=InternalTestData(y, only), rule=rule, **more)
        acted = guard.act(y)
        assert not acted.accepted.any()
        assert acted.counts == {"infeasible": 300}
        assert "no unsafe case" in acted.explain(0) or "no price of risk qualifies" in acted.explain(0)
    with pytest.raises(SafeframeError, match="unsafe"):
        calibrated(internal_test=InternalTestData(y, np.zeros_like(label)))


def test_a_rule_that_earns_less_than_the_default_action_is_not_taken():
    guard = calibrated(Priced(default_reward=3.0))
    found = guard.calibrations[0.05]["all"]
    assert not found.feasible
    assert "earns" in found.summary
    assert "less than the default action's 3" in guard.act(candidates(3)[0]).explain(0)


def test_bad_settings_are_refused():
    y, label = problem()
    for keywords, message in [
        ({"choice": "penalised"}, "'gated', 'priced'"),
        ({"choice": "priced", "event": "accepted"}, "acti"),
    ]:
        with pytest.raises(SafeframeError, match=message):
            SafetyGuard(model, classifier, InternalTestData(y, label), 0.05, 0.0, **keywords)
    for keywords, message in [
        ({"scale": "probit"}, "scale"),
        ({"scale": 3.0}, "scale"),
        ({"default_reward": np.inf}, "default_reward"),
        ({"gate": np.nan}, "gate"),
        ({"gate": -np.inf}, "gate"),
        ({"share": 0.0}, "share"),
        ({"share": 1.0}, "share"),
    ]:
        with pytest.raises(SafeframeError, match=message):
            Priced(**keywords)
    guard = SafetyGuard(model, classifier, InternalTestData(y, label), 0.05, 0.0, choice="priced")
    with pytest.raises(SafeframeError, match="candidates, score"):
        guard.calibrate()
    with pytest.raises(SafeframeError, match="falls"):
        calibrated(Priced(lambda margin: 1 / (1 + np.exp(margin))))


@pytest.mark.parametrize("constraint", ["pooled", "worst_group"])
def test_a_price_is_no_threshold_common_to_groups(constraint):
    y, label = candidates(400)
    data = InternalTestData(y, label, np.arange(400) % 2)
    with pytest.raises(SafeframeError, match="constraint='per_group'"):
        calibrated(internal_test=data, constraint=constraint)
    with pytest.raises(SafeframeError, match="Shrinkage is about thresholds"):
        calibrated(internal_test=data, rule="shrinkage")
