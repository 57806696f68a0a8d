"""A known problem for the tests of SafetyGuard."""

import numpy as np

from safeframe.guard.safety_guard import SafetyGuard
from safeframe.internal_test import InternalTestData

N, C = 2000, 5


def problem(n=N, seed=0):
    """Measurement (n, 3); the action doubles it; unsafe where the first coordinate plus noise exceeds 1."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(n, 3))
    return y, (y[:, 0] + 0.5 * rng.normal(size=n) > 1.0).astype(int)


def model(y):
    return 2.0 * y


def classifier(y):
    return np.stack([0.0 * y[:, 0], 3.0 * (y[:, 0] - 1.0)], axis=-1)


def margin(y):
    return 3.0 * (y[:, 0] - 1.0)


def candidates(n=N, seed=0):
    """Candidates (n, C); a riskier candidate scores higher; labels (n, C)."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(n, C))
    return y, (y + 0.5 * rng.normal(size=(n, C)) > 1.0).astype(int)


def candidate_model(y):
    return y[..., None] * np.ones(2), y


def candidate_classifier(y):
    return np.stack([0.0 * y, 3.0 * (y - 1.0)], axis=-1)


def guard(threshold=0.05, **keywords):
    y, label = problem()
    keywords.setdefault("internal_test", InternalTestData(y, label))
    keywords.setdefault("default_action", 0.0)
    return SafetyGuard(
        keywords.pop("model", model), keywords.pop("classifier", classifier), threshold=threshold, **keywords
    )


def calibrated(**keywords):
    made = guard(**keywords)
    made.calibrate()
    return made
