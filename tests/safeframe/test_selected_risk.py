"""SelectedRiskCurve against the naive loop, and against the worst corner of the ball."""

from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from safeframe.certificates.cases import certify_counts
from safeframe.selected_risk import SelectedRiskCurve, ranked_within, sweep
from safeframe.types import SQRT2, SafeframeError


def select(margin, score, tau):
    """The rule itself: highest score among margin < tau, lowest index among equals; None if there is none."""
    best = None
    for k in range(len(margin)):
        if margin[k] < tau and score[k] > -np.inf and (best is None or score[k] > score[best]):
            best = k
    return best


def naive(margin, score, label, tau):
    chosen = [select(m, s, tau) for m, s in zip(margin, score, strict=True)]
    labels = [label[g, k] for g, k in enumerate(chosen) if k is not None]
    return len(labels), int(sum(labels))


def worst_case(margin, score, label, tau, radius):
    """Brute force over corners of every group's balls; the ratio is greatest with each group at its worst."""
    shift = SQRT2 * radius
    selected = unsafe = 0
    for m, s, y in zip(margin, score, label, strict=True):
        outcomes = set()
        for corner in product((-shift, 0.0, shift), repeat=len(m)):
            k = select(m + np.array(corner), s, tau)
            outcomes.add(None if k is None else int(y[k]))
        unsafe += 1 in outcomes
        selected += 1 in outcomes or None not in outcomes
    return selected, unsafe


@st.composite
def groups(draw, most=8, width=4):
    g, c = draw(st.integers(1, most)), draw(st.integers(1, width))
    numbers = lambda low, high: draw(st.lists(st.integers(low, high), min_size=g * c, max_size=g * c))  # noqa: E731
    margin = np.array(numbers(-3, 3), float).reshape(g, c) / 2
    score = np.array(numbers(-2, 2), float).reshape(g, c)
    label = np.array(numbers(0, 1)).reshape(g, c)
    mask = np.array(numbers(0, 4)).reshape(g, c) > 0
    assume((label[mask] == 1).any() and (label[mask] == 0).any())
    return margin, score, label, mask


def all_taus(margin, radius):
    shift = SQRT2 * radius
    points = np.concatenate([margin.ravel(), margin.ravel() - shift, margin.ravel() + shift])
    return np.unique(np.concatenate([points, np.nextafter(points, np.inf), [-np.inf, np.inf]]))


@given(groups(), st.sampled_from([0.0, 0.3, 1.0]))
@settings(max_examples=200, deadline=None)
def test_counts_are_the_naive_loop(problem, radius):
    margin, score, label, mask = problem
    curve = SelectedRiskCurve(margin, score, label, radius, mask)
    masked = np.where(mask, score, -np.inf)
    for tau in all_taus(margin, 0.0):
        wanted = naive(margin, masked, label, tau)
        assert tuple(int(v) for v in curve.counts(tau)) == wanted
        assert curve.selection_rate(tau) == wanted[0] / len(margin)
        if radius == 0.0:
            assert curve.bound(tau) == (wanted[1] / wanted[0] if wanted[0] else 1.0)


@given(groups(most=5, width=4), st.sampled_from([0.3, 0.5 / SQRT2]))
@settings(max_examples=60, deadline=None)
def test_conservative_bound_is_the_worst_corner(problem, radius):
    margin, score, label, mask = problem
    curve = SelectedRiskCurve(margin, score, label, radius, mask)
    for tau in all_taus(margin, radius)[::2]:
        selected, unsafe = worst_case(margin, np.where(mask, score, -np.inf), label, tau, radius)
        assert curve.bound(tau) == (unsafe / selected if selected else 1.0)


@given(groups(), st.sampled_from([0.0, 0.3]), st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 1.0]))
@settings(max_examples=200, deadline=None)
def test_largest_threshold_is_the_largest(problem, radius, r_t):
    margin, score, label, mask = problem
    curve = SelectedRiskCurve(margin, score, label, radius, mask)
    found = curve.largest_threshold(r_t)
    taus = all_taus(margin, radius)
    passing = taus[curve.bound(taus) <= r_t]
    assert found.tau == (passing.max() if len(passing) else -np.inf)
    assert found.feasible == (len(passing) > 0)
    np.testing.assert_array_equal(curve.level(margin) <= r_t, margin < found.tau)


def test_selection_differs_from_acceptance_and_the_curve_is_not_monotone():
    margin = np.array([[0.0, 1.0, 2.0]])
    curve = SelectedRiskCurve(margin, np.array([[0.0, 1.0, 2.0]]), np.array([[0, 1, 0]]))
    np.testing.assert_array_equal(curve.bound([0.0, 0.5, 1.5, 2.5]), [1.0, 0.0, 1.0, 0.0])


def test_bad_input_is_refused():
    margin, score, label = np.zeros((2, 2)), np.zeros((2, 2)), np.array([[0, 1], [1, 0]])
    bad = [
        ((margin[0], score, label), "expected"),
        ((np.full((2, 2), np.nan), score, label), "finite"),
        ((margin, np.full((2, 2), np.inf), label), "finite"),
        ((margin, score, label + 1), "0 .safe."),
        ((margin, score, np.zeros((2, 2), int)), "no unsafe"),
        ((margin, score, np.ones((2, 2), int)), "no safe"),
        ((margin, score, label, -1.0), "radius"),
        ((margin, score, label, 0.0, np.ones(2, bool)), "mask"),
    ]
    for arguments, message in bad:
        with pytest.raises(SafeframeError, match=message):
            SelectedRiskCurve(*arguments)


