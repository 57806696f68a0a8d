"""Recorded states of the Car, for tests of it."""

from pathlib import Path

import numpy as np
import pytest

RECORDED = Path(__file__).parent / "data" / "car_goal1_recorded.npz"


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    with np.load(RECORDED) as file:
        return dict(file)


def states(recorded: dict[str, np.ndarray], prefix: str) -> tuple[np.ndarray, np.ndarray]:
    """Robot (n, 24) and vase (n, 13) of the record."""
    qpos, qvel = recorded[f"{prefix}qpos"], recorded[f"{prefix}qvel"]
    return np.hstack([qpos[:, :13], qvel[:, :11]]), np.hstack([qpos[:, 13:], qvel[:, 11:]])
