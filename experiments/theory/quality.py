"""Quality against quantity: the same number of internal test cases, diverse or repetitive.

Two states in the plane (`laws.two_states`). n_t is the same in every row; what differs is where cases lie:

- stratified: one at random in every cell of a grid
- independent: drawn from the law, as they come
- repeated m: m independent prototypes, each n_t / m times with a jitter of 1 per cent
- one corner: independent, but only from the lower half of the first axis (biased, not only repetitive)

zeta is computed (an upper limit, by matching), and with it xi = K zeta, the bound, and the truth.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from experiments.theory.config import QualityConfig
from experiments.theory.laws.known_laws import cell_centres, cube_zeta, two_states
from safeframe import RiskCurve
from safeframe.margins import margin_of

PRIOR = 0.3
_TAU = 0.0


def kinds(side: int) -> list[str]:
    n = side * side
    return ["stratified", "independent", *(f"repeated {max(n // m, 1)}" for m in (4, 16, 50)), "one corner"]


def draw(kind: str, side: int, rng: np.random.Generator) -> np.ndarray:
    """(side**2, 2) points that stand for the uniform law on the unit square."""
    n = side * side
    if kind == "stratified":
        return cell_centres(side, 2) + rng.uniform(-0.5, 0.5, (n, 2)) / side
    if kind == "independent":
        return rng.random((n, 2))
    if kind == "one corner":
        return rng.random((n, 2)) * [0.5, 1.0]
    prototypes = rng.random((int(kind.split()[1]), 2))
    chosen = np.resize(np.arange(len(prototypes)), n)
    return np.clip(prototypes[chosen] + 0.01 * rng.normal(size=(n, 2)), 0.0, 1.0)


def run(config: QualityConfig, rng: np.random.Generator) -> pd.DataFrame:
    """Per kind and trial: zeta, plug-in and conservative bound at one threshold, and the true posterior."""
    law = two_states(2)
    exact = _truth(law)
    rows: list[dict[str, Any]] = []
    for kind in kinds(config.side):
        for trial in range(config.trials):
            points = [draw(kind, config.side, rng) for _ in law.shift]
            zeta = max(cube_zeta(one, config.side) for one in points)
            margin = np.concatenate(
                [margin_of(law.logits(law.project(p) + s)) for p, s in zip(points, law.shift, strict=True)]
            )
            label = np.repeat([0, 1], config.side**2)
            bound = {
                name: float(RiskCurve(margin, label, PRIOR, radius).bound(_TAU))
                for name, radius in (("plug_in", 0.0), ("conservative", law.lipschitz * zeta))
            }
            rows.append({"kind": kind, "trial": trial, "n_t": 2 * config.side**2, "zeta": zeta,
                         "xi": law.lipschitz * zeta, "truth": exact, **bound})  # fmt: skip
    return pd.DataFrame(rows)


def _truth(law: Any) -> float:
    """P(unsafe | margin < _TAU) under PRIOR, on a fine grid of the square."""
    points = law.project(cell_centres(2000, 2))
    share = [float((margin_of(law.logits(points + shift)) < _TAU).mean()) for shift in law.shift]
    return PRIOR * share[1] / (PRIOR * share[1] + (1 - PRIOR) * share[0])
