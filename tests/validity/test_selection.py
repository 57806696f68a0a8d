"""The risk that is run when the best-scored accepted candidate is taken, on a known law."""

import numpy as np

from safeframe.risk_curve import RiskCurve
from safeframe.selected_risk import SelectedRiskCurve


def cases(rng, groups, candidates=16):
    """Riskier candidates score higher, as rewards do; P(unsafe) = expit(8 (margin - 1))."""
    margin = rng.normal(size=(groups, candidates))
    label = (rng.random(margin.shape) < 1 / (1 + np.exp(-8.0 * (margin - 1.0)))).astype(int)
    return margin, margin + 0.5 * rng.normal(size=margin.shape), label


def test_accepted_risk_understates_the_selected_one_and_the_selected_curve_does_not():
    r_t, rng = 0.02, np.random.default_rng(0)
    law = cases(np.random.default_rng(1), 100_000)
    truth, population = SelectedRiskCurve(*law), RiskCurve(law[0].ravel(), law[2].ravel())
    per_accepted, per_selected, accepted_too = [], [], []
    for _ in range(40):
        margin, score, label = cases(rng, 2000)
        tau = RiskCurve(margin.ravel(), label.ravel()).largest_threshold(r_t).tau
        per_accepted.append(float(truth.bound(tau)))
        accepted_too.append(float(population.bound(tau)))
        per_selected.append(
            float(truth.bound(SelectedRiskCurve(margin, score, label).largest_threshold(r_t).tau))
        )
    # A draw at random from the accepted candidates is at r_t, as the first curve says ...
    assert abs(np.mean(accepted_too) - r_t) < 0.1 * r_t
    # ... but the one that is selected is unsafe several times as often,
    assert np.min(per_accepted) > 3 * r_t
    # which the curve of the rule itself does not understate beyond the noise of its own choice.
    assert abs(np.mean(per_selected) - r_t) < 0.15 * r_t
    assert np.max(per_selected) < 2 * r_t


def test_conservative_selection_covers_a_shift_of_the_margins():
    """Logits in use move by up to xi from those in the data, adversarially; the conservative curve holds."""
    xi, rng = 0.15, np.random.default_rng(2)
    law = cases(np.random.default_rng(3), 100_000)
    taus = np.linspace(0.5, 1.2, 15)
    margin, score, label = law
    worst = np.where(label == 1, margin - np.sqrt(2) * xi, margin + np.sqrt(2) * xi)
    in_use = SelectedRiskCurve(worst, score, label).bound(taus)
    conservative = np.mean([SelectedRiskCurve(*cases(rng, 4000), xi).bound(taus) for _ in range(10)], axis=0)
    plain = np.mean([SelectedRiskCurve(*cases(rng, 4000)).bound(taus) for _ in range(10)], axis=0)
    assert (conservative >= 0.95 * in_use).all()
    assert (plain < 0.8 * in_use).all(), "without the radius the shift must show"
