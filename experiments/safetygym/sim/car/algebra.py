"""Small linear algebra on scalars for the Car.

Tuples of 6, and symmetric 6 x 6 matrices as tuples of 21 (the lower triangle, row by row). Written out and
free of branches, so that a loop over environments around it is vector code.
"""

from __future__ import annotations

from numba import njit

scalar = njit(cache=True, forceinline=True, error_model="numpy", fastmath={"contract"})
"""compile, and always inline"""


@scalar
def plus(a, b):
    """a + b, tuples of 21."""
    return (
        a[0] + b[0],
        a[1] + b[1],
        a[2] + b[2],
        a[3] + b[3],
        a[4] + b[4],
        a[5] + b[5],
        a[6] + b[6],
        a[7] + b[7],
        a[8] + b[8],
        a[9] + b[9],
        a[10] + b[10],
        a[11] + b[11],
        a[12] + b[12],
        a[13] + b[13],
        a[14] + b[14],
        a[15] + b[15],
        a[16] + b[16],
        a[17] + b[17],
        a[18] + b[18],
        a[19] + b[19],
        a[20] + b[20],
    )


@scalar
def minus6(a, b):
    """a - b, tuples of 6."""
    return a[0] - b[0], a[1] - b[1], a[2] - b[2], a[3] - b[3], a[4] - b[4], a[5] - b[5]


@scalar
def plus6(a, b):
    """a + b, tuples of 6."""
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3], a[4] + b[4], a[5] + b[5]


@scalar
def dot6(a, b):
    """a'b, tuples of 6."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3] + a[4] * b[4] + a[5] * b[5]


@scalar
def times(k, x):
    """K x (6) of a symmetric K (21)."""
    k00, k10, k11, k20, k21, k22, k30, k31, k32, k33 = k[:10]
    k40, k41, k42, k43, k44, k50, k51, k52, k53, k54, k55 = k[10:]
    return (
        dot6((k00, k10, k20, k30, k40, k50), x),
        dot6((k10, k11, k21, k31, k41, k51), x),
        dot6((k20, k21, k22, k32, k42, k52), x),
        dot6((k30, k31, k32, k33, k43, k53), x),
        dot6((k40, k41, k42, k43, k44, k54), x),
        dot6((k50, k51, k52, k53, k54, k55), x),
    )


@scalar
def between(a, b, t):
    """a + t (b - a), tuples of 6; b itself at t = 1."""
    return (
        b[0] if t == 1.0 else a[0] + t * (b[0] - a[0]),
        b[1] if t == 1.0 else a[1] + t * (b[1] - a[1]),
        b[2] if t == 1.0 else a[2] + t * (b[2] - a[2]),
        b[3] if t == 1.0 else a[3] + t * (b[3] - a[3]),
        b[4] if t == 1.0 else a[4] + t * (b[4] - a[4]),
        b[5] if t == 1.0 else a[5] + t * (b[5] - a[5]),
    )


@scalar
def solve6(k, b):
    """x (6) with K x = b, K positive definite (21), by L D L'."""
    k00, k10, k11, k20, k21, k22, k30, k31, k32, k33 = k[:10]
    k40, k41, k42, k43, k44, k50, k51, k52, k53, k54, k55 = k[10:]
    b0, b1, b2, b3, b4, b5 = b
    d0 = 1.0 / k00
    l10, l20, l30, l40, l50 = k10 * d0, k20 * d0, k30 * d0, k40 * d0, k50 * d0
    d1 = 1.0 / (k11 - l10 * k10)
    c21 = k21 - l20 * k10
    c31 = k31 - l30 * k10
    c41 = k41 - l40 * k10
    c51 = k51 - l50 * k10
    l21, l31, l41, l51 = c21 * d1, c31 * d1, c41 * d1, c51 * d1
    d2 = 1.0 / (k22 - l20 * k20 - l21 * c21)
    c32 = k32 - l30 * k20 - l31 * c21
    c42 = k42 - l40 * k20 - l41 * c21
    c52 = k52 - l50 * k20 - l51 * c21
    l32, l42, l52 = c32 * d2, c42 * d2, c52 * d2
    d3 = 1.0 / (k33 - l30 * k30 - l31 * c31 - l32 * c32)
    c43 = k43 - l40 * k30 - l41 * c31 - l42 * c32
    c53 = k53 - l50 * k30 - l51 * c31 - l52 * c32
    l43, l53 = c43 * d3, c53 * d3
    d4 = 1.0 / (k44 - l40 * k40 - l41 * c41 - l42 * c42 - l43 * c43)
    c54 = k54 - l50 * k40 - l51 * c41 - l52 * c42 - l53 * c43
    l54 = c54 * d4
    d5 = 1.0 / (k55 - l50 * k50 - l51 * c51 - l52 * c52 - l53 * c53 - l54 * c54)
    y1 = b1 - l10 * b0
    y2 = b2 - l20 * b0 - l21 * y1
    y3 = b3 - l30 * b0 - l31 * y1 - l32 * y2
    y4 = b4 - l40 * b0 - l41 * y1 - l42 * y2 - l43 * y3
    y5 = b5 - l50 * b0 - l51 * y1 - l52 * y2 - l53 * y3 - l54 * y4
    x5 = y5 * d5
    x4 = y4 * d4 - l54 * x5
    x3 = y3 * d3 - l43 * x4 - l53 * x5
    x2 = y2 * d2 - l32 * x3 - l42 * x4 - l52 * x5
    x1 = y1 * d1 - l21 * x2 - l31 * x3 - l41 * x4 - l51 * x5
    x0 = b0 * d0 - l10 * x1 - l20 * x2 - l30 * x3 - l40 * x4 - l50 * x5
    return x0, x1, x2, x3, x4, x5
