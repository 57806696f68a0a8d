"""A guard with one constraint over several groups, and with the shrinkage rule."""

import json

import numpy as np
import pytest
from guard_problem import C, N, calibrated, candidate_classifier, candidate_model, candidates, guard, problem

from safeframe.groups.constraint import GroupConstraint
from safeframe.groups.scales import GroupScales
from safeframe.guard.evidence import split_for_scale
from safeframe.guard.files import read_guard, write_guard
from safeframe.guard.report import EVERYTHING
from safeframe.guard.safety_guard import SafetyGuard
from safeframe.guard.settings import Certified
from safeframe.internal_test import InternalTestData
from safeframe.risk_scale import LogisticRisk
from safeframe.shrinkage import Shrinkage
from safeframe.threshold_rule import Conservative, PlugIn
from safeframe.types import SafeframeError, Status

Y, LABEL = problem()
GROUP = np.where(np.arange(N) % 10 == 0, "small", "large")
FRESH, FRESH_LABEL = problem(5000, seed=1)
FRESH_GROUP = np.where(np.arange(5000) % 10 == 0, "small", "large")
COMMON = ("pooled", "worst_group")


def risk(margin):
    """A scale that is fitted elsewhere."""
    return 1.0 / (1.0 + np.exp(-margin))


def grouped(constraint, threshold=0.1, group=GROUP, label=LABEL, **more):
    data = InternalTestData(Y, label, group)
    return calibrated(threshold=threshold, internal_test=data, constraint=constraint, **more)


@pytest.mark.parametrize("rule", [PlugIn(), Conservative(0.1), Shrinkage()])
@pytest.mark.parametrize("constraint", ["per_group", *COMMON])
def test_the_guard_is_the_library_function_around_a_model(constraint, rule):
    made = grouped(constraint, [0.02, 0.1], rule=rule, scale=risk)
    p = risk(made.evidence.margin)
    direct = GroupConstraint(p, LABEL, GROUP, rule, constraint)
    for r_t in (0.02, 0.1):
        acted = made.act(FRESH, r_t, FRESH_GROUP)
        tau = direct.calibrate(r_t).probability
        expected = risk(made.margins(FRESH)) < np.array([tau[key] for key in FRESH_GROUP])
        assert (acted.accepted == expected).mean() > 0.999  # to rounding, where a case is at the threshold
        shares, own = direct.calibrate(r_t).shares, acted.shares
        for key in ("small", "large"):
            assert own[key].n_t == shares[key].n_t
            assert own[key].n_accepted == shares[key].n_accepted
            assert own[key].n_unsafe_accepted == shares[key].n_unsafe_accepted
            assert own[key].bound == pytest.approx(shares[key].bound)


def test_one_threshold_on_the_common_scale():
    for constraint in COMMON:
        acted = grouped(constraint).act(FRESH, group=FRESH_GROUP)
        assert len(np.unique(acted.tau)) == 1
        assert acted.accepted.any()
        np.testing.assert_array_equal(acted.accepted, acted.margin < acted.tau)
    assert list(grouped("pooled").calibrations[0.1]) == [EVERYTHING]
    assert set(grouped("worst_group").calibrations[0.1]) == {"small", "large"}


def test_explain_tells_the_groups_own_share():
    acted = grouped("pooled").act(FRESH, group=FRESH_GROUP)
    at = int(np.flatnonzero(FRESH_GROUP == "small")[0])
    own = acted.shares["small"]
    assert own.n_t < acted.shares["large"].n_t
    assert f"of group 'small', pooled with the others: {own}" in acted.explain(at)
    assert f"{own.n_unsafe_accepted} unsafe of {own.n_accepted} accepted" in acted.explain(at)
    acted = grouped("worst_group").act(FRESH, group=FRESH_GROUP)
    assert "the worst group is " in acted.explain(int(np.flatnonzero(acted.accepted)[0]))


