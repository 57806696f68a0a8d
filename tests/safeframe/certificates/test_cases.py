"""Certificates against known values; how often they fail is counted in tests/validity."""

import numpy as np
import pytest
from scipy import stats

from safeframe.certificates.cases import (
    bonferroni,
    cases_needed,
    certify,
    certify_posterior,
    certify_threshold,
    clopper_pearson_lower,
    clopper_pearson_upper,
    fixed_sequence,
)
from safeframe.types import SafeframeError


def test_clopper_pearson_agrees_with_scipy_and_its_definition():
    for k, n in [(0, 20), (3, 50), (20, 20), (1, 1)]:
        interval = stats.binomtest(k, n).proportion_ci(0.9, "exact")
        assert clopper_pearson_upper(k, n, 0.05) == pytest.approx(interval.high)
        assert clopper_pearson_lower(k, n, 0.05) == pytest.approx(interval.low)
    assert stats.binom.cdf(3, 50, clopper_pearson_upper(3, 50, 0.1)) == pytest.approx(0.1)
    assert clopper_pearson_upper(0, 100, 0.05) == pytest.approx(1 - 0.05**0.01)
    assert clopper_pearson_upper(0, 0, 0.05) == 1.0
    assert clopper_pearson_lower(0, 0, 0.05) == 0.0


def test_cases_needed():
    assert cases_needed(1e-4, 0.05) == 29_956
    assert cases_needed(1.0, 0.05) == 1
    for r_t in (1e-4, 1e-2, 0.3, 0.5):
        n = cases_needed(r_t, 0.05)
        assert clopper_pearson_upper(0, n, 0.05) <= r_t < clopper_pearson_upper(0, n - 1, 0.05)


def test_bonferroni():
    assert bonferroni(0.05, 5) == pytest.approx(0.01)


def test_fixed_sequence_stops_at_the_first_failure():
    n = np.array([3000, 3000, 3000, 3000])
    assert (
        fixed_sequence(n, np.array([0, 0, 9, 0]), 1e-3, 0.05) == 1
    )  # the last one would pass, but comes too late
    assert fixed_sequence(n, np.array([0, 0, 0, 0]), 1e-3, 0.05) == 3
    assert fixed_sequence(n, np.array([9, 0, 0, 0]), 1e-3, 0.05) is None
    # Exactly at the number of cases needed, and one case short of it.
    needed = cases_needed(1e-3, 0.05)
    assert fixed_sequence(np.array([needed]), np.array([0]), 1e-3, 0.05) == 0
    assert fixed_sequence(np.array([needed - 1]), np.array([0]), 1e-3, 0.05) is None


def test_fixed_sequence_test_is_the_clopper_pearson_test():
    rng = np.random.default_rng(0)
    for _ in range(200):
        n, r_t, delta = int(rng.integers(1, 500)), rng.uniform(0.001, 0.5), rng.uniform(0.01, 0.4)
        k = int(rng.integers(0, n + 1))
        passes = fixed_sequence(np.array([n]), np.array([k]), r_t, delta) == 0
        assert passes == (clopper_pearson_upper(k, n, delta) <= r_t)


def test_certify_threshold_counts_strictly_below():
    margin = np.concatenate([np.full(60, 0.0), np.full(60, 1.0)])
    label = np.concatenate([np.zeros(60, int), np.ones(60, int)])
    found = certify_threshold(margin, label, [0.0, 0.5, 1.0, 1.5], r_t=0.06, delta=0.05)
    assert (found.tau, found.index) == (-np.inf, None)  # nothing accepted at tau = 0
    found = certify_threshold(margin, label, [0.5, 1.0, 1.5], r_t=0.06, delta=0.05)
    assert (found.tau, found.index, found.certificate.n, found.certificate.k) == (1.0, 1, 60, 0)
    assert found.certificate.value == 0.06
    assert found.cases_needed == cases_needed(0.06, 0.05)


def test_certificates_state_what_they_are():
    text = str(certify(100, 0, 0.05))
    for part in (
        "P(unsafe | accepted)",
        "0.02951",
        "confidence 0.95",
        "0 unsafe of 100",
        "fixed before",
        "training",
    ):
        assert part in text


def test_posterior_certificate_follows_the_prior():
    values = [certify_posterior(1, 500, 400, 500, prior, 0.05).value for prior in (0.001, 0.1, 0.5)]
    assert values[0] < values[1] < values[2]
    assert certify_posterior(0, 0, 0, 0, 0.5, 0.05).value == 1.0
    up, low = clopper_pearson_upper(1, 500, 0.025), clopper_pearson_lower(400, 500, 0.025)
    assert values[2] == pytest.approx(up / (up + low))


@pytest.mark.parametrize(
    "call",
    [
        lambda: clopper_pearson_upper(3, 2, 0.05),
        lambda: clopper_pearson_upper(-1, 2, 0.05),
        lambda: clopper_pearson_upper(1, 2, 0.0),
        lambda: clopper_pearson_lower(1, 2, 1.0),
        lambda: cases_needed(0.0, 0.05),
        lambda: bonferroni(0.05, 0),
        lambda: fixed_sequence(np.array([1, 2]), np.array([1]), 0.1, 0.05),
        lambda: fixed_sequence(np.array([1]), np.array([2]), 0.1, 0.05),
        lambda: fixed_sequence(np.array([1]), np.array([0]), 1.5, 0.05),
        lambda: certify_threshold(np.array([np.nan]), np.array([0]), [0.0], 0.1, 0.05),
        lambda: certify_threshold(np.array([0.0]), np.array([0]), [], 0.1, 0.05),
        lambda: certify_threshold(np.array([0.0]), np.array([0]), [np.nan], 0.1, 0.05),
        lambda: certify_posterior(1, 2, 1, 2, 1.5, 0.05),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(SafeframeError):
        call()
