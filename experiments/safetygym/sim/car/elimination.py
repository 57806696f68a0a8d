"""One Newton system of the Car: the minimum over accelerations with the active edges held fixed.

Unknowns x (11) = chassis linear (3) and angular (3) in world axes, relative acceleration of left and right
wheel, absolute angular acceleration of the ball (3). Wheels and ball meet only through the chassis: they
are eliminated as in the articulated-body algorithm (Featherstone 2008, Rigid Body Dynamics Algorithms,
chapter 7); 6 x 6 remain.

Everything here is free of branches and works on scalars, so that a loop over environments around it becomes
vector code. A symmetric 6 x 6 matrix is a tuple of 21: its lower triangle, row by row.
"""

from __future__ import annotations

from experiments.safetygym.sim.car import parameters
from experiments.safetygym.sim.car.algebra import plus, scalar

_SPIN, _ROLL = parameters.TORSION, parameters.ROLLING
_WHEEL_INERTIA, _BALL_INERTIA = parameters.WHEEL_INERTIA, parameters.BALL_INERTIA


@scalar
def weights(on, D):
    """Entries of a contact's Hessian W (6 x 6, arrow-shaped) from its active edges on (10) and D = 1/R.

    Diagonal x, y, z; couplings of z with x and y; of z with the angular x, y, z; angular diagonal x, y, z.
    Edges, 0 or 1: see `solver.active_edges`.
    """
    py, px, ps, pb, pa, my, mx, ms, mb, ma = on
    kx, ky, ks, kb, ka = px + mx, py + my, ps + ms, pb + mb, pa + ma
    spin, roll = D * _SPIN, D * _ROLL
    return (
        D * kx,
        D * ky,
        D * (kx + ky + ks + kb + ka),
        D * (px - mx),
        D * (py - my),
        roll * (pa - ma),
        roll * (pb - mb),
        spin * (ps - ms),
        roll * _ROLL * ka,
        roll * _ROLL * kb,
        spin * _SPIN * ks,
    )


@scalar
def local_force(W, s):
    """W s (6), linear then angular."""
    ax, ay, nn, bx, by, cx, cy, cz, ex, ey, ez = W
    sx, sy, sz, ox, oy, oz = s
    return (
        ax * sx + bx * sz,
        ay * sy + by * sz,
        bx * sx + by * sy + nn * sz + cx * ox + cy * oy + cz * oz,
        cx * sz + ex * ox,
        cy * sz + ey * oy,
        cz * sz + ez * oz,
    )


@scalar
def at_origin(W, r):
    """X' W X (21), X taking the acceleration of a frame at the origin to the point r (3)."""
    ax, ay, nn, bx, by, cx, cy, cz, ex, ey, ez = W
    rx, ry, rz = r
    pxx, pxy, pxz = bx * ry, ax * rz - bx * rx, -ax * ry
    pyx, pyy, pyz = by * ry - ay * rz, -by * rx, ay * rx
    pzx, pzy, pzz = nn * ry - by * rz + cx, bx * rz - nn * rx + cy, by * rx - bx * ry + cz
    return (
        ax,
        0.0,
        ay,
        bx,
        by,
        nn,
        pxx,
        pyx,
        pzx,
        ry * (pzx + cx) - rz * pyx + ex,
        pxy,
        pyy,
        pzy,
        rz * pxx - rx * pzx + cy * ry,
        rz * pxy - rx * (pzy + cy) + ey,
        pxz,
        pyz,
        pzz,
        rx * pyx - ry * pxx + cz * ry,
        rx * pyy - ry * pxy - cz * rx,
        rx * pyz - ry * pxz + ez,
    )


@scalar
def force_at_origin(f, r):
    """X' f (6): a force and torque f (6) at the point r (3), seen from the origin."""
    fx, fy, fz, tx, ty, tz = f
    rx, ry, rz = r
    return fx, fy, fz, tx + ry * fz - rz * fy, ty + rz * fx - rx * fz, tz + rx * fy - ry * fx


