"""Theorem 1 by Monte Carlo on a known law: p^{-xi} <= p <= p^{+xi} for xi >= K zeta.

Source: arXiv 2504.20924, Theorem 1.

The law: given state i the measurement is uniform on [a_i, a_i + 1]. The classifier f(y) = (sin(W y + b)) into
R^3 is K-Lipschitz with K = |W|, and p(o = j | s = i) is known by fine integration. The data are drawn at
random, then displaced; zeta, the infinity-Wasserstein distance between the law and the data, is computed
exactly from the order statistics of a uniform law, so that xi = K zeta is known in every draw.
"""

import numpy as np

from safeframe.conservative_testing import likelihood_bounds, posterior_bound

LEFT = np.array([0.0, 0.6, 1.5])  # states 0, 1, 2: overlapping, so that outputs and states differ
WEIGHT = np.array([1.3, -0.9, 2.0])
OFFSET = np.array([0.2, 1.4, -1.6])
LIPSCHITZ = float(np.linalg.norm(WEIGHT))
PRIOR = np.array([0.5, 0.3, 0.2])
N = 60
DRAWS = 400


def classifier(y):
    return np.sin(y[..., None] * WEIGHT + OFFSET)


def true_likelihood():
    grid = (np.arange(1_000_000) + 0.5) / 1_000_000
    output = classifier(LEFT[:, None] + grid).argmax(axis=-1)
    return np.stack([np.bincount(row, minlength=3) / len(grid) for row in output])


def draw(rng):
    """(measurements, labels, zeta): N cases of each state, uniform draws displaced by up to 0.05."""
    unit = np.sort(rng.random((3, N)), axis=1)
    unit = np.sort(unit + rng.uniform(-0.05, 0.05) + rng.uniform(-0.02, 0.02, unit.shape), axis=1)
    # Quantile function of the data against that of the law: the k-th case carries the mass ((k-1)/N, k/N].
    low, high = np.arange(N) / N, (np.arange(N) + 1) / N
    zeta = np.maximum(np.abs(unit - low), np.abs(unit - high)).max()
    return (LEFT[:, None] + unit).reshape(-1), np.repeat(np.arange(3), N), float(zeta)


def failures(factor):
    """Draws of DRAWS in which a likelihood or a posterior escapes its bound at xi = factor * K * zeta."""
    truth = true_likelihood()
    joint = truth * PRIOR[:, None]
    posterior = joint / joint.sum(axis=0)
    rng = np.random.default_rng(0)
    escaped = {"likelihood": 0, "tight": 0, "paper": 0}
    tolerance = 1e-5  # of the integration
    for _ in range(DRAWS):
        y, label, zeta = draw(rng)
        found = likelihood_bounds(classifier(y), label, factor * LIPSCHITZ * zeta)
        outside = (truth < found.lower - tolerance) | (truth > found.upper + tolerance)
        escaped["likelihood"] += bool(outside.any())
        for form in ("tight", "paper"):
            escaped[form] += bool((posterior > posterior_bound(found, PRIOR, form=form) + tolerance).any())
    return escaped


def test_every_output_occurs_so_that_the_test_can_fail():
    assert (true_likelihood() > 0.02).sum() >= 5


def test_the_classifier_is_lipschitz_with_the_stated_constant():
    y = np.linspace(-1, 4, 100_001)
    slope = np.linalg.norm(np.diff(classifier(y), axis=0), axis=1) / np.diff(y)
    assert slope.max() <= LIPSCHITZ


def test_bounds_hold_in_every_draw_at_the_radius_of_the_theorem():
    assert failures(1.0) == {"likelihood": 0, "tight": 0, "paper": 0}


def test_bounds_break_at_a_radius_that_is_clearly_too_small():
    few, none = failures(0.1), failures(0.0)
    assert few["likelihood"] > DRAWS / 2
    assert few["tight"] > DRAWS / 4
    assert none["likelihood"] == DRAWS
    assert none["paper"] > DRAWS / 2
