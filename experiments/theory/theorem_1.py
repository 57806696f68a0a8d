"""Theorem 1: with xi >= K zeta, p^{-xi} <= p <= p^{+xi} (arXiv 2504.20924). How far below does it still hold?

Kinds of internal test data:

- sample: independent draws, zeta computed (exact in 1-D, an upper limit from a matching above)
- grid: centres of equal cells moved as a whole by a random vector
- worst: a fine grid moved along the direction that the classifier looks in, linear logits: K zeta is needed

Both bounds widen with xi, so every trial has one critical factor: the least c for which the bounds hold at
c K zeta and at all larger radii. Radii of all trials are tested at once: the indicators at radius xi of
logits phi are those at radius 1 of phi / xi.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from experiments.theory.config import Theorem1Config
from experiments.theory.laws.known_laws import (
    ProjectionLaw,
    cell_centres,
    line_zeta,
    sample_with_zeta,
    three_states,
    two_states,
)
from safeframe.conservative_testing import LikelihoodBounds, indicator_minus, indicator_plus, posterior_bound
from safeframe.informativeness import measured_radius
from safeframe.margins import margin_of

DIMENSIONS = (1, 2, 8)
FACTORS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0, 1.2)
PRIOR = {2: np.array([0.7, 0.3]), 3: np.array([0.5, 0.3, 0.2])}
_LAW_SAMPLE = 20_000


def draws(
    kind: str, d: int, config: Theorem1Config, rng: np.random.Generator
) -> tuple[ProjectionLaw, np.ndarray, np.ndarray]:
    """(law, projections (trials, s, n) of the cases of every state, zeta (trials,))."""
    law = two_states(d) if kind == "worst" else three_states(d)
    states, side = len(law.shift), {1: config.line, 2: config.side_2, 8: config.side_8}[d]
    n = side**d
    t, zeta = [], []
    for _ in range(config.trials):
        if kind == "sample":
            parts = [sample_with_zeta(rng, n, side, d) for _ in range(states)]
            t.append(np.stack([law.project(points) for points, _ in parts]))
            zeta.append(max(found for _, found in parts))
            continue
        cells = config.worst if kind == "worst" and d == 1 else side
        points, size = cell_centres(cells, d), rng.uniform(0.2, 1.0) * config.displaced
        move = np.ones(d) if kind == "worst" else rng.normal(size=d)
        move *= rng.choice([-1.0, 1.0]) * size / np.linalg.norm(move)
        moved = law.project(points + move)
        t.append(np.stack([moved] * states))
        zeta.append(float(line_zeta((points + move)[:, 0])) if d == 1 else np.sqrt(d) / (2 * side) + size)
    return law, np.stack(t) + np.asarray(law.shift)[:, None], np.array(zeta)


def bounds_of(logits: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """(lower, upper), each (trials, s, m), from logits (trials, s, n, m) in units of K zeta."""
    return indicator_minus(logits, factor).mean(axis=2), indicator_plus(logits, factor).mean(axis=2)


def holds(law: ProjectionLaw, lower: np.ndarray, upper: np.ndarray) -> dict[str, np.ndarray]:
    """Whether the truth is within the likelihood bounds, and below both posterior bounds: (trials,) bool."""
    truth, slack = law.likelihood, law.tolerance
    joint = truth * PRIOR[len(truth)][:, None]
    posterior = joint / np.maximum(joint.sum(axis=0), 1e-300)
    inside = (truth >= lower - slack) & (truth <= upper + slack)
    found = {"likelihood": inside.all(axis=(1, 2))}
    # Columns of a posterior bound do not depend on one another: the draws stand side by side, (s, trials m).
    side_by_side = [np.concatenate(list(bounds), axis=1) for bounds in (lower, upper)]
    count = np.ones(len(truth), int)
    for form in ("tight", "paper"):
        flat = posterior_bound(LikelihoodBounds(*side_by_side, count), PRIOR[len(truth)], form)
        bound = flat.reshape(len(truth), len(lower), -1).transpose(1, 0, 2)
        found[f"posterior_{form}"] = (posterior <= bound + 20 * slack).all(axis=(1, 2))
    return found


def run(config: Theorem1Config, rng: np.random.Generator) -> pd.DataFrame:
    """Failures against xi / (K zeta), per dimension, kind of data and statement; the width of the bounds."""
    rows: list[dict[str, Any]] = []
    for d in DIMENSIONS:
        for kind in ("sample", "grid", "worst"):
            law, t, zeta = draws(kind, d, config, rng)
            logits = law.logits(t) / (law.lipschitz * zeta)[:, None, None, None]
            for factor in FACTORS:
                lower, upper = bounds_of(logits, factor)
                common = {"d": d, "kind": kind, "n": t.shape[2], "factor": factor, "trials": len(zeta)}
                common |= {"zeta": float(np.median(zeta)), "k": law.lipschitz,
                           "width": float((upper - lower).mean())}  # fmt: skip
                for statement, good in holds(law, lower, upper).items():
                    rows.append(common | {"statement": statement, "failures": int((~good).sum())})
    return pd.DataFrame(rows)


def measured(config: Theorem1Config, rng: np.random.Generator) -> pd.DataFrame:
    """xi measured from a fresh sample of each class (quantile gap; its band is a mass) beside K zeta."""
    rows: list[dict[str, Any]] = []
    for d, sides in ((1, (16, 64, 256, 1024)), (2, (4, 8, 16, 24)), (8, (2,))):
        law = two_states(d)
        for side in sides:
            n = side**d
            for trial in range(max(config.trials // 10, 3)):
                found = []
                for shift in law.shift:
                    points, zeta = sample_with_zeta(rng, n, side, d)
                    fresh = law.project(rng.random((_LAW_SAMPLE, d))) + shift
                    margin, other = (margin_of(law.logits(x)) for x in (law.project(points) + shift, fresh))
                    found.append((measured_radius(margin, other, confidence=0.95), zeta))
                xi = max(one.radius for one, _ in found)
                zeta = max(z for _, z in found)
                rows.append({"d": d, "n": n, "trial": trial, "xi": xi, "mass": found[0][0].mass,
                             "k_zeta": law.lipschitz * zeta})  # fmt: skip
    return pd.DataFrame(rows)
