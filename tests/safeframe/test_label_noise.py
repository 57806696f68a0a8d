"""Flipped labels: the correction against simulation, without noise the plain curve, bad input."""

import numpy as np
import pytest

from safeframe.certificates.cases import certify, certify_threshold
from safeframe.label_noise import LabelNoise, NoisyRiskCurve
from safeframe.risk_curve import RiskCurve
from safeframe.types import SafeframeError


def cases(n, seed=0):
    rng = np.random.default_rng(seed)
    margin = rng.normal(size=n)
    return margin, rng.random(n) < 1 / (1 + np.exp(-2 * (margin - 0.5))), rng


def test_risk_and_share_are_inverse_and_cut():
    noise = LabelNoise(0.05, 0.2)
    risk = np.array([0.0, 0.1, 1.0])
    np.testing.assert_allclose(noise.risk(noise.labelled_share(risk)), risk, atol=1e-12)
    assert noise.labelled_share(0.0) == pytest.approx(0.05)
    assert noise.labelled_share(1.0) == pytest.approx(0.8)
    assert noise.risk(0.01) == 0.0


def test_without_noise_the_curve_is_the_plain_one():
    margin, label, _ = cases(500)
    taus = np.linspace(-2, 2, 41)
    for radius in (0.0, 0.2):
        plain = RiskCurve(margin, label, radius=radius).bound(taus)
        found = NoisyRiskCurve(margin, label, LabelNoise(0.0, 0.0), radius).bound(taus)
        np.testing.assert_allclose(found, plain, atol=1e-12)
    r_t = 0.2
    assert NoisyRiskCurve(margin, label, LabelNoise(0, 0)).largest_threshold(r_t) >= (
        RiskCurve(margin, label).largest_threshold(r_t).tau
    )


@pytest.mark.parametrize("radius", [0.0, 0.1])
def test_correction_finds_the_bound_of_the_true_labels(radius):
    margin, label, rng = cases(400_000)
    noise = LabelNoise(0.1, 0.3)
    noisy = label ^ (rng.random(len(label)) < np.where(label, 0.3, 0.1))
    taus = np.linspace(-1.0, 2.0, 13)
    true = RiskCurve(margin, label, radius=radius).bound(taus)
    np.testing.assert_allclose(NoisyRiskCurve(margin, noisy, noise, radius).bound(taus), true, atol=0.02)
    assert np.abs(RiskCurve(margin, noisy, radius=radius).bound(taus) - true).max() > 0.05


def test_nothing_accepted_is_one_and_no_threshold_is_minus_infinity():
    margin, label, _ = cases(200)
    curve = NoisyRiskCurve(margin, label, LabelNoise(0.0, 0.1))
    assert curve.bound(-100.0) == 1.0
    assert curve.largest_threshold(1e-6, least=150) == -np.inf


def test_certificate_is_clopper_pearson_moved_and_says_what_it_assumes():
    noise = LabelNoise(0.02, 0.1)
    found = noise.certify(1000, 40, 0.05)
    assert found.value == pytest.approx((certify(1000, 40, 0.05).value - 0.02) / 0.88)
    assert "0.02 (safe)" in found.assumed
    # Testing the labels at the moved level is the same certificate for a chosen threshold.
    margin, label, _ = cases(3000)
    level = float(noise.labelled_share(0.1))
    assert certify_threshold(margin, label, [-1.0], level, 0.05).index == (
        0
        if noise.certify(int((margin < -1).sum()), int(label[margin < -1].sum()), 0.05).value <= 0.1
        else None
    )


@pytest.mark.parametrize(("safe", "unsafe"), [(-0.1, 0.0), (0.0, 1.0), (0.5, 0.5), (0.7, 0.4)])
def test_noise_bad_input(safe, unsafe):
    with pytest.raises(SafeframeError, match="label noise"):
        LabelNoise(safe, unsafe)
