"""Nearest neighbours, the coverage guard, and how SafetyGuard uses it."""

import numpy as np
import pytest
import torch
from guard_problem import N, calibrated, candidate_classifier, candidate_model, candidates, problem
from scipy import stats
from scipy.spatial.distance import cdist

from safeframe import InternalTestData, SafetyGuard
from safeframe.coverage.coverage_guard import (
    CoverageGuard,
    CoverageSettings,
    conditional_inflation,
    fit_coverage,
    split_reference,
    tolerance_rank,
)
from safeframe.coverage.nearest import build, kind_of_dimension
from safeframe.types import SafeframeError

try:
    import faiss  # noqa: F401

    HAS_FAISS = True
except ModuleNotFoundError:
    HAS_FAISS = False


@pytest.mark.parametrize("kind", ["kdtree", "matrix"])
@pytest.mark.parametrize("d", [1, 3, 40])
def test_nearest_is_brute_force(kind, d):
    rng = np.random.default_rng(d)
    points, query = rng.normal(size=(400, d)) + 50.0, rng.normal(size=(70, d)) * 3 + 50.0
    found = build(points, kind).distance(query)
    np.testing.assert_allclose(found, cdist(query, points).min(axis=1), rtol=1e-6)
    np.testing.assert_allclose(build(points, kind).distance(points), 0.0, atol=1e-9)


def test_matrix_in_chunks_is_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    points, query = rng.normal(size=(100, 20)), rng.normal(size=(50, 20))
    whole = build(points, "matrix").distance(query)
    monkeypatch.setattr("safeframe.coverage.nearest._CHUNK", 300)
    np.testing.assert_allclose(build(points, "matrix").distance(query), whole, rtol=1e-12)


@pytest.mark.skipif(not HAS_FAISS, reason="faiss-cpu is not installed (optional)")
def test_faiss_cells_only_overstate_and_rarely():
    rng = np.random.default_rng(0)
    points, query = rng.normal(size=(5000, 8)), rng.normal(size=(300, 8))
    exact, found = build(points, "kdtree").distance(query), build(points, "faiss").distance(query)
    assert (found >= exact - 1e-3).all()
    assert (found <= exact * 1.001 + 1e-3).mean() > 0.9


@pytest.mark.skipif(HAS_FAISS, reason="faiss-cpu is installed")
def test_faiss_says_what_is_missing():
    with pytest.raises(SafeframeError, match="faiss-cpu"):
        build(np.zeros((3, 2)), "faiss")


def test_auto_depends_on_the_dimension_alone():
    assert build(np.zeros((5, 2)), "auto").kind == kind_of_dimension(2) == "kdtree"
    assert build(np.zeros((5, 96)), "auto").kind == kind_of_dimension(96) == "matrix"


@pytest.mark.parametrize(
    ("points", "kind", "message"),
    [
        (np.zeros(3), "auto", "shape"),
        (np.zeros((0, 3)), "auto", "shape"),
        (np.full((2, 2), np.nan), "auto", "NaN"),
        (np.zeros((2, 2)), "ball", "one of"),
    ],
)
def test_nearest_bad_input(points, kind, message):
    with pytest.raises(SafeframeError, match=message):
        build(points, kind)


@pytest.mark.parametrize(("n", "epsilon", "delta"), [(60, 0.05, 0.05), (500, 0.02, 0.1), (5000, 0.01, 0.01)])
def test_tolerance_rank_is_the_smallest_by_the_beta_law(n, epsilon, delta):
    """P(P(new > k-th) > epsilon) from the Beta law of a uniform order statistic, an independent formula."""
    k = tolerance_rank(n, epsilon, delta)
    failing = lambda rank: stats.beta.sf(epsilon, n - rank + 1, rank)  # noqa: E731
    assert failing(k) <= delta
    assert k == 1 or failing(k - 1) > delta


def test_tolerance_rank_needs_as_many_cases_as_it_says():
    assert tolerance_rank(58, 0.05, 0.05) is None
    assert tolerance_rank(59, 0.05, 0.05) == 59


def guard_of(n=400, m=300, d=3, seed=0, **settings):
    rng = np.random.default_rng(seed)
    made = CoverageSettings(**{"epsilon": 0.05, **settings})
    return CoverageGuard(rng.normal(size=(n, d)), rng.normal(size=(m, d)), made)


def test_radius_distance_and_certificate():
    rng = np.random.default_rng(0)
    reference, held_out = rng.normal(size=(400, 3)) * [1, 10, 0.1], rng.normal(size=(300, 3)) * [1, 10, 0.1]
    made = CoverageGuard(reference, held_out, CoverageSettings(0.05))
    scaled = cdist(held_out / reference.std(0), reference / reference.std(0)).min(axis=1)
    rank = tolerance_rank(300, 0.05, 0.05)
    assert made.radius == pytest.approx(np.sort(scaled)[rank - 1], rel=1e-5)
    assert made.covers(held_out).sum() == rank
    assert made.certificate.value == 0.05
    assert made.certificate.k == 300 - rank
    far = reference[:2] + np.array([[0, 0, 5.0], [0, 0, 0]])
    np.testing.assert_array_equal(made.covers(far), [False, True])


def test_what_is_not_finite_is_not_covered():
    made = guard_of()
    np.testing.assert_array_equal(
        made.covers(np.array([[np.nan, 0, 0], [np.inf, 0, 0], [0, 0, 0.0]])), [False, False, True]
    )


def test_a_constant_feature_that_changes_is_noticed():
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.normal(size=700), np.zeros(700)])
    made = CoverageGuard(rows[:400], rows[400:], CoverageSettings(0.05))
    assert not made.covers(np.array([[0.0, 3.0]]))[0]


