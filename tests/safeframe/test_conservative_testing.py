"""Indicators against brute force and an independent solver; bounds against hand-counted cases."""

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from safeframe.conservative_testing import (
    LikelihoodBounds,
    check_logits,
    distance_to_class,
    indicator_minus,
    indicator_plus,
    likelihood_bounds,
    posterior_bound,
)
from safeframe.margins import margin_of
from safeframe.types import SafeframeError

CLASSES = [2, 3, 4, 5, 6]


def nearest_point(phi, j, solver="CLARABEL") -> np.ndarray:
    """Independent: the nearest point of {x_j >= x_k for all k}, as a quadratic program."""
    x = cp.Variable(len(phi))
    cp.Problem(cp.Minimize(cp.sum_squares(x - phi)), [x[j] >= x[k] for k in range(len(phi)) if k != j]).solve(
        solver
    )
    assert x.value is not None
    return x.value


@pytest.mark.parametrize("m", CLASSES)
def test_distance_agrees_with_a_quadratic_program(m):
    rng = np.random.default_rng(m)
    logits = rng.normal(scale=2.0, size=(12, m))
    logits[0] = 1.0  # all tied
    logits[1, :2] = logits[1].max() + 0.5  # two tied at the top
    found = distance_to_class(logits)
    for phi, row in zip(logits, found, strict=True):
        wanted = [np.linalg.norm(nearest_point(phi, j) - phi) for j in range(m)]
        np.testing.assert_allclose(row, wanted, atol=2e-4)


@pytest.mark.parametrize("m", CLASSES)
def test_indicators_agree_with_a_search_over_the_ball(m):
    """Sampled and projected points of the ball can only confirm what the closed forms say, on either side."""
    rng = np.random.default_rng(10 + m)
    radius = 0.7
    undecided = 0
    for phi in rng.normal(size=(40, m)):
        plus, minus = indicator_plus(phi, radius), indicator_minus(phi, radius)
        direction = rng.normal(size=(4000, m))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        ball = phi + radius * direction * rng.random((4000, 1)) ** (1 / m)
        # The points a projected gradient ends in: from phi towards e_j - e_k for every pair, and
        # towards e_j - mean, all the way to the sphere.
        pairs = np.array([np.eye(m)[j] - np.eye(m)[k] for j in range(m) for k in range(m) if j != k])
        lift = m * np.eye(m) - 1.0
        extremes = np.concatenate([pairs, lift])
        ball = np.concatenate(
            [ball, phi + radius * extremes / np.linalg.norm(extremes, axis=1, keepdims=True)]
        )
        reached = np.bincount(ball.argmax(axis=1), minlength=m) > 0
        only = np.array([(ball.argmax(axis=1) == j).all() for j in range(m)])
        assert not (reached & ~plus).any(), "a point of the ball has argmax j, but plus denies it"
        assert not (minus & ~only).any(), "a point of the ball has another argmax, not so for minus"
        # Pairwise extremes are the exact worst case of minus; plus needs the projection of three logits.
        np.testing.assert_array_equal(minus, only)
        for j in np.flatnonzero(plus & ~reached):
            point = nearest_point(phi, j)
            assert np.linalg.norm(point - phi) <= radius + 1e-4
            assert point[j] >= point.max() - 1e-4
            undecided += 1
    assert undecided < 40, "the search is too weak to say anything"


@given(arrays(np.float64, (5, 4), elements=st.integers(-3, 3).map(float)), st.floats(0, 3), st.floats(0, 3))
@settings(max_examples=200, deadline=None)
def test_indicators_grow_and_shrink_with_the_radius(logits, r1, r2):
    small, large = sorted((r1, r2))
    assert (indicator_plus(logits, small) <= indicator_plus(logits, large)).all()
    assert (indicator_minus(logits, large) <= indicator_minus(logits, small)).all()
    assert (indicator_minus(logits, small) <= indicator_plus(logits, small)).all()
    top = logits.argmax(axis=1)
    assert indicator_plus(logits, small)[np.arange(5), top].all()
    assert indicator_minus(logits, small).sum(axis=1).max() <= 1


