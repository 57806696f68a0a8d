"""The Car on the bare floor, specialised and compiled: MuJoCo's time step for exactly this robot.

Semi-implicit Euler with implicit joint damping; velocities of the chassis: linear in world axes, angular in
its own; of the ball relative to the chassis, kept in the chassis' axes (a ball's orientation moves nothing,
so its quaternion is only carried along). Statuses: 0 done; otherwise the state is left as it was and MuJoCo
is to do the step.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from experiments.safetygym.sim import car_parameters as car
from experiments.safetygym.sim.car_contact import find_contacts
from experiments.safetygym.sim.car_mjcf import TIMESTEP
from experiments.safetygym.sim.car_solver import relative, solve_contacts
from experiments.safetygym.sim.task import FRAMESKIP

DONE, OUT_OF_SCOPE, NOT_CONVERGED = 0, 1, 2
_CORRECTION = car.DAMPING_CORRECTION
_INERTIA = car.LOCKED_INERTIA
_COM = car.COM


@njit(cache=True)
def rotation_matrix(q, R):
    """R (3, 3) of the unit quaternion q (4)."""
    w, x, y, z = q[0], q[1], q[2], q[3]
    R[0, 0], R[0, 1], R[0, 2] = w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)
    R[1, 0], R[1, 1], R[1, 2] = 2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)
    R[2, 0], R[2, 1], R[2, 2] = 2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z


@njit(cache=True)
def rotate(q, x, y, z, left):
    """q (4) times the rotation by the vector (x, y, z), on the left or on the right; normalised."""
    angle = math.sqrt(x * x + y * y + z * z)
    if angle < 1e-15:
        return
    s, c = math.sin(0.5 * angle) / angle, math.cos(0.5 * angle)
    x, y, z = s * x, s * y, s * z
    a, b, d, e = q[0], q[1], q[2], q[3]
    sign = -1.0 if left else 1.0
    w = a * c - b * x - d * y - e * z
    i = a * x + b * c + sign * (d * z - e * y)
    j = a * y + d * c + sign * (e * x - b * z)
    k = a * z + e * c + sign * (b * y - d * x)
    scale = 1.0 / math.sqrt(w * w + i * i + j * j + k * k)
    q[0], q[1], q[2], q[3] = w * scale, i * scale, j * scale, k * scale


@njit(cache=True)
def prepare(state, left, right, R, M, f, axle, ball, twist):
    """Inertia M (6, 6; lower), smooth force f (11), axle (6), ball (3) and velocities twist (11) of a state
    (24; with the ball's velocity in the chassis' axes) under wheel torques left and right. All in world
    axes at the origin."""
    wx, wy, wz = state[16], state[17], state[18]
    for i in range(3):
        twist[i] = state[13 + i]
        twist[3 + i] = R[i, 0] * wx + R[i, 1] * wy + R[i, 2] * wz
        axle[3 + i] = R[i, 0]
        axle[i] = R[i, 1] * car.HUB_Z - R[i, 2] * car.HUB_Y
        ball[i] = R[i, 1] * car.BALL_POSITION[1] + R[i, 2] * car.BALL_POSITION[2]
        relative_spin = R[i, 0] * state[21] + R[i, 1] * state[22] + R[i, 2] * state[23]
        twist[8 + i] = twist[3 + i] + relative_spin
        f[8 + i] = relative_spin
    twist[6], twist[7] = state[19], state[20]
    # gyroscopic torque in body axes; the inertia couples y and z only, the centre of mass lies at x = 0
    ixx, iyy, izz, iyz = _INERTIA[0, 0], _INERTIA[1, 1], _INERTIA[2, 2], _INERTIA[1, 2]
    lx, ly, lz = ixx * wx, iyy * wy + iyz * wz, iyz * wy + izz * wz
    lx += car.WHEEL_INERTIA * (state[19] + state[20] + 2.0 * wx)
    gx, gy, gz = ly * wz - lz * wy, lz * wx - lx * wz, lx * wy - ly * wx
    drive_left = left - car.DAMPING * state[19]
    drive_right = right - car.DAMPING * state[20]
    gx += car.DAMPING * state[21] - drive_left - drive_right
    gy += car.DAMPING * state[22]
    gz += car.DAMPING * state[23]
    # m (w x (w x c)), body axes
    cy, cz = _COM[1], _COM[2]
    dot = wy * cy + wz * cz
    square = wx * wx + wy * wy + wz * wz
    px, py, pz = car.MASS * wx * dot, car.MASS * (wy * dot - square * cy), car.MASS * (wz * dot - square * cz)
    comx, comy, comz = R[0, 1] * cy + R[0, 2] * cz, R[1, 1] * cy + R[1, 2] * cz, R[2, 1] * cy + R[2, 2] * cz
    weight = car.MASS * car.GRAVITY
    for i in range(3):
        f[i] = -(R[i, 0] * px + R[i, 1] * py + R[i, 2] * pz)
        f[3 + i] = R[i, 0] * gx + R[i, 1] * gy + R[i, 2] * gz
    f[2] -= weight
    f[3] -= comy * weight
    f[4] += comx * weight
    f[6], f[7] = drive_left, drive_right
    # f[8:] holds the ball's relative spin: damping and I w x spin
    sx, sy, sz = f[8], f[9], f[10]
    ox, oy, oz = twist[3], twist[4], twist[5]
    f[8] = -car.DAMPING * sx - car.BALL_INERTIA * (oy * sz - oz * sy)
    f[9] = -car.DAMPING * sy - car.BALL_INERTIA * (oz * sx - ox * sz)
    f[10] = -car.DAMPING * sz - car.BALL_INERTIA * (ox * sy - oy * sx)
    mass = car.MASS
    for i in range(6):
        for j in range(i + 1):
            M[i, j] = 0.0
    M[0, 0] = M[1, 1] = M[2, 2] = mass
    M[4, 0], M[5, 0] = mass * comz, -mass * comy
    M[3, 1], M[5, 1] = -mass * comz, mass * comx
    M[3, 2], M[4, 2] = mass * comy, -mass * comx
    for i in range(3):
        a, b = iyy * R[i, 1] + iyz * R[i, 2], iyz * R[i, 1] + izz * R[i, 2]
        for j in range(i + 1):
            M[3 + i, 3 + j] = ixx * R[i, 0] * R[j, 0] + a * R[j, 1] + b * R[j, 2]


@njit(cache=True)
def accelerate(state, left, right, work, masks):
    """Solve for the acceleration x = work.x; returns a status. masks (5): guess of active edges, updated."""
    R, M, f, axle, ball, twist, contacts, touching, shift, scratch, points, x = work
    if not find_contacts(state[2], R, contacts, touching):
        return OUT_OF_SCOPE
    prepare(state, left, right, R, M, f, axle, ball, twist)
    relative(twist, axle, ball, contacts, touching, shift)
    for row in range(5):
        if touching[row]:
            for i in range(6):
                shift[row, i] *= car.CONTACT_DAMPING
            shift[row, 2] += contacts[row, 4]
    if solve_contacts(M, f, axle, ball, contacts, touching, shift, masks, scratch, points, x) < 0:
        return NOT_CONVERGED
    return DONE


@njit(cache=True)
def advance(state, R, x):
    """One time step of the state (24) with the acceleration x (11): implicit damping, then positions."""
    ax, ay, az = x[3], x[4], x[5]
    bx, by, bz = x[8], x[9], x[10]
    body = (
        R[0, 0] * ax + R[1, 0] * ay + R[2, 0] * az,
        R[0, 1] * ax + R[1, 1] * ay + R[2, 1] * az,
        R[0, 2] * ax + R[1, 2] * ay + R[2, 2] * az,
    )
    spin = (
        R[0, 0] * bx + R[1, 0] * by + R[2, 0] * bz - body[0],
        R[0, 1] * bx + R[1, 1] * by + R[2, 1] * bz - body[1],
        R[0, 2] * bx + R[1, 2] * by + R[2, 2] * bz - body[2],
    )
    joints = (x[6], x[7], spin[0], spin[1], spin[2])
    h = TIMESTEP
    G = _CORRECTION
    for i in range(11):
        t = 0.0
        for j in range(5):
            t += G[i, j] * joints[j]
        if i < 3:
            state[13] -= h * R[0, i] * t
            state[14] -= h * R[1, i] * t
            state[15] -= h * R[2, i] * t
        elif i < 6:
            state[13 + i] += h * (body[i - 3] - t)
        else:
            state[13 + i] += h * (joints[i - 6] - t)
    for i in range(3):
        state[13 + i] += h * x[i]
        state[i] += h * state[13 + i]
    rotate(state[3:7], h * state[16], h * state[17], h * state[18], False)
    state[7] += h * state[19]
    state[8] += h * state[20]
    rotate(state[9:13], h * state[21], h * state[22], h * state[23], True)


@njit(cache=True)
def workspace():
    """Arrays of one thread; see `accelerate`."""
    return (
        np.zeros((3, 3)),
        np.zeros((6, 6)),
        np.zeros(11),
        np.zeros(6),
        np.zeros(3),
        np.zeros(11),
        np.zeros((5, 5)),
        np.zeros(5, np.bool_),
        np.zeros((5, 6)),
        np.zeros((3, 6, 7)),
        np.zeros((3, 5, 6)),
        np.zeros(11),
    )


@njit(cache=True)
def turn_ball(state, inverse):
    """The ball's velocity from its own axes into the chassis' (or back)."""
    w, x, y, z = state[9], state[10], state[11], state[12]
    if inverse:
        x, y, z = -x, -y, -z
    a, b, c = state[21], state[22], state[23]
    p, q, r = 2 * (y * c - z * b), 2 * (z * a - x * c), 2 * (x * b - y * a)
    state[21] = a + w * p + y * r - z * q
    state[22] = b + w * q + z * p - x * r
    state[23] = c + w * r + x * q - y * p


@njit(cache=True)
def torque(action):
    """Wheel torque in N m: MuJoCo clips the control to [-1, 1] and the force to the motor's limit."""
    return min(max(action, -car.MOTOR_LIMIT), car.MOTOR_LIMIT)


