"""The full state of a batch of environments: what `get_state` returns and `set_state` takes."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from safeframe.types import SafeframeError


@dataclass
class State:
    """n environments, one row each; metres, radians, seconds.

    robot (n, R): Point: x, y, heading, velocity of the origin in world axes (2), angular velocity. Car:
    MuJoCo's qpos (13) and qvel (11). goal (n, 2); hazards (n, H, 2); vases (n, V, 13): qpos 7 and qvel 6 of
    every free box; step (n,): steps taken in the episode; rng (n,) uint64: state of each environment's
    generator.
    """

    robot: np.ndarray
    goal: np.ndarray
    hazards: np.ndarray
    vases: np.ndarray
    step: np.ndarray
    rng: np.ndarray

    def __len__(self) -> int:
        return len(self.robot)

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """robot, goal, hazards, vases, step, rng: the order in which compiled code takes them."""
        return self.robot, self.goal, self.hazards, self.vases, self.step, self.rng

    def copy(self) -> State:
        """An independent copy."""
        return State(*(getattr(self, f.name).copy() for f in fields(self)))

    def select(self, index: np.ndarray) -> State:
        """Rows `index` (k,), copied."""
        return State(*(getattr(self, f.name)[index].copy() for f in fields(self)))

    def assign(self, index: np.ndarray, other: State) -> None:
        """Overwrite rows `index` (k,) by the k rows of `other`."""
        for f in fields(self):
            getattr(self, f.name)[index] = getattr(other, f.name)

    def check(self, where: str) -> None:
        """Raises SafeframeError if physics is not finite."""
        for name in ("robot", "goal", "hazards", "vases"):
            value = getattr(self, name)
            bad = ~np.isfinite(value.reshape(len(value), -1)).all(axis=1)
            if bad.any():
                raise SafeframeError(f"{where}: {name} is not finite in environment {int(np.argmax(bad))}")
