"""Guards and streams with a known law, for the tests of the guard in service."""

from __future__ import annotations

import numpy as np
from scipy import stats

from safeframe import InternalTestData, SafetyGuard

NOISE = 0.5
EDGE = 1.0


def stream(n, seed=0, shift=0.0):
    """Measurements (n, 1) and labels: unsafe where the measurement plus noise exceeds 1 - shift."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(n, 1))
    return y, (y[:, 0] + shift + NOISE * rng.normal(size=n) > EDGE).astype(int)


def grouped(n, seed=0, shift=0.0, share=0.5):
    """The same in two groups, the north unsafe from .7 lower on: equal margins mean other risks there."""
    rng = np.random.default_rng([seed, 7])
    north = rng.random(n) < share
    y = rng.normal(size=(n, 1))
    limit = EDGE - shift - 0.7 * north
    label = (y[:, 0] + NOISE * rng.normal(size=n) > limit).astype(int)
    return y, label, np.where(north, "north", "south")


def grouped_guard(threshold=0.1, n=6000, **keywords):
    """A guard under a constraint over the two groups."""
    y, label, group = grouped(n)
    made = SafetyGuard(
        model, classifier, InternalTestData(y, label, group=group), threshold, -99.0, **keywords
    )
    made.calibrate()
    return made


def model(y):
    return 10.0 * y[:, 0]


def classifier(y):
    """One score, a margin: the measurement."""
    return y[:, 0]


def risk(tau, shift=0.0):
    """P(unsafe | margin < tau), exactly, by quadrature."""
    if tau == -np.inf:
        return 0.0
    grid = np.linspace(-8.0, min(tau, 8.0), 4001)
    density = stats.norm.pdf(grid)
    unsafe = stats.norm.sf((EDGE - shift - grid) / NOISE)
    return float(np.trapezoid(density * unsafe, grid) / stats.norm.cdf(tau))


def calibrated(n=4000, threshold=0.05, seed=0, **keywords):
    y, label = stream(n, seed)
    made = SafetyGuard(model, classifier, InternalTestData(y, label), threshold, -99.0, **keywords)
    made.calibrate()
    return made