def test_unlisted_r_t_has_shares_too():
    for constraint in ("per_group", *COMMON):
        acted = grouped(constraint).act(FRESH, 0.07, FRESH_GROUP)
        assert set(acted.shares) == {"small", "large"}
        np.testing.assert_array_equal(acted.accepted, acted.bound <= 0.07)


def test_a_group_of_two_cases_refuses_by_worst_group_and_is_named():
    y, label = problem(1000)
    group = np.where(np.arange(1000) < 2, "two", "many")
    label[:2] = (0, 1)
    data = InternalTestData(y, label, group)
    fresh = np.array(["many", "two"] * 2500)
    acted = calibrated(
        threshold=0.1, internal_test=data, constraint="worst_group", rule=Conservative(0.0)
    ).act(FRESH, group=fresh)
    assert not acted.accepted.any()
    assert (acted.status == Status.INFEASIBLE).all()
    assert "least of all in group 'two'" in acted.explain(0)
    acted = calibrated(threshold=0.1, internal_test=data, constraint="worst_group").act(FRESH, group=fresh)
    assert "group 'two': there is no" in acted.explain(0)  # a half of it lacks a class
    acted = calibrated(threshold=0.1, internal_test=data, constraint="pooled", rule=Conservative(0.0)).act(
        FRESH, group=fresh
    )
    assert acted.accepted.any()
    assert acted.shares["two"].bound > 0.1


def test_a_group_without_an_unsafe_case():
    label = np.where(GROUP == "small", 0, LABEL)
    for constraint in ("per_group", "worst_group"):
        with pytest.raises(SafeframeError, match="group 'small': no unsafe"):
            grouped(constraint, label=label)
        assert grouped(constraint, label=label, rule=Shrinkage()).act(Y, group=GROUP).accepted.any()
    found = grouped("pooled", label=label).act(Y, group=GROUP)
    assert found.accepted.any()
    assert found.shares["small"].bound == 1.0


def test_cases_that_fit_the_scale_are_not_counted():
    for more in ({"constraint": "pooled"}, {"constraint": "per_group", "rule": Shrinkage()}):
        made = grouped(threshold=0.1, **more)
        fitting, counted = split_for_scale(made.evidence, made.settings)
        assert len(np.intersect1d(fitting, counted)) == 0
        assert len(fitting) + len(counted) == N
        assert len(fitting) == pytest.approx(N / 3, abs=5)
        shares = made.act(FRESH, group=FRESH_GROUP).shares
        assert shares["small"].n_t == (GROUP[counted] == "small").sum()
    for key in ("small", "large"):
        share = np.mean(np.isin(np.flatnonzero(np.equal(GROUP, key)), fitting))
        assert share == pytest.approx(1 / 3, abs=0.02)
    unscaled = grouped("per_group")
    assert unscaled.calibrations[0.1]["small"].n_t == (GROUP == "small").sum()


def test_shrinkage_without_groups():
    made = calibrated(threshold=[0.02, 0.1], rule="shrinkage")
    assert made.settings.rule == Shrinkage()
    acted = made.act(FRESH, 0.1)
    assert acted.accepted.any()
    assert FRESH_LABEL[acted.accepted].mean() < 0.1
    assert set(made.calibrations[0.1][EVERYTHING].parts) == {"seen", "model", "few cases", "prior"}
    np.testing.assert_array_equal(acted.margin, made.margins(FRESH))


def test_shrinkage_of_the_selected_candidate():
    y, label = candidates()
    made = SafetyGuard(
        candidate_model, candidate_classifier, InternalTestData(y, label, np.arange(N) % 2), 0.1,
        0.0, rule=Shrinkage(), constraint="worst_group",
    )  # fmt: skip
    made.calibrate()
    fresh, fresh_label = candidates(4000, seed=3)
    acted = made.act(fresh, group=np.arange(4000) % 2)
    assert acted.accepted.mean() > 0.3
    unsafe = fresh_label[np.arange(4000), acted.index][acted.accepted]
    assert unsafe.mean() < 0.1
    assert made.calibrations[0.1][0].selected_risk <= 0.1


