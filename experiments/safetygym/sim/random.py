"""One small random generator per environment, inside compiled code (SplitMix64).

Source: Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)


@njit(cache=True, inline="always")
def uniform(rng: np.ndarray, i: int, low: float, high: float) -> float:
    """Uniform on [low, high); advances rng[i] (uint64)."""
    rng[i] += _GAMMA
    z = rng[i]
    z = (z ^ (z >> _S30)) * _MIX1
    z = (z ^ (z >> _S27)) * _MIX2
    z = z ^ (z >> _S31)
    return low + (high - low) * (float(z >> _S11) * (1.0 / 9007199254740992.0))
