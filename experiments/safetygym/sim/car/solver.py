"""The Car's accelerations under contact: MuJoCo's convex problem, solved exactly for eight Cars at once.

Minimise over the acceleration a:  1/2 (a - a0)' M (a - a0) + sum over edges of D/2 min(0, J a - a_ref)^2,
with ten edges n ± mu_i t_i of a friction pyramid per contact (MuJoCo documentation, Computation: constraint
model; Todorov 2014, doi 10.1109/ICRA.2014.6907751). On a fixed set of active edges it is quadratic, so that
Newton's method with an exact line search ends after finitely many steps, when the set stays as it is: the
solution then has no error but rounding, and the warm start changes the speed but not the result.
"""

from __future__ import annotations

from experiments.safetygym.sim.car import parameters
from experiments.safetygym.sim.car.algebra import between, dot6, minus6, plus, plus6, scalar, solve6, times
from experiments.safetygym.sim.car.elimination import ball, wheel
from experiments.safetygym.sim.car.kinematics import axle, ball_motion, mass_matrix, point_motion
from experiments.safetygym.sim.car.lanes import (
    BALL,
    CHANGE,
    CONTACT,
    CURVATURE,
    DIFFERENT,
    FORCE,
    HIGH,
    LANES,
    LOW,
    NEW,
    ON,
    SHIFT,
    SLOPE,
    TRIAL,
    TRIAL_Z,
    T,
    X,
    Z,
    any_of,
    get3,
    get6,
    get9,
    get10,
    inner,
    lanes,
    put6,
    put10,
)
from experiments.safetygym.sim.car.lanes import R as ROTATION

MAX_ITERATIONS = 60
MAX_SEARCH = 40
_SPIN, _ROLL = parameters.TORSION, parameters.ROLLING
_L = LANES


@scalar
def active_edges(z):
    """Active edges (10; 0 or 1) of a contact with relative acceleration z (6) less its reference.

    z is linear x, y, z, then angular x, y, z. First n + mu_i t_i, then n - mu_i t_i, with tangents y, x,
    spin, roll about y, about x.
    """
    n, y, x = z[2], z[1], z[0]
    spin, b, a = _SPIN * z[5], _ROLL * z[4], _ROLL * z[3]
    return (
        1.0 if n + y < 0.0 else 0.0,
        1.0 if n + x < 0.0 else 0.0,
        1.0 if n + spin < 0.0 else 0.0,
        1.0 if n + b < 0.0 else 0.0,
        1.0 if n + a < 0.0 else 0.0,
        1.0 if n - y < 0.0 else 0.0,
        1.0 if n - x < 0.0 else 0.0,
        1.0 if n - spin < 0.0 else 0.0,
        1.0 if n - b < 0.0 else 0.0,
        1.0 if n - a < 0.0 else 0.0,
    )


@inner
def rim_of(w, lane, c):
    """Active edges, D, point, shift of rim c of lane."""
    at = CONTACT + 4 * c * _L + lane
    return get10(w, ON + 10 * c * _L + lane), w[at + 3 * _L], get3(w, at), get6(w, SHIFT + 6 * c * _L + lane)


@inner
def judge(w, lane, c, D, z):
    """Store z and its active edges for contact c; how many differ from those assumed, 0 without contact."""
    z = plus6(z, get6(w, SHIFT + 6 * c * _L + lane))
    put6(w, TRIAL_Z + 6 * c * _L + lane, z)
    new, old = active_edges(z), get10(w, ON + 10 * c * _L + lane)
    put10(w, NEW + 10 * c * _L + lane, new)
    different = 0.0
    for i in range(10):
        different += abs(new[i] - old[i])
    return different if D > 0.0 else 0.0


