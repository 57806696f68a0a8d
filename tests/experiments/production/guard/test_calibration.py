"""From margins to gates: the measured radius, what it promises, and the certificate."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.production.guard.calibration import calibrate, certified_gates, odd_weeks
from safeframe.informativeness import radius_between
from safeframe.risk_curve import RiskCurve
from safeframe.types import SafeframeError

HOUR = np.arange(52 * 168)
LEVELS = [1e-4, 1e-3, 1e-2, 0.1, 1.0]


def margins(seed: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Margins and labels of a year; in odd weeks all margins lie lower by `shift`."""
    rng = np.random.default_rng(seed)
    label = (rng.random(len(HOUR)) < 0.2).astype(np.int64)
    margin = rng.normal(size=len(HOUR)) + 4.0 * label - 2.0
    return margin - shift * ((HOUR // 168) % 2), label


def test_radius_finds_a_known_shift_between_weeks():
    label = np.tile([0, 1], len(HOUR) // 2)
    # the same margins in every week, but for the shift: the radius is exactly shift / sqrt(2)
    margin = np.tile(np.linspace(-3, 3, 168), 52) - 0.7 * ((HOUR // 168) % 2)
    assert radius_between(margin, label, odd_weeks(HOUR), np.inf, 0.0) == pytest.approx(0.7 / np.sqrt(2))
    assert radius_between(margin, label, odd_weeks(HOUR), np.inf, 0.5) <= 0.7 / np.sqrt(2)


def test_radius_is_that_of_the_reach():
    margin, label = margins(0, shift=0.5)
    radii = [radius_between(margin, label, odd_weeks(HOUR), reach, 1e-3) for reach in (-2.0, 0.0, np.inf)]
    assert radii == sorted(radii)


def test_looser_levels_never_accept_less_and_bounds_hold():
    margin, label = margins(1, shift=0.3)
    chosen = calibrate(margin, label, HOUR, LEVELS, None, 0.5)
    taus = [product.threshold.tau for product in chosen]
    assert taus == sorted(taus)
    feasible = [product.threshold.feasible for product in chosen]
    assert feasible == [False, True, True, True, True]  # 1e-4 needs more unsafe hours than there are
    plain = RiskCurve(margin, label)
    for r_t, product in list(zip(LEVELS, chosen, strict=True))[1:]:
        assert product.threshold.bound <= r_t
        assert plain.bound(product.threshold.tau) <= r_t
        assert product.threshold.tau <= plain.largest_threshold(r_t).tau


def test_fixed_radius_is_the_plain_curve():
    margin, label = margins(2)
    for r_t, product in zip(LEVELS, calibrate(margin, label, HOUR, LEVELS, 0.1, 0.5), strict=True):
        assert product.threshold.tau == RiskCurve(margin, label, radius=0.1).largest_threshold(r_t).tau
        assert product.radius == 0.1


def test_conservative_choice_is_safer_when_weeks_differ():
    """Calibrated on a year whose weeks differ, used in a year of lower weeks only: the plug-in choice breaks
    its promise there, the conservative one keeps it.
    """
    failures = {"plain": 0, "measured": 0}
    for seed in range(20):
        margin, label = margins(seed, shift=0.4)
        later, later_label = margins(1000 + seed)
        later = later - 0.4
        for name, radius in (("plain", 0.0), ("measured", None)):
            tau = calibrate(margin, label, HOUR, [1e-2], radius, 0.5)[0].threshold.tau
            failures[name] += later_label[later < tau].mean() > 1e-2
    assert failures["plain"] >= 18
    assert failures["measured"] <= 2


def test_nothing_can_be_accepted():
    label = np.tile([0, 1], len(HOUR) // 2)
    margin = np.where(label == 1, -1.0, 1.0) + 1e-3 * np.random.default_rng(0).normal(size=len(HOUR))
    chosen = calibrate(margin, label, HOUR, [1e-3], None, 0.5)[0]
    assert chosen.threshold.tau == -np.inf


def test_too_few_unsafe_hours_for_a_strict_level_refuse_it():
    """Classes far apart, so that no unsafe hour is ever accepted: what remains is how many were seen."""
    label = np.tile([0, 1], len(HOUR) // 2)
    margin = 20.0 * label - 10.0 + np.random.default_rng(0).normal(size=len(HOUR))
    resolved = 1 / (label.sum() + 1)  # about 2.3e-4
    chosen = calibrate(margin, label, HOUR, [resolved / 4, resolved * 4], None, 0.5)
    assert [product.threshold.tau > -np.inf for product in chosen] == [False, True]
    assert calibrate(margin, label, HOUR, [resolved / 4], 0.0, 0.5)[0].threshold.tau > -np.inf


def test_a_class_absent_from_some_weeks_is_an_error():
    label = ((HOUR // 168) % 2).astype(np.int64)
    with pytest.raises(SafeframeError, match="sample is empty"):
        radius_between(np.zeros(len(HOUR)), label, odd_weeks(HOUR), np.inf, 0.0)


def test_certified_gates_keep_their_promise_and_refuse_what_needs_more_cases():
    broken = 0
    for seed in range(60):
        (test, label), (other, _), (use, use_label) = margins(seed), margins(100 + seed), margins(200 + seed)
        gate = certified_gates(use[:, None], test[:, None], other[:, None], label[:, None], 1e-2, 0.1)
        broken += use_label[gate[:, 0]].mean() > 1.5e-2 if gate.any() else 0
    assert gate.any()
    assert broken <= 6
    refused = certified_gates(use[:, None], test[:, None], other[:, None], label[:, None], 1e-4, 0.05)
    assert not refused.any()
