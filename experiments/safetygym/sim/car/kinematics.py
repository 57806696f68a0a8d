"""Rotations, inertia and smooth forces of the Car, branch-free (see `car_algebra`).

Velocities of the chassis: linear in world axes, angular in its own; of the ball relative to the chassis,
kept in the chassis' axes. (A ball's orientation moves nothing, so its quaternion is only carried along.)
"""

from __future__ import annotations

import math

from experiments.safetygym.sim.car import parameters
from experiments.safetygym.sim.car.algebra import scalar

_IXX, _IYY, _IZZ = (float(parameters.LOCKED_INERTIA[i, i]) for i in range(3))
_IYZ = float(parameters.LOCKED_INERTIA[1, 2])
_COM_Y, _COM_Z = float(parameters.COM[1]), float(parameters.COM[2])
_BALL_Y, _BALL_Z = float(parameters.BALL_POSITION[1]), float(parameters.BALL_POSITION[2])


@scalar
def matrix(q):
    """Rotation matrix (9, row by row) of the unit quaternion q (4)."""
    w, x, y, z = q
    return (
        w * w + x * x - y * y - z * z,
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        w * w - x * x + y * y - z * z,
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        w * w - x * x - y * y + z * z,
    )


@scalar
def to_world(R, v):
    """R v (3)."""
    return (
        R[0] * v[0] + R[1] * v[1] + R[2] * v[2],
        R[3] * v[0] + R[4] * v[1] + R[5] * v[2],
        R[6] * v[0] + R[7] * v[1] + R[8] * v[2],
    )


@scalar
def to_body(R, v):
    """R' v (3)."""
    return (
        R[0] * v[0] + R[3] * v[1] + R[6] * v[2],
        R[1] * v[0] + R[4] * v[1] + R[7] * v[2],
        R[2] * v[0] + R[5] * v[1] + R[8] * v[2],
    )


@scalar
def rotated(q, v, sign):
    """q (4) times the rotation by the vector v (3) in radians, normalised.

    On the right (sign 1) or on the left (-1). The half-angle's sine and cosine are series to the 14th power:
    below rounding to .3 radians (`MAX_TURN`).
    """
    x, y, z = v
    s = 0.25 * (x * x + y * y + z * z)
    cosine = 1 - s / 2 * (
        1 - s / 12 * (1 - s / 30 * (1 - s / 56 * (1 - s / 90 * (1 - s / 132 * (1 - s / 182)))))
    )
    sine = 1 - s / 6 * (
        1 - s / 20 * (1 - s / 42 * (1 - s / 72 * (1 - s / 110 * (1 - s / 156 * (1 - s / 210)))))
    )
    x, y, z = 0.5 * sine * x, 0.5 * sine * y, 0.5 * sine * z
    a, b, d, e = q
    w = a * cosine - b * x - d * y - e * z
    i = a * x + b * cosine + sign * (d * z - e * y)
    j = a * y + d * cosine + sign * (e * x - b * z)
    k = a * z + e * cosine + sign * (b * y - d * x)
    scale = 1.0 / math.sqrt(w * w + i * i + j * j + k * k)
    return w * scale, i * scale, j * scale, k * scale


MAX_TURN = 0.6
"""radians a time step (150 rad/s), half of it in the series of `rotated`"""


@scalar
def turned(q, v, sign):
    """The vector v (3) rotated by the unit quaternion q (sign 1) or its inverse (-1)."""
    w, x, y, z = q[0], sign * q[1], sign * q[2], sign * q[3]
    a, b, c = v
    p, s, r = 2 * (y * c - z * b), 2 * (z * a - x * c), 2 * (x * b - y * a)
    return a + w * p + y * r - z * s, b + w * s + z * p - x * r, c + w * r + x * s - y * p


@scalar
def axle(R):
    """Twist (6) of a wheel of unit rate at the chassis' origin: linear, angular."""
    return (
        R[1] * parameters.HUB_Z - R[2] * parameters.HUB_Y,
        R[4] * parameters.HUB_Z - R[5] * parameters.HUB_Y,
        R[7] * parameters.HUB_Z - R[8] * parameters.HUB_Y,
        R[0],
        R[3],
        R[6],
    )