@lanes
def newton(w):
    """TRIAL: the minimum of every lane on its active edges ON; TRIAL_Z, NEW and DIFFERENT there."""
    for lane in range(_L):
        rotation = get9(w, ROTATION + lane)
        a = axle(rotation)
        left, right = w[FORCE + 6 * _L + lane], w[FORCE + 7 * _L + lane]
        on, D, r, s = rim_of(w, lane, 0)
        on2, D2, r2, s2 = rim_of(w, lane, 1)
        k1, f1, u1, total1, inverse1 = wheel(on, D, r, s, on2, D2, r2, s2, a, left)
        on, D, r, s = rim_of(w, lane, 2)
        on2, D2, r2, s2 = rim_of(w, lane, 3)
        k2, f2, u2, total2, inverse2 = wheel(on, D, r, s, on2, D2, r2, s2, a, right)
        centre, depth, D = get3(w, BALL + lane), w[BALL + 3 * _L + lane], w[BALL + 4 * _L + lane]
        on, s = get10(w, ON + 40 * _L + lane), get6(w, SHIFT + 24 * _L + lane)
        k3, f3, h = ball(on, D, depth, s, get3(w, FORCE + 8 * _L + lane), centre)
        k = plus(plus(mass_matrix(rotation), k1), plus(k2, k3))
        x = solve6(k, plus6(plus6(get6(w, FORCE + lane), f1), plus6(f2, f3)))
        put6(w, TRIAL + lane, x)
        q1 = (total1 - dot6(u1, x)) * inverse1
        q2 = (total2 - dot6(u2, x)) * inverse2
        lx, ly = x[0] + x[4] * centre[2] - x[5] * centre[1], x[1] + x[5] * centre[0] - x[3] * centre[2]
        lz = x[2] + x[3] * centre[1] - x[4] * centre[0]
        hx, hy, hz, tx, ty, tz, xy, yx, zx, zy, cz = h
        spin = (hx * (tx - yx * ly - zx * lz), hy * (ty - xy * lx - zy * lz), hz * (tz - cz * lz))
        w[TRIAL + 6 * _L + lane], w[TRIAL + 7 * _L + lane] = q1, q2
        w[TRIAL + 8 * _L + lane], w[TRIAL + 9 * _L + lane], w[TRIAL + 10 * _L + lane] = spin
        C = CONTACT + lane
        different = judge(w, lane, 0, w[C + 3 * _L], point_motion(x, q1, a, get3(w, C)))
        different += judge(w, lane, 1, w[C + 7 * _L], point_motion(x, q1, a, get3(w, C + 4 * _L)))
        different += judge(w, lane, 2, w[C + 11 * _L], point_motion(x, q2, a, get3(w, C + 8 * _L)))
        different += judge(w, lane, 3, w[C + 15 * _L], point_motion(x, q2, a, get3(w, C + 12 * _L)))
        w[DIFFERENT + lane] = different + judge(w, lane, 4, D, ball_motion(x, spin, centre, depth))


@lanes
def smooth_slope(w):
    """SLOPE at X and CURVATURE of the cost without contacts along TRIAL - X."""
    for lane in range(_L):
        rotation = get9(w, ROTATION + lane)
        a = axle(rotation)
        k, x = mass_matrix(rotation), get6(w, X + lane)
        d = minus6(get6(w, TRIAL + lane), x)
        slope, curvature = dot6(minus6(times(k, x), get6(w, FORCE + lane)), d), dot6(times(k, d), d)
        spin, turn = a[3] * x[3] + a[4] * x[4] + a[5] * x[5], a[3] * d[3] + a[4] * d[4] + a[5] * d[5]
        for i in range(6, 8):
            q = w[X + i * _L + lane]
            change = turn + w[TRIAL + i * _L + lane] - q
            slope += (parameters.WHEEL_INERTIA * (spin + q) - w[FORCE + i * _L + lane]) * change
            curvature += parameters.WHEEL_INERTIA * change * change
        for i in range(8, 11):
            q = w[X + i * _L + lane]
            change = w[TRIAL + i * _L + lane] - q
            slope += (parameters.BALL_INERTIA * q - w[FORCE + i * _L + lane]) * change
            curvature += parameters.BALL_INERTIA * change * change
        w[SLOPE + lane], w[CURVATURE + lane] = slope, curvature
        w[T + lane], w[LOW + lane], w[HIGH + lane] = 1.0, 0.0, 1e300


@scalar
def edge_slope(n, dn, y, dy):
    """First and second derivative of the cost of the pair of edges n ± y with change dn ± dy."""
    p, m, dp, dm = n + y, n - y, dn + dy, dn - dy
    first = (p * dp if p < 0.0 else 0.0) + (m * dm if m < 0.0 else 0.0)
    return first, (dp * dp if p < 0.0 else 0.0) + (dm * dm if m < 0.0 else 0.0)


