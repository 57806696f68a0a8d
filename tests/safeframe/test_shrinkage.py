"""The shrinkage bound: by hand, against a loop, its inverse, candidates, priors, and what it refuses."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeframe.risk_scale import fit_risk_scale
from safeframe.shrinkage import Shrinkage, ShrinkageCurve
from safeframe.threshold_rule import Conservative, ThresholdRule
from safeframe.types import SafeframeError

CONSTANTS = {"prior_cases": 2.0, "dispersion": 3.0, "z": 0.5, "low_risk": 0.1}


def by_loop(margin, label, p, rule, tau, odds=1.0):
    """The formula of METHOD's section 12 as it is written, case by case."""
    seen = expected = n = k = total = 0.0
    for m, bad, chance in zip(margin, label, p, strict=True):
        if chance <= rule.low_risk:
            seen, expected = seen + bad, expected + chance
        if m < tau:
            n, k, total = n + 1, k + bad, total + chance
    if n == 0:
        return 1.0
    rho = (seen + 1 + rule.z * (rule.dispersion * (seen + 1)) ** 0.5) / expected if expected else np.inf
    rho = rule.ratio or rho
    above = k + rule.prior_cases
    bound = (above + rule.z * (rule.dispersion * above) ** 0.5) / (
        n + (rule.prior_cases / (rho * total / n) if rho < np.inf else 0.0)
    )
    bound = min(bound, 1.0)
    return odds * bound / (odds * bound + 1 - bound)


def drawn(seed, n, ties):
    rng = np.random.default_rng(seed)
    margin = rng.normal(size=n)
    if ties:
        margin = np.round(margin * 2) / 2
    p = 1 / (1 + np.exp(2.5 - 2 * margin))
    return margin, (rng.random(n) < p).astype(int), p


def test_by_hand():
    """One hundred accepted, two of them unsafe, mean p̂ .01, and rho = 2."""
    rule = Shrinkage(ratio=2.0)
    above = 5 + np.sqrt(4 * 5)
    assert rule.bound(100, 2, 1.0, 2.0) == pytest.approx(above / (100 + 3 / (2 * 0.01)))
    assert rule.bound(0, 0, 0.0, 2.0) == 1.0
    assert rule.bound(1, 1, 1.0, 2.0) == 1.0
    assert Shrinkage().upper_ratio(3, 2.0) == pytest.approx((4 + np.sqrt(16)) / 2)
    assert Shrinkage().upper_ratio(3, 0.0) == np.inf


def test_few_cases_borrow_and_many_do_not():
    rule = Shrinkage()
    few = rule.bound(10, 0, 10 * 1e-6, 1.0)
    assert few == pytest.approx(1e-6 * (1 + np.sqrt(4 / 3)), rel=1e-4)
    assert rule.bound(1e9, 1e6, 1e9 * 1e-6, 1.0) == pytest.approx(1e-3, rel=1e-2)


