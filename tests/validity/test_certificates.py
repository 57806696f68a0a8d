"""How often certificates fail, counted; naive choices fail more often than delta, so tests could fail.

A certificate at delta may fail in a share delta of the repetitions; the allowance on top is the 99.9 %
quantile of the binomial count.
"""

import numpy as np
import pytest
from scipy import stats

from safeframe.certificates.cases import (
    bonferroni,
    certify_posterior,
    clopper_pearson_lower,
    clopper_pearson_upper,
    fixed_sequence,
)
from safeframe.guard.safety_guard import SafetyGuard
from safeframe.guard.settings import Certified
from safeframe.internal_test import InternalTestData
from safeframe.selected_risk import SelectedRiskCurve

REPEATS = 2000


def allowed(delta, repeats=REPEATS):
    return stats.binom.ppf(0.999, repeats, delta)


@pytest.mark.parametrize(("n", "p"), [(50, 0.1), (400, 0.005), (3000, 1e-3)])
@pytest.mark.parametrize("delta", [0.05, 0.2])
def test_clopper_pearson_fails_at_most_delta(n, p, delta):
    k = np.random.default_rng(1).binomial(n, p, REPEATS)
    table = {
        int(v): (clopper_pearson_upper(int(v), n, delta), clopper_pearson_lower(int(v), n, delta))
        for v in set(k)
    }
    assert sum(table[int(v)][0] < p for v in k) <= allowed(delta)
    assert sum(table[int(v)][1] > p for v in k) <= allowed(delta)
    assert sum(v / n < p for v in k) > allowed(delta), "the plug-in share must fail more often"


def test_posterior_certificate_fails_at_most_delta():
    rng, delta = np.random.default_rng(2), 0.1
    prior, unsafe_rate, safe_rate = 0.3, 0.02, 0.5
    truth = prior * unsafe_rate / (prior * unsafe_rate + (1 - prior) * safe_rate)
    unsafe, safe = rng.binomial(300, unsafe_rate, REPEATS), rng.binomial(300, safe_rate, REPEATS)
    pairs = list(zip(unsafe.tolist(), safe.tolist(), strict=True))
    failed = sum(certify_posterior(k, 300, a, 300, prior, delta).value < truth for k, a in pairs)
    assert failed <= allowed(delta)
    naive = [prior * k / (prior * k + (1 - prior) * a) for k, a in pairs]
    assert sum(value < truth for value in naive) > allowed(delta)


def sequences(rng, n=2000):
    """Counts of REPEATS samples at 15 nested thresholds; risks just above r_t = 0.05 from the second on."""
    share = np.array([0.1, 0.1, *[0.06] * 13])
    risk = np.array([0.015, 0.0855, *[0.0502] * 13])
    counts = rng.multinomial(n, [*share, 1 - share.sum()], REPEATS)[:, :15]
    unsafe = rng.binomial(counts, risk)
    true = np.cumsum(share * risk) / np.cumsum(share)
    return np.cumsum(counts, axis=1), np.cumsum(unsafe, axis=1), true


def test_fixed_sequence_fails_at_most_delta_and_naive_choices_fail_more():
    n, k, true = sequences(np.random.default_rng(3))
    r_t, delta = 0.05, 0.1
    assert true[0] < r_t < true[1:].min()
    chosen = [fixed_sequence(a, b, r_t, delta) for a, b in zip(n, k, strict=True)]
    assert sum(index is not None and true[index] > r_t for index in chosen) <= allowed(delta)
    assert sum(index is not None for index in chosen) > REPEATS / 2, "it must certify something to be of use"
    plug_in = [np.flatnonzero(b <= r_t * a) for a, b in zip(n, k, strict=True)]
    assert sum(len(v) > 0 and true[v[-1]] > r_t for v in plug_in) > allowed(delta)
    # Clopper-Pearson at every threshold, the most permissive that passes: a choice on the data, uncorrected.
    tail = stats.binom.cdf(k, n, r_t) <= delta
    last = [np.flatnonzero(row) for row in tail]
    searched = sum(len(v) > 0 and true[v[-1]] > r_t for v in last)
    assert searched > allowed(delta)


