"""Where wheels and ball of the Car touch the floor, and how MuJoCo regularises that.

Five possible contacts: two rims of the left wheel, two of the right one, the ball. The contact frame is the
world's: normal z, tangents y and x. Branch-free, see `car_algebra`.

Source: MuJoCo's documentation (Computation: contact, solver parameters) and the observable behaviour of its
collision of plane and cylinder: the lowest point of either rim. (Two more points of the lower disk appear
only when a wheel lies nearly flat, which `in_scope` excludes.)
"""

from __future__ import annotations

import math

from experiments.safetygym.sim.car import parameters
from experiments.safetygym.sim.car.algebra import scalar

_WIDTH, _MIN, _MAX = parameters.IMPEDANCE_WIDTH, parameters.IMPEDANCE_MIN, parameters.IMPEDANCE_MAX
_EXTENT_X, _EXTENT_Y, _EXTENT_Z = parameters.CHASSIS_EXTENT
_BALL_Y, _BALL_Z = float(parameters.BALL_POSITION[1]), float(parameters.BALL_POSITION[2])


@scalar
def in_scope(height, R):
    """Whether only wheels and ball can touch the floor, at `height` m of the origin with rotation R (9):
    the box about the chassis clears it. (A wheel that lies flat would need a tilt at which that box does
    not.)"""
    return height - abs(R[6]) * _EXTENT_X - abs(R[7]) * _EXTENT_Y - abs(R[8]) * _EXTENT_Z > 0.0


@scalar
def regularise(distance, inverse_mass):
    """D = 1/R of all ten edges and the restoring acceleration -k·imp·depth, both 0 where distance (m) >= 0.

    MuJoCo's default impedance imp is .9 to .95 over 1 mm, power 2, midpoint .5; for a pyramid
    R = 2 mu^2·(1 - imp)/imp·(1 + mu^2)·inverse mass with mu = 1.
    """
    x = min(-distance / _WIDTH, 1.0)
    y = 2.0 * x * x if x <= 0.5 else 1.0 - 2.0 * (1.0 - x) * (1.0 - x)
    imp = _MIN + y * (_MAX - _MIN)
    D = imp / ((1.0 - imp) * 4.0 * inverse_mass)
    return (D, parameters.STIFFNESS * imp * distance) if distance < 0.0 else (0.0, 0.0)


@scalar
def rim(height, R, along):
    """Contact of the rim `along` m along the axle.

    Returns x, y, z of the point from the origin, D, restoring acceleration.
    """
    tilt = R[6]
    scale = parameters.RADIUS / math.sqrt(1.0 - tilt * tilt)
    x = R[1] * parameters.HUB_Y + R[2] * parameters.HUB_Z + along * R[0] + scale * tilt * R[0]
    y = R[4] * parameters.HUB_Y + R[5] * parameters.HUB_Z + along * R[3] + scale * tilt * R[3]
    z = R[7] * parameters.HUB_Y + R[8] * parameters.HUB_Z + along * tilt + scale * (tilt * tilt - 1.0)
    distance = height + z
    D, restoring = regularise(distance, parameters.WHEEL_INVERSE_MASS)
    return x, y, z - 0.5 * distance, D, restoring


@scalar
def ball_contact(height, R):
    """Contact of the ball.

    Returns its centre from the origin (3), z of the point relative to it, D, restoring acceleration.
    """
    x, y, z = (
        R[1] * _BALL_Y + R[2] * _BALL_Z,
        R[4] * _BALL_Y + R[5] * _BALL_Z,
        R[7] * _BALL_Y + R[8] * _BALL_Z,
    )
    distance = height + z - parameters.RADIUS
    D, restoring = regularise(distance, parameters.BALL_INVERSE_MASS)
    return x, y, z, -parameters.RADIUS - 0.5 * distance, D, restoring
