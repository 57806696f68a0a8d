"""Can the Point touch the vase? Exact in the plane, a little on the careful side.

Both are upright while the vase stands flat: the robot is a disc (radius .1) with a square (half-size .05, its
centre .1 ahead), the vase a square (half-size .1), and their heights overlap. A vase that is tilted counts as
touchable within REACH. Separating axes: Gottschalk, Lin and Manocha (1996), doi:10.1145/237170.237244.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from experiments.safetygym.sim.task import VASE_HALF_SIZE

REACH = 0.345
"""m between the origins: beyond it no control step leads to contact (outermost points of robot .159 and vase
.142; the origin moves at most .04 m in a step)."""
NEIGHBOURS = 0.45
"""m between the centres of two vases: beyond it one that is pushed does not reach the other within a control
step (twice .173, the outermost point of a tilted one, and .1 m of way at 5 m/s)."""
ROBOT_OUTERMOST = math.hypot(0.15, 0.05)
"""m from its origin: a corner of its arrow"""
_RADIUS = 0.1  # of the robot's sphere
_ARROW, _ARROW_HALF = 0.1, 0.05  # its arrow: a box ahead
_MARGIN = 1e-3  # m, for the tilt that still counts as flat
_FLAT = 1.0 - 1e-6


@njit(cache=True, inline="always")
def vase_moves(vase: np.ndarray) -> bool:
    """Does vase (13,) have any velocity?"""
    return not (vase[7] == vase[8] == vase[9] == vase[10] == vase[11] == vase[12] == 0.0)


@njit(cache=True)
def vase_axis(vase: np.ndarray) -> tuple[float, float, bool]:
    """A horizontal side of vase (13,) as unit vector (x, y), and whether it stands flat on any face."""
    w, x, y, z = vase[3], vase[4], vase[5], vase[6]
    up0, up1, up2 = abs(2 * (x * z - w * y)), abs(2 * (y * z + w * x)), abs(1 - 2 * (x * x + y * y))
    if max(up0, up1, up2) < _FLAT:
        return 1.0, 0.0, False
    if up0 == max(up0, up1, up2):  # the first axis is vertical: take the second
        ux, uy = 2 * (x * y - w * z), 1 - 2 * (x * x + z * z)
    else:
        ux, uy = 1 - 2 * (y * y + z * z), 2 * (x * y + w * z)
    norm = math.sqrt(ux * ux + uy * uy)
    return ux / norm, uy / norm, True


@njit(cache=True)
def overlaps(dx: float, dy: float, c: float, s: float, ux: float, uy: float) -> bool:
    """Does the robot with heading (c, s), its origin at (dx, dy) from the vase's centre, overlap the vase
    whose side points along (ux, uy)?"""
    a, b = dx * ux + dy * uy, dy * ux - dx * uy
    ox, oy = max(abs(a) - VASE_HALF_SIZE, 0.0), max(abs(b) - VASE_HALF_SIZE, 0.0)
    if ox * ox + oy * oy <= (_RADIUS + _MARGIN) ** 2:
        return True
    cr, sr = c * ux + s * uy, s * ux - c * uy  # heading in the vase's axes
    spread = abs(cr) + abs(sr)
    reach = VASE_HALF_SIZE + _ARROW_HALF * spread + _MARGIN
    a, b = a + _ARROW * cr, b + _ARROW * sr
    if abs(a) > reach or abs(b) > reach:
        return False
    reach = _ARROW_HALF + VASE_HALF_SIZE * spread + _MARGIN
    return not (abs(a * cr + b * sr) > reach or abs(b * cr - a * sr) > reach)
