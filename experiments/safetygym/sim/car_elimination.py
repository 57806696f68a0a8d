"""One Newton system of the Car: the minimum over accelerations with the active edges held fixed.

Unknowns x (11) = chassis linear (3) and angular (3) in world axes, relative acceleration of left and right
wheel, absolute angular acceleration of the ball (3). Wheels and ball meet only through the chassis: they
are eliminated as in the articulated-body algorithm (Featherstone 2008, Rigid Body Dynamics Algorithms,
chapter 7); 6 x 6 remain.
"""

from __future__ import annotations

from numba import njit

from experiments.safetygym.sim import car_parameters as car

_SPIN, _ROLL = car.TORSION, car.ROLLING
_WHEEL_INERTIA, _BALL_INERTIA = car.WHEEL_INERTIA, car.BALL_INERTIA


@njit(cache=True, inline="always")
def weights(mask, D):
    """Entries of the contact's Hessian W (6 x 6, arrow-shaped): diagonals x, y, z, roll x, roll y, spin and
    the couplings of the normal with x, y, roll x, roll y, spin."""
    py, px, ps, pry, prx = mask & 1, mask >> 1 & 1, mask >> 2 & 1, mask >> 3 & 1, mask >> 4 & 1
    my, mx, ms, mry, mrx = mask >> 5 & 1, mask >> 6 & 1, mask >> 7 & 1, mask >> 8 & 1, mask >> 9 & 1
    kx, ky, ks, krx, kry = px + mx, py + my, ps + ms, prx + mrx, pry + mry
    spin, roll = D * _SPIN, D * _ROLL
    return (
        D * kx,
        D * ky,
        D * (kx + ky + ks + krx + kry),
        roll * _ROLL * krx,
        roll * _ROLL * kry,
        spin * _SPIN * ks,
        D * (px - mx),
        D * (py - my),
        roll * (prx - mrx),
        roll * (pry - mry),
        spin * (ps - ms),
    )


@njit(cache=True)
def add_contact(K, rhs, contact, s, mask):
    """Add X' W X to K (6, 6; lower triangle) and subtract X' W s from rhs (6), X taking the acceleration of
    the frame at the chassis' origin to the contact point."""
    ax, ay, nn, ex, ey, ez, bx, by, cx, cy, cz = weights(mask, contact[3])
    rx, ry, rz = contact[0], contact[1], contact[2]
    K[0, 0] += ax
    K[1, 1] += ay
    K[2, 0] += bx
    K[2, 1] += by
    K[2, 2] += nn
    pxx, pxy, pxz = bx * ry, ax * rz - bx * rx, -ax * ry
    pyx, pyy, pyz = by * ry - ay * rz, -by * rx, ay * rx
    pzx, pzy, pzz = nn * ry - by * rz + cx, bx * rz - nn * rx + cy, by * rx - bx * ry + cz
    K[3, 0] += pxx
    K[4, 0] += pxy
    K[5, 0] += pxz
    K[3, 1] += pyx
    K[4, 1] += pyy
    K[5, 1] += pyz
    K[3, 2] += pzx
    K[4, 2] += pzy
    K[5, 2] += pzz
    K[3, 3] += ry * (pzx + cx) - rz * pyx + ex
    K[4, 3] += rz * pxx - rx * pzx + cy * ry
    K[4, 4] += rz * pxy - rx * (pzy + cy) + ey
    K[5, 3] += rx * pyx - ry * pxx + cz * ry
    K[5, 4] += rx * pyy - ry * pxy - cz * rx
    K[5, 5] += rx * pyz - ry * pxz + ez
    fx, fy = ax * s[0] + bx * s[2], ay * s[1] + by * s[2]
    fz = bx * s[0] + by * s[1] + nn * s[2] + cx * s[3] + cy * s[4] + cz * s[5]
    rhs[0] -= fx
    rhs[1] -= fy
    rhs[2] -= fz
    rhs[3] -= ry * fz - rz * fy + cx * s[2] + ex * s[3]
    rhs[4] -= rz * fx - rx * fz + cy * s[2] + ey * s[4]
    rhs[5] -= rx * fy - ry * fx + cz * s[2] + ez * s[5]


@njit(cache=True)
def solve_symmetric(K, b, x):
    """x (6) with K x = b, K (6, 6) positive definite, lower triangle given and overwritten (L D L')."""
    for j in range(6):
        for k in range(j):
            t = K[j, k] * K[k, k]
            for i in range(j, 6):
                K[i, j] -= K[i, k] * t
        inverse = 1.0 / K[j, j]
        for i in range(j + 1, 6):
            K[i, j] *= inverse
    for i in range(6):
        t = b[i]
        for k in range(i):
            t -= K[i, k] * x[k]
        x[i] = t
    for i in range(5, -1, -1):
        t = x[i] / K[i, i]
        for k in range(i + 1, 6):
            t -= K[k, i] * x[k]
        x[i] = t


