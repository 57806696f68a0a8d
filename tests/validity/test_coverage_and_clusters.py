"""How often the certificates of coverage, clusters, flipped labels and Bonferroni search fail.

Beside each a naive choice that fails more often, so that the count can tell.
"""

import numpy as np
import pytest

from safeframe import InternalTestData, SafetyGuard
from safeframe.certificates.cases import bonferroni_search, clopper_pearson_upper
from safeframe.certificates.clusters import betting_upper, certify_episodes, hoeffding_bentkus_upper
from safeframe.coverage.coverage_guard import CoverageGuard, CoverageSettings
from safeframe.label_noise import LabelNoise
from tests.validity.test_certificates import allowed, sequences


def test_coverage_radius_fails_at_most_delta_and_the_plain_quantile_more():
    rng = np.random.default_rng(0)
    settings, repeats = CoverageSettings(0.1, delta=0.1), 400
    fresh = rng.normal(size=(20_000, 2)) * [1, 4]
    failed = naive = 0
    for _ in range(repeats):
        guard = CoverageGuard(rng.normal(size=(100, 2)) * [1, 4], rng.normal(size=(80, 2)) * [1, 4], settings)
        distance = guard.distance(fresh)
        failed += (distance > guard.radius).mean() > 0.1
        naive += (distance > np.quantile(guard.held_out_distance, 0.9)).mean() > 0.1
    assert failed <= allowed(0.1, repeats)
    assert naive > allowed(0.1, repeats)


def test_a_guard_with_coverage_keeps_the_inflated_promise_in_distribution():
    """Violations among the accepted and covered stay below bound * acceptance / (acceptance - epsilon)."""
    rng = np.random.default_rng(1)

    def draw(n):
        y = rng.normal(size=(n, 2))
        return y, (y[:, 0] + 0.3 * rng.normal(size=n) > 1).astype(int)

    broken = 0
    for _ in range(40):
        guard = SafetyGuard(lambda y: y[:, 0], lambda y: np.stack([1 - y[:, 0], y[:, 0] - 1], 1),
                            InternalTestData(*draw(4000)), 0.05, default_action=0.0, coverage=0.02,
                            certificate_delta=0.1, rule="certificate")  # fmt: skip
        guard.calibrate()
        fresh, unsafe = draw(40_000)
        acted = guard.act(fresh)
        acceptance = (acted.margin < acted.tau).mean()
        broken += unsafe[acted.accepted].mean() > 0.05 * acceptance / (acceptance - 0.02)
    assert broken <= allowed(0.1 + 0.05, 40)


def clusters(rng, g=80, size=25, risk=0.04, alike=0.5):
    """Clusters with a risk of their own (Beta, very different), accepted counts that go with it."""
    own = rng.beta(alike * risk, alike * (1 - risk), g)
    accepted = rng.binomial(size, 0.9 - 0.5 * own)
    return rng.binomial(accepted, own), accepted


@pytest.mark.parametrize("bound", [hoeffding_bentkus_upper, betting_upper])
def test_cluster_bounds_fail_at_most_delta_and_cases_as_independent_more(bound):
    rng, repeats, delta, size = np.random.default_rng(2), 300, 0.1, 25
    unsafe, accepted = clusters(np.random.default_rng(3), g=2_000_000)
    truth = unsafe.sum() / accepted.sum()
    failed = naive = 0
    for _ in range(repeats):
        unsafe, accepted = clusters(rng)
        failed += bound(unsafe, accepted, delta, size) < truth
        naive += clopper_pearson_upper(int(unsafe.sum()), int(accepted.sum()), delta) < truth
    assert failed <= allowed(delta, repeats)
    assert naive > allowed(delta, repeats)


@pytest.mark.parametrize("bound", [hoeffding_bentkus_upper, betting_upper])
def test_cluster_bounds_at_their_hardest(bound):
    """Clusters that are wholly unsafe or wholly safe: the bounded mean has its largest variance."""
    rng, repeats, delta, risk = np.random.default_rng(4), 600, 0.2, 0.1
    failed = 0
    for _ in range(repeats):
        bad = rng.random(60) < risk
        failed += bound(np.where(bad, 5, 0), np.full(60, 5), delta, 5) < risk
    assert 0 < failed <= allowed(delta, repeats)


def test_episodes_are_certified_as_episodes():
    rng, repeats, delta = np.random.default_rng(5), 2000, 0.1
    counts = rng.binomial(1, 0.03, (repeats, 200)) * rng.integers(1, 9, (repeats, 200))
    table = {k: certify_episodes(np.repeat([1, 0], [k, 200 - k]), delta).value for k in range(30)}
    assert sum(table[int((row > 0).sum())] < 0.03 for row in counts) <= allowed(delta)


def test_flipped_labels_corrected_fail_at_most_delta_uncorrected_more():
    rng, repeats, delta, n, risk = np.random.default_rng(6), 2000, 0.1, 2000, 0.05
    noise = LabelNoise(0.01, 0.4)
    k = rng.binomial(n, float(noise.labelled_share(risk)), repeats)
    table = {int(v): noise.certify(n, int(v), delta).value for v in np.unique(k)}
    assert 0 < sum(table[int(v)] < risk for v in k) <= allowed(delta)
    assert sum(clopper_pearson_upper(int(v), n, delta) < risk for v in k) > allowed(delta)


def test_bonferroni_search_fails_at_most_delta():
    n, k, true = sequences(np.random.default_rng(7))
    chosen = [bonferroni_search(a, b, 0.05, 0.1) for a, b in zip(n, k, strict=True)]
    assert sum(i is not None and true[i] > 0.05 for i in chosen) <= allowed(0.1)
    assert sum(i is not None for i in chosen) > len(chosen) / 4
