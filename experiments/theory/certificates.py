"""Certificates against n_t: how tight, and what thresholds chosen with them accept.

The law: margins are standard normal, P(unsafe | m) = 1 / (1 + exp(-a (m - b))). Everything is known by
quadrature, and counts of any n_t are drawn directly (multinomial over cells of the margin), so 10^7 cases
cost no more than 100. The plug-in bounds of the paper are at the same place: xi = 0, a fixed xi, and xi
falling as 2 / sqrt(n_t), the rate at which quantiles of a sample settle.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from experiments.theory.config import CertificatesConfig
from safeframe.certificates.cases import bonferroni_search, cases_needed, fixed_sequence
from safeframe.types import SQRT2

SLOPE, CENTRE = 3.0, 1.5
TAU = 0.0
"""Of the certificates for one threshold fixed before: its true risk is about 0.003."""
TAUS = np.round(np.linspace(-2.0, 1.0, 31), 10)
XI = 0.1
_FINE = np.linspace(-9.0, 9.0, 360_001)


def unsafe_probability(margin: np.ndarray) -> np.ndarray:
    """P(unsafe | margin)."""
    return 1.0 / (1.0 + np.exp(-SLOPE * (margin - CENTRE)))


def masses_below(tau: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(P(unsafe, m < tau), P(safe, m < tau)) by quadrature, like ``tau``."""
    middle = (_FINE[:-1] + _FINE[1:]) / 2
    weight = np.diff(stats.norm.cdf(_FINE))
    risk = unsafe_probability(middle)
    unsafe = np.concatenate([[0.0], np.cumsum(weight * risk)])
    safe = np.concatenate([[0.0], np.cumsum(weight * (1.0 - risk))])
    at = np.clip(tau, _FINE[0], _FINE[-1])
    return np.interp(at, _FINE, unsafe), np.interp(at, _FINE, safe)


def true_risk(tau: np.ndarray) -> np.ndarray:
    """P(unsafe | m < tau)."""
    unsafe, safe = masses_below(np.asarray(tau, dtype=np.float64))
    return unsafe / (unsafe + safe)


