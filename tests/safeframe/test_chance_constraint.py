import numpy as np
import pytest

from safeframe.chance_constraint import (
    ChanceConstraint,
    empirical_prior,
    validate_prior,
    validate_radius,
    validate_threshold,
)
from safeframe.types import SafeframeError


@pytest.mark.parametrize("r_t", [1.0, 1e-4, 0.5, np.float32(0.5), "1e-3"])
def test_thresholds_in_the_unit_interval_pass(r_t):
    assert validate_threshold(r_t) == float(r_t)


@pytest.mark.parametrize("r_t", [0.0, -1e-9, 1.0000001, np.nan, np.inf, None, "x", [0.1, 0.2]])
def test_other_thresholds_are_refused_naming_the_place(r_t):
    with pytest.raises(SafeframeError, match="my setting"):
        validate_threshold(r_t, "my setting")
    with pytest.raises(SafeframeError, match="'burn'"):
        ChanceConstraint(r_t, name="burn")


def test_priors():
    np.testing.assert_allclose(validate_prior(0.2), [0.8, 0.2])
    np.testing.assert_allclose(validate_prior([0.2, 0.3, 0.5], 3), [0.2, 0.3, 0.5])
    for prior, classes in [(0.2, 3), ([0.5, 0.6], 2), ([1.2, -0.2], 2), (np.nan, 2), ([0.5, 0.5], 3)]:
        with pytest.raises(SafeframeError, match="prior"):
            validate_prior(prior, classes)
    np.testing.assert_allclose(empirical_prior(np.array([0, 1, 1, 3]), 4), [0.25, 0.5, 0.0, 0.25])
    for label in ([], [2], [-1]):
        with pytest.raises(SafeframeError, match="label"):
            empirical_prior(np.array(label, dtype=int), 2)


@pytest.mark.parametrize("radius", [-1e-9, np.nan, np.inf, "x", None])
def test_bad_radius_is_refused(radius):
    with pytest.raises(SafeframeError, match="radius"):
        validate_radius(radius)


def test_constraint_adds_up_its_unsafe_states():
    constraint = ChanceConstraint(0.1, unsafe_classes=(1, 2))
    posterior = np.array([[0.9, 0.0], [0.05, 0.7], [0.05, 0.6]])
    np.testing.assert_allclose(constraint.violation_probability(posterior), [0.1, 1.0])
    np.testing.assert_allclose(constraint.prior_vector(np.array([0, 1, 2, 2]), 3), [0.25, 0.25, 0.5])
    np.testing.assert_allclose(ChanceConstraint(0.1, 0.3).prior_vector(np.array([0, 1])), [0.7, 0.3])
    with pytest.raises(SafeframeError, match="no class 2"):
        constraint.prior_vector(np.array([0, 1]), 2)
    for classes in ((), (1, 1), (-1,)):
        with pytest.raises(SafeframeError, match="unsafe_classes"):
            ChanceConstraint(0.1, unsafe_classes=classes)
