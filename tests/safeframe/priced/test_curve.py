"""PricedRiskCurve against brute force over all prices in exact arithmetic, and against the worst corner."""

from fractions import Fraction
from itertools import combinations, pairwise, product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from safeframe.priced import envelope
from safeframe.priced.curve import PricedRiskCurve
from safeframe.risk_scale import GivenRisk, LogisticRisk
from safeframe.selected_risk import SelectedRiskCurve
from safeframe.types import SQRT2, SafeframeError

SCALE = GivenRisk(lambda margin: np.clip((margin + 4.0) / 8.0, 0.0, 1.0))
"""Exact for margins in eighths."""
LEVELS = (0.125, 0.25, 0.5, 1.0)


def best(risk, reward, r_t, default, mu):
    """The rule itself, in fractions: the lowest index of the largest worth, None for the default action."""
    found, worth = None, Fraction(default)
    for k, (p, r) in enumerate(zip(risk, reward, strict=True)):
        if r == -np.inf:
            continue
        own = Fraction(float(r)) - mu * (Fraction(float(p)) - Fraction(r_t))
        if own > worth or (own == worth and found is None):
            found, worth = k, own
    return found


def breaks(risk, reward, r_t, default):
    """All prices at which two lines of one measurement meet."""
    found = set()
    for p, r, d in zip(risk, reward, default, strict=True):
        lines = [(Fraction(float(a)), Fraction(float(b))) for a, b in zip(p, r, strict=True) if b > -np.inf]
        lines.append((Fraction(r_t), Fraction(float(d))))
        for (a, x), (b, y) in combinations(lines, 2):
            if a != b and (x - y) / (a - b) > 0:
                found.add((x - y) / (a - b))
    return sorted(found)


def all_prices(risk, reward, r_t, default):
    """0, a price between every two breaks and beyond the last, and breaks that are floats."""
    points = breaks(risk, reward, r_t, default)
    ends = [Fraction(0), *points, (points[-1] if points else 0) + 1]
    between = [(a + b) / 2 for a, b in pairwise(ends)]
    exact = [point for point in points if Fraction(float(point)) == point]
    return [Fraction(float(mu)) for mu in [Fraction(0), *between, *exact, ends[-1]]]


def naive(risk, reward, label, r_t, default, mu):
    chosen = [best(p, r, r_t, d, mu) for p, r, d in zip(risk, reward, default, strict=True)]
    unsafe = sum(int(label[g, k]) for g, k in enumerate(chosen) if k is not None)
    earned = sum(
        float(d if k is None else reward[g, k]) for g, (k, d) in enumerate(zip(chosen, default, strict=True))
    )
    return sum(k is not None for k in chosen), unsafe, earned / len(risk)


@st.composite
def problems(draw, most=6, least_width=1, width=16):
    g, c = draw(st.integers(1, most)), draw(st.integers(least_width, width))
    numbers = lambda low, high, n: np.array(  # noqa: E731
        draw(st.lists(st.integers(low, high), min_size=n, max_size=n))
    )
    margin = numbers(-8, 8, g * c).reshape(g, c) / 2
    reward = numbers(-3, 6, g * c).reshape(g, c) / 2
    label = numbers(0, 1, g * c).reshape(g, c)
    mask = numbers(0, 4, g * c).reshape(g, c) > 0
    default = numbers(-4, 6, g) / 2
    assume((label[mask] == 1).any() and (label[mask] == 0).any())
    return margin, np.where(mask, reward, -np.inf), label, default, draw(st.sampled_from(LEVELS))


@given(problems(least_width=2), st.booleans())
@settings(max_examples=40, deadline=None)
def test_counts_are_brute_force_over_all_prices(problem, gated):
    margin, reward, label, default, r_t = problem
    gate = 1.0 if gated else np.inf
    curve = PricedRiskCurve(margin, reward, label, r_t, SCALE, default, gate)
    allowed = np.where(margin < gate, reward, -np.inf)
    risk = SCALE.probability(margin)
    for mu in all_prices(risk, allowed, r_t, default):
        acted, unsafe, earned = naive(risk, allowed, label, r_t, default, mu)
        assert tuple(int(v) for v in curve.counts(float(mu))) == (acted, unsafe), float(mu)
        assert curve.bound(float(mu)) == (unsafe / acted if acted else 1.0)
        assert curve.mean_reward(float(mu)) == pytest.approx(earned, abs=1e-12)
        index = envelope.chosen(risk, allowed, float(mu), r_t, default)
        wanted = [best(p, r, r_t, d, mu) for p, r, d in zip(risk, allowed, default, strict=True)]
        np.testing.assert_array_equal(index, [risk.shape[1] if k is None else k for k in wanted])
    last = all_prices(risk, allowed, r_t, default)[-1]
    assert curve.counts(np.inf)[0] == curve.counts(float(last))[0]


