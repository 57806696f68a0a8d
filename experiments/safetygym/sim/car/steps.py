"""The Car on the bare floor: MuJoCo's time step for exactly this robot, compiled, eight at a time.

Semi-implicit Euler with implicit joint damping (MuJoCo documentation, Computation: integrators).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from experiments.safetygym.sim.car import parameters
from experiments.safetygym.sim.car.algebra import scalar
from experiments.safetygym.sim.car.contact import ball_contact, in_scope, rim
from experiments.safetygym.sim.car.kinematics import (
    MAX_TURN,
    axle,
    ball_motion,
    matrix,
    point_motion,
    rotated,
    smooth_forces,
    to_body,
    to_world,
    turned,
)
from experiments.safetygym.sim.car.lanes import (
    BALL,
    CONTACT,
    DIFFERENT,
    FORCE,
    LANES,
    ON,
    OUTSIDE,
    ROWS,
    SHIFT,
    STATE,
    TORQUE,
    X,
    get3,
    get9,
    inner,
    lanes,
    put6,
)
from experiments.safetygym.sim.car.lanes import R as ROTATION
from experiments.safetygym.sim.car.mjcf import TIMESTEP
from experiments.safetygym.sim.car.solver import solve
from experiments.safetygym.sim.task import FRAMESKIP

DONE, OUT_OF_SCOPE = 0, 1
batch = njit(cache=True, error_model="numpy", nogil=True)
_L = LANES
_G = tuple(tuple(float(g) for g in row) for row in parameters.DAMPING_CORRECTION)
_WIDE, _NARROW = (
    parameters.WHEEL_X + parameters.WHEEL_HALF_WIDTH,
    parameters.WHEEL_X - parameters.WHEEL_HALF_WIDTH,
)


@inner
def set_rim(w, lane, c, along, rotation, velocity, rate, a):
    """Contact and shift of rim c."""
    x, y, z, D, restoring = rim(w[STATE + 2 * _L + lane], rotation, along)
    at = CONTACT + 4 * c * _L + lane
    w[at], w[at + _L], w[at + 2 * _L], w[at + 3 * _L] = x, y, z, D
    set_shift(w, lane, c, point_motion(velocity, rate, a, (x, y, z)), restoring)


@inner
def set_shift(w, lane, c, velocity, restoring):
    """Minus the reference acceleration of contact c: damping on its velocity (6), and restoring."""
    b = parameters.CONTACT_DAMPING
    v0, v1, v2, v3, v4, v5 = velocity
    put6(w, SHIFT + 6 * c * _L + lane, (b * v0, b * v1, b * v2 + restoring, b * v3, b * v4, b * v5))


@lanes
def prepare(w):
    """Rotation, contacts, forces of every lane from STATE and TORQUE; marks lanes that leave the model."""
    for lane in range(_L):
        S = STATE + lane
        rotation = matrix((w[S + 3 * _L], w[S + 4 * _L], w[S + 5 * _L], w[S + 6 * _L]))
        for i in range(9):
            w[ROTATION + i * _L + lane] = rotation[i]
        omega, spin = get3(w, S + 16 * _L), get3(w, S + 21 * _L)
        rates = (w[S + 19 * _L], w[S + 20 * _L])
        torques = (w[TORQUE + lane], w[TORQUE + _L + lane])
        chassis, left, right, on_ball = smooth_forces(rotation, omega, rates, spin, torques)
        put6(w, FORCE + lane, chassis)
        w[FORCE + 6 * _L + lane], w[FORCE + 7 * _L + lane] = left, right
        w[FORCE + 8 * _L + lane], w[FORCE + 9 * _L + lane], w[FORCE + 10 * _L + lane] = on_ball
        turning, relative_spin = to_world(rotation, omega), to_world(rotation, spin)
        velocity = (*get3(w, S + 13 * _L), *turning)
        a = axle(rotation)
        set_rim(w, lane, 0, -_WIDE, rotation, velocity, rates[0], a)
        set_rim(w, lane, 1, -_NARROW, rotation, velocity, rates[0], a)
        set_rim(w, lane, 2, _NARROW, rotation, velocity, rates[1], a)
        set_rim(w, lane, 3, _WIDE, rotation, velocity, rates[1], a)
        height = w[S + 2 * _L]
        x, y, z, depth, D, restoring = ball_contact(height, rotation)
        B = BALL + lane
        w[B], w[B + _L], w[B + 2 * _L], w[B + 3 * _L], w[B + 4 * _L] = x, y, z, depth, D
        spin = (turning[0] + relative_spin[0], turning[1] + relative_spin[1], turning[2] + relative_spin[2])
        set_shift(w, lane, 4, ball_motion(velocity, spin, (x, y, z), depth), restoring)
        fine = in_scope(height, rotation) and slow(omega) and slow(get3(w, S + 21 * _L))
        w[OUTSIDE + lane] = w[OUTSIDE + lane] if fine else 1.0


@scalar
def slow(v):
    """Whether a body turning at v (3) rad/s turns by less than MAX_TURN in a time step. False for NaN."""
    return v[0] * v[0] + v[1] * v[1] + v[2] * v[2] < (MAX_TURN / TIMESTEP) ** 2


@scalar
def damped(i, joints):
    """What implicit damping takes off acceleration i (body axes), from relative accelerations joints (5)."""
    g = _G[i]
    return g[0] * joints[0] + g[1] * joints[1] + g[2] * joints[2] + g[3] * joints[3] + g[4] * joints[4]


@lanes
def advance(w):
    """One time step of every lane with its acceleration X: implicit damping, velocities, then positions."""
    h = TIMESTEP
    for lane in range(_L):
        S = STATE + lane
        rotation = get9(w, ROTATION + lane)
        body, ball = (
            to_body(rotation, get3(w, X + 3 * _L + lane)),
            to_body(rotation, get3(w, X + 8 * _L + lane)),
        )
        j = (
            w[X + 6 * _L + lane],
            w[X + 7 * _L + lane],
            ball[0] - body[0],
            ball[1] - body[1],
            ball[2] - body[2],
        )
        v = to_world(rotation, (damped(0, j), damped(1, j), damped(2, j)))
        for i in range(3):
            w[S + (13 + i) * _L] += h * (w[X + i * _L + lane] - v[i])
            w[S + i * _L] += h * w[S + (13 + i) * _L]
        ox = w[S + 16 * _L] + h * (body[0] - damped(3, j))
        oy = w[S + 17 * _L] + h * (body[1] - damped(4, j))
        oz = w[S + 18 * _L] + h * (body[2] - damped(5, j))
        left, right = w[S + 19 * _L] + h * (j[0] - damped(6, j)), w[S + 20 * _L] + h * (j[1] - damped(7, j))
        bx = w[S + 21 * _L] + h * (j[2] - damped(8, j))
        by = w[S + 22 * _L] + h * (j[3] - damped(9, j))
        bz = w[S + 23 * _L] + h * (j[4] - damped(10, j))
        w[S + 16 * _L], w[S + 17 * _L], w[S + 18 * _L], w[S + 19 * _L], w[S + 20 * _L] = (
            ox,
            oy,
            oz,
            left,
            right,
        )
        w[S + 21 * _L], w[S + 22 * _L], w[S + 23 * _L] = bx, by, bz
        q = (w[S + 3 * _L], w[S + 4 * _L], w[S + 5 * _L], w[S + 6 * _L])
        q = rotated(q, (h * ox, h * oy, h * oz), 1.0)
        w[S + 3 * _L], w[S + 4 * _L], w[S + 5 * _L], w[S + 6 * _L] = q
        w[S + 7 * _L] += h * left
        w[S + 8 * _L] += h * right
        q = (w[S + 9 * _L], w[S + 10 * _L], w[S + 11 * _L], w[S + 12 * _L])
        q = rotated(q, (h * bx, h * by, h * bz), -1.0)
        w[S + 9 * _L], w[S + 10 * _L], w[S + 11 * _L], w[S + 12 * _L] = q


@lanes
def accelerate(w):
    """X of every lane; marks lanes that have left the model, or whose solver does not settle, as OUTSIDE."""
    prepare(w)
    if not solve(w):
        for lane in range(_L):
            w[OUTSIDE + lane] = 1.0 if w[DIFFERENT + lane] > 0.0 else w[OUTSIDE + lane]


@lanes
def control_step(w):
    """Ten time steps of every lane under its TORQUE. Lanes marked OUTSIDE have no meaning from then on."""
    for _ in range(FRAMESKIP):
        accelerate(w)
        advance(w)


@lanes
def load(w, lane, state, action):
    """Put state (24) and action (2) into lane, with all edges taken for active."""
    for i in range(21):
        w[STATE + i * _L + lane] = state[i]
    ball = turned((state[9], state[10], state[11], state[12]), (state[21], state[22], state[23]), 1.0)
    for i in range(3):
        w[STATE + (21 + i) * _L + lane] = ball[i]
    for i in range(50):
        w[ON + i * _L + lane] = 1.0
    w[OUTSIDE + lane] = 0.0
    act(w, lane, action)


@inner
def act(w, lane, action):
    """Set the torques of lane: MuJoCo clips the force to the motor's limit (and action (2) to [-1, 1])."""
    for i in range(2):
        w[TORQUE + i * _L + lane] = min(max(action[i], -parameters.MOTOR_LIMIT), parameters.MOTOR_LIMIT)