def test_the_fixed_sequence_is_that_of_the_groups_counts():
    rng = np.random.default_rng(0)
    margin, score = rng.normal(size=(300, 3)), rng.normal(size=(300, 3))
    label = (margin + 0.5 * rng.normal(size=(300, 3)) > 1.5).astype(int)
    curve, taus = SelectedRiskCurve(margin, score, label, radius=0.3), [-0.5, 0.0, 0.5, 1.0, 1.5]
    counts = np.array([naive(margin, score, label, tau) for tau in taus]).T
    found = curve.fixed_sequence(taus, 0.1, 0.05)
    wanted = certify_counts(*counts, np.array(taus), 0.1, 0.05, event="P(unsafe | selected)")
    assert found == wanted
    assert found.index is not None
    assert found.certificate.event == "P(unsafe | selected)"


def test_counts_keep_the_shape_of_the_question_and_their_kind():
    margin, label = np.array([[0.0, 2.0], [1.0, 3.0]]), np.array([[0, 1], [1, 0]])
    curve = SelectedRiskCurve(margin, np.zeros((2, 2)), label)
    n, k = curve.counts([[0.5, 1.5], [9.0, -1.0]])
    assert n.tolist() == [[1, 2], [2, 0]]
    assert k.tolist() == [[0, 1], [1, 0]]
    assert n.dtype.kind == k.dtype.kind == "i"
    assert curve.bound([[0.5, 1.5]]).shape == curve.acceptance([[0.5, 1.5]]).shape == (1, 2)
    assert curve.acceptance(1.5) == curve.selection_rate(1.5) == 1.0


def test_what_is_found_at_a_threshold_is_said_in_full():
    margin, label = np.array([[0.0], [1.0], [2.0]]), np.array([[0], [1], [0]])
    curve = SelectedRiskCurve(margin, np.zeros((3, 1)), label)
    found = curve.largest_threshold(0.4)  # 1 of 3
    assert (found.tau, found.bound, found.acceptance, found.feasible) == (
        np.inf,
        pytest.approx(1 / 3),
        1.0,
        True,
    )
    assert (found.n_accepted, found.n_unsafe_accepted, found.cases_needed, found.r_t) == (3, 1, 6, 0.4)
    strict = curve.largest_threshold(0.3)
    assert (strict.tau, strict.bound, strict.n_accepted, strict.n_unsafe_accepted) == (1.0, 0.0, 1, 0)
    unsafe_first = SelectedRiskCurve(margin, np.zeros((3, 1)), np.array([[1], [0], [0]]))
    none = unsafe_first.largest_threshold(0.1)
    assert (none.tau, none.bound, none.feasible, none.n_accepted) == (-np.inf, 1.0, False, 0)
    more = SelectedRiskCurve(margin, np.zeros((3, 1)), label, one_more=True, slack=0.125)
    assert float(more.bound(np.inf)) == 2 / 4 + 0.125
    assert more.largest_threshold(0.1).bound == 1.125  # nothing is selected, and the slack is said


@pytest.mark.parametrize(("slack", "odds"), [(1.0, 1.0), (-0.1, 1.0), (0.0, np.inf), (0.0, 0.0), (0.0, -1.0)])
def test_corrections_outside_their_range(slack, odds):
    with pytest.raises(SafeframeError, match=r"slack .* must lie in .* and odds"):
        SelectedRiskCurve(np.zeros((2, 1)), np.zeros((2, 1)), np.array([[0], [1]]), slack=slack, odds=odds)


def test_odds_beyond_all_numbers_make_the_bound_one():
    label = np.array([[1]] * 9 + [[0]])
    curve = SelectedRiskCurve(np.zeros((10, 1)), np.zeros((10, 1)), label, odds=1e308)
    assert float(curve.bound(1.0)) == 1.0


def test_of_equals_the_first_is_selected_among_many():
    margin = np.zeros((2, 60))
    label = np.ones((2, 60), int)
    label[0, 0] = label[1, 3] = 0
    margin[1, :3] = 1.0  # above the threshold, so that the fourth is the first
    curve = SelectedRiskCurve(margin, np.full((2, 60), 0.5), label)
    assert [int(x) for x in curve.counts(0.5)] == [2, 0]
    assert [int(x) for x in curve.counts(9.0)] == [2, 1]


@given(groups())
@settings(max_examples=50, deadline=None)
def test_a_sweep_adds_up_numbers_of_what_is_selected(problem):
    margin, score, label, mask = problem
    chance = (margin + 4.0) / 8.0 + 0.3 * label
    found = sweep(np.where(mask, margin, np.inf), ranked_within(score, mask), chance, label == 1)
    masked = np.where(mask, score, -np.inf)
    for tau in all_taus(margin, 0.0):
        chosen = [select(m, s, tau) for m, s in zip(margin, masked, strict=True)]
        n, total, unsafe = found.at(np.array([tau]))
        assert n.tolist() == [sum(k is not None for k in chosen)]
        assert total[0] == pytest.approx(sum(chance[g, k] for g, k in enumerate(chosen) if k is not None))
        assert unsafe.tolist() == [sum(int(label[g, k]) for g, k in enumerate(chosen) if k is not None)]
    assert [one.dtype.kind for one in (found.selected, *found.sums)] == ["i", "f", "i"]