@njit(cache=True)
def minimise_on(masks, M, f, axle, ball, contacts, touching, shift, work, x):
    """x (11): the minimum with the active edges fixed to `masks` (5).

    M (6, 6) lower triangle and f (11): inertia and smooth force; f[6:8] drive the wheels' absolute, f[8:]
    the ball's absolute angular acceleration. axle (6): twist of a wheel of unit rate at the origin. ball
    (3): its centre. shift (5, 6): minus the reference acceleration. work (3, 6, 7): scratch.
    """
    K, rhs = work[0], work[0, :, 6]
    for i in range(6):
        rhs[i] = f[i]
        for j in range(i + 1):
            K[i, j] = M[i, j]
    for wheel in range(2):
        if touching[2 * wheel] or touching[2 * wheel + 1]:
            add_wheel(wheel, masks, f[6 + wheel], axle, contacts, touching, shift, work)
    # The ball: its angular block is diagonal.
    if touching[4]:
        s = shift[4]
        ax, ay, nn, ex, ey, ez, bx, by, cx, cy, cz = weights(masks[4], contacts[4, 3])
        rz = contacts[4, 2] - ball[2]
        fx, fy = ax * s[0] + bx * s[2], ay * s[1] + by * s[2]
        fz = bx * s[0] + by * s[1] + nn * s[2] + cx * s[3] + cy * s[4] + cz * s[5]
        tx = f[8] + rz * fy - cx * s[2] - ex * s[3]
        ty = f[9] - rz * fx - cy * s[2] - ey * s[4]
        tz = f[10] - cz * s[2] - ez * s[5]
        hx = 1.0 / (ay * rz * rz + ex + _BALL_INERTIA)
        hy = 1.0 / (ax * rz * rz + ey + _BALL_INERTIA)
        hz = 1.0 / (ez + _BALL_INERTIA)
        xy, yx, zx, zy = ax * rz, -ay * rz, cx - by * rz, cy + bx * rz  # couplings linear, angular
        sxx, syy = ax - xy * xy * hy, ay - yx * yx * hx
        szx, szy = bx - zy * xy * hy, by - zx * yx * hx
        szz = nn - zx * zx * hx - zy * zy * hy - cz * cz * hz
        gx, gy = -fx - xy * hy * ty, -fy - yx * hx * tx
        gz = -fz - zx * hx * tx - zy * hy * ty - cz * hz * tz
        rx, ry, rz = ball[0], ball[1], ball[2]
        K[0, 0] += sxx
        K[1, 1] += syy
        K[2, 0] += szx
        K[2, 1] += szy
        K[2, 2] += szz
        pxx, pxy, pxz = szx * ry, sxx * rz - szx * rx, -sxx * ry
        pyx, pyy, pyz = szy * ry - syy * rz, -szy * rx, syy * rx
        pzx, pzy, pzz = szz * ry - szy * rz, szx * rz - szz * rx, szy * rx - szx * ry
        K[3, 0] += pxx
        K[4, 0] += pxy
        K[5, 0] += pxz
        K[3, 1] += pyx
        K[4, 1] += pyy
        K[5, 1] += pyz
        K[3, 2] += pzx
        K[4, 2] += pzy
        K[5, 2] += pzz
        K[3, 3] += ry * pzx - rz * pyx
        K[4, 3] += rz * pxx - rx * pzx
        K[4, 4] += rz * pxy - rx * pzy
        K[5, 3] += rx * pyx - ry * pxx
        K[5, 4] += rx * pyy - ry * pxy
        K[5, 5] += rx * pyz - ry * pxz
        rhs[0] += gx
        rhs[1] += gy
        rhs[2] += gz
        rhs[3] += ry * gz - rz * gy
        rhs[4] += rz * gx - rx * gz
        rhs[5] += rx * gy - ry * gx
        solve_symmetric(K, rhs, x)
        lx, ly = x[0] + x[4] * rz - x[5] * ry, x[1] + x[5] * rx - x[3] * rz
        lz = x[2] + x[3] * ry - x[4] * rx
        x[8] = hx * (tx - yx * ly - zx * lz)
        x[9] = hy * (ty - xy * lx - zy * lz)
        x[10] = hz * (tz - cz * lz)
    else:
        solve_symmetric(K, rhs, x)
        for i in range(8, 11):
            x[i] = f[i] / _BALL_INERTIA
    for wheel in range(2):
        if touching[2 * wheel] or touching[2 * wheel + 1]:
            u = work[1 + wheel, :, 6]
            t = work[1 + wheel, 0, 4]
            for i in range(6):
                t -= u[i] * x[i]
            x[6 + wheel] = t * work[1 + wheel, 0, 5]
        else:
            x[6 + wheel] = f[6 + wheel] / _WHEEL_INERTIA - (axle[3] * x[3] + axle[4] * x[4] + axle[5] * x[5])


@njit(cache=True)
def add_wheel(wheel, masks, drive, axle, contacts, touching, shift, work):
    """Add a touching wheel, its own rotation eliminated, to work[0]; leaves u, drive and 1/d for its
    recovery."""
    K, rhs, k, r = work[0], work[0, :, 6], work[1 + wheel], work[1 + wheel, :, 6]
    for i in range(6):
        r[i] = 0.0
        for j in range(i + 1):
            k[i, j] = 0.0
    for row in range(2 * wheel, 2 * wheel + 2):
        if touching[row]:
            add_contact(k, r, contacts[row], shift[row], masks[row])
    for i in range(3, 6):
        r[i] += drive * axle[i]
        for j in range(3, i + 1):
            k[i, j] += _WHEEL_INERTIA * axle[i] * axle[j]
    total = 0.0
    for i in range(6):
        total += r[i] * axle[i]
        rhs[i] += r[i]
    d = 0.0
    for i in range(6):
        t = 0.0
        for j in range(6):
            t += (k[i, j] if j <= i else k[j, i]) * axle[j]
        r[i] = t
        d += t * axle[i]
    inverse = 1.0 / d
    for i in range(6):
        t = r[i] * inverse
        rhs[i] -= t * total
        for j in range(i + 1):
            K[i, j] += k[i, j] - t * r[j]
    k[0, 4], k[0, 5] = total, inverse
