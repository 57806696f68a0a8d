"""Distances of predicted braking paths to decoded hazards (or vases) and to true paths, in compiled code."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from experiments.safetygym.perception.decoding import FAR, MAX_HAZARDS
from experiments.safetygym.sim.clearance import CLEARANCE_HIGH, CLEARANCE_LOW

WIDE = 0.03
"""m; an arc longer than this gets points between its ends."""


@njit(cache=True, inline="always")
def _squared_distance(px: float, py: float, ax: float, ay: float, bx: float, by: float) -> float:
    """Squared distance from point p to the segment from a to b."""
    dx, dy = bx - ax, by - ay
    length = dx * dx + dy * dy
    t = 0.0
    if length > 0.0:
        t = min(max(((px - ax) * dx + (py - ay) * dy) / length, 0.0), 1.0)
    ex, ey = px - ax - t * dx, py - ay - t * dy
    return ex * ex + ey * ey


@njit(cache=True, nogil=True)
def least_clearance(path: np.ndarray, hazards: np.ndarray, radius: float, out: np.ndarray) -> None:
    """Fill out (n, k) float32 with clearances in m, clipped as the labels are.

    path (n, k, T, 2) float32: the braking path of each candidate in body axes, from the end of the first step
    on (where the robot is now no longer counts); hazards (n, 6, 2, 2): both ends of every decoded arc;
    radius: m, of each."""
    points = np.empty((MAX_HAZARDS * 4, 2))
    n, candidates, times = path.shape[0], path.shape[1], path.shape[2]
    for i in range(n):
        farthest = 0.0
        for k in range(candidates):
            for t in range(times):
                x, y = path[i, k, t, 0], path[i, k, t, 1]
                farthest = max(farthest, x * x + y * y)
        near = math.sqrt(farthest) + radius + CLEARANCE_HIGH
        count = 0
        for h in range(MAX_HAZARDS):
            ax, ay = hazards[i, h, 0, 0], hazards[i, h, 0, 1]
            distance = math.hypot(ax, ay)
            if ax >= FAR or distance > near:
                continue
            bx, by = hazards[i, h, 1, 0], hazards[i, h, 1, 1]
            width = math.hypot(bx - ax, by - ay)
            pieces = 1 if width < 1e-4 else 2 if width < WIDE else 4
            for p in range(pieces):
                w = p / max(pieces - 1, 1)
                mx, my = ax + w * (bx - ax), ay + w * (by - ay)
                shorten = distance / max(math.hypot(mx, my), 1e-9)  # from the chord to the arc
                points[count, 0], points[count, 1] = mx * shorten, my * shorten
                count += 1
        if count == 0:
            out[i] = CLEARANCE_HIGH
            continue
        for k in range(candidates):
            least = 1e9
            ax, ay = path[i, k, 0, 0], path[i, k, 0, 1]
            for t in range(1, times):
                bx, by = path[i, k, t, 0], path[i, k, t, 1]
                for p in range(count):
                    least = min(least, _squared_distance(points[p, 0], points[p, 1], ax, ay, bx, by))
                ax, ay = bx, by
            out[i, k] = min(max(math.sqrt(least) - radius, CLEARANCE_LOW), CLEARANCE_HIGH)


@njit(cache=True, nogil=True)
def departures(predicted: np.ndarray, true: np.ndarray, out: np.ndarray) -> None:
    """Fill out (n, k) float32 with how far, in m, the true path leaves the predicted one.

    It is the largest distance of a recorded true position to the predicted path (directed Hausdorff
    distance), so the clearance of these positions is at least that of the predicted path less this. Being
    early or late, or stopping short, on the predicted path is no error. predicted, true: (n, k, T, 2)
    float32."""
    n, candidates, times = true.shape[0], true.shape[1], true.shape[2]
    for i in range(n):
        for k in range(candidates):
            farthest = 0.0
            for t in range(times):
                x, y = true[i, k, t, 0], true[i, k, t, 1]
                least = 1e9
                ax, ay = predicted[i, k, 0, 0], predicted[i, k, 0, 1]
                for s in range(1, times):
                    bx, by = predicted[i, k, s, 0], predicted[i, k, s, 1]
                    least = min(least, _squared_distance(x, y, ax, ay, bx, by))
                    ax, ay = bx, by
                farthest = max(farthest, least)
            out[i, k] = math.sqrt(farthest)