@scalar
def wheel(on1, D1, r1, s1, on2, D2, r2, s2, axle, drive):
    """A wheel with its two contacts, its own rotation eliminated.

    axle (6): twist of unit rate at the origin.

    Returns matrix (21) and force (6) that it adds to the chassis, and u (6), total, 1/d for its acceleration
    (total - u'x)/d.
    """
    W1, W2 = weights(on1, D1), weights(on2, D2)
    k = plus(at_origin(W1, r1), at_origin(W2, r2))
    g1, g2 = force_at_origin(local_force(W1, s1), r1), force_at_origin(local_force(W2, s2), r2)
    a0, a1, a2, a3, a4, a5 = axle
    k00, k10, k11, k20, k21, k22, k30, k31, k32, k33 = k[:10]
    k40, k41, k42, k43, k44, k50, k51, k52, k53, k54, k55 = k[10:]
    i3, i4, i5 = _WHEEL_INERTIA * a3, _WHEEL_INERTIA * a4, _WHEEL_INERTIA * a5
    k33, k43, k44 = k33 + i3 * a3, k43 + i4 * a3, k44 + i4 * a4
    k53, k54, k55 = k53 + i5 * a3, k54 + i5 * a4, k55 + i5 * a5
    f0, f1, f2 = -g1[0] - g2[0], -g1[1] - g2[1], -g1[2] - g2[2]
    f3, f4, f5 = drive * a3 - g1[3] - g2[3], drive * a4 - g1[4] - g2[4], drive * a5 - g1[5] - g2[5]
    total = f0 * a0 + f1 * a1 + f2 * a2 + f3 * a3 + f4 * a4 + f5 * a5
    u0 = k00 * a0 + k10 * a1 + k20 * a2 + k30 * a3 + k40 * a4 + k50 * a5
    u1 = k10 * a0 + k11 * a1 + k21 * a2 + k31 * a3 + k41 * a4 + k51 * a5
    u2 = k20 * a0 + k21 * a1 + k22 * a2 + k32 * a3 + k42 * a4 + k52 * a5
    u3 = k30 * a0 + k31 * a1 + k32 * a2 + k33 * a3 + k43 * a4 + k53 * a5
    u4 = k40 * a0 + k41 * a1 + k42 * a2 + k43 * a3 + k44 * a4 + k54 * a5
    u5 = k50 * a0 + k51 * a1 + k52 * a2 + k53 * a3 + k54 * a4 + k55 * a5
    inverse = 1.0 / (u0 * a0 + u1 * a1 + u2 * a2 + u3 * a3 + u4 * a4 + u5 * a5)
    t0, t1, t2, t3, t4, t5 = (
        u0 * inverse,
        u1 * inverse,
        u2 * inverse,
        u3 * inverse,
        u4 * inverse,
        u5 * inverse,
    )
    matrix = (
        k00 - t0 * u0,
        k10 - t1 * u0,
        k11 - t1 * u1,
        k20 - t2 * u0,
        k21 - t2 * u1,
        k22 - t2 * u2,
        k30 - t3 * u0,
        k31 - t3 * u1,
        k32 - t3 * u2,
        k33 - t3 * u3,
        k40 - t4 * u0,
        k41 - t4 * u1,
        k42 - t4 * u2,
        k43 - t4 * u3,
        k44 - t4 * u4,
        k50 - t5 * u0,
        k51 - t5 * u1,
        k52 - t5 * u2,
        k53 - t5 * u3,
        k54 - t5 * u4,
        k55 - t5 * u5,
    )
    force = (
        f0 - t0 * total,
        f1 - t1 * total,
        f2 - t2 * total,
        f3 - t3 * total,
        f4 - t4 * total,
        f5 - t5 * total,
    )
    return matrix, force, (u0, u1, u2, u3, u4, u5), total, inverse


@scalar
def ball(on, D, depth, s, drive, centre):
    """The ball, eliminated: matrix (21) and force (6) it adds, and what its acceleration needs.

    depth: z of the contact relative to its centre (3, from the origin); drive (3). Its own angular block is
    diagonal.
    """
    W = weights(on, D)
    ax, ay, nn, bx, by, cx, cy, cz, ex, ey, ez = W
    fx, fy, fz, gx, gy, gz = local_force(W, s)
    tx, ty, tz = drive[0] + depth * fy - gx, drive[1] - depth * fx - gy, drive[2] - gz
    hx = 1.0 / (ay * depth * depth + ex + _BALL_INERTIA)
    hy = 1.0 / (ax * depth * depth + ey + _BALL_INERTIA)
    hz = 1.0 / (ez + _BALL_INERTIA)
    xy, yx, zx, zy = ax * depth, -ay * depth, cx - by * depth, cy + bx * depth
    reduced = (
        ax - xy * xy * hy,
        ay - yx * yx * hx,
        nn - zx * zx * hx - zy * zy * hy - cz * cz * hz,
        bx - zy * xy * hy,
        by - zx * yx * hx,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
    )
    lx, ly = -fx - xy * hy * ty, -fy - yx * hx * tx
    lz = -fz - zx * hx * tx - zy * hy * ty - cz * hz * tz
    force = force_at_origin((lx, ly, lz, 0.0, 0.0, 0.0), centre)
    return at_origin(reduced, centre), force, (hx, hy, hz, tx, ty, tz, xy, yx, zx, zy, cz)
