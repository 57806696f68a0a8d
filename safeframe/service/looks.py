"""Tests that stay valid however often one looks: e-processes for "the risk at this threshold exceeds r_t".

For a threshold t that was fixed beforehand and cases that count for it by a rule that looks back only, the
ratio of likelihoods (q / r)^k ((1 - q) / (1 - r))^(n - k), averaged over alternatives q < r, is a
supermartingale where the risk is at least r. By Ville's inequality it ever exceeds 1 / delta with probability
at most delta: at any number of looks, at any moments, also where thresholds in force depend on earlier
labels.

Sources: Ville (1939); Ramdas, Grunwald, Vovk & Shafer (2023), doi:10.1214/23-STS894; fixed sequences from
several starts: Learn then Test, Angelopoulos et al. (2021), arXiv 2110.01052.
"""

from __future__ import annotations

import math

import numpy as np

from safeframe.certificates.cases import cases_needed, first_failure, validate_delta
from safeframe.chance_constraint import validate_threshold
from safeframe.types import BoolArray, FloatArray, IntArray, SafeframeError

_SHARES = np.array([0.0, 0.125, 0.25, 0.5, 0.75])  # alternatives, as shares of r
_STARTS = 10


def log_e_value(n: IntArray, k: IntArray, r: float) -> FloatArray:
    """Logarithm of the evidence against "the risk is at least r".

    Args:
        n: cases, of any shape.
        k: unsafe ones among them, of the same shape.
        r: probability in (0, 1].

    Returns:
        Shaped like ``n``; 0 where there are no cases.

    Raises:
        SafeframeError: on counts that do not fit, or an r outside (0, 1].
    """
    risk, n, k = validate_threshold(r), np.asarray(n), np.asarray(k)
    if ((k < 0) | (k > n)).any():
        raise SafeframeError("the counts must satisfy 0 <= k <= n")
    if risk == 1.0:
        return np.where(n > k, np.inf, 0.0)
    q = _SHARES * risk
    safe = (n - k)[..., None] * (np.log1p(-q) - np.log1p(-risk))
    with np.errstate(divide="ignore"):
        one = np.log(_SHARES)
    unsafe = np.where(k[..., None] > 0, k[..., None] * np.where(np.isfinite(one), one, -1e300), 0.0)
    parts = safe + unsafe
    top = parts.max(axis=-1)
    return top + np.log(np.exp(parts - top[..., None]).mean(axis=-1))


def spent(delta: float, look: int) -> float:
    """The part of delta that one of infinitely many statements gets: 6 delta / (pi^2 (look + 1)^2).

    Args:
        delta: of all statements together, in (0, 1).
        look: number of the statement, from 0.

    Returns:
        Its delta; all of them sum to ``delta``.

    Raises:
        SafeframeError: on a delta outside (0, 1).
    """
    return 6.0 * validate_delta(delta) / (math.pi * (look + 1)) ** 2


def fewest(r: float, delta: float) -> int:
    """The least number of cases, none of them unsafe, with which a threshold can pass.

    Args:
        r: probability in (0, 1].
        delta: allowed probability of failure, in (0, 1).

    Returns:
        The number.

    Raises:
        SafeframeError: on an r outside (0, 1] or a delta outside (0, 1).
    """
    wanted = math.log(_STARTS / validate_delta(delta))
    few, enough = 0, cases_needed(r, delta / (_STARTS * len(_SHARES)))  # by the alternative 0 alone
    while enough - few > 1:
        n = (few + enough) // 2
        passes = log_e_value(np.array(n), np.array(0), r) >= wanted
        few, enough = (few, n) if passes else (n, enough)
    return enough


def passing(n: IntArray, k: IntArray, r: float, delta: float) -> BoolArray:
    """Which of a fixed list of thresholds have a certified risk.

    Fixed sequences from several starts, which share delta: each goes upwards until a test fails, and what one
    of them passed is certified. All that is passed holds together with probability 1 - delta, at all looks
    together.

    Args:
        n: (t,) cases that count for each threshold; strict thresholds first.
        k: (t,) unsafe ones among them.
        r: probability in (0, 1].
        delta: allowed probability of failure, in (0, 1).

    Returns:
        (t,) bool.

    Raises:
        SafeframeError: on counts that do not fit, an r outside (0, 1] or a delta outside (0, 1).
    """
    starts = np.unique(np.linspace(0, len(n) - 1, _STARTS).round().astype(int))
    passed = log_e_value(n, k, r) >= math.log(len(starts) / validate_delta(delta))
    certified = np.zeros(len(passed), dtype=bool)
    for start in starts.tolist():
        certified[start : start + first_failure(passed[start:])] = True
    return certified