def test_bonferroni_holds_for_all_statements_together():
    rng, delta, statements, n, p = np.random.default_rng(4), 0.1, 8, 200, 0.05
    k = rng.binomial(n, p, (REPEATS, statements))
    level = {int(v): clopper_pearson_upper(int(v), n, bonferroni(delta, statements)) for v in np.unique(k)}
    plain = {int(v): clopper_pearson_upper(int(v), n, delta) for v in np.unique(k)}
    assert sum(any(level[int(v)] < p for v in row) for row in k) <= allowed(delta)
    assert sum(any(plain[int(v)] < p for v in row) for row in k) > allowed(delta)


def unsafe_probability(margin):
    return 1 / (1 + np.exp(-2.0 * (margin - 1.0)))


def selected_cases(rng, groups, candidates=6):
    """Groups whose riskier candidates score higher: margin, score, label (groups, candidates)."""
    margin = rng.normal(size=(groups, candidates))
    label = (rng.random(margin.shape) < unsafe_probability(margin)).astype(int)
    return margin, margin + 0.3 * rng.normal(size=margin.shape), label


def test_fixed_sequence_for_the_selected_action_fails_at_most_delta():
    r_t, delta, repeats = 0.1, 0.1, 400
    taus = np.linspace(-1.5, 1.0, 12)
    truth = SelectedRiskCurve(*selected_cases(np.random.default_rng(5), 200_000)).bound(taus)
    rng = np.random.default_rng(6)
    failed = naive = certified = 0
    for _ in range(repeats):
        curve = SelectedRiskCurve(*selected_cases(rng, 400))
        found = curve.fixed_sequence(taus, r_t, delta)
        certified += found.index is not None
        failed += found.index is not None and truth[found.index] > r_t
        passing = np.flatnonzero(curve.bound(taus) <= r_t)
        naive += len(passing) > 0 and truth[passing[-1]] > r_t
    assert failed <= allowed(delta, repeats)
    assert naive > allowed(delta, repeats)
    assert certified > repeats / 2


@pytest.mark.parametrize("prior", [None, 0.28])
def test_a_certified_guard_fails_at_most_delta_and_a_plug_in_one_more(prior):
    """The whole object: half of the cases choose the sequence, half certify the last one that passes."""
    r_t, delta, repeats = 0.1, 0.1, 300
    law = np.random.default_rng(7).normal(size=400_000)
    rng = np.random.default_rng(8)
    prior_true = float(unsafe_probability(law).mean())
    assert prior is None or prior == pytest.approx(prior_true, abs=0.2)

    def risk(tau):
        """P(unsafe | margin < tau) under the prior in question."""
        accepted = law[law < tau]
        unsafe, safe = unsafe_probability(accepted).sum(), (1 - unsafe_probability(accepted)).sum()
        if prior is not None:
            unsafe, safe = prior * unsafe / prior_true, (1 - prior) * safe / (1 - prior_true)
        return unsafe / (unsafe + safe)

    def run(**keywords):
        y = rng.normal(size=800)
        label = (rng.random(800) < unsafe_probability(y)).astype(int)
        guard = SafetyGuard(
            lambda v: v, lambda v: np.stack([0 * v, v], axis=-1), InternalTestData(y, label),
            threshold=r_t, default_action=0.0, prior=prior, **keywords,
        )  # fmt: skip
        found = guard.calibrate()[r_t]["all"]
        understated = (
            found.certificate is not None and found.feasible and found.certificate.value < risk(found.tau)
        )
        return found.feasible, found.feasible and risk(found.tau) > r_t, understated

    certified = np.array([run(rule=Certified(delta)) for _ in range(repeats)])
    plug_in = np.array([run(certificate_delta=delta, rule="plug-in") for _ in range(repeats)])
    assert plug_in[:, 2].sum() <= allowed(delta, repeats), (
        "a certificate of the plug-in threshold must hold too"
    )
    assert certified[:, 1].sum() <= allowed(delta, repeats)
    assert certified[:, 0].sum() > repeats / 2
    assert plug_in[:, 1].sum() > allowed(delta, repeats)
