"""Trained agents that come with the repository, by robot (and level), method and training.

`<robot>_<name>.safetensors` (of level 2 `goal2_<robot>_<name>.safetensors`) is of the first training, 0;
`<robot>_<name>_seed<k>.safetensors` of training k, which differs in its seeds alone
(`guard/reference_training.py` trains it).
"""

from __future__ import annotations

import re
from pathlib import Path

from experiments.support.errors import ConfigError
from experiments.support.files import REPOSITORY

PREFIXES = {
    "Safexp-PointGoal1-v0": "point",
    "Safexp-CarGoal1-v0": "car",
    "Safexp-PointGoal2-v0": "goal2_point",
}
"""Of the files of each task's agents: its robot, after the level where that is not 1."""
TASK_OF = {prefix: task for task, prefix in PREFIXES.items()}
"""The other way round."""
ROUTED = "_routed"
"""In the name of an agent that sees its goal along a route (`perception/route`)."""
REFERENCE = "experiments/safetygym/reference"
"""Their folder."""
_SEEDED = re.compile(r"(?P<name>.+)_seed(?P<seed>[1-9]\d*)")


def agent_file(robot: str, name: str, training_seed: int = 0) -> Path:
    """File of a reference agent ("point", "ppo_lag_0.5", 1), whether it is there or not."""
    ending = f"_seed{training_seed}" if training_seed else ""
    return REPOSITORY / REFERENCE / f"{robot}_{name}{ending}.safetensors"


def trainings(robot: str) -> dict[str, list[int]]:
    """The trainings that there are of every method of a robot, ascending."""
    prefix, found = f"{robot}_", dict[str, list[int]]()
    for path in sorted((REPOSITORY / REFERENCE).glob(f"{prefix}*.safetensors")):
        stem = path.stem.removeprefix(prefix)
        seeded = _SEEDED.fullmatch(stem)
        name, seed = (seeded["name"], int(seeded["seed"])) if seeded else (stem, 0)
        found.setdefault(name, []).append(seed)
    return {name: sorted(seeds) for name, seeds in found.items()}


def require(robot: str, name: str, training_seed: int) -> None:
    """Raise `ConfigError` unless there is such an agent: it names those that there are, and the command that
    trains another.
    """
    there = trainings(robot)
    if name not in there:
        raise ConfigError(f"agent: no reference agent {name!r} for {robot}; there are {sorted(there)}")
    if training_seed not in there[name]:
        known = ", ".join(map(str, there[name]))
        raise ConfigError(
            f"agents.training_seed={training_seed}: {name!r} of {robot} was trained with {known}; train "
            f"another: python -m experiments.safetygym.guard.reference_training agent={robot}_{name} "
            f"training_seed={training_seed} out=DIR"
        )
