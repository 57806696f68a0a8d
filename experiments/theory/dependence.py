"""Per-step against per-episode violation for correlated sequences.

Margins of an episode are a stationary Gaussian AR(1) sequence with correlation rho from step to step; a step
is unsafe where the margin plus AR(1) noise of the same correlation exceeds a level. Every single step has
the same risk r whatever rho is, so the same threshold keeps the per-step promise. What an episode of T steps
makes of it lies between r (all steps alike) and 1 - (1 - r)^T (independent) and never exceeds T r (union
bound).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.signal import lfilter

from experiments.theory.config import SensitivityConfig
from safeframe.certificates.cases import clopper_pearson_upper
from safeframe.certificates.clusters import certify_clusters, certify_episodes

CORRELATIONS = (0.0, 0.5, 0.9, 0.99, 0.999)
HORIZONS = (1, 5, 10, 50, 100, 200)
_LEVEL, _TAU, _NOISE = 1.5, 0.5, 0.5
_DELTA = 0.05


def sequences(rng: np.random.Generator, episodes: int, horizon: int, rho: float) -> np.ndarray:
    """(episodes, horizon) stationary AR(1), variance 1."""
    noise = rng.normal(size=(episodes, horizon))
    noise[:, 1:] *= np.sqrt(1.0 - rho * rho)
    return lfilter([1.0], [1.0, -rho], noise, axis=1)


def run(config: SensitivityConfig, rng: np.random.Generator) -> pd.DataFrame:
    """Per rho and horizon: shares per step and per episode, and limits with and without independent steps."""
    rows: list[dict[str, Any]] = []
    horizons = [t for t in HORIZONS if t <= config.horizon]
    for rho in CORRELATIONS:
        margin = sequences(rng, config.episodes, config.horizon, rho)
        unsafe = margin + _NOISE * sequences(rng, config.episodes, config.horizon, rho) > _LEVEL
        accepted = margin < _TAU
        bad = accepted & unsafe
        for horizon in horizons:
            counts, steps = bad[:, :horizon].sum(axis=1), accepted[:, :horizon].sum(axis=1)
            k, n = int(counts.sum()), int(steps.sum())
            rows.append(
                {"rho": rho, "horizon": horizon, "episodes": config.episodes,
                 "per_accepted_step": k / max(n, 1), "per_step": k / (config.episodes * horizon),
                 "per_episode": float((counts > 0).mean()),
                 "limit_steps_independent": clopper_pearson_upper(k, n, _DELTA),
                 "limit_clusters": certify_clusters(counts, steps, _DELTA, horizon).value,
                 "limit_episode": certify_episodes(counts, _DELTA).value}
            )  # fmt: skip
    table = pd.DataFrame(rows)
    step = float(table["per_step"].mean())
    table["independent"] = 1.0 - (1.0 - step) ** table["horizon"]
    table["union"] = np.minimum(step * table["horizon"], 1.0)
    return table
