"""What the guarantee is sensitive to: the prior, flipped labels, xi, n_t, many constraints.

All on the law of `certificates`: standard normal margins, logistic risk, truth by quadrature; thresholds are
chosen for r_t on drawn internal test data and judged by their true risk.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from experiments.theory.certificates import masses_below, true_risk, unsafe_probability
from experiments.theory.config import SensitivityConfig
from safeframe import RiskCurve
from safeframe.certificates.cases import bonferroni, certify_threshold
from safeframe.label_noise import LabelNoise, NoisyRiskCurve

PRIOR_FACTORS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
NOISES = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1)
HIDDEN = (0.0, 0.1, 0.3, 0.5)
"""Shares of the unsafe cases that are labelled safe, none the other way round: what makes labels
optimistic.
"""
RADII = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)
SIZES = (300, 1000, 3000, 10_000, 30_000, 100_000)
CONSTRAINTS = (1, 2, 4, 8, 16, 32, 64)
DELTA = 0.1
_LEAST = 100
_SEQUENCE = np.round(np.linspace(-1.0, 1.0, 41), 10)


def cases(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(margin (n,), unsafe (n,) bool)."""
    margin = rng.normal(size=n)
    return margin, rng.random(n) < unsafe_probability(margin)


def judged(tau: np.ndarray, r_t: float) -> dict[str, float]:
    """True risk over r_t and acceptance of thresholds (trials,); risk 0 where nothing is accepted."""
    risk = np.zeros(len(tau))
    open_ = tau > -np.inf
    risk[open_] = true_risk(tau[open_])
    unsafe, safe = masses_below(np.where(open_, tau, -9.0))
    over = risk / r_t
    low, middle, high = np.quantile(over, [0.05, 0.5, 0.95])
    return {"mean": float(over.mean()), "low": low, "median": middle, "high": high,
            "broken": float((over > 1 + 1e-9).mean()), "acceptance": float((unsafe + safe).mean()),
            "trials": len(tau)}  # fmt: skip


def run(config: SensitivityConfig, rng: np.random.Generator) -> pd.DataFrame:
    """One row per sensitivity, setting and variant: true risk over r_t (quantiles over draws), acceptance."""
    rows: list[dict[str, Any]] = []
    for factor in PRIOR_FACTORS:
        rows.append({"what": "prior", "variant": "plug-in", "at": factor, **_prior(config, rng, factor)})
    for eta in NOISES:
        for variant, tau in _noise(config, rng, LabelNoise(eta, eta)).items():
            rows.append({"what": "label noise", "variant": variant, "at": eta, **judged(tau, config.r_t)})
    for share in HIDDEN:
        for variant, tau in _noise(config, rng, LabelNoise(0.0, share)).items():
            rows.append({"what": "hidden unsafe", "variant": variant, "at": share, **judged(tau, config.r_t)})
    for xi in RADII:
        tau = _plug_in(config, rng, config.n_t, xi)
        rows.append({"what": "xi", "variant": "plug-in", "at": xi, **judged(tau, config.r_t)})
    for n in SIZES:
        for variant, tau in _size(config, rng, n).items():
            rows.append({"what": "n_t", "variant": variant, "at": n, **judged(tau, config.r_t)})
    return pd.DataFrame(rows)


def _plug_in(
    config: SensitivityConfig, rng: np.random.Generator, n: int, xi: float = 0.0, factor: float = 1.0
) -> np.ndarray:
    found = np.empty(config.trials)
    for i in range(config.trials):
        margin, unsafe = cases(rng, n)
        if not unsafe.any():
            found[i] = -np.inf  # refused: the guard asks for unsafe cases
            continue
        prior = float(np.clip(unsafe.mean() * factor, 1e-9, 1 - 1e-9))
        found[i] = RiskCurve(margin, unsafe, prior, radius=xi).largest_threshold(config.r_t).tau
    return found


def _prior(config: SensitivityConfig, rng: np.random.Generator, factor: float) -> dict[str, float]:
    """The user's prior is `factor` times the true one."""
    return judged(_plug_in(config, rng, config.n_t, factor=factor), config.r_t)


def _noise(config: SensitivityConfig, rng: np.random.Generator, noise: LabelNoise) -> dict[str, np.ndarray]:
    """Thresholds from labels that flip."""
    names = ("uncorrected", "corrected plug-in", "corrected certificate")
    found = {name: np.full(config.trials, -np.inf) for name in names}
    for i in range(config.trials):
        margin, unsafe = cases(rng, config.n_t)
        label = unsafe ^ (rng.random(config.n_t) < np.where(unsafe, noise.unsafe, noise.safe))
        found["uncorrected"][i] = RiskCurve(margin, label).largest_threshold(config.r_t).tau
        found["corrected plug-in"][i] = NoisyRiskCurve(margin, label, noise).largest_threshold(
            config.r_t, _LEAST
        )
        # risk <= r_t is q <= a + (1 - a - b) r_t: the ordinary certificate at that level
        level = float(noise.labelled_share(config.r_t))
        found["corrected certificate"][i] = certify_threshold(margin, label, _SEQUENCE, level, DELTA).tau
    return found


def _size(config: SensitivityConfig, rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    certified = np.array(
        [certify_threshold(*cases(rng, n), _SEQUENCE, config.r_t, DELTA).tau for _ in range(config.trials)]
    )
    return {"plug-in": _plug_in(config, rng, n), "certificate": certified}


def constraints(config: SensitivityConfig, rng: np.random.Generator) -> pd.DataFrame:
    """k constraints at once, each with its own threshold: how often any is broken, acceptance of one.

    Draws of one constraint are reused: k constraints are k of them at random.
    """
    pool = max(2 * config.trials, 64)
    drawn = [cases(rng, config.n_t) for _ in range(pool)]
    plug_in = np.array([RiskCurve(*one).largest_threshold(config.r_t).tau for one in drawn])
    rows: list[dict[str, Any]] = []
    for k in CONSTRAINTS:
        variants = {"plug-in": plug_in}
        for name, delta in (
            ("certificate, uncorrected", DELTA),
            ("certificate, Bonferroni", bonferroni(DELTA, k)),
        ):
            taus = [certify_threshold(*one, _SEQUENCE, config.r_t, delta).tau for one in drawn]
            variants[name] = np.array(taus)
        for name, tau in variants.items():
            one = judged(tau, config.r_t)
            broken = np.zeros(pool, bool)
            open_ = tau > -np.inf
            broken[open_] = true_risk(tau[open_]) > config.r_t * (1 + 1e-9)
            together = broken[rng.integers(pool, size=(20_000, k))].any(axis=1)
            rows.append({"constraints": k, "variant": name, "any_broken": float(together.mean()),
                         "one_broken": one["broken"], "acceptance": one["acceptance"], "pool": pool,
                         "delta": DELTA})  # fmt: skip
    return pd.DataFrame(rows)