@inner
def contact_slope(w, lane, c, D, t):
    """First and second derivative of the cost of contact c at t."""
    z, z1 = get6(w, Z + 6 * c * _L + lane), get6(w, TRIAL_Z + 6 * c * _L + lane)
    d = minus6(z1, z)
    n, dn = z[2] + t * d[2], d[2]
    a1, b1 = edge_slope(n, dn, z[1] + t * d[1], d[1])
    a2, b2 = edge_slope(n, dn, z[0] + t * d[0], d[0])
    a3, b3 = edge_slope(n, dn, _SPIN * (z[5] + t * d[5]), _SPIN * d[5])
    a4, b4 = edge_slope(n, dn, _ROLL * (z[4] + t * d[4]), _ROLL * d[4])
    a5, b5 = edge_slope(n, dn, _ROLL * (z[3] + t * d[3]), _ROLL * d[3])
    return D * (a1 + a2 + a3 + a4 + a5), D * (b1 + b2 + b3 + b4 + b5)


@lanes
def search(w):
    """One step of the line search in every lane: T towards the zero of the cost's derivative, which rises
    in straight pieces. CHANGE: how far it moved, 0 in lanes whose edges agree."""
    for lane in range(_L):
        t, low, high = w[T + lane], w[LOW + lane], w[HIGH + lane]
        a, b = contact_slope(w, lane, 0, w[CONTACT + 3 * _L + lane], t)
        a1, b1 = contact_slope(w, lane, 1, w[CONTACT + 7 * _L + lane], t)
        a2, b2 = contact_slope(w, lane, 2, w[CONTACT + 11 * _L + lane], t)
        a3, b3 = contact_slope(w, lane, 3, w[CONTACT + 15 * _L + lane], t)
        a4, b4 = contact_slope(w, lane, 4, w[BALL + 4 * _L + lane], t)
        slope = w[SLOPE + lane] + t * w[CURVATURE + lane] + (a + a1 + a2 + a3 + a4)
        curvature = w[CURVATURE + lane] + (b + b1 + b2 + b3 + b4)
        step = t - slope / curvature
        small = abs(step - t) <= 1e-14 * t
        low, high = (t if slope < 0.0 else low), (high if slope < 0.0 else t)
        middle = 0.5 * (low + min(high, 4.0 * t))
        bracketed = step if step > low else middle
        bracketed = bracketed if step < high else middle
        w[LOW + lane], w[HIGH + lane] = low, high
        w[T + lane] = step if small else bracketed
        w[CHANGE + lane] = 0.0 if small else w[DIFFERENT + lane]


@inner
def accept_contact(w, lane, c, t):
    """Move Z of contact c towards TRIAL_Z by t, and set ON to the active edges there."""
    at = 6 * c * _L + lane
    z = between(get6(w, Z + at), get6(w, TRIAL_Z + at), t)
    put6(w, Z + at, z)
    put10(w, ON + 10 * c * _L + lane, active_edges(z))


@lanes
def accept(w):
    """X and Z to the trial point where edges agree, else T of the way; ON to the edges there."""
    for lane in range(_L):
        t = 1.0 if w[DIFFERENT + lane] == 0.0 else w[T + lane]
        put6(w, X + lane, between(get6(w, X + lane), get6(w, TRIAL + lane), t))
        put6(w, X + 6 * _L + lane, between(get6(w, X + 6 * _L + lane), get6(w, TRIAL + 6 * _L + lane), t))
        accept_contact(w, lane, 0, t)
        accept_contact(w, lane, 1, t)
        accept_contact(w, lane, 2, t)
        accept_contact(w, lane, 3, t)
        accept_contact(w, lane, 4, t)


@lanes
def solve(w):
    """X (11 rows), the acceleration, from the guess ON of active edges, which becomes the solution's.
    Returns whether every lane has settled."""
    newton(w)
    # the first minimum belongs to a guess of edges and is taken whole
    for i in range(12 * _L):
        w[X + i] = w[TRIAL + i]
    for i in range(30 * _L):
        w[Z + i] = w[TRIAL_Z + i]
    for i in range(50 * _L):
        w[ON + i] = w[NEW + i]
    for _ in range(MAX_ITERATIONS):
        if not any_of(w, DIFFERENT):
            return True
        newton(w)
        if any_of(w, DIFFERENT):
            smooth_slope(w)
            for _ in range(MAX_SEARCH):
                search(w)
                if not any_of(w, CHANGE):
                    break
        accept(w)
    return False
