"""Where wheels and ball of the Car touch the floor, and how MuJoCo regularises that.

A contact is a row of `contacts` (5, 11): point relative to the chassis' origin in world axes 3, 1/R of its
ten pyramid edges 1, its restoring acceleration k·imp·depth (negative inside) 1, and room for the solver.
Rows 0–1 belong to the left wheel, 2–3 to the right one, 4 to the ball. The contact frame is the world's:
normal z, tangents y and x.

Source: MuJoCo's documentation (Computation: contact, solver parameters) and the observable behaviour of its
plane–cylinder collision: the lowest point of either rim; two more points of the lower disk only when a
wheel lies nearly flat, which is reported as out of scope (status).
"""

from __future__ import annotations

import math

from numba import njit

from experiments.safetygym.sim import car_parameters as car

MAX_CONTACTS = 5
_WIDTH, _MIN, _MAX = car.IMPEDANCE_WIDTH, car.IMPEDANCE_MIN, car.IMPEDANCE_MAX


@njit(cache=True, inline="always")
def impedance(depth):
    """MuJoCo's default impedance at penetration `depth` in m (>= 0): .9 to .95 over 1 mm, power 2, midpoint
    .5."""
    x = depth / _WIDTH
    if x >= 1.0:
        return _MAX
    y = 2.0 * x * x if x <= 0.5 else 1.0 - 2.0 * (1.0 - x) * (1.0 - x)
    return _MIN + y * (_MAX - _MIN)


@njit(cache=True, inline="always")
def set_contact(contacts, row, x, y, z, distance, inverse_mass):
    """Fill one row. Diagonal: MuJoCo's approximation 2·(1 - imp)/imp·A with A = (1 + mu^2)·inverse mass."""
    imp = impedance(-distance)
    contacts[row, 0], contacts[row, 1], contacts[row, 2] = x, y, z
    contacts[row, 3] = imp / ((1.0 - imp) * 4.0 * inverse_mass)
    contacts[row, 4] = car.STIFFNESS * imp * distance


@njit(cache=True)
def find_contacts(height, R, contacts, touching):
    """Detect the contacts of a Car whose origin is `height` m above the floor with rotation R (3, 3).

    Fills contacts (5, 11) and touching (5,) bool. Returns False if the pose is beyond this model: a part of
    the chassis may touch the floor, or a wheel lies so flat that its disk does.
    """
    touching[:] = False
    sx, sy, sz = car.CHASSIS_EXTENT
    if height - abs(R[2, 0]) * sx - abs(R[2, 1]) * sy - abs(R[2, 2]) * sz <= 0.0:
        return False
    tilt = R[2, 0]  # of the axle
    scale = car.RADIUS / math.sqrt(1.0 - tilt * tilt)
    # from the axle to the lowest point of a rim, and the axle's nearest point to the origin
    vx, vy, vz = scale * tilt * R[0, 0], scale * tilt * R[1, 0], scale * (tilt * tilt - 1.0)
    hx = R[0, 1] * car.HUB_Y + R[0, 2] * car.HUB_Z
    hy = R[1, 1] * car.HUB_Y + R[1, 2] * car.HUB_Z
    hz = R[2, 1] * car.HUB_Y + R[2, 2] * car.HUB_Z
    for wheel in range(2):
        side = 2 * wheel - 1
        for end in range(2):
            along = side * (car.WHEEL_X + (2 * end - 1) * car.WHEEL_HALF_WIDTH)
            z = hz + along * tilt + vz
            distance = height + z
            if distance < 0.0:
                row = 2 * wheel + end
                touching[row] = True
                x, y = hx + along * R[0, 0] + vx, hy + along * R[1, 0] + vy
                set_contact(contacts, row, x, y, z - 0.5 * distance, distance, car.WHEEL_INVERSE_MASS)
            if distance - 1.5 * vz <= 0.0:
                return False
    bx = R[0, 1] * car.BALL_POSITION[1] + R[0, 2] * car.BALL_POSITION[2]
    by = R[1, 1] * car.BALL_POSITION[1] + R[1, 2] * car.BALL_POSITION[2]
    bz = R[2, 1] * car.BALL_POSITION[1] + R[2, 2] * car.BALL_POSITION[2]
    distance = height + bz - car.RADIUS
    if distance < 0.0:
        touching[4] = True
        set_contact(contacts, 4, bx, by, bz - car.RADIUS - 0.5 * distance, distance, car.BALL_INVERSE_MASS)
    return True
