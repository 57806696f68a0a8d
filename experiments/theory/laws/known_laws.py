"""Laws with known likelihoods, classifiers with known Lipschitz constants, data of known zeta.

Given state i the measurement is uniform on the unit cube of R^d, moved by shift_i along u = (1, ..., 1) /
sqrt(d). The classifier sees the projection t = u'y only: logits f(y) = g(t) with g K-Lipschitz, so f is
K-Lipschitz too (|u| = 1). u'y less its shift is a sum of d uniforms over sqrt(d), the Irwin-Hall law, so
p(o = j | s = i) is a one-dimensional integral, exact to the grid, in every dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import comb, factorial

from safeframe.wasserstein import uniform_box_zeta

_GRID = 200_001


def irwin_hall(x: np.ndarray, d: int) -> np.ndarray:
    """Distribution function of a sum of d uniforms at x in [0, d] (...): the alternating sum, from the nearer
    end (Johnson, Kotz & Balakrishnan, vol. 2, section 26.9).
    """
    near = np.minimum(x, d - x)
    total = np.zeros_like(near)
    for k in range(d // 2 + 1):
        total += (-1) ** k * comb(d, k) * np.maximum(near - k, 0.0) ** d
    total /= factorial(d)
    return np.where(x <= d / 2, total, 1.0 - total)


@dataclass(frozen=True)
class ProjectionLaw:
    """Logits sin(weight t + offset) of the projection t of uniform inputs; s states, m outputs.

    Attributes:
        d: dimensions.
        shift: (s,) of the states along u.
        weight: (m,) of the logits.
        offset: (m,) of the logits.
        linear: logits are weight t + offset instead.
    """

    d: int
    shift: tuple[float, ...]
    weight: tuple[float, ...]
    offset: tuple[float, ...]
    linear: bool = False

    @property
    def lipschitz(self) -> float:
        """K of the logits: |weight|."""
        return float(np.linalg.norm(self.weight))

    def logits(self, t: np.ndarray) -> np.ndarray:
        """(..., m) at projections t (...)."""
        inner = t[..., None] * np.asarray(self.weight) + np.asarray(self.offset)
        return inner if self.linear else np.sin(inner)

    @cached_property
    def likelihood(self) -> np.ndarray:
        """(s, m): p(o = j | s = i), by integration over the law of t."""
        edges = np.linspace(0.0, self.d, _GRID)
        mass = np.diff(irwin_hall(edges, self.d))
        t = (edges[:-1] + edges[1:]) / 2 / np.sqrt(self.d)
        rows = []
        for shift in self.shift:
            output = self.logits(t + shift).argmax(axis=-1)
            rows.append(np.bincount(output, weights=mass, minlength=len(self.weight)))
        return np.stack(rows)

    @property
    def tolerance(self) -> float:
        """Of the integration: a cell of the grid for each of a few switches of output."""
        return 20.0 / (_GRID - 1)

    def project(self, points: np.ndarray) -> np.ndarray:
        """t (...) of points (..., d), shift not added."""
        return points.sum(axis=-1) / np.sqrt(self.d)


def three_states(d: int) -> ProjectionLaw:
    """Three states, three outputs, a classifier that is not linear: every output occurs."""
    return ProjectionLaw(d, (0.0, 0.6, 1.5), (1.3, -0.9, 2.0), (0.2, 1.4, -1.6))


def two_states(d: int) -> ProjectionLaw:
    """Two states, linear logits: where the data move as a whole, the theorem's radius is needed in full."""
    return ProjectionLaw(d, (0.0, 0.6), (-1.0, 1.0), (0.8, -0.8), linear=True)


def cell_centres(side: int, d: int) -> np.ndarray:
    """(side**d, d): centres of the equal cells of the unit cube; their zeta to the uniform law is
    sqrt(d) / (2 side).
    """
    ticks = (np.arange(side) + 0.5) / side
    return np.stack(np.meshgrid(*[ticks] * d, indexing="ij"), axis=-1).reshape(-1, d)


def line_zeta(unit: np.ndarray) -> np.ndarray:
    """Exact zeta (...) between the uniform law on [0, 1] and samples (..., n): the k-th smallest carries
    ((k - 1) / n, k / n].
    """
    ordered, n = np.sort(unit, axis=-1), unit.shape[-1]
    low, high = np.arange(n) / n, (np.arange(n) + 1) / n
    return np.maximum(np.abs(ordered - low), np.abs(ordered - high)).max(axis=-1)


def cube_zeta(points: np.ndarray, side: int) -> float:
    """Upper limit on zeta between the uniform law on the unit cube and points (side**d, d)."""
    d = points.shape[1]
    return uniform_box_zeta(points, np.zeros(d), np.ones(d), side)


def sample_with_zeta(rng: np.random.Generator, n: int, side: int, d: int) -> tuple[np.ndarray, float]:
    """Uniform points (n, d) and zeta: exact in one dimension, its upper limit (n = side**d) above."""
    points = rng.random((n, d))
    return points, float(line_zeta(points[:, 0])) if d == 1 else cube_zeta(points, side)
