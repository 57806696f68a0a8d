"""Candidate actions as an array (k, 2), checked, and as the grid whose bins a Gaussian policy needs."""

from __future__ import annotations

import numpy as np

from experiments.safetygym.agents.candidates import CandidateGrid, default_grid
from experiments.safetygym.sim.task import get_task
from safeframe.types import FloatArray, SafeframeError


def default_candidates(task: str) -> FloatArray:
    """The candidate actions of a task's robot, (k, 2). SafeframeError for an unknown task."""
    return default_grid(get_task(task).robot).actions


def check_candidates(candidates: FloatArray) -> FloatArray:
    """`candidates` as float64 (k, 2); SafeframeError if there are none, or they are not finite and (k, 2)."""
    array = np.asarray(candidates, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 2 or len(array) == 0 or not np.isfinite(array).all():
        raise SafeframeError(
            f"candidates have shape {array.shape}; they must be finite actions of shape (k, 2) with k >= 1"
        )
    return array


def grid_of(candidates: FloatArray) -> CandidateGrid:
    """The grid that the candidates (k, 2) list, in its order. SafeframeError if they are not a whole grid."""
    first, second = (tuple(float(v) for v in np.unique(column)) for column in candidates.T)
    grid = CandidateGrid(first, second)
    if len(grid) != len(candidates) or not np.array_equal(grid.actions, candidates):
        raise SafeframeError(
            f"the {len(candidates)} candidates are not a grid of {len(first)} x {len(second)} axis values,"
            " second axis fastest; a Gaussian policy needs the bins of a whole grid"
        )
    return grid