def test_radius_zero_is_the_plain_argmax_without_ties():
    logits = np.random.default_rng(0).normal(size=(500, 5))
    one_hot = np.eye(5, dtype=bool)[logits.argmax(axis=1)]
    np.testing.assert_array_equal(indicator_plus(logits, 0.0), one_hot)
    np.testing.assert_array_equal(indicator_minus(logits, 0.0), one_hot)


def test_two_classes_reduce_to_the_margin_against_sqrt_two_radius():
    logits = np.random.default_rng(1).normal(size=(2000, 2))
    m, s = margin_of(logits), np.sqrt(2) * 0.4
    np.testing.assert_array_equal(indicator_plus(logits, 0.4), np.stack([m <= s, m >= -s], axis=1))
    np.testing.assert_array_equal(indicator_minus(logits, 0.4), np.stack([m < -s, m > s], axis=1))
    np.testing.assert_allclose(distance_to_class(logits).max(axis=1), np.abs(m) / np.sqrt(2))


def test_shapes_chunks_and_single_precision():
    logits = np.random.default_rng(2).normal(size=(3, 20_000, 3))
    one_by_one = np.stack([distance_to_class(logits[:, i]) for i in (0, 16_383, 16_384, 19_999)], axis=1)
    np.testing.assert_array_equal(distance_to_class(logits)[:, [0, 16_383, 16_384, 19_999]], one_by_one)
    single = distance_to_class(logits.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, distance_to_class(logits), atol=1e-5)
    assert indicator_plus(logits[0, 0], 0.1).shape == (3,)


def test_a_class_at_the_radius_can_be_reached_and_not_be_sure():
    logits = np.array([[0.0, 2.0, -9.0], [2.0, 0.0, -9.0]])  # (1, 1) is at a distance of sqrt(2)
    radius = float(np.sqrt(2.0))
    np.testing.assert_array_equal(indicator_plus(logits, radius), [[True, True, False]] * 2)
    assert not indicator_minus(logits, radius).any()
    below = np.nextafter(radius, 0.0)
    np.testing.assert_array_equal(indicator_plus(logits, below), [[False, True, False], [True, False, False]])


def test_large_logits_keep_their_differences():
    logits = np.array([2.0**23 + 1, 2.0**23, 2.0**23 - 1], dtype=np.float32)
    wanted = distance_to_class(np.array([1.0, 0.0, -1.0]))
    np.testing.assert_allclose(distance_to_class(logits), wanted, rtol=1e-6)


def test_likelihood_bounds_hand_counted():
    # Margins -2, -0.1, 0.3 (safe) and -0.2, 1, 2, 3 (unsafe); sqrt(2) xi = 0.25.
    margin = np.array([-2.0, -0.1, 0.3, -0.2, 1.0, 2.0, 3.0])
    label = np.array([0, 0, 0, 1, 1, 1, 1])
    found = likelihood_bounds(np.stack([0 * margin, margin], axis=1), label, 0.25 / np.sqrt(2))
    np.testing.assert_array_equal(found.count, [3, 4])
    np.testing.assert_allclose(found.lower, [[1 / 3, 1 / 3], [0.0, 3 / 4]])
    np.testing.assert_allclose(found.upper, [[2 / 3, 2 / 3], [1 / 4, 1.0]])
    # Output 0 ("safe"), state 1: x = .25 * .5; others: lower(0 | 0) * .5.
    tight = posterior_bound(found, [0.5, 0.5])
    paper = posterior_bound(found, [0.5, 0.5], form="paper")
    assert tight[1, 0] == pytest.approx(0.25 / (0.25 + 1 / 3))
    assert paper[1, 0] == pytest.approx(0.25 / (1 / 3 + 0.0))
    np.testing.assert_allclose(posterior_bound(found, 0.5), tight)


def test_likelihood_bounds_are_means_of_the_indicators_over_several_chunks():
    rng = np.random.default_rng(3)
    logits, label = rng.normal(size=(40_001, 4)), rng.integers(0, 3, 40_001)
    found = likelihood_bounds(logits, label, 0.3, n_classes=3)
    plus, minus = indicator_plus(logits, 0.3), indicator_minus(logits, 0.3)
    for i in range(3):
        np.testing.assert_allclose(found.upper[i], plus[label == i].mean(axis=0))
        np.testing.assert_allclose(found.lower[i], minus[label == i].mean(axis=0))


