"""The measured radius: with its mass as slack, the curve bounds the risk under the law in use."""

import numpy as np
from scipy import stats

from safeframe.informativeness import measured_radius
from safeframe.risk_curve import RiskCurve

TAUS = np.linspace(-1.5, 3.0, 40)
SHIFT = 0.4  # in use, unsafe cases look safer by this much, and safe ones riskier
PRIOR = 0.2


def draw(rng, n, shift=0.0):
    label = np.arange(n) % 2
    return rng.normal(size=n) + 2.0 * label - shift * (2 * label - 1), label


def true_risk():
    unsafe, safe = stats.norm.cdf(TAUS - 2.0 + SHIFT), stats.norm.cdf(TAUS - SHIFT)
    return PRIOR * unsafe / (PRIOR * unsafe + (1 - PRIOR) * safe)


def run(rng, use_radius, use_band):
    margin, label = draw(rng, 3000)
    other, other_label = draw(rng, 3000, SHIFT)
    found = [
        measured_radius(margin[label == s], other[other_label == s], 0.0, 0.95, side=side)
        for s, side in ((0, "upper"), (1, "lower"))
    ]
    radius = max(f.radius for f in found) if use_radius else 0.0
    slack = max(f.mass for f in found) if use_band else 0.0
    return bool(
        (RiskCurve(margin, label, PRIOR, radius, slack=slack).bound(TAUS) < true_risk() - 1e-12).any()
    )


def test_bound_with_the_measured_radius_and_its_mass_holds():
    rng, repeats = np.random.default_rng(0), 200
    failed = sum(run(rng, True, True) for _ in range(repeats))
    assert failed <= stats.binom.ppf(0.999, repeats, 0.1)  # two bands at 0.05
    assert sum(run(rng, False, False) for _ in range(50)) == 50, "without a radius the shift must show"


def test_the_noise_of_extremes_is_in_the_radius():
    """The measured shift is hardly ever below the true one, and above it in small samples, as documented."""
    rng = np.random.default_rng(1)
    small = [
        measured_radius(rng.normal(size=100), rng.normal(size=100) - SHIFT, side="lower") for _ in range(200)
    ]
    assert np.mean([f.margin_shift for f in small]) > SHIFT
    trimmed = [
        measured_radius(
            rng.normal(size=20_000), rng.normal(size=20_000) - SHIFT, delta=0.02, side="lower"
        ).margin_shift
        for _ in range(20)
    ]
    assert np.mean(trimmed) < SHIFT * 1.1
