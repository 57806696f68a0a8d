"""Constants of the Car for the specialised dynamics, read off the compiled MuJoCo model at import.

Frame of the chassis unless said; SI units. Wheels turn about the chassis' x axis, the rear ball about
anything, and all three are bodies of revolution about what they turn on, so that in this frame the mass
matrix is constant.
"""

from __future__ import annotations

import mujoco
import numpy as np

from experiments.safetygym.sim.car.mjcf import TIMESTEP, car_model

_MODEL = car_model(False)
_CHASSIS, _LEFT, _RIGHT, _BALL = (_MODEL.body(name).id for name in ("robot", "left", "right", "rear"))


def _body_inertia(body: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Mass, centre of mass (3,) and inertia about it (3, 3), in the frame of the chassis."""
    origin = np.zeros(3) if body == _CHASSIS else _MODEL.body_pos[body]
    rotation = np.empty(9)
    mujoco.mju_quat2Mat(rotation, _MODEL.body_iquat[body])
    rotation = rotation.reshape(3, 3)
    inertia = rotation @ np.diag(_MODEL.body_inertia[body]) @ rotation.T
    return float(_MODEL.body_mass[body]), origin + _MODEL.body_ipos[body], inertia


def _locked_inertia() -> tuple[float, np.ndarray, np.ndarray]:
    """Total mass, centre of mass and inertia about the origin, less what the wheels have about their axles
    and the ball about its centre: those parts belong to coordinates of their own."""
    total, moment, inertia = 0.0, np.zeros(3), np.zeros((3, 3))
    for body in (_CHASSIS, _LEFT, _RIGHT, _BALL):
        mass, centre, own = _body_inertia(body)
        total += mass
        moment += mass * centre
        inertia += own + mass * (centre @ centre * np.eye(3) - np.outer(centre, centre))
    inertia[0, 0] -= 2 * WHEEL_INERTIA
    return total, moment / total, inertia - BALL_INERTIA * np.eye(3)


def _damping_correction() -> np.ndarray:
    """What MuJoCo's implicit joint damping takes off the acceleration, (11, 5).

    Per unit of the relative acceleration of left wheel, right wheel and ball (3): (M + hD)^-1 hD, from a = (M
    + hD)^-1 M a_explicit.
    """
    data = mujoco.MjData(_MODEL)
    mujoco.mj_forward(_MODEL, data)
    mass = np.zeros((_MODEL.nv, _MODEL.nv))
    mujoco.mj_fullM(_MODEL, data, mass)
    damping = TIMESTEP * np.diag(_MODEL.dof_damping)
    return np.ascontiguousarray(np.linalg.solve(mass + damping, damping)[:, 6:])


GRAVITY = float(-_MODEL.opt.gravity[2])
DAMPING = float(_MODEL.dof_damping[6])
MOTOR_LIMIT = float(_MODEL.actuator_forcerange[0, 1])
WHEEL_INERTIA = float(_body_inertia(_LEFT)[2][0, 0])
"""of one wheel about its axle"""
BALL_INERTIA = float(_body_inertia(_BALL)[2][0, 0])
MASS, COM, LOCKED_INERTIA = _locked_inertia()
DAMPING_CORRECTION = _damping_correction()
HUB_Y, HUB_Z = float(_MODEL.body_pos[_LEFT][1]), float(_MODEL.body_pos[_LEFT][2])
"""the axle both wheels share: the line y, z = HUB_Y, HUB_Z"""
WHEEL_X = float(_MODEL.body_pos[_RIGHT][0] + _MODEL.geom("right").pos[0])
"""|x| of the wheels' centres"""
WHEEL_HALF_WIDTH = float(_MODEL.geom("right").size[1])
RADIUS = float(_MODEL.geom("rear").size[0])
BALL_POSITION = _MODEL.body_pos[_BALL].copy()
CHASSIS_EXTENT = (0.1, 0.175, 0.05)
"""half-sizes of a box about the origin that holds all boxes of the chassis"""

# Contacts (MuJoCo documentation, "Computation": solver parameters, contact; pyramidal cone, condim 6).
TANGENT, TORSION, ROLLING = 1.0, 0.005, 0.0001
"""friction coefficients; the roll and spin ones in m"""
_TIME, _DAMPING_RATIO, _D_MIN, _D_MAX = 0.02, 1.0, 0.9, 0.95
IMPEDANCE_MIN, IMPEDANCE_MAX, IMPEDANCE_WIDTH = _D_MIN, _D_MAX, 0.001
STIFFNESS = 1 / (_D_MAX * _TIME * _DAMPING_RATIO) ** 2
CONTACT_DAMPING = 2 / (_D_MAX * _TIME)
WHEEL_INVERSE_MASS = float(_MODEL.body_invweight0[_LEFT, 0])
BALL_INVERSE_MASS = float(_MODEL.body_invweight0[_BALL, 0])