@given(problems(most=4, width=4), st.sampled_from([0.25, 1.0]), st.booleans())
@settings(max_examples=30, deadline=None)
def test_conservative_bound_is_the_worst_corner(problem, shift, gated):
    margin, reward, label, default, r_t = problem
    gate = 1.0 if gated else np.inf
    curve = PricedRiskCurve(margin, reward, label, r_t, SCALE, default, gate, shift / SQRT2)
    assert SQRT2 * curve.radius == shift, "exact arithmetic"
    moved = np.where(label == 1, margin - shift, margin + shift)
    worst = np.where(moved < gate, reward, -np.inf)
    for mu in all_prices(SCALE.probability(moved), worst, r_t, default):
        acted = unsafe = 0
        for m, r, y, d in zip(margin, reward, label, default, strict=True):
            outcomes = set()
            for corner in product((-shift, 0.0, shift), repeat=len(m)):
                at = m + np.array(corner)
                k = best(SCALE.probability(at), np.where(at < gate, r, -np.inf), r_t, d, mu)
                outcomes.add(None if k is None else int(y[k]))
            unsafe += 1 in outcomes
            acted += 1 in outcomes or None not in outcomes
        assert curve.bound(float(mu)) == (unsafe / acted if acted else 1.0), float(mu)
    plain = PricedRiskCurve(margin, reward, label, r_t, SCALE, default, gate)
    np.testing.assert_array_equal(curve.counts(plain.prices), plain.counts(plain.prices))


@given(problems(), st.sampled_from([0.0, 0.2]), st.booleans(), st.sampled_from([0.1, 0.34, 0.5, 1.0]))
@settings(max_examples=60, deadline=None)
def test_least_price_is_the_least(problem, radius, one_more, limit):
    margin, reward, label, default, r_t = problem
    curve = PricedRiskCurve(margin, reward, label, r_t, SCALE, default, radius=radius, one_more=one_more)
    found = curve.least_price(limit)
    prices = np.unique(
        np.concatenate([curve.prices, np.nextafter(curve.prices, np.inf), curve.prices + 0.01, [np.inf]])
    )
    passing = prices[curve.bound(prices) <= limit]
    assert found.feasible == (len(passing) > 0)
    assert found.mu == (passing.min() if len(passing) else np.inf)
    if found.feasible:
        assert found.bound == curve.bound(found.mu) <= limit
        assert (found.n_acted, found.n_unsafe_acted) == tuple(curve.counts(found.mu))
    assert (np.diff(curve.mean_reward(curve.prices)) <= 1e-12).all()


def random_problem(seed=0, n=400, c=8):
    rng = np.random.default_rng(seed)
    margin = rng.normal(size=(n, c))
    label = (rng.random((n, c)) < 1 / (1 + np.exp(2.0 - 3.0 * margin))).astype(int)
    reward = margin + 0.5 * rng.normal(size=(n, c))
    scale = LogisticRisk.fit(margin.ravel(), label.ravel())
    return margin, reward, label, scale


@pytest.mark.parametrize("r_t", [0.01, 0.1])
def test_counts_on_real_numbers_are_those_of_the_best_worth(r_t):
    margin, reward, label, scale = random_problem()
    curve = PricedRiskCurve(margin, reward, label, r_t, scale, 0.3)
    risk = scale.probability(margin)
    for mu in np.geomspace(1e-4, 1e6, 200):
        worth = np.column_stack([reward - mu * (risk - r_t), np.full(len(risk), 0.3)])
        index = worth.argmax(axis=1)
        acted = index < 8
        unsafe = label[acted, index[acted]].sum()
        assert tuple(curve.counts(mu)) == (acted.sum(), unsafe)
        np.testing.assert_array_equal(envelope.chosen(risk, reward, mu, r_t, 0.3), index)


