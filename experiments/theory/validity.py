"""How often every certificate fails, counted on known laws, beside what fails more often than it says.

A certificate at delta may fail in a share delta of the draws. `guaranteed` says which rows promise that; the
others are here to show the count can tell. Dependent data: clusters of cases that share a risk, drawn from a
Beta law, so that cases of one cluster are alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from experiments.theory.certificates import TAU, TAUS, draw_counts, last, start, true_risk, upper_limits
from experiments.theory.config import CertificatesConfig
from safeframe.certificates.cases import (
    bonferroni,
    bonferroni_search,
    certify_posterior,
    clopper_pearson_upper,
    fixed_sequence,
)
from safeframe.certificates.clusters import betting_upper, cluster_bootstrap_upper, hoeffding_bentkus_upper
from safeframe.coverage.coverage_guard import tolerance_rank
from safeframe.label_noise import LabelNoise

CLUSTERS, CLUSTER_SIZE, CLUSTER_RISK, ALIKE = 100, 50, 0.02, 1.0
"""Clusters per draw, cases of each, mean risk, and Beta(ALIKE risk, ALIKE (1 - risk)): smaller is more
alike.
"""


def run(config: CertificatesConfig, rng: np.random.Generator) -> pd.DataFrame:
    """One row per certificate: draws, failures, delta."""
    rows: list[dict[str, Any]] = []

    def count(name: str, failed: np.ndarray, guaranteed: bool, size: float = np.nan) -> None:
        rows.append(
            {
                "certificate": name,
                "delta": config.delta,
                "repeats": len(failed),
                "failures": int(failed.sum()),
                "guaranteed": guaranteed,
                "median_over_truth": size,
            }
        )

    _fixed_threshold(config, rng, count)
    _chosen_threshold(config, rng, count)
    _constraints(config, rng, count)
    _noise(config, rng, count)
    _clusters(config, rng, count)
    _coverage(config, rng, count)
    return pd.DataFrame(rows)


def _fixed_threshold(config: CertificatesConfig, rng: np.random.Generator, count: Callable) -> None:
    truth, n = float(true_risk(np.array(TAU))), 5000
    unsafe, safe, all_unsafe = (x.reshape(config.repeats, -1)[:, 0] for x in
                                draw_counts(rng, n, np.array([TAU]), config.repeats))  # fmt: skip
    limit = upper_limits(unsafe, unsafe + safe, config.delta)
    count("Clopper-Pearson", limit < truth, True, float(np.median(limit) / truth))
    count("plug-in share", unsafe < truth * (unsafe + safe), False)
    pairs, inverse = np.unique(
        np.column_stack([unsafe, all_unsafe, safe])[: min(config.repeats, 3000)], axis=0, return_inverse=True
    )
    prior = float(true_risk(np.array(9.0)))
    value = np.array(
        [certify_posterior(a, b, c, n - b, prior, config.delta).value for a, b, c in pairs.tolist()]
    )
    drawn = value[inverse.reshape(-1)]
    count("posterior, two Clopper-Pearson", drawn < truth, True, float(np.median(drawn) / truth))


def _chosen_threshold(config: CertificatesConfig, rng: np.random.Generator, count: Callable) -> None:
    n, repeats = 5000, min(config.repeats, 5000)
    truth = true_risk(TAUS)
    unsafe, safe, _ = draw_counts(rng, n, TAUS, repeats)
    accepted, begin = unsafe + safe, start(n, config)
    # r_t on a true risk of the grid, so that the next threshold is only just unsafe: the hardest case
    r_t = float(truth[np.searchsorted(truth, config.r_t)]) * 0.999

    def broken(index: list[int | None], offset: int) -> np.ndarray:
        return np.array([i is not None and bool(truth[i + offset] > r_t) for i in index])

    sequence = [
        fixed_sequence(a, k, r_t, config.delta)
        for a, k in zip(accepted[:, begin:], unsafe[:, begin:], strict=True)
    ]
    count("fixed sequence", broken(sequence, begin), True)
    # Flat: 15 thresholds with the same true risk just above r_t, so that a search has 15 chances to err.
    share, risk, r_t, n = np.full(15, 0.06), 0.0502, 0.05, 3000
    drawn = rng.multinomial(n, np.append(share, 1 - share.sum()), repeats)[:, :15]
    bad = rng.binomial(drawn, risk)
    accepted, unsafe, truth = np.cumsum(drawn, axis=1), np.cumsum(bad, axis=1), np.full(15, risk)
    pairs = list(zip(accepted, unsafe, strict=True))
    count(
        "fixed sequence, flat risk",
        broken([fixed_sequence(a, k, r_t, config.delta) for a, k in pairs], 0),
        True,
    )
    searched = [bonferroni_search(a, k, r_t, config.delta) for a, k in pairs]
    count("Bonferroni search, flat risk", broken(searched, 0), True)
    naive = last(upper_limits(unsafe, accepted, config.delta) <= r_t)
    count("uncorrected search, flat risk", naive >= 0, False)


def _constraints(config: CertificatesConfig, rng: np.random.Generator, count: Callable) -> None:
    statements, n, risk = 8, 500, 0.02
    k = rng.binomial(n, risk, (config.repeats, statements))
    for name, delta, promised in (
        ("8 constraints, Bonferroni", bonferroni(config.delta, statements), True),
        ("8 constraints, uncorrected", config.delta, False),
    ):
        limit = np.array([clopper_pearson_upper(int(v), n, delta) for v in range(k.max() + 1)])
        count(name, (limit[k] < risk).any(axis=1), promised, float(np.median(limit[k]) / risk))


def _noise(config: CertificatesConfig, rng: np.random.Generator, count: Callable) -> None:
    noise, n, risk = LabelNoise(0.02, 0.1), 5000, 0.03
    k = rng.binomial(n, float(noise.labelled_share(risk)), config.repeats)
    values = np.unique(k)
    table = {int(v): noise.certify(n, int(v), config.delta).value for v in values}
    limit = np.array([table[int(v)] for v in k])
    count("flipped labels, corrected", limit < risk, True, float(np.median(limit) / risk))
    hidden = LabelNoise(0.0, 0.4)  # unsafe cases that pass as safe: uncorrected, the limit is too small
    k = rng.binomial(n, float(hidden.labelled_share(risk)), config.repeats)
    count("flipped labels, uncorrected", upper_limits(k, np.full_like(k, n), config.delta) < risk, False)


def clusters(rng: np.random.Generator, alike: float = ALIKE) -> tuple[np.ndarray, np.ndarray]:
    """(unsafe, accepted) per cluster; accepted varies between clusters and goes with the risk."""
    risk = rng.beta(alike * CLUSTER_RISK, alike * (1 - CLUSTER_RISK), CLUSTERS)
    accepted = rng.binomial(CLUSTER_SIZE, 0.8 - 0.3 * risk)
    return rng.binomial(accepted, risk), accepted


def cluster_truth(alike: float = ALIKE) -> float:
    """E unsafe / E accepted of :func:`clusters`: with risk R, E[R (.8 - .3 R)] / E[.8 - .3 R]."""
    mean = CLUSTER_RISK
    square = mean * (1 - mean) / (alike + 1) + mean**2
    return (0.8 * mean - 0.3 * square) / (0.8 - 0.3 * mean)


def _clusters(config: CertificatesConfig, rng: np.random.Generator, count: Callable) -> None:
    truth = cluster_truth()
    names = {
        "clusters, Hoeffding-Bentkus": (lambda u, a, d: hoeffding_bentkus_upper(u, a, d, CLUSTER_SIZE), True),
        "clusters, betting": (lambda u, a, d: betting_upper(u, a, d, CLUSTER_SIZE), True),
        "clusters, bootstrap": (lambda u, a, d: cluster_bootstrap_upper(u, a, d, draws=300), False),
        "clusters, as if independent": (
            lambda u, a, d: clopper_pearson_upper(int(u.sum()), int(a.sum()), d),
            False,
        ),
    }
    limits = {name: np.empty(config.cluster_repeats) for name in names}
    for i in range(config.cluster_repeats):
        unsafe, accepted = clusters(rng)
        for name, (bound, _) in names.items():
            limits[name][i] = bound(unsafe, accepted, config.delta)
    for name, (_, promised) in names.items():
        count(name, limits[name] < truth, promised, float(np.median(limits[name]) / truth))


def _coverage(config: CertificatesConfig, rng: np.random.Generator, count: Callable) -> None:
    epsilon, n = 0.02, 500
    rank = tolerance_rank(n, epsilon, config.delta)
    assert rank is not None
    # The share of new distances above the rank-th of n is Beta(n - rank + 1, rank): any continuous law.
    fires = rng.beta(n - rank + 1, rank, config.repeats)
    count("coverage radius, tolerance limit", fires > epsilon, True, float(np.median(fires) / epsilon))
    plain = int(np.ceil((1 - epsilon) * n))
    count("coverage radius, plain quantile", rng.beta(n - plain + 1, plain, config.repeats) > epsilon, False)
