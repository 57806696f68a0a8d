"""Tasks for measuring an engine: one that does next to nothing, one that keeps a processor at work."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.support.engine.tasks import Form


def nothing(number: int) -> np.ndarray:
    """Its number."""
    return np.array([number])


def work(number: int, steps: int) -> np.ndarray:
    """`steps` of a linear congruential generator, in Python: the same work at every call."""
    state = number
    for _ in range(steps):
        state = (1_664_525 * state + 1_013_904_223) % 4_294_967_296
    return np.array([state])


def _save(value: np.ndarray, path: Path) -> None:
    np.save(path, value)


NUMBER = Form(_save, np.load, ".npy")
"""How their results are kept."""