def test_inflation():
    assert conditional_inflation(0.5, 0.01) == pytest.approx(0.5 / 0.49)
    assert conditional_inflation(0.01, 0.01) == float("inf")
    with pytest.raises(SafeframeError):
        conditional_inflation(1.2, 0.01)


def test_held_out_cases_are_whole_blocks_and_never_trained_on():
    allowed = np.ones(1000, bool)
    allowed[:305] = False
    reference, held_out = split_reference(1000, CoverageSettings(0.05, block=10, held_out=0.3), allowed, 0)
    assert np.array_equal(np.sort(np.concatenate([reference, held_out])), np.arange(1000))
    assert held_out.min() >= 310
    assert len(held_out) == 300
    assert len(np.unique(held_out // 10)) == 30


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CoverageSettings(0.0), "epsilon"),
        (lambda: CoverageSettings(0.1, delta=1.0), "delta"),
        (lambda: CoverageSettings(0.1, held_out=0.0), "held_out"),
        (lambda: CoverageSettings(0.1, block=0), "block"),
        (lambda: CoverageSettings(0.1, index="tree"), "index"),
        (lambda: guard_of(m=50), "59"),
        (lambda: CoverageGuard(np.zeros((5, 2)), np.zeros((100, 3)), CoverageSettings(0.05)), "fit together"),
        (lambda: CoverageGuard(np.full((5, 2), np.nan), np.zeros((100, 2)), CoverageSettings(0.05)), "NaN"),
        (lambda: guard_of().distance(np.zeros((2, 4))), "columns"),
        (lambda: guard_of().distance(np.array(["a"])), "numbers"),
        (lambda: fit_coverage(np.zeros((5, 2)), np.zeros(4, bool), CoverageSettings(0.05), 0), "4 internal"),
        (lambda: split_reference(10, CoverageSettings(0.05), np.zeros(10, bool), 0), "too few"),
    ],
)
def test_coverage_bad_input(make, message):
    with pytest.raises(SafeframeError, match=message):
        make()


def test_a_guard_refuses_what_is_unlike_its_data():
    made, plain = calibrated(coverage=0.05), calibrated()
    fresh, _ = problem(500, seed=5)
    fresh[:50, 2] += 30.0  # the classifier looks at the first coordinate only
    acted, without = made.act(fresh), plain.act(fresh)
    assert without.accepted[:50].any()
    assert without.distance is None
    assert without.covered is None
    assert not acted.accepted[:50].any()
    np.testing.assert_array_equal(acted.accepted[50:], without.accepted[50:] & acted.covered[50:])
    assert (acted.action[:50] == 0.0).all()
    assert (acted.index[:50] == -1).all()
    assert (acted.bound[:50] == np.inf).all()
    np.testing.assert_array_equal(acted.bound[acted.covered], without.bound[acted.covered])
    assert acted.status[0] == "default"
    assert "from the nearest internal test case" in acted.explain(0)
    assert acted.coverage_radius == made.coverage.radius


def test_a_guard_with_candidates_and_torch():
    y, label = candidates()
    made = SafetyGuard(
        candidate_model, candidate_classifier, InternalTestData(y, label), 0.05, default_action=0.0,
        coverage=CoverageSettings(0.1, index="matrix"),
    )  # fmt: skip
    made.calibrate()
    fresh, _ = candidates(40, seed=3)
    fresh[0] = 100.0
    acted = made.act(fresh)
    assert not acted.covered[0]
    assert acted.index[0] == -1
    network = torch.nn.Linear(3, 2)
    cases, unsafe = problem()
    torch_guard = SafetyGuard(
        torch.nn.Identity(),
        network,
        InternalTestData(torch.from_numpy(cases), unsafe),
        0.5,
        default_action=0.0,
        coverage=0.05,
    )
    torch_guard.calibrate()
    assert torch_guard.act(torch.from_numpy(cases[:5])).covered.dtype == torch.bool


def test_cases_trained_on_are_reference_only():
    y, label = problem()
    data = InternalTestData(y, label)
    data.mark_trained_on(np.arange(N // 2))
    made = calibrated(internal_test=data, radius=0.1, coverage=CoverageSettings(0.05, held_out=0.2))
    assert made.coverage.n_held_out == N // 5


def first_two(y):
    return y[:, :2]


def test_save_and_load_with_coverage(tmp_path):
    made = calibrated(coverage=CoverageSettings(0.05, delta=0.1), coverage_features=first_two)
    made.save(tmp_path)
    again = SafetyGuard.load(tmp_path, made.model, made.classifier, coverage_features=first_two)
    assert again.settings == made.settings
    assert again.coverage.radius == made.coverage.radius
    fresh = problem(50, seed=4)[0] * 3
    np.testing.assert_array_equal(again.act(fresh).distance, made.act(fresh).distance)
    assert again.act(fresh).reason == made.act(fresh).reason
    with pytest.raises(SafeframeError, match="other features"):
        SafetyGuard.load(tmp_path, made.model, made.classifier)
    again.save(tmp_path)
    assert SafetyGuard.load(tmp_path, made.model, made.classifier, coverage_features=first_two).coverage


def test_features_of_a_wrong_length_are_refused():
    made = calibrated(coverage=0.05)
    made.coverage_features = lambda y: y[:1]
    with pytest.raises(SafeframeError, match="1 rows"):
        made.act(problem(5)[0])


def test_too_few_cases_leave_the_guard_as_it_was():
    y, label = problem(100)
    made = SafetyGuard(
        lambda v: v,
        lambda v: np.stack([0 * v[:, 0], v[:, 0]], 1),
        InternalTestData(y, label),
        0.1,
        default_action=0.0,
        coverage=0.001,
    )
    with pytest.raises(SafeframeError, match="2,995"):
        made.calibrate()
    assert made.calibrations == {}