@lanes
def unload(w, lane, state):
    """Lane lane into state (24)."""
    for i in range(21):
        state[i] = w[STATE + i * _L + lane]
    v = turned((state[9], state[10], state[11], state[12]), get3(w, STATE + 21 * _L + lane), -1.0)
    state[21], state[22], state[23] = v


@lanes
def sense(w, lane, sensors):
    """Sensors (24) of lane as in the observation, after `accelerate`."""
    S = STATE + lane
    rotation = get9(w, ROTATION + lane)
    q = (w[S + 9 * _L], w[S + 10 * _L], w[S + 11 * _L], w[S + 12 * _L])
    acceleration = to_body(
        rotation, (w[X + lane], w[X + _L + lane], w[X + 2 * _L + lane] + parameters.GRAVITY)
    )
    velocity = to_body(rotation, get3(w, S + 13 * _L))
    ball, ball_matrix = turned(q, get3(w, S + 21 * _L), -1.0), matrix(q)
    for i in range(9):
        sensors[6 + i] = ball_matrix[i]
    for i in range(3):
        sensors[i], sensors[3 + i], sensors[15 + i] = acceleration[i], ball[i], w[S + (16 + i) * _L]
        sensors[18 + i], sensors[21 + i] = -0.5 * rotation[3 + i], velocity[i]


@batch
def step_rows(rows, robot, actions, sensors, move):
    """One control step of `rows` (k,) of robot (n, 24), in place.

    Under actions (n, 2), or none if move is False; then fills sensors (n, 24).

    Returns statuses (k,); rows whose status is not DONE are left as they were.
    """
    status, w = np.zeros(len(rows), np.int64), np.zeros(ROWS * _L)
    for start in range(0, len(rows), _L):
        for lane in range(_L):
            row = rows[min(start + lane, len(rows) - 1)]
            load(w, lane, robot[row], actions[row])
        if move:
            control_step(w)
        accelerate(w)
        for lane in range(min(_L, len(rows) - start)):
            row = rows[start + lane]
            if w[OUTSIDE + lane] == 0.0:
                unload(w, lane, robot[row])
                sense(w, lane, sensors[row])
            else:
                status[start + lane] = OUT_OF_SCOPE
    return status
