"""The finite set of actions that a guard chooses from, and their probabilities under a policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.stats import norm

from safeframe.types import SafeframeError

POINT_THRUST = (-0.05, 0.0, 0.05)
POINT_TURN = (-1.0, -0.5, 0.0, 0.5, 1.0)
CAR_WHEEL = (-0.02, -0.01, 0.0, 0.01, 0.02)


@dataclass(frozen=True)
class CandidateGrid:
    """The product of levels per action axis: k = len(first) * len(second) candidates, second axis fastest.

    Levels belong in the effective range of the actuators: thrust saturates at .05, wheel torque at .02.
    Raises SafeframeError for an empty axis or levels that do not increase within [-1, 1].
    """

    first: tuple[float, ...]
    second: tuple[float, ...]

    def __post_init__(self) -> None:
        for name, levels in (("first", self.first), ("second", self.second)):
            if not levels:
                raise SafeframeError(f"candidate set is empty: {name} has no level; give at least one")
            if any(b <= a for a, b in pairwise(levels)) or max(map(abs, levels)) > 1:
                raise SafeframeError(f"{name} = {levels}: levels must increase within [-1, 1]")

    @property
    def actions(self) -> np.ndarray:
        """Shape (k, 2)."""
        return np.array([(a, b) for a in self.first for b in self.second])

    def __len__(self) -> int:
        return len(self.first) * len(self.second)

    def gaussian_mass(self, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
        """Probability of each candidate's bin under independent Gaussians, shape (n, k).

        Bins meet halfway between levels and the outer ones reach to infinity, because actuators saturate.
        mean and std: (n, 2) or (2,)."""
        mean, std = np.broadcast_arrays(np.atleast_2d(mean), np.atleast_2d(std))
        axes = []
        for axis, levels in enumerate((self.first, self.second)):
            edges = np.concatenate([[-np.inf], np.convolve(levels, [0.5, 0.5], "valid"), [np.inf]])
            cdf = norm.cdf(edges, mean[:, axis, None], std[:, axis, None])
            axes.append(np.diff(cdf, axis=1))
        return (axes[0][:, :, None] * axes[1][:, None, :]).reshape(len(mean), -1)


def default_grid(robot: str, levels: tuple[Sequence[float], Sequence[float]] | None = None) -> CandidateGrid:
    """The grid used for a robot, "point" or "car", unless levels are given."""
    if levels is not None:
        return CandidateGrid(tuple(levels[0]), tuple(levels[1]))
    if robot == "point":
        return CandidateGrid(POINT_THRUST, POINT_TURN)
    return CandidateGrid(CAR_WHEEL, CAR_WHEEL)
