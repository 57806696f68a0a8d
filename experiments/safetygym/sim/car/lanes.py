"""How eight Cars lie side by side in one flat workspace, so that loops over them become vector instructions.

A row is LANES numbers, one of each Car; the constants are the places of rows (already times LANES).
Accesses at constant distances in one array are what lets the compiler prove that the lanes do not meet.
"""

from __future__ import annotations

from numba import njit

LANES = 8

_rows = 0


def _take(count: int) -> int:
    global _rows
    place = _rows * LANES
    _rows += count
    return place


STATE = _take(24)
"""qpos 13, qvel 11; the ball's velocity in the chassis' axes"""
TORQUE = _take(2)
R = _take(9)
FORCE = _take(11)
"""smooth: chassis 6, wheels 2, ball 3"""
CONTACT = _take(4 * 4)
"""of four rims: x, y, z from the origin, D"""
BALL = _take(5)
"""centre 3, z of the contact relative to it, D"""
SHIFT = _take(5 * 6)
"""minus the reference acceleration at each contact"""
ON = _take(5 * 10)
"""active edges, 0 or 1"""
NEW = _take(5 * 10)
"""active edges at the trial point"""
X = _take(12)
"""acceleration, and a row to spare"""
TRIAL = _take(12)
Z = _take(5 * 6)
"""acceleration at each contact less its reference"""
TRIAL_Z = _take(5 * 6)
DIFFERENT = _take(1)
"""number of edges in which NEW differs from ON"""
SLOPE, CURVATURE = _take(1), _take(1)
"""of the smooth part of the cost along TRIAL - X"""
T, LOW, HIGH, CHANGE = _take(1), _take(1), _take(1), _take(1)
"""of the line search"""
OUTSIDE = _take(1)
"""1 where the Car has left what this model covers"""
ROWS = _rows

lanes = njit(cache=True, error_model="numpy", fastmath={"contract"})
"""compile a function with a loop over lanes"""
inner = njit(cache=True, forceinline=True, error_model="numpy", fastmath={"contract"})
"""compile, and always inline, an access to one lane"""
_L = LANES


@inner
def get3(w, at):
    """Three rows of one lane."""
    return w[at], w[at + _L], w[at + 2 * _L]


@inner
def get6(w, at):
    """Six rows of one lane."""
    return w[at], w[at + _L], w[at + 2 * _L], w[at + 3 * _L], w[at + 4 * _L], w[at + 5 * _L]


@inner
def get9(w, at):
    """Nine rows of one lane."""
    return (*get6(w, at), *get3(w, at + 6 * _L))


@inner
def get10(w, at):
    """Ten rows of one lane."""
    return (*get6(w, at), w[at + 6 * _L], w[at + 7 * _L], w[at + 8 * _L], w[at + 9 * _L])


@inner
def put6(w, at, v):
    """Set six rows of one lane."""
    w[at], w[at + _L], w[at + 2 * _L], w[at + 3 * _L], w[at + 4 * _L], w[at + 5 * _L] = v


@inner
def put10(w, at, v):
    """Set ten rows of one lane."""
    put6(w, at, v[:6])
    w[at + 6 * _L], w[at + 7 * _L], w[at + 8 * _L], w[at + 9 * _L] = v[6:]


@inner
def any_of(w, row):
    """Whether a row is above 0 in some lane."""
    found = False
    for lane in range(_L):
        found |= w[row + lane] > 0.0
    return found
