"""The Car's accelerations under contact: MuJoCo's convex problem, solved exactly.

Minimise over the acceleration a:  1/2 (a - a0)' M (a - a0) + sum over edges of D/2 min(0, J a - a_ref)^2,
with ten edges n ± mu_i t_i of a friction pyramid per contact (MuJoCo documentation, Computation: constraint
model; Todorov 2014, doi 10.1109/ICRA.2014.6907751). On a fixed set of active edges it is quadratic, so that
Newton's method with an exact line search ends after finitely many steps, when the set stays as it is: the
solution then has no error but rounding, and the warm start changes the speed but not the result.
"""

from __future__ import annotations

import math

from numba import njit

from experiments.safetygym.sim import car_parameters as car
from experiments.safetygym.sim.car_elimination import minimise_on

MAX_ITERATIONS = 60
_SPIN, _ROLL = car.TORSION, car.ROLLING
_WHEEL_INERTIA, _BALL_INERTIA = car.WHEEL_INERTIA, car.BALL_INERTIA


@njit(cache=True, inline="always")
def active_edges(z):
    """Bits of the active edges of a contact with relative acceleration z (6) less its reference; linear x,
    y, z, then angular x, y, z. Bit i: edge n + mu_i t_i, bit 5 + i: n - mu_i t_i, with tangents y, x, spin,
    roll y, roll x."""
    n, y, x = z[2], z[1], z[0]
    spin, roll_y, roll_x = _SPIN * z[5], _ROLL * z[4], _ROLL * z[3]
    return (
        (n + y < 0.0) * 1
        + (n + x < 0.0) * 2
        + (n + spin < 0.0) * 4
        + (n + roll_y < 0.0) * 8
        + (n + roll_x < 0.0) * 16
        + (n - y < 0.0) * 32
        + (n - x < 0.0) * 64
        + (n - spin < 0.0) * 128
        + (n - roll_y < 0.0) * 256
        + (n - roll_x < 0.0) * 512
    )


@njit(cache=True)
def relative(x, axle, ball, contacts, touching, z):
    """z (5, 6): linear and angular acceleration (or velocity, for a twist x) at each contact point."""
    for row in range(5):
        if not touching[row]:
            continue
        if row < 4:
            rate = x[6 + row // 2]
            ox, oy, oz = x[3] + rate * axle[3], x[4] + rate * axle[4], x[5] + rate * axle[5]
            vx, vy, vz = x[0] + rate * axle[0], x[1] + rate * axle[1], x[2] + rate * axle[2]
            rx, ry, rz = contacts[row, 0], contacts[row, 1], contacts[row, 2]
        else:
            rx, ry, rz = ball[0], ball[1], ball[2]
            vx, vy = x[0] + x[4] * rz - x[5] * ry, x[1] + x[5] * rx - x[3] * rz
            vz = x[2] + x[3] * ry - x[4] * rx
            ox, oy, oz = x[8], x[9], x[10]
            rx, ry, rz = 0.0, 0.0, contacts[row, 2] - rz
        z[row, 0] = vx + oy * rz - oz * ry
        z[row, 1] = vy + oz * rx - ox * rz
        z[row, 2] = vz + ox * ry - oy * rx
        z[row, 3], z[row, 4], z[row, 5] = ox, oy, oz


@njit(cache=True)
def edge_slope(z, dz, t, D):
    """First and second derivative along t of a contact's cost at z + t dz (6)."""
    first, second = 0.0, 0.0
    n, dn = z[2] + t * dz[2], dz[2]
    for i in range(5):
        j = (1, 0, 5, 4, 3)[i]
        mu = (1.0, 1.0, _SPIN, _ROLL, _ROLL)[i]
        y, dy = mu * (z[j] + t * dz[j]), mu * dz[j]
        if n + y < 0.0:
            first += (n + y) * (dn + dy)
            second += (dn + dy) * (dn + dy)
        if n - y < 0.0:
            first += (n - y) * (dn - dy)
            second += (dn - dy) * (dn - dy)
    return D * first, D * second


@njit(cache=True)
def line_search(x, d, M, f, axle, contacts, touching, z, dz):
    """The exact minimum over t >= 0 along x + t d of the convex cost (its derivative is piecewise linear)."""
    first, second = 0.0, 0.0
    for i in range(6):
        t = 0.0
        u = 0.0
        for j in range(6):
            m = M[i, j] if j <= i else M[j, i]
            t += m * x[j]
            u += m * d[j]
        first += (t - f[i]) * d[i]
        second += u * d[i]
    spin = axle[3] * x[3] + axle[4] * x[4] + axle[5] * x[5]
    dspin = axle[3] * d[3] + axle[4] * d[4] + axle[5] * d[5]
    for i in range(6, 8):
        first += (_WHEEL_INERTIA * (spin + x[i]) - f[i]) * (dspin + d[i])
        second += _WHEEL_INERTIA * (dspin + d[i]) ** 2
    for i in range(8, 11):
        first += (_BALL_INERTIA * x[i] - f[i]) * d[i]
        second += _BALL_INERTIA * d[i] * d[i]
    low, high, t = 0.0, math.inf, 1.0
    for _ in range(50):
        slope, curvature = first + t * second, second
        for row in range(5):
            if touching[row]:
                a, b = edge_slope(z[row], dz[row], t, contacts[row, 3])
                slope += a
                curvature += b
        if slope < 0.0:
            low = t
        else:
            high = t
        step = t - slope / curvature
        if abs(step - t) <= 1e-14 * t:
            break
        t = step if low < step < high else 0.5 * (low + high)
    return t


@njit(cache=True)
def solve_contacts(M, f, axle, ball, contacts, touching, shift, masks, work, points, x):
    """The acceleration x (11). masks (5): the guess of active edges, replaced by the solution's. points (3,
    5, 6) and work (3, 6, 7): scratch. Returns the number of Newton steps, or -1 if the set has not
    settled."""
    z, dz = points[0], points[1]
    minimise_on(masks, M, f, axle, ball, contacts, touching, shift, work, x)
    if update(x, axle, ball, contacts, touching, shift, masks, z):
        return 1
    x_new = points[2].ravel()[:11]
    for iteration in range(2, MAX_ITERATIONS):
        # x is consistent with masks and z; a Newton step from it
        minimise_on(masks, M, f, axle, ball, contacts, touching, shift, work, x_new)
        for i in range(11):
            x_new[i] -= x[i]
        relative(x_new, axle, ball, contacts, touching, dz)
        settled = True
        for row in range(5):
            if touching[row]:
                for i in range(6):
                    dz[row, i] += z[row, i]
                settled &= active_edges(dz[row]) == masks[row]
        if settled:
            for i in range(11):
                x[i] += x_new[i]
            return iteration
        for row in range(5):
            for i in range(6):
                dz[row, i] -= z[row, i]
        t = line_search(x, x_new, M, f, axle, contacts, touching, z, dz)
        for i in range(11):
            x[i] += t * x_new[i]
        update(x, axle, ball, contacts, touching, shift, masks, z)
    return -1


@njit(cache=True)
def update(x, axle, ball, contacts, touching, shift, masks, z):
    """Evaluate z and the active edges at x; returns whether the masks are what they were."""
    relative(x, axle, ball, contacts, touching, z)
    same = True
    for row in range(5):
        if touching[row]:
            for i in range(6):
                z[row, i] += shift[row, i]
            mask = active_edges(z[row])
            same &= mask == masks[row]
            masks[row] = mask
    return same
