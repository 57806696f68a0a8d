"""Certificates against known values; how often they fail is counted in tests/validity."""

import numpy as np
import pytest
from scipy import stats

from safeframe.certificates.cases import (
    Certificate,
    CertifiedThreshold,
    bonferroni,
    bonferroni_search,
    cases_needed,
    certify,
    certify_counts,
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


INDEPENDENT = "cases are independent, drawn like those in use, and were not used for training"


def test_a_certificate_says_all_that_it_rests_on():
    assert certify(50, 1, 0.1) == Certificate(
        "P(unsafe | accepted)", clopper_pearson_upper(1, 50, 0.1), 0.9, "the draw of the test cases",
        f"the threshold was fixed before; {INDEPENDENT}", 50, 1,
    )  # fmt: skip
    assert certify(50, 1, 0.1, "P(late)").event == "P(late)"
    found = certify_posterior(2, 40, 30, 60, 0.25, 0.1)
    above = 0.25 * clopper_pearson_upper(2, 40, 0.05)
    below = 0.75 * clopper_pearson_lower(30, 60, 0.05)
    assert found == Certificate(
        "P(unsafe | accepted)", above / (above + below), 0.9, "the draw of the test cases of each class",
        f"the threshold was fixed before and P(unsafe) = 0.25; within each class {INDEPENDENT}", 32, 2,
    )  # fmt: skip
    assert certify_posterior(0, 40, 0, 60, 0.0, 0.1).value == 1.0  # nothing speaks for either class


N_ACCEPTED, N_UNSAFE = np.array([30, 100, 200, 400]), np.array([0, 0, 1, 30])


@pytest.mark.parametrize("search", ["fixed-sequence", "bonferroni"])
def test_counts_are_certified_as_the_loop_does_it(search):
    r_t, delta, taus = 0.03, 0.2, [0.1, 0.2, 0.3, 0.4]
    each = delta if search == "fixed-sequence" else delta / 4
    passed = [stats.binom.cdf(k, n, r_t) <= each for n, k in zip(N_ACCEPTED, N_UNSAFE, strict=True)]
    assert passed == [False, True, True, False]
    found = certify_counts(N_ACCEPTED, N_UNSAFE, np.array(taus), r_t, delta, search=search)
    index = 2 if search == "bonferroni" else None
    assert bonferroni_search(N_ACCEPTED, N_UNSAFE, r_t, delta) == 2
    assert fixed_sequence(N_ACCEPTED, N_UNSAFE, r_t, delta) is None
    value, n, k = (r_t, 200, 1) if index else (1.0, 0, 0)
    certificate = Certificate(
        "P(unsafe | accepted)", value, 0.8, "the draw of the test cases",
        f"the sequence of thresholds was fixed before; {INDEPENDENT}", n, k,
    )  # fmt: skip
    tau = taus[index] if index else -np.inf
    assert found == CertifiedThreshold(tau, index, r_t, delta, certificate, cases_needed(r_t, delta))


def test_the_fixed_sequence_is_the_default_and_stops_at_the_first_failure():
    later = certify_counts(N_ACCEPTED[1:], N_UNSAFE[1:], np.arange(3.0), 0.03, 0.2)
    assert (later.index, later.tau, later.certificate.n) == (1, 1.0, 200)
    margin, label = np.arange(400.0), np.arange(400) >= 370
    taus = [30, 100, 200]
    both = [
        certify_threshold(margin, label, taus, 0.03, 0.2, search)
        for search in ("fixed-sequence", "bonferroni")
    ]
    assert [one.index for one in both] == [None, 2]
    assert certify_threshold(margin, label, taus, 0.03, 0.2).index is None
    assert certify_threshold(margin, label, [370, 371], 0.03, 0.2).certificate.k == 1  # strictly below


def test_a_search_among_none_or_with_a_bar_that_is_met_exactly():
    assert bonferroni_search(np.array([], int), np.array([], int), 0.1, 0.2) is None
    assert bonferroni_search(np.array([1]), np.array([0]), 0.75, 0.25) == 0  # P(none of one) is 1/4
    assert fixed_sequence(np.array([1]), np.array([0]), 0.75, 0.25) == 0
    assert bonferroni(0.2, 1) == 0.2
    with pytest.raises(SafeframeError, match="at least one statement"):
        bonferroni(0.2, 0)
    for margin, label in ((np.zeros((2, 2)), np.zeros((2, 2))), (np.zeros(3), np.zeros(2))):
        with pytest.raises(SafeframeError, match="one shape"):
            certify_threshold(margin, label, [0.1], 0.1, 0.1)
