"""Safety Gym's names in gymnasium's registry."""

from __future__ import annotations

import gymnasium

from experiments.safetygym.sim.task import TASKS

_HERE = "experiments.safetygym.sim"


def register_tasks() -> None:
    """Register every task that is not registered yet; nothing heavy is imported before one is made."""
    for name in TASKS:
        if name not in gymnasium.registry:
            gymnasium.register(
                id=name,
                entry_point=f"{_HERE}.single:SafetyGymEnv",
                vector_entry_point=f"{_HERE}.vector:SafetyGymVector",
                kwargs={"task": name},
            )