@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(2, 5))
@settings(max_examples=200, deadline=None)
def test_tight_is_valid_and_never_larger_than_paper(seed, s, m):
    """Any likelihood between the bounds has its posterior below both bounds."""
    rng = np.random.default_rng(seed)
    ends = np.sort(rng.random((2, s, m)) ** 2, axis=0)
    bounds = LikelihoodBounds(ends[0], ends[1], np.ones(s, int))
    prior = rng.dirichlet(np.ones(s))
    tight, paper = posterior_bound(bounds, prior), posterior_bound(bounds, prior, form="paper")
    likelihood = ends[0] + (ends[1] - ends[0]) * rng.random((s, m))
    joint = likelihood * prior[:, None]
    posterior = joint / joint.sum(axis=0)
    assert (posterior <= tight + 1e-12).all()
    assert (tight <= paper + 1e-12).all()
    assert (tight <= 1.0 + 1e-12).all()


def test_paper_bound_can_exceed_one_and_empty_evidence_gives_one():
    exceeding = LikelihoodBounds(np.array([[0.1], [0.0]]), np.array([[0.2], [0.9]]), np.array([9, 9]))
    assert posterior_bound(exceeding, 0.5, form="paper")[1, 0] == pytest.approx(9.0)
    assert posterior_bound(exceeding, 0.5)[1, 0] == pytest.approx(0.9)
    certain = LikelihoodBounds(np.zeros((2, 1)), np.array([[0.0], [0.9]]), np.array([9, 9]))
    assert posterior_bound(certain, 0.5, form="paper")[1, 0] == np.inf
    assert posterior_bound(certain, 0.5)[1, 0] == 1.0
    nothing = LikelihoodBounds(np.zeros((2, 1)), np.zeros((2, 1)), np.array([9, 9]))
    for form in ("tight", "paper"):
        np.testing.assert_array_equal(posterior_bound(nothing, 0.5, form=form), [[1.0], [1.0]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: likelihood_bounds(np.zeros((3, 2)), np.zeros(3, int), 0.0),
            r"no internal test case of class \[1\]",
        ),
        (lambda: likelihood_bounds(np.zeros((3, 2)), np.array([0, 1, 2]), 0.0), "integers in 0..1"),
        (lambda: likelihood_bounds(np.zeros((3, 2)), np.array([0.0, 1.0, 1.0]), 0.0), "integers"),
        (lambda: likelihood_bounds(np.zeros((3, 2)), np.zeros(2, int), 0.0), "expected"),
        (lambda: indicator_plus(np.array([0.0, np.nan]), 0.1), "NaN"),
        (lambda: indicator_plus(np.array([0.0, np.inf]), 0.1), "infinite"),
        (lambda: indicator_plus(np.array([[0.0, np.nan], [np.inf, 0.0]]), 0.1), "logits has 2 NaN"),
        (lambda: indicator_plus(np.zeros((3, 1)), 0.1), "m >= 2"),
        (lambda: indicator_minus(np.zeros(2), -0.1), "radius"),
        (lambda: indicator_minus(np.zeros(2), np.nan), "radius"),
        (
            lambda: posterior_bound(
                LikelihoodBounds(np.ones((2, 2)), np.ones((2, 2)), np.ones(2)), 0.5, "loose"
            ),
            "form",
        ),
        (
            lambda: posterior_bound(LikelihoodBounds(np.ones((2, 2)), np.ones((2, 2)), np.ones(2)), 1.5),
            "prior",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(SafeframeError, match=message):
        call()


def test_the_class_without_cases_is_named():
    with pytest.raises(SafeframeError, match=r"no internal test case of class \[1\]"):
        likelihood_bounds(np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 3.0]]), np.array([0, 2]), 0.1)


def test_logits_keep_their_kind_of_number():
    assert check_logits(np.zeros((2, 2), np.float32)).dtype == np.float32
    assert check_logits(np.zeros((2, 2), int)).dtype == np.float64


def test_a_common_offset_of_the_logits_changes_nothing():
    logits = np.random.default_rng(3).normal(size=(50, 4))
    for offset in (1e3, -1e3):
        np.testing.assert_allclose(distance_to_class(logits + offset), distance_to_class(logits), atol=1e-9)
        assert (indicator_plus(logits + offset, 0.3) == indicator_plus(logits, 0.3)).all()
