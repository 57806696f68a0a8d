"""Where hazards are, read back from the pseudo-lidar; vases in the same way from theirs.

A hazard fills its own bin with its strength s (so its distance is 3 (1 - s) m) and its two neighbours with
the shares a and 1 - a of s, where a is its place within the bin. The strongest bin that no decoded hazard
explains belongs to a hazard; its neighbours bound a from both sides, because another hazard can only raise
them. A bound is exact unless another hazard did raise that neighbour, and hazards keep .36 m from one
another (vases .2 m), which often rules that out. Where the two bounds still differ
both ends are kept: the hazard is on the arc between them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numba import njit

from experiments.safetygym.sim.clearance import VASE_KEEP
from experiments.safetygym.sim.task import (
    HAZARD_KEEPOUT,
    HAZARD_RADIUS,
    LIDAR_BINS,
    LIDAR_RANGE,
    VASE_HALF_SIZE,
    Task,
)

MAX_HAZARDS = 6
FAR = 10.0
"""m; where hypotheses that are not needed are put."""
_BIN = 2.0 * math.pi / LIDAR_BINS
_TOLERANCE = 4e-6  # shares of a strength; observations are float32
BETWEEN_HAZARDS = 2.0 * HAZARD_KEEPOUT - 1e-4
"""m, at least, between the centres of two hazards, which are where the layout has put them."""
BETWEEN_VASES = 2.0 * VASE_HALF_SIZE - 1e-4
"""m, at least, between the centres of two vases, which may have been pushed together."""
HORIZON = 1.4
"""m; what is farther away is not decoded."""


@njit(cache=True, inline="always")
def _apart(d1: float, d2: float, turn: float, between: float) -> bool:
    """Can two hazards at distances d1, d2 and an angle of `turn` bins lie where they do?"""
    return d1 * d1 + d2 * d2 - 2.0 * d1 * d2 * math.cos(_BIN * turn) >= between * between


@njit(cache=True, inline="always")
def _raised(strength: float, neighbour: float, beyond: float, gap: float, between: float) -> bool:
    """Can a hazard other than the one with `strength` have raised the neighbouring bin to `neighbour`?

    beyond: the next bin on that side. gap: bins from the hazard to the edge that it shares with the
    neighbour, at most. between: m, least distance of two hazards."""
    if neighbour <= 1e-9:
        return False
    distance = LIDAR_RANGE * (1.0 - strength)
    own = min(
        max(beyond / neighbour, 0.0), 1.0
    )  # how far from the edge a hazard in the neighbouring bin may be
    if _apart(distance, LIDAR_RANGE * (1.0 - neighbour), gap + own, between):
        return True
    if beyond < neighbour:
        return False
    for part in range(5):  # a hazard in the bin beyond, of any strength between the two
        source = neighbour + (beyond - neighbour) * part / 4.0
        if _apart(distance, LIDAR_RANGE * (1.0 - source), gap + 2.0 - neighbour / source, between):
            return True
    return False


@njit(cache=True, nogil=True)
def decode(lidar: np.ndarray, horizon: float, between: float, out: np.ndarray) -> None:
    """Fill out (n, 6, 2, 2) with hazards within `horizon` m: both ends of the arc, body axes, m.

    lidar (n, 16) float32; between: m, the least distance of two of them (`BETWEEN_HAZARDS`). More than six
    within the horizon: the nearest six; fewer: the rest at FAR.
    """
    value = np.empty(LIDAR_BINS)
    used = np.empty(LIDAR_BINS, np.bool_)
    low, high = np.empty(LIDAR_BINS), np.empty(LIDAR_BINS)
    weakest = max((LIDAR_RANGE - horizon) / LIDAR_RANGE, 1e-6)
    for i in range(lidar.shape[0]):
        out[i] = FAR
        for b in range(LIDAR_BINS):
            value[b] = lidar[i, b]
            used[b] = False
        count = 0
        while count < MAX_HAZARDS:
            best, strength = -1, weakest
            for b in range(LIDAR_BINS):
                if used[b] or value[b] <= strength:
                    continue
                above, below = (b + 1) % LIDAR_BINS, (b - 1) % LIDAR_BINS
                # explained by a neighbour's hazard whose place is known?
                known = used[below] and high[below] - low[below] <= _TOLERANCE
                if known and value[b] <= value[below] * (high[below] + _TOLERANCE):
                    continue
                known = used[above] and high[above] - low[above] <= _TOLERANCE
                if known and value[b] <= value[above] * (1.0 - low[above] + _TOLERANCE):
                    continue
                best, strength = b, value[b]
            if best < 0:
                break
            used[best] = True
            above, below = (best + 1) % LIDAR_BINS, (best - 1) % LIDAR_BINS
            low[best] = min(max(1.0 - value[below] / strength, 0.0), 1.0)
            high[best] = min(max(value[above] / strength, 0.0), 1.0)
            if high[best] - low[best] > _TOLERANCE:
                raised_below = _raised(
                    strength, value[below], value[(best - 2) % LIDAR_BINS], high[best], between
                )
                raised_above = _raised(
                    strength, value[above], value[(best + 2) % LIDAR_BINS], 1.0 - low[best], between
                )
                if raised_above and not raised_below:
                    high[best] = low[best]
                elif raised_below and not raised_above:
                    low[best] = high[best]
            if high[best] < low[best] + _TOLERANCE:
                low[best] = high[best] = 0.5 * (low[best] + high[best])
            distance = LIDAR_RANGE * (1.0 - strength)
            for end in range(2):
                angle = _BIN * (best + (low[best] if end == 0 else high[best]))
                out[i, count, end, 0] = distance * math.cos(angle)
                out[i, count, end, 1] = distance * math.sin(angle)
            count += 1


def decoded(task: Task, observations: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
    """What must not be entered, seen in observations (n, d): hazards first, then vases where they cost.

    Yields:
        Places (n, 6, 2, 2), m, body axes (`decode`), and the radius that is to be kept from them, m.
    """
    discs = [("hazards_lidar", BETWEEN_HAZARDS, HAZARD_RADIUS)]
    if task.level.vases_cost:
        discs.append(("vases_lidar", BETWEEN_VASES, VASE_KEEP))
    for sensor, between, radius in discs:
        out = np.empty((len(observations), MAX_HAZARDS, 2, 2))
        decode(np.ascontiguousarray(observations[:, task.block(sensor)]), HORIZON, between, out)
        yield out, radius
