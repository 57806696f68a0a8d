"""Whether Car and vase can meet: the gap between the box about the robot and the vase, seen from above.

While they are apart and the vase rests, it takes no part, and the robot's dynamics are those on the bare
floor. MuJoCo makes contacts only where shapes overlap (margin 0), so that the test is exact as long as the
gap is not overstated."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from experiments.safetygym.sim.car.kinematics import matrix
from experiments.safetygym.sim.task import VASE_HALF_SIZE

VASE_AT_REST = 1e-4
"""m/s and rad/s; a flat vase that is slower than this and not touched is not simulated (it sinks at 5e-5 at
first)"""
FLAT_HEIGHT = 0.1001
"""m; a vase whose centre is higher does not lie flat"""
_CENTRE_Y, _CENTRE_Z = -0.0075, -0.025
_HALF_X, _HALF_Y, _HALF_Z = 0.155, 0.1675, 0.075
"""m; a box in the chassis' frame that holds chassis, wheels and ball"""
_RADIUS = 0.26
"""m; no part of the robot is farther from its origin"""


@njit(cache=True)
def gap(robot, vase):
    """A lower bound in m on the distance of robot (24,) and vase (13,); at most 0 if they may overlap."""
    dx, dy = vase[0] - robot[0], vase[1] - robot[1]
    rough = math.hypot(dx, dy) - _RADIUS - 1.7321 * VASE_HALF_SIZE
    if rough > 0.3:
        return rough
    R, V = (
        matrix((robot[3], robot[4], robot[5], robot[6])),
        matrix((vase[3], vase[4], vase[5], vase[6])),
    )
    best = rough
    for i in range(5):
        ax = R[i] if i < 2 else V[i - 2]
        ay = R[i + 3] if i < 2 else V[i + 1]
        norm = math.hypot(ax, ay)
        if norm < 0.5:
            continue
        ax, ay = ax / norm, ay / norm
        # the axis in the frames of robot and vase
        x, y, z = R[0] * ax + R[3] * ay, R[1] * ax + R[4] * ay, R[2] * ax + R[5] * ay
        u, v, w = V[0] * ax + V[3] * ay, V[1] * ax + V[4] * ay, V[2] * ax + V[5] * ay
        between = abs(dx * ax + dy * ay - y * _CENTRE_Y - z * _CENTRE_Z)
        extent = abs(x) * _HALF_X + abs(y) * _HALF_Y + abs(z) * _HALF_Z
        best = max(best, between - extent - VASE_HALF_SIZE * (abs(u) + abs(v) + abs(w)))
    return best


@njit(cache=True)
def half_way(robot):
    """Metres that any part of robot (24,) can travel in half a control step before or after this state.

    .6 m/s is more than friction adds on average: 13.9 m/s^2 and 170 rad/s^2 for 20 ms.
    """
    speed = math.sqrt(robot[13] ** 2 + robot[14] ** 2 + robot[15] ** 2)
    turning = math.sqrt(robot[16] ** 2 + robot[17] ** 2 + robot[18] ** 2)
    return 0.02 * (speed + _RADIUS * turning + 0.6)


@njit(cache=True)
def vase_moves(vase):
    """(n,) bool: vase (n, 13) moves, or does not lie flat."""
    moves = np.zeros(len(vase), np.bool_)
    for row in range(len(vase)):
        moves[row] = vase[row, 2] > FLAT_HEIGHT
        for i in range(7, 13):
            moves[row] |= not abs(vase[row, i]) <= VASE_AT_REST
    return moves


@njit(cache=True)
def vase_near(robot, vase):
    """(n,) bool: robot (n, 24) at one end of a control step, so near to the vase (n, 13) that they may meet
    in the half of it that is nearer to this end."""
    near = np.zeros(len(robot), np.bool_)
    for row in range(len(robot)):
        near[row] = not gap(robot[row], vase[row]) > half_way(robot[row])
    return near


@njit(cache=True)
def gaps(robot, vase):
    """(n,): `gap` of each row."""
    out = np.empty(len(robot))
    for row in range(len(robot)):
        out[row] = gap(robot[row], vase[row])
    return out