@scalar
def mass_matrix(R):
    """Inertia of the chassis (21), with all masses but without wheels and ball turning about themselves."""
    m = parameters.MASS
    x, y, z = (
        m * (R[1] * _COM_Y + R[2] * _COM_Z),
        m * (R[4] * _COM_Y + R[5] * _COM_Z),
        m * (R[7] * _COM_Y + R[8] * _COM_Z),
    )
    ax, ay, az = _IYY * R[1] + _IYZ * R[2], _IYY * R[4] + _IYZ * R[5], _IYY * R[7] + _IYZ * R[8]
    bx, by, bz = _IYZ * R[1] + _IZZ * R[2], _IYZ * R[4] + _IZZ * R[5], _IYZ * R[7] + _IZZ * R[8]
    return (
        m,
        0.0,
        m,
        0.0,
        0.0,
        m,
        0.0,
        -z,
        y,
        _IXX * R[0] * R[0] + ax * R[1] + bx * R[2],
        z,
        0.0,
        -x,
        _IXX * R[3] * R[0] + ay * R[1] + by * R[2],
        _IXX * R[3] * R[3] + ay * R[4] + by * R[5],
        -y,
        x,
        0.0,
        _IXX * R[6] * R[0] + az * R[1] + bz * R[2],
        _IXX * R[6] * R[3] + az * R[4] + bz * R[5],
        _IXX * R[6] * R[6] + az * R[7] + bz * R[8],
    )


@scalar
def smooth_forces(R, omega, wheels, spin, torques):
    """Gravity, gyroscopic terms, damping and motors.

    omega (3), spin of the ball (3): body axes; wheels (2): rates; torques (2).

    Returns forces on the chassis (6, world axes at the origin), wheels (2) and ball (3); those of wheels and
    ball drive their absolute angular acceleration.
    """
    wx, wy, wz = omega
    sx, sy, sz = spin
    lx, ly, lz = _IXX * wx, _IYY * wy + _IYZ * wz, _IYZ * wy + _IZZ * wz
    lx += parameters.WHEEL_INERTIA * (wheels[0] + wheels[1] + 2.0 * wx)
    left, right = torques[0] - parameters.DAMPING * wheels[0], torques[1] - parameters.DAMPING * wheels[1]
    gyroscopic = (
        ly * wz - lz * wy - left - right + parameters.DAMPING * sx,
        lz * wx - lx * wz + parameters.DAMPING * sy,
        lx * wy - ly * wx + parameters.DAMPING * sz,
    )
    dot, square = wy * _COM_Y + wz * _COM_Z, wx * wx + wy * wy + wz * wz
    m = parameters.MASS
    centrifugal = -m * wx * dot, -m * (wy * dot - square * _COM_Y), -m * (wz * dot - square * _COM_Z)
    force, moment = to_world(R, centrifugal), to_world(R, gyroscopic)
    weight = m * parameters.GRAVITY
    x, y = R[1] * _COM_Y + R[2] * _COM_Z, R[4] * _COM_Y + R[5] * _COM_Z
    chassis = force[0], force[1], force[2] - weight, moment[0] - y * weight, moment[1] + x * weight, moment[2]
    inertia, damping = parameters.BALL_INERTIA, parameters.DAMPING
    on_ball = (
        -damping * sx - inertia * (wy * sz - wz * sy),
        -damping * sy - inertia * (wz * sx - wx * sz),
        -damping * sz - inertia * (wx * sy - wy * sx),
    )
    return chassis, left, right, to_world(R, on_ball)


@scalar
def point_motion(x, rate, a, r):
    """Linear and angular motion (6) at r (3) of a wheel with relative rate.

    x (6): motion of the chassis' origin.
    """
    ox, oy, oz = x[3] + rate * a[3], x[4] + rate * a[4], x[5] + rate * a[5]
    return (
        x[0] + rate * a[0] + oy * r[2] - oz * r[1],
        x[1] + rate * a[1] + oz * r[0] - ox * r[2],
        x[2] + rate * a[2] + ox * r[1] - oy * r[0],
        ox,
        oy,
        oz,
    )


@scalar
def ball_motion(x, spin, centre, depth):
    """The same for the ball, of absolute angular motion `spin` (3), at its lowest point.

    depth: z of that point from its centre.
    """
    rx, ry, rz = centre
    return (
        x[0] + x[4] * rz - x[5] * ry + spin[1] * depth,
        x[1] + x[5] * rx - x[3] * rz - spin[0] * depth,
        x[2] + x[3] * ry - x[4] * rx,
        spin[0],
        spin[1],
        spin[2],
    )
