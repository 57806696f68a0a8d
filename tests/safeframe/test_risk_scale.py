"""Risk scales against scikit-learn, known answers and hard data."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from safeframe.risk_scale import GivenRisk, IsotonicRisk, LogisticRisk, RiskScale, fit_risk_scale
from safeframe.types import SafeframeError


def cases(n=2000, k=None, seed=0, slope=2.0, base=-3.0):
    rng = np.random.default_rng(seed)
    score = rng.normal(5.0, 40.0, n) if k is None else rng.normal(5.0, 40.0, (n, k))
    first = score if k is None else score.mean(axis=1)
    logit = base + slope * (first - 5.0) / 40.0
    return score, (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(int)


@pytest.mark.parametrize("k", [None, 1, 3])
@pytest.mark.parametrize("ridge", [1e-3, 1.0, 100.0])
def test_logistic_is_scikit_learns(k, ridge):
    score, label = cases(k=k)
    table = score.reshape(len(score), -1)
    weight = np.random.default_rng(1).random(len(label)) + 0.1
    for given_weight in (None, weight):
        ours = LogisticRisk.fit(score, label, given_weight, ridge)
        w = np.ones(len(label)) if given_weight is None else given_weight
        scaler = StandardScaler().fit(table, sample_weight=w)
        theirs = LogisticRegression(C=1 / ridge, tol=1e-12, max_iter=1000)
        theirs.fit(scaler.transform(table), label, sample_weight=w)
        assert (theirs.coef_ > 0).all(), "the constraint is idle here"
        expected = theirs.predict_proba(scaler.transform(table))[:, 1]
        np.testing.assert_allclose(ours.probability(score), expected, rtol=1e-5)


def test_slopes_of_any_sign_are_scikit_learns_and_monotone_ones_are_not_negative():
    rng = np.random.default_rng(2)
    score = rng.normal(size=(3000, 2))
    label = (rng.random(3000) < 1 / (1 + np.exp(2.0 - 1.5 * score[:, 0] + 1.0 * score[:, 1]))).astype(int)
    free = LogisticRisk.fit(score, label, monotone=False)
    theirs = LogisticRegression(C=100.0, tol=1e-12, max_iter=1000).fit(
        StandardScaler().fit_transform(score), label
    )
    np.testing.assert_allclose(free.slope, theirs.coef_[0], rtol=1e-5)
    held = LogisticRisk.fit(score, label)
    assert held.slope[1] == 0.0
    alone = LogisticRisk.fit(score[:, :1], label)
    np.testing.assert_allclose(held.slope[0], alone.slope[0], rtol=1e-8)


def test_a_score_that_points_the_wrong_way_gives_the_share_of_unsafe_cases():
    score, label = cases()
    scale = LogisticRisk.fit(-score, label)
    assert scale.slope[0] == 0.0
    np.testing.assert_allclose(scale.probability([-1e9, 0.0, np.inf]), label.mean(), rtol=1e-9)


def test_known_answer_two_values():
    """With one score of two values the fit is saturated: the share of unsafe cases at each of them."""
    score = np.repeat([0.0, 1.0], [1000, 500])
    label = np.concatenate([np.arange(1000) < 20, np.arange(500) < 100]).astype(int)
    scale = LogisticRisk.fit(score, label, ridge=1e-9)
    np.testing.assert_allclose(scale.probability([0.0, 1.0]), [0.02, 0.2], rtol=1e-6)
    twice = LogisticRisk.fit(score, label, np.full(1500, 2.0), ridge=2e-9)
    np.testing.assert_allclose(twice.probability([0.0, 1.0]), [0.02, 0.2], rtol=1e-6)
    isotonic = IsotonicRisk.fit(score, label)
    np.testing.assert_allclose(isotonic.probability([-5.0, 0.0, 1.0, 9.0]), [21 / 1001] * 2 + [0.2] * 2)


@pytest.mark.parametrize("scale", [LogisticRisk, IsotonicRisk])
def test_separated_classes_and_rare_ones(scale):
    score = np.arange(1000.0)
    for n_unsafe in (1, 500, 999):
        found = scale.fit(score, (score >= 1000 - n_unsafe).astype(int)).probability(score)
        assert np.isfinite(found).all()
        assert (found > 0.0).all()
        assert (found <= 1.0).all()
        assert (np.diff(found) >= 0.0).all()
        assert found[-1] > found[0]


@pytest.mark.parametrize("scale", [LogisticRisk, IsotonicRisk])
def test_a_constant_score(scale):
    found = scale.fit(np.full(9, 3.0), np.arange(9) < 3)
    np.testing.assert_allclose(found.probability([2.0, 3.0]), 1 / 3 if scale is LogisticRisk else 0.4)


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30))
@settings(max_examples=150, deadline=None)
def test_scales_are_monotone_and_never_zero(drawn):
    score, label = np.array([s for s, _ in drawn], float), np.array([y for _, y in drawn], int)
    if label.min() == label.max():
        return
    grid = np.concatenate([[-np.inf], np.linspace(-5, 5, 41), [np.inf]])
    for scale in (LogisticRisk.fit(score, label), IsotonicRisk.fit(score, label)):
        assert isinstance(scale, RiskScale)
        risk = scale.probability(grid)
        assert (np.diff(risk) >= 0.0).all()
        assert (risk > 0.0).all()
        assert (risk <= 1.0).all()
    fit = IsotonicRegression(out_of_bounds="clip")
    fit.fit(np.append(score.min(), score), np.append(1, label))
    np.testing.assert_allclose(scale.probability(grid[1:-1]), fit.predict(grid[1:-1]))


def test_large_scores_and_shifts_change_nothing():
    score, label = cases()
    for moved in (score * 1e-6, score * 1e9 + 1e12, (score - 7.0) / 3.0):
        np.testing.assert_allclose(
            LogisticRisk.fit(moved, label).probability(moved),
            LogisticRisk.fit(score, label).probability(score),
            rtol=1e-4,
        )


def test_shapes_are_kept():
    score, label = cases(k=3)
    assert LogisticRisk.fit(score, label).probability(score.reshape(100, 20, 3)).shape == (100, 20)
    for scale in (LogisticRisk.fit(score[:, 0], label), IsotonicRisk.fit(score[:, 0], label)):
        assert scale.probability(score).shape == score.shape
        assert scale.probability(1.0).shape == ()


def test_kinds():
    score, label = cases()
    assert isinstance(fit_risk_scale("logistic", score, label), LogisticRisk)
    assert isinstance(fit_risk_scale("isotonic", score, label), IsotonicRisk)
    ready = LogisticRisk.fit(score, label)
    assert fit_risk_scale(ready, score, label) is ready
    own = fit_risk_scale(lambda s: 1 / (1 + np.exp(-s)), score, label)
    assert isinstance(own, GivenRisk)
    assert own.probability(0.0) == 0.5


def test_bad_input_is_refused():
    score, label = cases(50)
    nan = np.where(np.arange(50) == 7, np.nan, score)
    bad = [
        ((nan, label), "1 NaN"),
        ((np.where(np.arange(50) == 7, np.inf, score), label), "infinite"),
        ((score, np.zeros(50, int)), "no unsafe"),
        ((score, np.ones(50, int)), "no safe"),
        ((score, label, np.where(label == 1, 0.0, 1.0)), "no unsafe"),
        ((score, label + 1), "0 .safe."),
        ((score[:-1], label), "expected"),
        ((score.reshape(5, 5, 2), label[:5]), "expected"),
        ((score, label, np.full(50, -1.0)), "weight"),
        ((score, label, np.ones(3)), "weight"),
    ]
    for arguments, message in bad:
        for kind in (LogisticRisk, IsotonicRisk):
            with pytest.raises(SafeframeError, match=message):
                kind.fit(*arguments)
    with pytest.raises(SafeframeError, match="one score a case"):
        IsotonicRisk.fit(np.stack([score, score], 1), label)
    with pytest.raises(SafeframeError, match="ridge"):
        LogisticRisk.fit(score, label, ridge=0.0)
    with pytest.raises(SafeframeError, match="NaN"):
        LogisticRisk.fit(score, label).probability(nan)
    with pytest.raises(SafeframeError, match=r"expected \(..., 2\)"):
        LogisticRisk.fit(np.stack([score, score], 1), label).probability(score)
    for function, message in [
        (lambda s: -s, "outside"),
        (lambda s: s * np.nan, "outside"),
        (lambda s: np.zeros(3), "shape"),
        (lambda s: 1 / (1 + np.exp(s / 40)), "falls"),
    ]:
        with pytest.raises(SafeframeError, match=message):
            fit_risk_scale(function, score, label)
    with pytest.raises(SafeframeError, match="logistic"):
        fit_risk_scale("probit", score, label)


def test_without_scikit_learn_the_error_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.isotonic", None)
    with pytest.raises(SafeframeError, match="pip install scikit-learn"):
        IsotonicRisk.fit(*cases())
