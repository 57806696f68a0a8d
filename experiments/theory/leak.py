"""Trained on the internal test data: the plug-in bound is optimistic, the conservative one is not.

Two states in the plane, each uniform on a unit square, overlapping. The classifier is a ridge regression on
random Fourier features, fitted on the very cases that test it, so its margins on them are better than on new
cases. Theorem 1 does not mind: it asks that f is K-Lipschitz and the data zeta-informative, not that f is
independent of them. K is the largest gradient on a fine grid plus what it can change between grid points; the
radius xi = K zeta is then valid and, for a wiggly classifier, large. A radius measured on held-out cases
(quantile gap at one threshold's side, with a band) is the practical way between.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from experiments.theory.config import LeakConfig
from experiments.theory.laws.known_laws import cube_zeta
from safeframe.informativeness import dkw_band, measured_radius
from safeframe.types import SQRT2

SHIFT = (0.0, 0.5)  # of the squares, along the first axis
_SCALE = 4.0  # standard deviation of the features' frequencies
_TRUTH = 100  # grid points per axis and unit
_SLACK = 0.02  # mass on which a measured radius may miss


def run(config: LeakConfig, rng: np.random.Generator) -> pd.DataFrame:
    """Per trial, n and ridge: p(accept | unsafe) as it is, plug-in, conservative, measured; K and zeta."""
    rows: list[dict[str, Any]] = []
    frequency = rng.normal(size=(2, config.features)) * _SCALE
    phase = rng.uniform(0.0, 2.0 * np.pi, config.features)
    ticks = (np.arange(_TRUTH) + 0.5) / _TRUTH
    square = np.stack(np.meshgrid(ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 2)
    truth = [np.cos((square + np.array([s, 0.0])) @ frequency + phase) for s in SHIFT]
    wide = np.concatenate([square + np.array([s, 0.0]) for s in SHIFT])
    slope = -np.sin(wide @ frequency + phase)
    for side in config.sides:
        n = side * side
        for trial in range(config.trials):
            points = rng.random((2, n, 2))
            zeta = max(cube_zeta(one, side) for one in points)
            cases = np.concatenate([points[i] + np.array([SHIFT[i], 0.0]) for i in range(2)])
            features = np.cos(cases @ frequency + phase)
            target = np.repeat([-1.0, 1.0], n)
            fresh = np.cos((rng.random((config.fresh, 2)) + np.array([SHIFT[1], 0.0])) @ frequency + phase)
            for ridge in config.ridges:
                weight = np.linalg.solve(
                    features.T @ features + ridge * np.eye(config.features), features.T @ target
                )
                k = _lipschitz(slope, frequency, weight)
                margin = features[n:] @ weight  # of the unsafe cases it was trained on
                shift = k * zeta
                found = measured_radius(margin, fresh @ weight, delta=_SLACK, side="lower")
                mass = _SLACK + dkw_band(config.fresh, 0.95)
                rows.append(
                    {
                        "n": n, "ridge": ridge, "trial": trial, "k_margin": k, "zeta": zeta,
                        "xi": shift / SQRT2, "xi_measured": found.radius,
                        "truth": float((truth[1] @ weight < 0).mean()),
                        "plug_in": float((margin < 0).mean()),
                        "conservative": float((margin - shift <= 0).mean()),
                        "measured": min(float((margin - found.margin_shift <= 0).mean()) + mass, 1.0),
                        "fresh": float((fresh @ weight < 0).mean()),
                        "acceptance": float((truth[0] @ weight < 0).mean()),
                        "acceptance_conservative": float((features[:n] @ weight + shift < 0).mean()),
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def _lipschitz(slope: np.ndarray, frequency: np.ndarray, weight: np.ndarray) -> float:
    """Upper limit on the margin's slope: the largest on the grid, and what it may gain in between."""
    gradient = (slope * weight) @ frequency.T
    curvature = float((np.abs(weight) * np.square(frequency).sum(axis=0)).sum())
    return float(np.linalg.norm(gradient, axis=1).max()) + curvature * np.sqrt(0.5) / _TRUTH
