"""RiskCurve against the naive loop over cases, with ties; its inverse is really the largest tau."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from safeframe.conservative_testing import likelihood_bounds, posterior_bound
from safeframe.risk_curve import GroupedRiskCurve, RiskCurve, margin_of
from safeframe.types import SQRT2, SafeframeError


def naive_bound(margin, label, tau, prior, radius, form, slack=0.0):
    """Section by section as in the paper: a loop over the cases, then Bayes."""
    upper = [0, 0]
    lower = [0, 0]
    count = [0, 0]
    shift = SQRT2 * radius
    for m, s in zip(margin, label, strict=True):
        count[s] += 1
        upper[s] += m - shift < tau
        lower[s] += m + shift < tau
    above = prior * min(upper[1] / count[1] + slack, 1.0)
    below = (1 - prior) * max(lower[0] / count[0] - slack, 0.0)
    other = prior * max(lower[1] / count[1] - slack, 0.0) if form == "paper" else above
    if below + other > 0:
        return above / (below + other)
    return np.inf if above > 0 else 1.0


def cases(draw, scale=4):
    """Margins on a coarse grid (many ties), labels with both classes."""
    n = draw(st.integers(2, 40))
    margin = np.array(draw(st.lists(st.integers(-scale, scale), min_size=n, max_size=n)), float) / 2
    label = np.array(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    assume(0 < label.sum() < n)
    return margin, label


@st.composite
def problems(draw):
    margin, label = cases(draw)
    prior = draw(st.one_of(st.none(), st.floats(0.001, 0.999)))
    radius = draw(st.sampled_from([0.0, 0.25, 0.5 / SQRT2, 1.3]))
    form = draw(st.sampled_from(["tight", "paper"]))
    slack = draw(st.sampled_from([0.0, 0.0, 0.05]))
    return margin, label, prior, radius, form, slack


def interesting_taus(margin, radius):
    points = np.concatenate([margin, margin - SQRT2 * radius, margin + SQRT2 * radius])
    around = [points, np.nextafter(points, np.inf), np.nextafter(points, -np.inf), [-np.inf, np.inf, 0.1]]
    return np.unique(np.concatenate(around))


@given(problems())
@settings(max_examples=300, deadline=None)
def test_bound_is_the_naive_loop(problem):
    margin, label, prior, radius, form, slack = problem
    curve = RiskCurve(margin, label, prior, radius, form, slack)
    taus = interesting_taus(margin, radius)
    share = label.mean() if prior is None else prior
    wanted = [naive_bound(margin, label, tau, share, radius, form, slack) for tau in taus]
    np.testing.assert_allclose(curve.bound(taus), wanted, rtol=1e-12)
    weight = np.where(label == 1, share / label.sum(), (1 - share) / (1 - label).sum())
    np.testing.assert_allclose(
        curve.acceptance(taus), [weight[margin < tau].sum() for tau in taus], atol=1e-12
    )
    accepted, unsafe = curve.counts(taus)
    np.testing.assert_array_equal(accepted, [(margin < tau).sum() for tau in taus])
    np.testing.assert_array_equal(unsafe, [((margin < tau) & (label == 1)).sum() for tau in taus])


@given(problems(), st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_inverse_is_the_largest_tau(problem, wanted):
    margin, label, prior, radius, form, slack = problem
    curve = RiskCurve(margin, label, prior, radius, form, slack)
    taus = interesting_taus(margin, radius)
    bounds = curve.bound(taus)
    # Levels that occur exactly are the hard ones.
    exact = bounds[(bounds > 0) & (bounds <= 1)]
    for r_t in [*wanted, *exact[:3], 1.0]:
        found = curve.largest_threshold(float(r_t))
        passing = taus[bounds <= r_t]
        assert found.feasible == (len(passing) > 0)
        # Every tau with bound <= r_t, of all that differ, is at most the one found; and the one found passes.
        assert found.tau == (passing.max() if len(passing) else -np.inf)
        if found.feasible:
            assert curve.bound(found.tau) <= r_t
            assert found.bound == curve.bound(found.tau)
            if found.tau < np.inf:
                above = taus[taus > found.tau]
                assert (curve.bound(above) > r_t).all()
        else:
            assert (found.bound, found.n_accepted, found.acceptance) == (1.0, 0, 0.0)
        assert found.n_accepted == (margin < found.tau).sum()
        # level: the same decision, case by case.
        np.testing.assert_array_equal(curve.level(margin) <= r_t, margin < found.tau)


@given(problems())
@settings(max_examples=100, deadline=None)
def test_tight_is_at_most_paper_and_the_radius_only_adds(problem):
    margin, label, prior, radius, _, slack = problem
    taus = interesting_taus(margin, radius)
    tight = RiskCurve(margin, label, prior, radius, "tight", slack).bound(taus)
    assert (
        tight <= RiskCurve(margin, label, prior, radius, "paper", slack).bound(taus) + 1e-12
    ).all() or slack == 0
    plain = RiskCurve(margin, label, prior, 0.0).bound(taus)
    conservative = RiskCurve(margin, label, prior, radius).bound(taus)
    nonempty = np.isfinite(plain) & (RiskCurve(margin, label, prior).counts(taus)[0] > 0)
    assert (plain[nonempty] <= conservative[nonempty] + 1e-12).all()


def test_at_tau_zero_it_is_the_posterior_bound_of_output_safe():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(500, 2))
    label = (margin_of(logits) + rng.normal(size=500) > 0.8).astype(int)
    for form in ("tight", "paper"):
        general = posterior_bound(likelihood_bounds(logits, label, 0.2), 0.3, form)[1, 0]
        assert RiskCurve(margin_of(logits), label, 0.3, 0.2, form).bound(0.0) == pytest.approx(general)


def test_hand_counted():
    margin = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    label = np.array([0, 0, 1, 0, 0, 1])
    curve = RiskCurve(margin, label)
    np.testing.assert_allclose(curve.bound([0.5, 2.0, 2.5, 4.5, 9.0]), [0.0, 0.0, 1 / 3, 0.2, 1 / 3])
    # Not monotone: 0.25 is exceeded in between and met again later; the largest is wanted.
    assert curve.largest_threshold(0.25).tau == 5.0
    assert curve.largest_threshold(0.1).tau == 2.0
    assert curve.largest_threshold(0.34).tau == np.inf
    found = curve.largest_thresholds(np.array([0.1, 0.25]))
    np.testing.assert_array_equal(found.n_accepted, [2, 5])
    np.testing.assert_array_equal(found.n_unsafe_accepted, [0, 1])
    assert found.at(1).r_t == 0.25


def test_nothing_qualifies():
    found = RiskCurve(np.array([0.0, 1.0, 2.0]), np.array([1, 0, 0])).largest_threshold(0.1)
    assert (found.tau, found.bound, found.feasible, found.n_accepted) == (-np.inf, 1.0, False, 0)
    assert found.cases_needed == 29


def test_large_random_sample_in_single_precision_uses_the_threaded_path():
    rng = np.random.default_rng(4)
    label = rng.random(600_000) < 0.5
    margin = (rng.normal(size=600_000) + label).astype(np.float32)
    curve = RiskCurve(margin, label, radius=0.1)
    for r_t in (0.05, 0.2, 0.3):
        found = curve.largest_threshold(r_t)
        assert found.bound <= r_t
        assert curve.bound(np.nextafter(np.float32(found.tau), np.float32(np.inf))) > r_t
        assert found.bound == pytest.approx(
            naive_bound(margin.astype(float), label.astype(int), found.tau, label.mean(), 0.1, "tight")
        )


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("form", ["tight", "paper"])
@pytest.mark.parametrize("radius", [0.0, 0.05, 1e-7, 1e4])
def test_narrow_floats_give_the_curve_of_the_same_numbers_in_float64(dtype, form, radius):
    rng = np.random.default_rng(6)
    label = rng.random(3000) < 0.2
    margin = (rng.normal(size=3000) + 2 * label).round(2).astype(dtype)
    narrow = RiskCurve(margin, label, 0.01, radius, form, 0.001)
    wide = RiskCurve(margin.astype(np.float64), label, 0.01, radius, form, 0.001)
    margins = margin.astype(np.float64)
    halfway = (np.unique(margins)[1:] + np.unique(margins)[:-1]) / 2
    taus = np.concatenate(
        [interesting_taus(margins, radius), halfway, np.arange(-3, 3, 0.01), [1e300, -1e300]]
    )
    np.testing.assert_array_equal(narrow.bound(taus), wide.bound(taus))
    np.testing.assert_array_equal(narrow.level(taus), wide.level(taus))
    np.testing.assert_array_equal(narrow.level(margin), wide.level(margin))
    np.testing.assert_array_equal(narrow.acceptance(taus), wide.acceptance(taus))
    np.testing.assert_array_equal(narrow.counts(taus), wide.counts(taus))
    for ours, theirs in zip(
        narrow.largest_thresholds(np.geomspace(1e-5, 1, 300)),
        wide.largest_thresholds(np.geomspace(1e-5, 1, 300)),
        strict=True,
    ):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("radius", [0.0, 0.3])
@pytest.mark.parametrize("form", ["tight", "paper"])
def test_an_adjusted_curve_is_the_curve_made_anew(radius, form):
    rng = np.random.default_rng(7)
    label = rng.random(500) < 0.3
    margin = (rng.normal(size=500) + label).astype(np.float32)
    curve = RiskCurve(margin, label, 0.1, 0.3, form, 0.01)
    curve.largest_threshold(0.1)  # what it keeps for the next query must not be taken for another radius
    taus = interesting_taus(margin.astype(float), 0.3)
    for prior, slack in ((None, 0.0), (0.02, 0.05)):
        anew = RiskCurve(margin, label, 0.1 if prior is None else prior, radius, form, slack)
        found = curve.adjusted(prior, radius, slack)
        np.testing.assert_array_equal(found.bound(taus), anew.bound(taus))
        np.testing.assert_array_equal(found.level(taus), anew.level(taus))
        np.testing.assert_array_equal(
            found.largest_thresholds(np.geomspace(1e-3, 1, 50)).tau,
            anew.largest_thresholds(np.geomspace(1e-3, 1, 50)).tau,
        )


def test_groups():
    rng = np.random.default_rng(5)
    group = rng.integers(0, 3, 3000)
    label = (rng.random(3000) < 0.3).astype(int)
    margin = rng.normal(size=3000) + 2 * label + group
    grouped = GroupedRiskCurve(margin, label, group)
    for key in range(3):
        alone = RiskCurve(margin[group == key], label[group == key]).largest_threshold(0.05)
        assert grouped.largest_threshold(0.05)[key] == alone
    tau = grouped.tau_of(group, 0.05)
    assert tau.shape == group.shape
    for key in range(3):
        assert (label[(group == key) & (margin < tau)]).mean() <= 0.05
    with pytest.raises(SafeframeError, match="group 7"):
        grouped.tau_of(np.array([0, 7]), 0.05)
    with pytest.raises(SafeframeError, match="group 1: no unsafe"):
        GroupedRiskCurve(margin, np.where(group == 1, 0, label), group)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros(3), np.zeros(3, int)), "no unsafe"),
        ((np.zeros(3), np.ones(3, int)), "no safe"),
        ((np.array([0.0, np.nan]), np.array([0, 1])), "NaN"),
        ((np.array([-np.inf, 1.0]), np.array([0, 1])), "infinite"),
        ((np.zeros(3), np.array([0, 1, 2])), "0 .safe. and 1"),
        ((np.zeros(3), np.array([0, 1, 256])), "0 .safe. and 1"),
        ((np.zeros(3), np.array([0, 1])), "shape"),
        ((np.zeros(2), np.array([0, 1]), 1.2), "prior"),
        ((np.zeros(2), np.array([0, 1]), None, -1.0), "radius"),
        ((np.zeros(2), np.array([0, 1]), None, 0.0, "loose"), "form"),
        ((np.zeros(2), np.array([0, 1]), None, 0.0, "tight", 1.0), "slack"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(SafeframeError, match=message):
        RiskCurve(*arguments)


@pytest.mark.parametrize("r_t", [0.0, -0.1, 1.1, np.nan, "a", None])
def test_threshold_outside_the_unit_interval_is_refused(r_t):
    curve = RiskCurve(np.array([0.0, 1.0]), np.array([0, 1]))
    with pytest.raises(SafeframeError, match="r_t"):
        curve.largest_threshold(r_t)


def test_bad_queries_are_refused():
    curve = RiskCurve(np.array([0.0, 1.0]), np.array([0, 1]))
    with pytest.raises(SafeframeError, match="NaN"):
        curve.bound(np.nan)
    with pytest.raises(SafeframeError, match="exactly 2"):
        margin_of(np.zeros((4, 3)))
    for levels, bad in (([0.1, 1.5], r"1\.5"), ([0.1, 0.0], r"0\.0"), ([1.0, 1.5], r"1\.5")):
        with pytest.raises(SafeframeError, match=f"r_t is {bad}"):
            curve.largest_thresholds(np.array(levels))


def test_one_threshold_without_the_whole_inverse_is_the_same():
    rng = np.random.default_rng(5)
    for trial in range(60):
        n = int(rng.integers(4, 400))
        label = (rng.random(n) < rng.choice([0.05, 0.3, 0.7])).astype(int)
        label[:2] = 0, 1
        margin = (rng.normal(size=n) + 2 * label).round(int(rng.integers(0, 4)))
        prior = [None, 0.01, 0.6][trial % 3]
        settings = {
            "prior": prior,
            "radius": float(rng.choice([0.0, 0.3])),
            "slack": float(rng.choice([0.0, 0.01])),
        }
        for r_t in (1e-3, 0.01, 0.1, 0.5, 1.0):
            alone = RiskCurve(margin, label, **settings).largest_threshold(r_t)
            assert alone == RiskCurve(margin, label, **settings).largest_thresholds([r_t]).at(0)


@pytest.mark.parametrize("shapes", [(4, 3, 4), (4, 4, 3), (3, 4, 4), ((2, 2), (2, 2), (2, 2))])
def test_groups_of_other_shapes_are_refused(shapes):
    margin, label, group = (np.zeros(shape, int) for shape in shapes)
    with pytest.raises(SafeframeError, match="expected one shape"):
        GroupedRiskCurve(margin, label, group)


def test_a_group_without_a_prior_in_the_mapping_is_an_error():
    margin, label, group = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    with pytest.raises(SafeframeError, match="prior has no entry for group 1"):
        GroupedRiskCurve(margin, label, group, {0: 0.2})
    curves = GroupedRiskCurve(margin, label, group, {0: 0.2, 1: None}).curves
    assert (curves[0].prior, curves[1].prior) == (0.2, 0.5)


@pytest.mark.parametrize("form", ["tight", "paper"])
def test_priors_at_the_ends(form):
    margin, label = np.array([0.0, 1.0, 2.0]), np.array([0, 1, 0])
    never = RiskCurve(margin, label, prior=0.0, form=form).largest_threshold(0.01)
    assert (never.tau, never.bound, never.feasible) == (np.inf, 0.0, True)
    always = RiskCurve(margin, label, prior=1.0, form=form).largest_threshold(0.99)
    assert (always.tau, always.bound, always.feasible) == (-np.inf, 1.0, False)


def test_answers_have_the_shape_of_the_question():
    curve = RiskCurve(np.array([0.0, 1.0, 2.0]), np.array([0, 0, 1]))
    for shape in ((), (1,), (2, 3), (0,)):
        tau = np.full(shape, 1.5)
        for found in (curve.bound(tau), curve.acceptance(tau), curve.level(tau), *curve.counts(tau)):
            assert np.shape(found) == shape
    n, unsafe = curve.counts([[1.5], [2.5]])
    assert (n.tolist(), unsafe.tolist()) == ([[2], [3]], [[0], [1]])


def test_quantiles_are_those_of_all_margins():
    curve = RiskCurve(np.array([3.0, 1.0, 2.0, 0.0]), np.array([1, 0, 0, 1]))
    assert curve.quantile(0.5) == 1.5
    assert curve.quantile([0.0, 1.0]).tolist() == [0.0, 3.0]
    assert curve.edges.tolist() == [0.0, 3.0, np.inf]
