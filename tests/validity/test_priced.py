"""P(unsafe | acted) where risk is priced, on laws whose risks are known, by the guard's own calibration.

Small draws, since there promises are hard: few unsafe cases, ties, a small group, scales of risk that are
wrong. Long: more draws of everything. `python run.py experiment=theory` has the large ones
(results/tables/theory_priced.csv).
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from experiments.theory.guards import priced
from experiments.theory.guards.priced import Draw
from safeframe.guard.calibration import calibrate_evidence
from safeframe.guard.evidence import Evidence
from safeframe.guard.settings import Certified, GuardSettings, Priced
from safeframe.priced.curve import PricedRiskCurve
from safeframe.risk_scale import GivenRisk, LogisticRisk
from safeframe.threshold_rule import Conservative, PlugIn
from safeframe.types import SQRT2

R_T, DELTA, C = 0.05, 0.1, 4
DRAWS = [pytest.param(25), pytest.param(1000, marks=pytest.mark.long)]


def law(rng: np.random.Generator, n: int, kind: str) -> Draw:
    """The laws of the theory part, and: ties (whole numbers throughout), rare (1 candidate in 250 unsafe)."""
    if kind in priced.CLASSIFIERS:
        return priced.draw(rng, n, C, kind)
    if kind == "ties":
        margin = rng.integers(-4, 2, (n, C)).astype(float)
        reward = rng.integers(-1, 3, (n, C)).astype(float)
        return Draw(margin, reward, 1 / (1 + np.exp(1.0 - 1.5 * margin)))
    found = priced.draw(rng, n, C, "good")
    return Draw(found.margin - 2.5, found.reward, 1 / (1 + np.exp(2.5 - found.margin)))


SAMPLES = {
    kind: law(np.random.default_rng(99), 8_000, kind) for kind in (*priced.CLASSIFIERS, "ties", "rare")
}
SCALES = {
    "logistic": Priced(),
    "isotonic": Priced("isotonic"),
    "constant": Priced(lambda margin: np.full(np.shape(margin), 0.5 * R_T)),
    "far too low": Priced(lambda margin: 1e-3 / (1 + np.exp(-margin))),
    "gate": Priced(gate=-3.0),
}


def evidence(rng, n, kind, group=None, block=None):
    cases = law(rng, n, kind)
    label = (rng.random(cases.truth.shape) < cases.truth).astype(np.int64)
    return Evidence(cases.margin, label, cases.reward, group, np.zeros(n, bool), block)


def outcomes(kind, n, rule, draws, choice=SCALES["logistic"], r_t=R_T, seed=0):
    """(draws, 2) true risk over r_t, and share acted on."""
    rng = np.random.default_rng([seed, n])
    found = []
    for _ in range(draws):
        (made,) = priced.calibrations(evidence(rng, n, kind), rule, [r_t], choice)
        done = priced.act(SAMPLES[kind], made)
        found.append((done.risk / r_t, done.acted))
    return np.array(found)


def mean_is_within(ratio):
    return ratio.mean() <= 1.0 + 3.0 * ratio.std(ddof=1) / np.sqrt(len(ratio))


@pytest.mark.parametrize("draws", DRAWS)
@pytest.mark.parametrize(("kind", "n", "r_t", "acts"), [
    ("good", 300, R_T, True), ("noisy", 600, R_T, True), ("bent", 600, R_T, True),
    ("ties", 300, 0.1, True), ("rare", 400, 0.02, True), ("good", 300, 1e-3, False),
])  # fmt: skip
def test_the_mean_risk_of_the_conservative_rule_is_at_most_r_t(kind, n, r_t, acts, draws):
    found = outcomes(kind, n, Conservative(), draws, r_t=r_t)
    assert mean_is_within(found[:, 0])
    assert (found[:, 1].max() > 0.0) == acts, "and not because nothing is done"


@pytest.mark.parametrize("draws", DRAWS)
@pytest.mark.parametrize("scale", SCALES)
def test_with_a_wrong_scale_of_risk_it_is_valid_and_earns_less(scale, draws):
    for rule in (Conservative(0.0, 0.0), Certified(DELTA)):
        found = outcomes("good", 400, rule, draws, SCALES[scale])
        if isinstance(rule, Certified):
            assert (found[:, 0] > 1.0).sum() <= stats.binom.ppf(0.999, draws, DELTA)
        else:
            assert mean_is_within(found[:, 0])
        if scale in ("logistic", "isotonic", "gate"):
            assert (found[:, 1] > 0.0).mean() > 0.5


@pytest.mark.parametrize("draws", DRAWS)
@pytest.mark.parametrize(("kind", "n", "r_t"), [
    ("good", 300, 0.1), ("good", 600, R_T), ("bent", 600, R_T), ("ties", 400, 0.1), ("rare", 600, 0.02),
])  # fmt: skip
def test_the_certified_rule_breaks_its_promise_in_at_most_delta_of_the_draws(kind, n, r_t, draws):
    found = outcomes(kind, n, Certified(DELTA), draws, r_t=r_t)
    assert (found[:, 0] > 1.0).sum() <= stats.binom.ppf(0.999, draws, DELTA)
    assert (found[:, 1] > 0.0).mean() > 0.2


@pytest.mark.parametrize("draws", DRAWS)
@pytest.mark.parametrize("rule", [Conservative(), Certified(DELTA)], ids=["conservative", "certified"])
def test_each_of_two_groups_keeps_its_promise(rule, draws):
    """Group "b" is a quarter of the cases, and its classifier is bent."""
    rng, n = np.random.default_rng(3), 1200
    group = np.where(np.arange(n) % 4 == 0, "b", "a")
    ratio = {"a": [], "b": []}
    for _ in range(draws):
        parts = {"a": evidence(rng, n, "good"), "b": evidence(rng, n, "bent")}
        mixed = Evidence(*(
            np.where((group == "a")[:, None], getattr(parts["a"], name), getattr(parts["b"], name))
            for name in ("margin", "label", "score")
        ), group, np.zeros(n, bool))  # fmt: skip
        chosen = GuardSettings((R_T,), rule, constraint="per_group", choice=Priced())
        _, made = calibrate_evidence(mixed, chosen)
        for key, kind in (("a", "good"), ("b", "bent")):
            ratio[key].append(priced.act(SAMPLES[kind], made[R_T][key]).risk / R_T)
    over = np.array([ratio["a"], ratio["b"]])
    if isinstance(rule, Certified):  # delta is shared out: both hold together
        assert (over.max(axis=0) > 1.0).sum() <= stats.binom.ppf(0.999, draws, DELTA)
    else:
        assert mean_is_within(over[0])
        assert mean_is_within(over[1])
    assert over[0].max() > 0.0


def test_the_plug_in_rule_promises_nothing_and_the_count_tells():
    found = outcomes("good", 60, PlugIn(), 40, r_t=0.01)
    assert (found[:, 0] > 1.0).mean() > 0.5
    assert found[:, 0].mean() > 1.5


def test_a_certificate_beside_the_rule_fails_in_at_most_delta_of_the_draws():
    rng, draws, failed = np.random.default_rng(5), 40, 0
    for _ in range(draws):
        chosen = GuardSettings((R_T,), PlugIn(), certificate_delta=DELTA, choice=Priced())
        _, made = calibrate_evidence(evidence(rng, 400, "good"), chosen)
        found = made[R_T]["all"]
        failed += priced.act(SAMPLES["good"], found).risk > found.certificate.value
    assert failed <= stats.binom.ppf(0.999, draws, DELTA)


def test_the_radius_covers_margins_that_move_adversarially():
    """Margins in use move by up to sqrt(2) xi from those in the data, as badly as can be."""
    xi, rng = 0.3, np.random.default_rng(7)
    sample = law(np.random.default_rng(8), 40_000, "good")
    state = (np.random.default_rng(9).random(sample.truth.shape) < sample.truth).astype(int)
    scale = LogisticRisk.fit(sample.margin.ravel(), state.ravel())
    moved = np.where(state == 1, sample.margin - SQRT2 * xi, sample.margin + SQRT2 * xi)
    mus = np.geomspace(20.0, 300.0, 12)
    in_use = PricedRiskCurve(moved, sample.reward, state, R_T, scale).bound(mus)

    def mean_bound(radius):
        bounds = []
        for _ in range(10):
            part = evidence(rng, 4000, "good")
            curve = PricedRiskCurve(part.margin, part.score, part.label, R_T, scale, radius=radius)
            bounds.append(curve.bound(mus))
        return np.mean(bounds, axis=0)

    assert (mean_bound(xi) >= 0.9 * in_use).all()
    assert (mean_bound(0.0) < 0.8 * in_use).all(), "without the radius the shift must show"


def test_a_scale_fitted_on_the_cases_of_the_curve_would_not_be_valid_by_this_argument():
    """What the split is for: a scale that has seen the labels makes the curve too low on its own cases."""
    rng, seen, fresh = np.random.default_rng(11), [], []
    for _ in range(20):
        part = evidence(rng, 60, "noisy")
        order = np.argsort(part.margin, axis=None)
        # The extreme of a fit to these labels: monotone, and 0 below the first unsafe case.
        first = part.margin.ravel()[order][np.argmax(part.label.ravel()[order])]
        scale = GivenRisk(lambda margin, first=first: np.where(margin < first, 1e-6, 1.0))
        other = evidence(rng, 2000, "noisy")
        seen.append(PricedRiskCurve(part.margin, part.score, part.label, 1e-3, scale).bound(1e6))
        fresh.append(PricedRiskCurve(other.margin, other.score, other.label, 1e-3, scale).bound(1e6))
    assert np.mean(seen) == 0.0
    assert np.mean(fresh) > 0.0