def test_absent_candidates_and_bad_rows_are_disturbed_by_no_scale():
    y, label = candidates(600)
    scores = np.where(np.arange(C) == 0, -np.inf, y)

    def absent(m):
        return m[..., None], np.where(np.arange(C) == 0, -np.inf, m)

    def odd(m):
        logits = candidate_classifier(m)
        logits[:, 0] = np.nan
        return logits

    assert scores.shape == (600, C)
    made = SafetyGuard(
        absent, odd, InternalTestData(y, label, np.arange(600) % 2), 0.3, 0.0, constraint="pooled"
    )
    made.calibrate()
    fresh = y[:50].copy()
    fresh[7] = np.nan
    acted = made.act(fresh, group=np.arange(50) % 2)
    assert acted.status[7] == Status.ERROR
    assert (acted.index[np.asarray(acted.accepted)] > 0).all()
    clean = made.act(y[:50], group=np.arange(50) % 2)
    kept = np.arange(50) != 7
    np.testing.assert_array_equal(acted.accepted[kept], clean.accepted[kept])


@pytest.mark.parametrize("constraint", COMMON)
def test_certificates_of_one_threshold(constraint):
    beside = grouped(constraint, certificate_delta=0.1).act(FRESH, group=FRESH_GROUP)
    for one in beside.calibration.values():
        assert one.certificate is not None
        assert one.certificate.n <= N / 2
    chosen = grouped(constraint, [0.1, 0.3], rule=Certified(0.1), coverage=0.05)
    acted = chosen.act(FRESH, 0.3, FRESH_GROUP)
    assert acted.accepted.any()
    for one in acted.calibration.values():
        assert one.certificate.value == 0.3
        assert one.certificate.event == "P(unsafe | accepted and covered)"
        # an intersection-union test: only the two thresholds share delta, the groups do not
        assert one.certificate.confidence == pytest.approx(0.95)
    np.testing.assert_array_equal(acted.accepted, acted.bound <= 0.3)
    with pytest.raises(SafeframeError, match="no certificate"):
        chosen.act(FRESH, 0.2, FRESH_GROUP)


@pytest.mark.parametrize("rule", [Conservative(), Shrinkage(z=2.0), Certified(0.1)])
@pytest.mark.parametrize("constraint", [None, "per_group", *COMMON])
def test_saved_and_loaded(tmp_path, constraint, rule):
    group = None if constraint is None else GROUP
    made = grouped(constraint, [0.1, 0.3], group, rule=rule)
    made.save(tmp_path)
    again = SafetyGuard.load(tmp_path, made.model, made.classifier)
    assert again.settings == made.settings
    fresh = None if constraint is None else FRESH_GROUP
    for r_t in (0.1, 0.3):
        a, b = made.act(FRESH, r_t, fresh), again.act(FRESH, r_t, fresh)
        np.testing.assert_array_equal(a.accepted, b.accepted)
        np.testing.assert_array_equal(a.bound, b.bound)
        assert a.shares == b.shares


def test_a_scale_of_the_users_is_asked_for_again(tmp_path):
    made = grouped("pooled", scale=risk)
    made.save(tmp_path)
    with pytest.raises(SafeframeError, match="scale of risk of its own"):
        SafetyGuard.load(tmp_path, made.model, made.classifier)
    again = SafetyGuard.load(tmp_path, made.model, made.classifier, scale=risk)
    np.testing.assert_array_equal(
        made.act(FRESH, group=FRESH_GROUP).accepted, again.act(FRESH, group=FRESH_GROUP).accepted
    )