@given(st.integers(0, 10**6), st.integers(1, 40), st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_curve_is_the_loop(seed, n, ties, other):
    margin, label, p = drawn(seed, n, ties)
    rule = Shrinkage(**CONSTANTS) if other else Shrinkage(ratio=1.5)
    curve = ShrinkageCurve(margin, label, p, rule, 1.4)
    tau = np.concatenate([margin, np.nextafter(margin, 9), [-np.inf, np.inf]])
    expected = [by_loop(margin, label, p, rule, t, 1.4) for t in tau]
    np.testing.assert_allclose(curve.bound(tau), expected, rtol=1e-9)
    n_below, k_below = curve.counts(tau)
    np.testing.assert_array_equal(n_below, [(margin < t).sum() for t in tau])
    np.testing.assert_array_equal(k_below, [label[margin < t].sum() for t in tau])
    for r_t in (1e-3, 0.1, 0.4, 1.0):
        within = [t for t, bound in zip(tau, curve.bound(tau), strict=True) if bound <= r_t]
        found = curve.largest_threshold(r_t)
        accepted = margin < found.tau
        best = max(within, default=-np.inf)
        np.testing.assert_array_equal(accepted, margin < best)
        assert found.bound <= r_t or not found.feasible
        np.testing.assert_array_equal(curve.level(margin) <= r_t, accepted)


@pytest.mark.parametrize("seed", range(5))
def test_the_selected_candidate_by_a_loop(seed):
    rng = np.random.default_rng(seed)
    margin = np.round(rng.normal(size=(30, 4)) * 3) / 3
    score = np.where(rng.random((30, 4)) < 0.2, -np.inf, np.round(rng.normal(size=(30, 4)), 1))
    p = 1 / (1 + np.exp(3 - 2 * margin))
    label = (rng.random((30, 4)) < p).astype(int)
    rule = Shrinkage(**CONSTANTS)
    curve = ShrinkageCurve(margin, label, p, rule, score=score)

    def chosen(allowed):
        picks = [(row, int(np.argmax(np.where(allowed[row], score[row], -np.inf)))) for row in range(30)]
        return [at for at in picks if allowed[at] and score[at] > -np.inf]

    low = chosen(p <= rule.low_risk)
    rho = rule.upper_ratio(sum(label[at] for at in low), sum(p[at] for at in low))
    assert curve.ratio == pytest.approx(rho)
    for tau in (*np.unique(margin), -np.inf, np.inf):
        picked = chosen(margin < tau)
        n, k, total = len(picked), sum(label[at] for at in picked), sum(p[at] for at in picked)
        assert curve.counts(tau) == (n, k)
        assert curve.bound(tau) == pytest.approx(float(rule.bound(n, k, total, rho)))


def test_thresholds_are_those_of_the_curve_and_never_fall():
    margin, label, p = drawn(0, 5000, False)
    found = ThresholdRule(margin, label, Shrinkage(), probability=p).thresholds([1e-3, 1e-2, 0.1, 1.0])
    curve = ShrinkageCurve(margin, label, p, Shrinkage())
    for one in found:
        assert one.tau == curve.largest_threshold(one.r_t).tau
        assert one.threshold.bound <= one.r_t
    assert all(a.tau <= b.tau for a, b in itertools.pairwise(found))
    assert found[-1].tau == np.inf
    assert 0.0 < found[0].threshold.acceptance < found[2].threshold.acceptance < 1.0


def test_without_an_unsafe_case_it_still_accepts_what_the_model_says():
    margin, _, p = drawn(0, 400, False)
    label = np.zeros(400, int)
    rule = ThresholdRule(margin, label, Shrinkage(), probability=p)
    assert rule.calibrate(0.05).tau > -np.inf
    assert rule.calibrate(0.05).threshold.bound > 0.0
    with pytest.raises(SafeframeError, match="lack a class"):
        ThresholdRule(margin, label, Shrinkage(), probability=p, prior=0.2)


def test_a_prior_moves_the_odds_of_the_bound():
    margin, label, p = drawn(0, 2000, False)
    share = label.mean()
    rule = ThresholdRule(margin, label, Shrinkage(), probability=p)
    for prior in (0.3, (0.1, 0.3)):
        moved = ThresholdRule(margin, label, Shrinkage(), probability=p, prior=prior)
        odds = [float(one.plain.bound(0.5)) for one in (moved, rule)]
        ratio = odds[0] / (1 - odds[0]) / (odds[1] / (1 - odds[1]))
        assert ratio == pytest.approx((0.3 / 0.7) / (share / (1 - share)))
    parts = moved.parts(0.1, 0.5)
    assert parts["few cases"] == pytest.approx(float(rule.plain.bound(0.5)))
    assert parts["seen"] < parts["few cases"] < parts["prior"] == pytest.approx(float(moved.plain.bound(0.5)))


def test_a_scale_fitted_on_other_cases_fits_in():
    margin, label, _ = drawn(0, 4000, False)
    scale = fit_risk_scale("logistic", margin[:2000], label[:2000])
    p = scale.probability(margin[2000:])
    rule = ThresholdRule(margin[2000:], label[2000:], Shrinkage(), probability=p)
    assert 0.2 < rule.calibrate(0.05).threshold.acceptance < 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prior_cases": 0.0}, "prior_cases is 0.0; it must be positive"),
        ({"prior_cases": float("nan")}, "prior_cases"),
        ({"dispersion": 0.5}, "dispersion is 0.5; it must be at least 1"),
        ({"z": -1.0}, "z is -1.0"),
        ({"low_risk": 1.0}, "low_risk is 1.0"),
        ({"ratio": 0.0}, "ratio is 0.0"),
    ],
)
def test_constants_out_of_range(change, message):
    with pytest.raises(SafeframeError, match=message):
        Shrinkage(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probability": None}, "needs the probabilities"),
        ({"probability": np.full(3, 0.1)}, "probability has shape"),
        ({"probability": np.zeros(20)}, "must lie in"),
        ({"probability": np.full(20, np.nan)}, "must lie in"),
        ({"margin": np.full(20, np.inf)}, "finite"),
        ({"label": np.full(20, 2)}, "0 .*and 1"),
        ({"rule": Conservative()}, "no other takes them"),
    ],
)
def test_cases_that_are_none(change, message):
    margin, label, p = drawn(0, 20, False)
    given = {"margin": margin, "label": label, "rule": Shrinkage(), "probability": p} | change
    with pytest.raises(SafeframeError, match=message):
        ThresholdRule(**given)


def test_a_curve_of_nothing_or_of_wrong_shapes():
    one = np.ones(1)
    for bad in ((np.empty(0),) * 3, (one, one, np.ones(2))):
        with pytest.raises(SafeframeError):
            ShrinkageCurve(*bad, Shrinkage())
    with pytest.raises(SafeframeError, match="odds"):
        ShrinkageCurve(one, one, one, Shrinkage(), 0.0)
    with pytest.raises(SafeframeError, match="expected"):
        ShrinkageCurve(np.ones((2, 2)), np.ones((2, 2)), np.ones((2, 2)), Shrinkage(), score=np.ones((2, 3)))