def draw_counts(
    rng: np.random.Generator, n: int, taus: np.ndarray, trials: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unsafe and safe cases below each of the ascending ``taus``, (trials, t) both, and all unsafe ones."""
    unsafe, safe = masses_below(np.append(taus, _FINE[-1]))
    cells = np.concatenate([np.diff(unsafe, prepend=0.0), np.diff(safe, prepend=0.0)])
    drawn = rng.multinomial(n, cells / cells.sum(), size=trials)
    k = len(taus) + 1
    below = np.cumsum(drawn[:, :k], axis=1)
    return below[:, :-1], np.cumsum(drawn[:, k:], axis=1)[:, :-1], below[:, -1]


def tightness(config: CertificatesConfig, rng: np.random.Generator) -> pd.DataFrame:
    """Bounds on the risk at TAU over the true one, per method and n_t."""
    rows: list[dict[str, Any]] = []
    truth = float(true_risk(np.array(TAU)))
    for n in config.sizes:
        radius = {"plug-in, xi = 0": 0.0, "plug-in, xi fixed": XI, "plug-in, xi falling": 2.0 / np.sqrt(n)}
        shifts = {name: SQRT2 * xi for name, xi in radius.items()}
        edges = np.unique([TAU, *(TAU + s for s in shifts.values()), *(TAU - s for s in shifts.values())])
        unsafe, safe, _ = draw_counts(rng, n, edges, config.trials)
        at = {value: i for i, value in enumerate(edges.tolist())}
        found = {}
        for name, s in shifts.items():
            up, low = unsafe[:, at[TAU + s]], safe[:, at[TAU - s]]
            found[name] = np.where(up + low > 0, up / np.maximum(up + low, 1), 1.0)
        k, accepted = unsafe[:, at[TAU]], unsafe[:, at[TAU]] + safe[:, at[TAU]]
        found["Clopper-Pearson"] = upper_limits(k, accepted, config.delta)
        for name, bound in found.items():
            low, middle, high = np.quantile(bound / truth, [0.05, 0.5, 0.95])
            rows.append({"method": name, "n_t": n, "trials": config.trials, "truth": truth,
                         "xi": radius.get(name, np.nan), "low": low, "median": middle, "high": high,
                         "below_truth": int((bound < truth * (1 - 1e-9)).sum())})  # fmt: skip
    return pd.DataFrame(rows)


def upper_limits(k: np.ndarray, n: np.ndarray, delta: float) -> np.ndarray:
    """`safeframe.certificates.cases.clopper_pearson_upper` for many counts at once."""
    return np.where(k == n, 1.0, stats.beta.isf(delta, k + 1, np.maximum(n - k, 1)))


def chosen(config: CertificatesConfig, rng: np.random.Generator) -> pd.DataFrame:
    """Thresholds chosen for r_t: what they accept, and how often their true risk is above r_t."""
    rows: list[dict[str, Any]] = []
    shift = SQRT2 * XI
    edges = np.unique(np.round(np.concatenate([TAUS, TAUS + shift, TAUS - shift]), 10))
    place = {name: np.searchsorted(edges, np.round(TAUS + move, 10) - 1e-9)
             for name, move in (("at", 0.0), ("up", shift), ("down", -shift))}  # fmt: skip
    truth = true_risk(TAUS)
    unsafe_mass, safe_mass = masses_below(TAUS)
    acceptance = np.append(unsafe_mass + safe_mass, 0.0)
    risky = np.append(truth > config.r_t, False)
    trials = min(config.trials, 1000)
    for n in config.sizes:
        unsafe, safe, _ = draw_counts(rng, n, edges, trials)
        k, accepted = unsafe[:, place["at"]], (unsafe + safe)[:, place["at"]]
        up, low = unsafe[:, place["up"]], safe[:, place["down"]]
        plain = np.where(accepted > 0, k / np.maximum(accepted, 1), 1.0)
        wide = np.where(up + low > 0, up / np.maximum(up + low, 1), 1.0)
        begin = start(n, config)
        sequence = [
            fixed_sequence(a, b, config.r_t, config.delta)
            for a, b in zip(accepted[:, begin:], k[:, begin:], strict=True)
        ]
        searched = [
            bonferroni_search(a, b, config.r_t, config.delta) for a, b in zip(accepted, k, strict=True)
        ]
        picks = {
            "plug-in, xi = 0": last(plain <= config.r_t),
            "plug-in, xi fixed": last(wide <= config.r_t),
            "Clopper-Pearson, uncorrected": last(upper_limits(k, accepted, config.delta) <= config.r_t),
            "fixed sequence": np.array([-1 if i is None else i + begin for i in sequence]),
            "Bonferroni": np.array([-1 if i is None else i for i in searched]),
        }
        for name, index in picks.items():
            rows.append({"method": name, "n_t": n, "trials": trials, "r_t": config.r_t,
                         "acceptance": float(acceptance[index].mean()),
                         "best": float(acceptance[:-1][truth <= config.r_t].max()),
                         "broken": int(risky[index].sum()), "none": int((index < 0).sum())})  # fmt: skip
    return pd.DataFrame(rows)


def last(passed: np.ndarray) -> np.ndarray:
    """Index of the last True of every row (trials, t), -1 where there is none."""
    found = passed.shape[1] - 1 - np.argmax(passed[:, ::-1], axis=1)
    return np.where(passed.any(axis=1), found, -1)


def start(n: int, config: CertificatesConfig) -> int:
    """Where the fixed sequence begins: the first threshold at which twice the cases are accepted that could
    certify r_t at all. Of the law and not of the data, for the sequence must be fixed before.
    """
    unsafe, safe = masses_below(TAUS)
    enough = np.flatnonzero(n * (unsafe + safe) >= 2 * cases_needed(config.r_t, config.delta))
    return int(enough[0]) if len(enough) else len(TAUS) - 1