def test_the_old_spelling_for_one_version(tmp_path):
    data = InternalTestData(Y, LABEL, GROUP)
    with pytest.warns(DeprecationWarning, match="group_conditional=True is now constraint='per_group'"):
        made = calibrated(threshold=0.1, internal_test=data, group_conditional=True)
    assert made.settings.constraint == "per_group"
    made.save(tmp_path)
    body, arrays = read_guard(tmp_path)
    body = json.loads(json.dumps(body))
    for new in ("constraint", "scale", "scale_share"):
        del body["settings"][new]
    body["settings"]["group_conditional"] = True  # as version 0.3 wrote it
    write_guard(tmp_path, body, arrays)
    again = SafetyGuard.load(tmp_path, made.model, made.classifier)
    assert again.settings == made.settings
    with pytest.warns(DeprecationWarning, match="0.5"):
        assert guard(group_conditional=False).settings.constraint is None


def test_scales_of_groups():
    rng = np.random.default_rng(0)
    margin = rng.normal(size=3000)
    group = np.where(np.arange(3000) < 2900, "many", "few")
    label = (rng.random(3000) < risk(margin + (group == "few"))).astype(int)
    label[2900:2995] = 0  # five unsafe cases at most: not enough
    scales = GroupScales("logistic", margin, label, group)
    assert set(scales.own) == {"many"}
    np.testing.assert_array_equal(
        scales.probability(margin[2900:], group[2900:]), scales.common.probability(margin[2900:])
    )
    assert scales.probability(np.array([np.inf, -np.inf]), np.array(["few", "few"]))[0] == 1.0
    assert scales.log_odds(np.array([np.inf]), np.array(["few"]))[0] == np.inf
    given = GroupScales({"many": risk, "few": lambda m: 0.0 * m}, margin, label, group)
    assert given.probability(margin[2950:2951], group[2950:2951])[0] == 1e-12
    with pytest.raises(SafeframeError, match="lacks group 'few'"):
        GroupScales({"many": risk}, margin, label, group)
    with pytest.raises(SafeframeError, match="there are none"):
        GroupScales({"many": risk}, margin, label)
    with pytest.raises(SafeframeError, match="has no scale"):
        given.probability(margin[:1], np.array(["other"]))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"scale": "linear"}, "the risk scale is 'linear'"),
        ({"scale": lambda m: risk(-m)}, "falls as the score grows"),
        ({"scale": {"large": risk}}, "lacks group 'small'"),
        ({"scale_share": 1e-4}, "scale of risk, from 0 of 2000 .* no safe case among 0"),
    ],
)
def test_bad_scales(keywords, message):
    with pytest.raises(SafeframeError, match=message):
        grouped("pooled", **keywords)


def test_acting_needs_known_groups():
    for constraint in COMMON:
        made = grouped(constraint)
        with pytest.raises(SafeframeError, match="needs one id per measurement"):
            made.act(FRESH)
        with pytest.raises(SafeframeError, match="group 'x' has no internal test data"):
            made.act(FRESH[:1], group=np.array(["x"]))


def test_a_fitted_scale_may_be_given():
    scale = LogisticRisk.fit(np.linspace(-3, 3, 50), (np.arange(50) % 7 > 3).astype(int))
    assert grouped("pooled", scale=scale).act(FRESH, group=FRESH_GROUP).accepted.shape == (5000,)


def test_a_group_without_a_case_that_chooses_is_no_group_that_is_within_r_t():
    group = np.where(np.arange(N) == 7, "one", "many")
    for constraint in ("per_group", *COMMON):
        failures = 0
        for seed in range(6):
            made = guard(
                threshold=0.2, internal_test=InternalTestData(Y, LABEL, group), constraint=constraint,
                rule=Certified(0.1), seed=seed,
            )  # fmt: skip
            try:
                made.calibrate()
            except SafeframeError as error:
                failures += "group 'one'" in str(error)
        assert failures >= (1 if constraint == "pooled" else 6)
