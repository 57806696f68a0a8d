"""Theorem 3: cases needed until both error probabilities are at most alpha; the bound grows as alpha^{-n_y}.

Measurements are uniform on [0, 1]^{n_y}; safe is a known set, the inside of a ball of half the cube's volume.
Two rules learn it from labelled cases:

- nearest: accept where the nearest case is safe. Its margin, the distance to the nearest safe case less that
  to the nearest unsafe one, is 2-Lipschitz, and nothing but Lipschitz continuity is used: what Theorem 3
  assumes
- quadratic: accept where a quadratic separates the cases by the largest margin (a linear program). The truth
  is of that form, so this rule knows how smooth it is, and needs far fewer cases

For every stream of cases both errors, P(accept | unsafe) and P(reject | safe), are measured at growing sizes,
and N(alpha) is where their larger one falls below alpha for good, interpolated in logarithms. Errors are
counted on points near the boundary only, weighted by the volume of that layer: elsewhere no rule errs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import linprog
from scipy.special import gamma

from experiments.theory.config import Theorem3Config
from safeframe.coverage.nearest import build
from safeframe.scaling_law import fit_log10

DIMENSIONS = (1, 2, 3)
RULES = ("nearest", "quadratic")
_ALPHAS = 10
_LARGEST_PROGRAM = 8192
_LAYERS = 24


def radius_of(d: int) -> float:
    """Of the ball with half the unit cube's volume (it fits into the cube for d <= 3)."""
    return float((0.5 * gamma(d / 2 + 1) / np.pi ** (d / 2)) ** (1 / d))


def is_unsafe(points: np.ndarray) -> np.ndarray:
    """(n,) outside the ball in the middle of the cube."""
    return np.linalg.norm(points - 0.5, axis=1) > radius_of(points.shape[1])


def layer(rng: np.random.Generator, n: int, d: int, half_width: float) -> tuple[np.ndarray, np.ndarray]:
    """Points of the cube within `half_width` of the boundary, and the volume each stands for."""
    low, high = max(radius_of(d) - half_width, 0.0), radius_of(d) + half_width
    direction = rng.normal(size=(n, d))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    distance = (rng.uniform(low**d, high**d, n)) ** (1 / d)
    points = 0.5 + direction * distance[:, None]
    volume = np.pi ** (d / 2) / gamma(d / 2 + 1) * (high**d - low**d)
    inside = ((points >= 0) & (points <= 1)).all(axis=1)
    return points[inside], np.full(inside.sum(), volume / n)


class Nearest:
    """Accept where the nearest case is safe."""

    def __init__(self, points: np.ndarray, unsafe: np.ndarray) -> None:
        self._safe, self._unsafe = build(points[~unsafe], "kdtree"), build(points[unsafe], "kdtree")

    def accepts(self, points: np.ndarray) -> np.ndarray:
        return self._safe.distance(points) < self._unsafe.distance(points)


class Quadratic:
    """Accept where the separating quadratic of largest margin (in its features, sup norm) is negative."""

    def __init__(self, points: np.ndarray, unsafe: np.ndarray) -> None:
        features, sign = self._features(points), np.where(unsafe, 1.0, -1.0)
        k = features.shape[1]
        constraint = np.column_stack([-sign[:, None] * features, np.ones(len(features))])
        found = linprog(
            np.append(np.zeros(k), -1.0), A_ub=constraint, b_ub=np.zeros(len(features)),
            bounds=[(-1.0, 1.0)] * k + [(None, None)], method="highs",
        )  # fmt: skip
        if found.status != 0:
            raise RuntimeError(f"the linear program of {len(points)} cases was not solved: {found.message}")
        self._weight = found.x[:k]

    @staticmethod
    def _features(points: np.ndarray) -> np.ndarray:
        moved = 2.0 * points - 1.0
        pairs = [moved[:, i] * moved[:, j] for i in range(moved.shape[1]) for j in range(i + 1)]
        return np.column_stack([np.ones(len(points)), moved, *pairs])

    def accepts(self, points: np.ndarray) -> np.ndarray:
        return self._features(points) @ self._weight < 0


def errors(rule: Any, rng: np.random.Generator, queries: int, d: int, guess: float) -> tuple[float, float]:
    """(P(accept | unsafe), P(reject | safe)); both classes have probability 1/2.

    `guess`: about how far from the boundary the rule errs; the layer is widened until errors stop inside it.
    """
    half_width = guess
    for _ in range(_LAYERS):
        points, volume = layer(rng, queries, d, half_width)
        unsafe, accepted = is_unsafe(points), rule.accepts(points)
        wrong = accepted == unsafe
        far = np.abs(np.linalg.norm(points - 0.5, axis=1) - radius_of(d)) > 0.7 * half_width
        if not (wrong & far).any() or half_width >= 1.0:
            break
        half_width *= 1.5
    share = [float(volume[wrong & mask].sum() / 0.5) for mask in (unsafe, ~unsafe)]
    return share[0], share[1]