def test_acting_at_any_price_of_the_curve_is_what_it_counted():
    margin, reward, label, scale = random_problem(1, 100, 16)
    curve = PricedRiskCurve(margin, reward, label, 0.05, scale, 0.1)
    risk = scale.probability(margin)
    for mu in [*curve.prices[:: len(curve.prices) // 150], np.inf]:
        index = envelope.chosen(risk, reward, mu, 0.05, 0.1)
        acted = index < 16
        assert tuple(curve.counts(mu)) == (acted.sum(), label[acted, index[acted]].sum())
        one = [int(envelope.chosen(risk[[g]], reward[[g]], mu, 0.05, 0.1)[0]) for g in range(0, 100, 9)]
        np.testing.assert_array_equal(one, index[::9])


def test_the_two_pure_rules():
    """At price 0 the rule is the gate alone; without a gate it is the price alone."""
    margin, reward, label, scale = random_problem(2)
    gates = SelectedRiskCurve(margin, reward, label)
    for gate in (-1.0, 0.0, 0.7):
        curve = PricedRiskCurve(margin, reward, label, 0.1, scale, -1e6, gate)
        assert tuple(curve.counts(0.0)) == tuple(gates.counts(gate))


def test_bound_with_slack_one_more_and_odds():
    margin, reward, label, scale = random_problem(3)
    plain = PricedRiskCurve(margin, reward, label, 0.1, scale)
    added = PricedRiskCurve(margin, reward, label, 0.1, scale, slack=0.02, one_more=True, odds=2.0)
    acted, unsafe = plain.counts(plain.prices)
    bad = 2.0 * (unsafe + 1)
    np.testing.assert_allclose(added.bound(plain.prices), bad / (bad + acted - unsafe) + 0.02)


def test_nothing_qualifies_and_nobody_acts():
    margin, label = np.array([[0.5, 0.5]]), np.array([[1, 0]])
    curve = PricedRiskCurve(margin, np.zeros((1, 2)), label, 0.25, default_reward=0.0)
    found = curve.least_price()
    assert (found.mu, found.feasible, found.bound, found.n_acted) == (np.inf, False, 1.0, 0)
    assert curve.bound(np.inf) == 1.0, "p is above r_t, so at a high price the default action is taken"
    assert curve.counts(0.0)[0] == 1, "at price 0 a candidate as good as the default action is taken"


def test_fixed_sequence_is_that_of_its_counts():
    margin, reward, label, scale = random_problem(4, 4000)
    curve = PricedRiskCurve(margin, reward, label, 0.1, scale)
    prices = np.geomspace(1e3, 1e-2, 30)
    found = curve.fixed_sequence(prices, 0.05)
    assert found.index is not None
    assert found.tau == -prices[found.index]
    from scipy import stats

    acted, unsafe = curve.counts(prices)
    passed = stats.binom.cdf(unsafe, acted, 0.1) <= 0.05
    assert passed[: found.index + 1].all()
    assert found.index + 1 == len(prices) or not passed[found.index + 1]
    assert curve.fixed_sequence(prices, 0.05, 1e-6).index is None


def test_bad_input_is_refused():
    margin, reward, label = np.full((2, 2), 0.5), np.zeros((2, 2)), np.array([[0, 1], [1, 0]])
    bad = [
        ((margin[0], reward, label, 0.1), {}, "expected"),
        ((np.full((2, 2), np.nan), reward, label, 0.1), {}, "finite"),
        ((margin, np.full((2, 2), np.inf), label, 0.1), {}, "finite"),
        ((margin, reward, label + 1, 0.1), {}, "0 .safe."),
        ((margin, reward, np.zeros((2, 2), int), 0.1), {}, "no unsafe"),
        ((margin, reward, np.ones((2, 2), int), 0.1), {}, "no safe"),
        ((margin, reward, label, 0.0), {}, "0.0"),
        ((margin * 5, reward, label, 0.1), {}, r"\[0, 1\]"),
        ((margin, reward, label, 0.1), {"radius": 0.1}, "scale"),
        ((margin, reward, label, 0.1, SCALE), {"radius": -1.0}, "radius"),
        ((margin, reward, label, 0.1), {"default_reward": np.nan}, "default_reward"),
        ((margin, reward, label, 0.1), {"default_reward": np.zeros(3)}, "default_reward"),
        ((margin, reward, label, 0.1), {"gate": np.nan}, "gate"),
        ((margin, reward, label, 0.1), {"mask": np.ones(2, bool)}, "mask"),
        ((margin, reward, label, 0.1), {"odds": 0.0}, "odds"),
    ]
    for arguments, keywords, message in bad:
        with pytest.raises(SafeframeError, match=message):
            PricedRiskCurve(*arguments, **keywords)
    curve = PricedRiskCurve(margin, reward, label, 0.1)
    for mu, message in ((-1.0, "negative"), (np.nan, "NaN")):
        with pytest.raises(SafeframeError, match=message):
            curve.bound(mu)
