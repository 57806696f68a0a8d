"""Cluster bounds: known answers, brute force over the same tests, what dependence costs, bad input."""

import math

import numpy as np
import pytest
from scipy import stats

from safeframe.certificates.cases import clopper_pearson_upper
from safeframe.certificates.clusters import (
    betting_upper,
    certify_clusters,
    certify_episodes,
    cluster_bootstrap_upper,
    hoeffding_bentkus_upper,
)
from safeframe.types import SafeframeError

BOUNDS = (hoeffding_bentkus_upper, betting_upper)


@pytest.mark.parametrize("size", [1, 30])
def test_no_unsafe_case_counts_every_cluster_once(size):
    """Full clusters of any length without an unsafe case: Y = 0, so 1 - delta^(1/n), up to the grid."""
    zero, full = np.zeros(200, int), np.full(200, size)
    exact = 1 - 0.05 ** (1 / 200)
    assert exact <= hoeffding_bentkus_upper(zero, full, 0.05, size) <= exact * 1.04
    assert exact <= betting_upper(zero, full, 0.05, size) <= exact * 1.15


@pytest.mark.parametrize("bound", BOUNDS)
def test_limit_lies_above_the_share_and_shrinks_with_clusters(bound):
    rng = np.random.default_rng(0)
    limits = []
    for g in (50, 500, 5000):
        a = rng.integers(10, 21, g)
        u = rng.binomial(a, 0.05)
        limits.append(bound(u, a, 0.05, 20))
        assert limits[-1] > u.sum() / a.sum()
    assert limits == sorted(limits, reverse=True)
    assert limits[-1] < 0.07


def test_betting_is_tighter_where_unsafe_cases_are_spread():
    rng = np.random.default_rng(1)
    a = np.full(300, 50)
    u = rng.binomial(a, 0.02)
    assert betting_upper(u, a, 0.05, 50) < 0.8 * hoeffding_bentkus_upper(u, a, 0.05, 50)


def test_single_cases_are_close_to_clopper_pearson():
    u = np.zeros(2000, int)
    u[::100] = 1
    exact = clopper_pearson_upper(20, 2000, 0.05)
    assert exact <= hoeffding_bentkus_upper(u, np.ones(2000, int), 0.05, 1) <= 1.15 * exact


def test_hoeffding_bentkus_is_the_p_value_written_out():
    u, a, m, delta = np.array([0, 1, 0, 2, 0] * 30), np.array([5, 8, 10, 9, 4] * 30), 10, 0.1
    found = hoeffding_bentkus_upper(u, a, delta, m)

    def p_value(r):
        y = float(np.mean((u - r * a) / m + r))
        kl = y * math.log(y / r) + (1 - y) * math.log((1 - y) / (1 - r)) if 0 < y < r else 0.0
        return min(math.exp(-len(u) * kl), math.e * stats.binom.cdf(math.ceil(len(u) * y), len(u), r))

    step = 10 ** (7 / 560)  # of the grid
    assert p_value(found) <= delta
    assert p_value(found / step) > delta
    assert all(p_value(r) <= delta for r in found * step ** np.arange(1, 50) if r < 1)


def test_all_unsafe_is_one_and_one_safe_case_is_not():
    full = np.full(50, 4)
    for bound in BOUNDS:
        assert bound(full, full, 0.05, 4) == 1.0


def test_bootstrap_knows_nothing_of_what_was_not_seen():
    assert cluster_bootstrap_upper(np.zeros(30, int), np.full(30, 5), 0.05) == 0.0
    u, a = np.tile([0, 1], 200), np.full(400, 5)
    assert 0.1 < cluster_bootstrap_upper(u, a, 0.05) < 0.12


def test_certificates_say_their_unit():
    u, a = np.array([0, 1, 0, 3] * 25), np.full(100, 20)
    per_case = certify_clusters(u, a, 0.05, 20)
    assert per_case.n == 100
    assert per_case.k == 50
    assert "clusters are independent" in per_case.assumed
    per_episode = certify_episodes(u, 0.05)
    assert per_episode.value == clopper_pearson_upper(50, 100, 0.05)
    assert "episode" in per_episode.event


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize(
    ("u", "a", "largest", "message"),
    [
        ([0, 1], [1], 5, "per cluster"),
        ([], [], 5, "per cluster"),
        ([2], [1], 5, "0 <= unsafe"),
        ([0], [6], 5, "largest is 5"),
        ([0], [1], None, "largest is missing"),
    ],
)
def test_cluster_bad_input(bound, u, a, largest, message):
    with pytest.raises(SafeframeError, match=message):
        bound(np.array(u, int), np.array(a, int), 0.05, largest)


def test_more_bad_input():
    with pytest.raises(SafeframeError, match="delta"):
        betting_upper(np.array([0]), np.array([1]), 1.5, 1)
    with pytest.raises(SafeframeError, match="per episode"):
        certify_episodes(np.array([-1]), 0.05)
