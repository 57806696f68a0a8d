"""Certificates where cases come in clusters (episodes, weeks, users) that are independent of one another.

Within a cluster cases may depend on each other in any way, so counting cases as independent is wrong and the
unit is the cluster. With A_g accepted and U_g unsafe accepted cases of cluster g, the risk per accepted case
is E U / E A. For a risk r to be refuted, the variable

    Y_g = (U_g - r A_g) / M + r   in [0, 1],   M >= A_g the most that a cluster can accept,

has mean >= r exactly where E U / E A >= r; so a test of a bounded mean tests r. Walking r from 1 down over a
fixed grid until the first value that is not refuted is fixed-sequence testing: the last refuted r is an upper
limit with confidence 1 - delta, in finite samples. Without any unsafe case and with full clusters it is
1 - delta^(1/n), n clusters: a cluster counts once, however long it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from safeframe.certificates.cases import Certificate, clopper_pearson_upper, first_failure, validate_delta
from safeframe.types import FloatArray, IntArray, SafeframeError

_GRID = np.geomspace(1.0, 1e-7, 561)
_BLOCK = 64  # values of r at a time
_BET = 0.9  # of the largest bet that cannot lose everything


def _validate_clusters(unsafe: IntArray, accepted: IntArray, largest: int | None) -> int:
    if unsafe.ndim != 1 or accepted.shape != unsafe.shape or len(unsafe) == 0:
        raise SafeframeError(
            f"unsafe {unsafe.shape} and accepted {accepted.shape}: expected counts per cluster, (g,) both"
        )
    if ((unsafe < 0) | (unsafe > accepted)).any():
        raise SafeframeError("the counts must satisfy 0 <= unsafe <= accepted in every cluster")
    most = int(accepted.max())
    if largest is None:
        raise SafeframeError("largest is missing: the most cases that ANY cluster can accept, fixed before")
    if largest < max(most, 1):
        raise SafeframeError(f"largest is {largest}, but a cluster has {most} accepted cases")
    return int(largest)


def _walk(refuted: Callable[[FloatArray], np.ndarray]) -> float:
    """The last refuted value of the grid from 1 downwards; 1 if not even the first is."""
    limit = 1.0
    for start in range(0, len(_GRID), _BLOCK):
        part = _GRID[start : start + _BLOCK]
        length = first_failure(refuted(part))
        if length:
            limit = float(part[length - 1])
        if length < len(part):
            break
    return limit


def hoeffding_bentkus_upper(
    unsafe: IntArray, accepted: IntArray, delta: float, largest: int | None = None
) -> float:
    """Upper limit on E U / E A from clusters, by the Hoeffding-Bentkus p-value.

    Source: Bates et al. (2021), doi:10.1145/3478535, section 3.1.3; Bentkus (2004),
    doi:10.1214/009117904000000360.

    Args:
        unsafe: (g,) unsafe accepted cases of each cluster.
        accepted: (g,) accepted cases of each cluster.
        delta: allowed probability of failure, in (0, 1).
        largest: M, the most cases that a cluster can accept, fixed before the data (the episode's length);
            must be given.

    Returns:
        The limit, in [1e-7, 1]; 1 where nothing is refuted.

    Raises:
        SafeframeError: on counts that do not fit, no ``largest``, a cluster above it, or a delta outside (0,
            1).
    """
    from scipy import stats

    u, a = np.asarray(unsafe), np.asarray(accepted)
    m, n = _validate_clusters(u, a, largest), len(np.asarray(unsafe))
    validate_delta(delta)
    mean_unsafe, mean_accepted = u.mean() / m, a.mean() / m

    def refuted(r: FloatArray) -> np.ndarray:
        mean = np.clip(mean_unsafe - r * mean_accepted + r, 0.0, 1.0)
        below = np.minimum(mean, r)
        with np.errstate(divide="ignore", invalid="ignore"):
            low = np.where(below > 0.0, below * np.log(below / r), 0.0)
            high = np.where(below < 1.0, (1.0 - below) * (np.log1p(-below) - np.log1p(-r)), 0.0)
        hoeffding = np.where(r < 1.0, np.exp(-n * (low + high)), below >= 1.0)
        bentkus = math.e * stats.binom.cdf(np.ceil(n * mean - 1e-9), n, r)
        return np.minimum(hoeffding, bentkus) <= delta

    return _walk(refuted)


def betting_upper(unsafe: IntArray, accepted: IntArray, delta: float, largest: int | None = None) -> float:
    """Upper limit on E U / E A from clusters, by a betting martingale.

    Against "the mean of Y is at least r" the wealth is prod_g (1 + l_g (r - Y_g)) with bets l_g in [0, .9 /
    (1 - r)] set from earlier clusters only (predictable plug-in); it exceeds 1 / delta at some time with
    probability at most delta (Ville). Far smaller than Hoeffding-Bentkus where unsafe cases are spread over
    clusters, for it adapts to the variance.

    Source: Waudby-Smith & Ramdas (2023), doi:10.1093/jrsssb/qkad009, sections 3 and 4.

    Args:
        unsafe: (g,) unsafe accepted cases of each cluster, in an order that does not depend on outcomes.
        accepted: (g,) accepted cases of each cluster, in the same order.
        delta: allowed probability of failure, in (0, 1).
        largest: M, the most cases that a cluster can accept, fixed before the data (the episode's length);
            must be given.

    Returns:
        The limit, in [1e-7, 1]; 1 where nothing is refuted.

    Raises:
        SafeframeError: on counts that do not fit, no ``largest``, a cluster above it, or a delta outside (0,
            1).
    """
    u, a = np.asarray(unsafe, np.float64), np.asarray(accepted, np.float64)
    m, n = _validate_clusters(np.asarray(unsafe), np.asarray(accepted), largest), len(u)
    validate_delta(delta)
    time = np.arange(1, n + 1)

    def refuted(r: FloatArray) -> np.ndarray:
        y = (u - r[:, None] * a) / m + r[:, None]  # (values of r, g)
        seen = np.cumsum(y, axis=1)
        mean = (r[:, None] / 2 + seen) / (time + 1)
        spread = (r[:, None] / 4 + np.cumsum(np.square(y - mean), axis=1)) / (time + 1)
        before_mean = np.concatenate([r[:, None] / 2, mean[:, :-1]], axis=1)
        before_spread = np.concatenate([r[:, None] / 4, spread[:, :-1]], axis=1)
        gap = np.maximum(r[:, None] - before_mean, 0.0)
        bet = gap / (before_spread + np.square(gap))
        with np.errstate(divide="ignore"):
            bet = np.minimum(bet, _BET / (1.0 - r[:, None]))
        wealth = np.cumsum(np.log1p(bet * (r[:, None] - y)), axis=1)
        sure = (r == 1.0) & (u < a).any()  # a risk of 1 is refuted by one safe case
        return (wealth.max(axis=1) >= -math.log(delta)) | sure

    return _walk(refuted)


def cluster_bootstrap_upper(
    unsafe: IntArray, accepted: IntArray, delta: float, seed: int = 0, draws: int = 2000
) -> float:
    """Percentile bootstrap limit on E U / E A, resampling clusters. Asymptotic: no finite-sample guarantee.

    With few or no unsafe clusters it is far too small (0 where none was seen); it is here to be compared.

    Source: Davison & Hinkley (1997), sections 2.4 and 5.3.1.

    Args:
        unsafe: (g,) unsafe accepted cases of each cluster.
        accepted: (g,) accepted cases of each cluster.
        delta: allowed probability of failure, in (0, 1).
        seed: of the resampling.
        draws: number of resamples.

    Returns:
        The limit, in [0, 1].

    Raises:
        SafeframeError: on counts that do not fit, or a delta outside (0, 1).
    """
    u, a = np.asarray(unsafe), np.asarray(accepted)
    _validate_clusters(u, a, max(int(a.max(initial=0)), 1))
    validate_delta(delta)
    rng = np.random.default_rng(seed)
    weight = rng.multinomial(len(u), np.full(len(u), 1.0 / len(u)), size=draws)
    total = weight @ a
    share = np.where(total > 0, weight @ u / np.maximum(total, 1), 1.0)
    return float(np.quantile(share, 1.0 - delta))


def certify_clusters(
    unsafe: IntArray, accepted: IntArray, delta: float, largest: int, event: str = "P(unsafe | accepted)"
) -> Certificate:
    """Certificate on E U / E A, the risk per accepted case, by :func:`betting_upper`.

    Args:
        unsafe: (g,) unsafe accepted cases of each cluster, in an order that does not depend on outcomes.
        accepted: (g,) accepted cases of each cluster, in the same order.
        delta: allowed probability of failure, in (0, 1).
        largest: the most cases that a cluster can accept, fixed before the data.
        event: the probability that is bounded, in words.

    Returns:
        The certificate; ``n`` counts clusters, ``k`` those with an unsafe case.

    Raises:
        SafeframeError: on counts that do not fit, a cluster above ``largest``, or a delta outside (0, 1).
    """
    u, a = np.asarray(unsafe), np.asarray(accepted)
    return Certificate(
        event=event,
        value=betting_upper(u, a, delta, largest),
        confidence=1.0 - delta,
        random="the draw of the clusters",
        assumed=f"the threshold was fixed before; clusters are independent, alike, accept at most {largest} "
        "cases each, and were not used for training",
        n=len(u),
        k=int((u > 0).sum()),
    )


def certify_episodes(unsafe: IntArray, delta: float) -> Certificate:
    """Certificate on P(an episode holds an unsafe step): Clopper-Pearson, unit the episode.

    Args:
        unsafe: (g,) unsafe steps of each episode, >= 0.
        delta: allowed probability of failure, in (0, 1).

    Returns:
        The certificate; ``n`` counts episodes, ``k`` those with an unsafe step.

    Raises:
        SafeframeError: on counts that do not fit, no episode, or a delta outside (0, 1).
    """
    u = np.asarray(unsafe)
    if u.ndim != 1 or len(u) == 0 or (u < 0).any():
        raise SafeframeError(f"unsafe has shape {u.shape}; expected counts >= 0 per episode, (g,)")
    k = int((u > 0).sum())
    return Certificate(
        event="P(some unsafe step in an episode)",
        value=clopper_pearson_upper(k, len(u), delta),
        confidence=1.0 - delta,
        random="the draw of the episodes",
        assumed="the guard was fixed before; episodes are independent, alike, and were not used for training",
        n=len(u),
        k=k,
    )
