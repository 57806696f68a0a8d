"""The Point under braking: clearance of every candidate, and the way that is left.

The clearance of a candidate is the least distance to a hazard's edge (where vases cost, also to that of the
disc to be kept from a vase) at the ends of the control steps from the candidate on, in m, clipped to [-.1,
.15]; it is unsafe where the clearance is not positive. If the last
action taken was safe in this sense, braking now is safe: safety by induction (backup or "safety shield"
policies; e.g. Bastani 2021, arXiv 1905.10691)."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from experiments.safetygym.sim.clearance import CLEARANCE_HIGH, CLEARANCE_LOW, nearest_of
from experiments.safetygym.sim.point.dynamics import (
    DAMPING,
    FORCE_LIMIT,
    GEAR,
    MASS,
    MASS_ARM,
    TIMESTEP,
    control_step,
)
from experiments.safetygym.sim.task import FRAMESKIP

HORIZON = 250
"""Control steps after which a braking Point certainly stands (5 s, e^-9.6 of its speed)."""
REACH_SLACK = 0.06  # m
STANDSTILL = 5e-4
"""m; a robot that can travel less than this has stopped."""
TREMBLE = 2e-3
"""m; what a standing robot may still drift, its turning servo being chaotic."""
BRAKE_GAIN = MASS / (FRAMESKIP * TIMESTEP * GEAR)  # action that stops a slow robot within one control step


@njit(cache=True, inline="always")
def braking_action(heading: float, vx: float, vy: float) -> float:
    """Thrust against the forward velocity: full, or what stops the robot within the step."""
    forward = math.cos(heading) * vx + math.sin(heading) * vy
    return min(max(-BRAKE_GAIN * forward, -FORCE_LIMIT), FORCE_LIMIT)


@njit(cache=True, inline="always")
def reach(forward: float, lateral: float) -> float:
    """Metres that a braking robot can still travel, bounded above, at body velocity (forward, lateral) in
    m/s; lateral is that of the centre of mass.

    Forward, full braking on top of damping: with v' = -F/m - d v/m the way is m/d (v - w log(1 + v/w)), w =
    F/d; to the side damping alone, m/d v. The slack covers what the origin moves about the centre of mass (at
    most twice .0193 m), the trembling of the servo and the turn that is left after the first control step.
    """
    w = FORCE_LIMIT * GEAR / DAMPING
    u = abs(forward)
    return (MASS / DAMPING) * (u - w * math.log(1.0 + u / w) + abs(lateral) + 0.1 * u) + REACH_SLACK


@njit(cache=True)
def clearance_after(
    robot: np.ndarray, hazards: np.ndarray, vases: np.ndarray, a0: float, a1: float, body: np.ndarray
) -> float:
    """Clearance of taking (a0, a1) in state robot (6,) and braking from then on; body (6,) is workspace."""
    body[:] = robot
    control_step(body, a0, a1)
    least = CLEARANCE_HIGH
    for _ in range(HORIZON):
        distance = nearest_of(body[0], body[1], hazards, vases)
        least = min(least, distance)
        if least <= CLEARANCE_LOW:
            return CLEARANCE_LOW
        c, s = math.cos(body[2]), math.sin(body[2])
        # of the centre of mass: the trembling servo leaves the origin at .009 m/s to a side, going nowhere
        lateral = c * body[4] - s * body[3] + MASS_ARM / MASS * body[5]
        remaining = reach(c * body[3] + s * body[4], lateral)
        if distance - remaining >= least:
            return least
        if remaining - REACH_SLACK < STANDSTILL:
            return min(least, distance - TREMBLE)
        control_step(body, braking_action(body[2], body[3], body[4]), 0.0)
    return least


@njit(cache=True, nogil=True)
def clearances(
    robot: np.ndarray, hazards: np.ndarray, vases: np.ndarray, candidates: np.ndarray, out: np.ndarray
) -> None:
    """Fill out (n, k) float32 with the clearance of each of candidates (k, 2) in each state: robot (n, 6),
    hazards (n, H, 2), vases that cost (n, V, 2 or more); V may be 0."""
    body = np.empty(6)
    for i in range(robot.shape[0]):
        c, s = math.cos(robot[i, 2]), math.sin(robot[i, 2])
        u, v = abs(c * robot[i, 3] + s * robot[i, 4]) + 0.06, abs(c * robot[i, 4] - s * robot[i, 3]) + 0.06
        # one step of any action adds at most .058 m/s and moves the robot by its speed times .02 s
        gap = nearest_of(robot[i, 0], robot[i, 1], hazards[i], vases[i])
        if gap - 0.02 * (u + v) - reach(u, v) >= CLEARANCE_HIGH:
            out[i] = CLEARANCE_HIGH
            continue
        for k in range(candidates.shape[0]):
            out[i, k] = clearance_after(
                robot[i], hazards[i], vases[i], candidates[k, 0], candidates[k, 1], body
            )


@njit(cache=True, nogil=True)
def braking_paths(velocity: np.ndarray, candidates: np.ndarray, steps: np.ndarray, out: np.ndarray) -> None:
    """Fill out (n, k, T, 2) with positions in present body axes after `steps` (T,) increasing control steps,
    for body velocities (n, 3): forward, left, turning."""
    body = np.empty(6)
    for i in range(velocity.shape[0]):
        for k in range(candidates.shape[0]):
            body[:] = 0.0
            body[3], body[4], body[5] = velocity[i, 0], velocity[i, 1], velocity[i, 2]
            control_step(body, candidates[k, 0], candidates[k, 1])
            done = 1
            for t in range(steps.shape[0]):
                while done < steps[t]:
                    control_step(body, braking_action(body[2], body[3], body[4]), 0.0)
                    done += 1
                out[i, k, t, 0], out[i, k, t, 1] = body[0], body[1]
            # what is left is drift of the centre of mass, stopped by damping alone
            arm = MASS_ARM / MASS * body[5]
            last = steps.shape[0] - 1
            out[i, k, last, 0] += MASS / DAMPING * (body[3] - arm * math.sin(body[2]))
            out[i, k, last, 1] += MASS / DAMPING * (body[4] + arm * math.cos(body[2]))