def sizes(config: Theorem3Config, rule: str, d: int) -> np.ndarray:
    most = config.cases[d - 1] if rule == "nearest" else min(config.cases[d - 1], _LARGEST_PROGRAM)
    steps = int(config.steps_per_doubling * np.log2(most / 8)) + 1
    return np.unique(np.round(8 * 2 ** (np.arange(steps) / config.steps_per_doubling)).astype(int))


def run(config: Theorem3Config, rng: np.random.Generator) -> pd.DataFrame:
    """Larger error at every size, per dimension, rule and stream."""
    rows: list[dict[str, Any]] = []
    for d in DIMENSIONS:
        for stream in range(config.seeds):
            points = rng.random((config.cases[d - 1], d))
            unsafe = is_unsafe(points)
            for rule, kind in zip(RULES, (Nearest, Quadratic), strict=True):
                for n in sizes(config, rule, d):
                    if unsafe[:n].all() or not unsafe[:n].any():
                        continue
                    guess = min(2.0 * n ** (-1 / d), 0.5) if rule == "nearest" else min(40.0 / n, 0.5)
                    made = kind(points[:n], unsafe[:n])
                    wrong = errors(made, rng, config.queries, d, guess)
                    rows.append(
                        {
                            "d": d,
                            "rule": rule,
                            "stream": stream,
                            "n": int(n),
                            "accept_unsafe": wrong[0],
                            "reject_safe": wrong[1],
                            "larger": max(wrong),
                        }
                    )
                    if max(wrong) < config.smallest[d - 1] / 4:
                        break
    return pd.DataFrame(rows)


def needed(curve: pd.DataFrame, alphas: np.ndarray) -> np.ndarray:
    """N(alpha) of one stream: where the larger error falls to alpha for good; NaN if it never does."""
    n = curve["n"].to_numpy(float)
    later = np.maximum.accumulate(curve["larger"].to_numpy(float)[::-1])[::-1]  # worst from here on
    log_n, log_e = np.log(n), np.log(np.maximum(later, 1e-12))
    found = np.full(len(alphas), np.nan)
    for i, alpha in enumerate(alphas):
        below = np.flatnonzero(log_e <= np.log(alpha))
        if len(below) and below[0] > 0:
            k = below[0]
            way = (log_e[k - 1] - np.log(alpha)) / (log_e[k - 1] - log_e[k])
            found[i] = np.exp(log_n[k - 1] + way * (log_n[k] - log_n[k - 1]))
    return found


def cases_needed(curves: pd.DataFrame, config: Theorem3Config) -> pd.DataFrame:
    """N(alpha) per dimension, rule, stream and alpha."""
    rows: list[dict[str, Any]] = []
    for (d, rule, stream), curve in curves.groupby(["d", "rule", "stream"]):
        alphas = np.geomspace(config.largest, config.smallest[int(d) - 1], _ALPHAS)
        for alpha, n in zip(alphas, needed(curve.sort_values("n"), alphas), strict=True):
            rows.append({"d": d, "rule": rule, "stream": stream, "alpha": alpha, "n": n})
    return pd.DataFrame(rows)


def slopes(table: pd.DataFrame) -> pd.DataFrame:
    """Exponent of N against 1/alpha: per stream by `safeframe.scaling_law`, then mean and t interval over
    streams (the alphas of one stream are not independent).
    """
    from scipy import stats

    rows: list[dict[str, Any]] = []
    for (d, rule), part in table.groupby(["d", "rule"]):
        each = []
        for _, stream in part.groupby("stream"):
            good = stream.dropna(subset="n")
            if good["alpha"].nunique() > 2:
                each.append(fit_log10(1.0 / good["alpha"].to_numpy(), np.log10(good["n"].to_numpy())).slope)
        if not each:
            continue
        values, half = np.array(each), np.nan
        if len(values) > 1:
            half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
        rows.append({"d": d, "rule": rule, "bound": int(d), "slope": float(values.mean()),
                     "low": float(values.mean()) - half, "high": float(values.mean()) + half,
                     "streams": len(values), "alpha_from": part["alpha"].max(),
                     "alpha_to": part["alpha"].min()})  # fmt: skip
    return pd.DataFrame(rows)
