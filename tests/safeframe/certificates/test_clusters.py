"""Cluster bounds: known answers, brute force over the same tests, what dependence costs, bad input."""

import math

import numpy as np
import pytest
from scipy import stats

from safeframe.certificates import clusters
from safeframe.certificates.cases import Certificate, clopper_pearson_upper
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


def test_certificates_are_the_bounds_with_their_words():
    u, a = np.array([0, 1, 0, 3] * 25), np.full(100, 20)
    assert certify_clusters(u, a, 0.05, 20) == Certificate(
        "P(unsafe | accepted)", betting_upper(u, a, 0.05, 20), 0.95, "the draw of the clusters",
        "the threshold was fixed before; clusters are independent, alike, accept at most 20 cases each, and "
        "were not used for training", 100, 50,
    )  # fmt: skip
    assert certify_clusters(u, a, 0.05, 20, "P(late)").event == "P(late)"
    assert certify_episodes(u, 0.05) == Certificate(
        "P(some unsafe step in an episode)", clopper_pearson_upper(50, 100, 0.05), 0.95,
        "the draw of the episodes",
        "the guard was fixed before; episodes are independent, alike, and were not used for training",
        100, 50,
    )  # fmt: skip
    with pytest.raises(SafeframeError, match="per episode"):
        certify_episodes(np.zeros((2, 2), int), 0.05)
    with pytest.raises(SafeframeError, match="per episode"):
        certify_episodes(np.zeros(0, int), 0.05)


def refuted(r, u, a, m, delta):
    """The two tests of one risk, as their sources write them."""
    y = [(one - r * b) / m + r for one, b in zip(u, a, strict=True)]
    wealth, best, mean, spread, total, squares = 1.0, 1.0, r / 2, r / 4, 0.0, 0.0
    for number, value in enumerate(y, 1):
        gap = max(r - mean, 0.0)
        bet = gap / (spread + gap**2) if spread + gap**2 > 0 else 0.0
        if r < 1.0:
            bet = min(bet, 0.9 / (1.0 - r))
        wealth *= 1.0 + bet * (r - value)
        best = max(best, wealth)
        total += value
        mean = (r / 2 + total) / (number + 1)
        squares += (value - mean) ** 2
        spread = (r / 4 + squares) / (number + 1)
    n, average = len(y), min(max(sum(y) / len(y), 0.0), 1.0)
    below = min(average, r)
    divergence = below * math.log(below / r) if below > 0 else 0.0
    divergence += (1 - below) * (math.log(1 - below) - math.log(1 - r)) if below < 1.0 > r else 0.0
    hoeffding = math.exp(-n * divergence) if r < 1.0 else float(below >= 1.0)
    bentkus = math.e * stats.binom.cdf(math.ceil(n * average - 1e-9), n, r)
    sure = r == 1.0 and any(one < b for one, b in zip(u, a, strict=True))
    return best >= 1 / delta or sure, min(hoeffding, bentkus) <= delta


@pytest.mark.parametrize("seed", range(40))
def test_the_limits_are_the_loop_over_the_grid(seed):
    rng = np.random.default_rng(seed)
    few = seed >= 20  # then the first bets decide
    m, g = int(rng.integers(1, 6)), int(rng.integers(1, 6) if few else rng.integers(5, 60))
    delta = 0.4 if few else 0.1
    a = rng.integers(0, m + 1, g)
    a[0] = max(a[0], 1)
    u = rng.binomial(a, 0.05 * (seed % 6))
    grid = np.geomspace(1.0, 1e-7, 561)
    for which, bound in enumerate((betting_upper, hoeffding_bentkus_upper)):
        limit = 1.0
        for r in grid:
            if not refuted(float(r), u.tolist(), a.tolist(), m, delta)[which]:
                break
            limit = float(r)
        assert bound(u, a, delta, m) == pytest.approx(limit)


def test_a_p_value_that_is_delta_refutes():
    """Three full clusters without an unsafe case: Hoeffding's p-value of r is (1 - r)^3."""
    zero, full = np.zeros(3, int), np.full(3, 4)
    grid = np.geomspace(1.0, 1e-7, 561)[1:]
    deltas = np.exp(-3 * (0.0 - np.log1p(-grid)))
    for r, delta in list(zip(grid, deltas, strict=True))[40:200:20]:
        assert hoeffding_bentkus_upper(zero, full, float(delta), 4) == pytest.approx(r)


@pytest.mark.parametrize("least", [2.0, 0.5, 3e-4, 2e-7, 0.0])
def test_the_walk_ends_at_the_last_refuted_risk_of_the_whole_grid(least):
    asked = []

    def refuted_above(r):
        asked.append(len(r))
        return r > least

    grid = np.geomspace(1.0, 1e-7, 561)
    assert clusters._walk(refuted_above) == min(grid[grid > least], default=1.0)
    assert max(asked) <= 64  # so many clusters times risks are in memory at a time
    assert sum(asked) <= (grid > least).sum() + 64  # and no more is computed than one block beyond


def test_the_bootstrap_draws_by_its_seed():
    u, a = np.array([0, 1, 0, 2, 0, 0]), np.array([3, 4, 1, 5, 2, 0])
    rng = np.random.default_rng(3)
    weight = rng.multinomial(6, np.full(6, 1 / 6), size=200)
    share = [(w @ u) / (w @ a) if w @ a else 1.0 for w in weight]
    assert cluster_bootstrap_upper(u, a, 0.1, seed=3, draws=200) == pytest.approx(np.quantile(share, 0.9))
    alone = cluster_bootstrap_upper(np.array([0, 0]), np.array([0, 1]), 0.3, draws=400)
    assert alone == 0.0
    assert cluster_bootstrap_upper(np.array([0, 0]), np.array([0, 1]), 0.1, draws=400) == 1.0  # none accepted
    all_unsafe = np.array([0, 1])
    assert (
        cluster_bootstrap_upper(all_unsafe, all_unsafe, 0.9, draws=400) == 1.0
    )  # also where one is accepted


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