@njit(cache=True)
def control_step(state, left, right, work, masks):
    """Ten time steps of one state (24) in place, its ball velocity in the chassis' axes. Returns a status."""
    R, x = work[0], work[11]
    for _ in range(FRAMESKIP):
        rotation_matrix(state[3:7], R)
        status = accelerate(state, left, right, work, masks)
        if status != DONE:
            return status
        advance(state, R, x)
    return DONE


@njit(cache=True)
def read_sensors(state, left, right, work, masks, sensors):
    """Sensors (24) of a state (ball velocity in the chassis' axes) as in the observation. Returns a
    status."""
    R, x = work[0], work[11]
    rotation_matrix(state[3:7], R)
    status = accelerate(state, left, right, work, masks)
    q = state[9:13]
    ball = sensors[6:15].reshape(3, 3)
    rotation_matrix(q, ball)
    for c in range(3):
        sensors[c] = R[0, c] * x[0] + R[1, c] * x[1] + R[2, c] * (x[2] + car.GRAVITY)
        sensors[3 + c] = ball[0, c] * state[21] + ball[1, c] * state[22] + ball[2, c] * state[23]
        sensors[15 + c] = state[16 + c]
        sensors[18 + c] = -0.5 * R[1, c]
        sensors[21 + c] = R[0, c] * state[13] + R[1, c] * state[14] + R[2, c] * state[15]
    return status


@njit(cache=True)
def step_rows(rows, robot, actions, sensors):
    """One control step of `rows` (k,) of robot (n, 24), in place, under actions (n, 2); fills sensors (n,
    24). Returns statuses (k,); rows whose status is not DONE are left as they were."""
    status = np.empty(len(rows), np.int64)
    work = workspace()
    masks = np.zeros(5, np.int64)
    state = np.empty(24)
    for index, row in enumerate(rows):
        masks[:] = 1023
        state[:] = robot[row]
        left, right = torque(actions[row, 0]), torque(actions[row, 1])
        turn_ball(state, False)
        status[index] = control_step(state, left, right, work, masks)
        if status[index] == DONE:
            status[index] = read_sensors(state, left, right, work, masks, sensors[row])
        if status[index] == DONE:
            turn_ball(state, True)
            robot[row] = state
    return status
