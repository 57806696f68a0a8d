"""The price of safety: what a guard that makes no error leaves of the return.

The labels of the simulator stand in for the classifier: a candidate is feasible if its true clearance is
above `least`. What is lost at `least` = 0 is lost to the labels (backup policy, candidates), given the
agent; what more is lost at some centimetres is lost to errors of classification, which a guard has to keep
that much room for. The agents are those of the repository, trained behind a learned guard (ours) or without
one (PPO): agents trained behind the labels themselves may earn more. Where time is lost is told by how long
the robot is near an edge, and how fast there.

python -m experiments.safetygym.evaluation.price task=Safexp-CarGoal1-v0 steps=2e5 seed=5 out=FILE.csv
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from experiments.safetygym.agents.agent import Agent
from experiments.safetygym.agents.checkpoints import load_agent
from experiments.safetygym.evaluation.episodes import interval_of_mean, run_episodes
from experiments.safetygym.guard.guarding import GuardedPolicy
from experiments.safetygym.records import METRES_PER_MARGIN
from experiments.safetygym.references import PREFIXES, agent_file, trainings
from experiments.safetygym.sim.clearance import costly, nearest_of
from experiments.safetygym.sim.state import State
from experiments.safetygym.sim.task import Task, get_task
from experiments.safetygym.sim.vector import SafetyGymVector
from experiments.safetygym.states import backup
from experiments.support.files import atomic_path
from safeframe.types import SafeframeError

VARIANTS: tuple[tuple[str, float | None], ...] = (
    ("ppo", None),
    ("ours", None),
    ("ppo", 0.0),
    ("ours", 0.0),
    ("ours", 0.01),
    ("ours", 0.02),
    ("ours_routed", None),
    ("ours_routed", 0.0),
    ("ours_routed", 0.01),
    ("ours_routed", 0.02),
)
"""Agents, and the true clearance in m above which a candidate is feasible; None: no guard."""


NEAR = 0.1
"""m from the edge of a hazard (or, where vases cost, of the disc to be kept from one): near it."""


class Nearness:
    """How often a robot is NEAR an edge, outside it, and its speed there (m/s): what `run_episodes` logs."""

    def __init__(self, task: Task):
        self.task, self.velocity = task, task.block("velocimeter")
        self.steps, self.near, self.speed = 0, 0, 0.0

    def reset(self) -> None:
        """Nothing is kept of an episode."""

    def entered(self, rows: np.ndarray, step: int, first_episode: int) -> None:
        """Entries are counted elsewhere."""

    def decided(self, state: State, observation: np.ndarray, action: np.ndarray) -> None:
        """The policy is about to take `action` (n, 2) in `state` on `observation` (n, d)."""
        vases = costly(self.task.level, state.vases)
        places = zip(state.robot, state.hazards, vases, strict=True)
        gap = np.array([nearest_of(robot[0], robot[1], hazards, some) for robot, hazards, some in places])
        near = (gap > 0) & (gap < NEAR)
        self.steps += len(gap)
        self.near += int(near.sum())
        self.speed += float(np.linalg.norm(observation[near, self.velocity][:, :2], axis=1).sum())


class TrueLabels:
    """A guard that looks into the simulator; it is its own classifier.

    Args:
        agent: whose candidates it judges.
        task: of the environments.
        least: m; feasible is a candidate with a larger clearance.
    """

    def __init__(self, agent: Agent, task: Task, least: float):
        self.candidates, self.task, self.tau = agent.candidates, task, -least / METRES_PER_MARGIN
        self.n_candidates, self.classifier = len(agent.candidates), self
        self.env: SafetyGymVector | None = None
        self._rows: dict[bytes, int] = {}
        self._margin = np.empty((0, self.n_candidates), np.float32)

    def watch(self, env: SafetyGymVector) -> None:
        """Look into these environments from now on."""
        self.env = env

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Feasible (n, k), for the observations of all environments."""
        if self.env is None or len(observation) != self.env.num_envs:
            raise SafeframeError("true labels: the observations are not those of the environments watched")
        clearance = backup.clearances(self.task, self.env.get_state(), self.candidates)
        self._margin = -clearance / np.float32(METRES_PER_MARGIN)
        self._rows = {row.tobytes(): index for index, row in enumerate(observation)}
        return self._margin < self.tau

    def charge(self, observation: np.ndarray) -> None:
        """Nothing: it is a gate."""

    def way_out(self, observation: np.ndarray) -> np.ndarray:
        """Margins (m, k) of some of the observations of the last call."""
        return self._margin[[self._rows[row.tobytes()] for row in observation]]


def measure(task: Task, name: str, least: float | None, steps: int, seed: int) -> dict[str, Any]:
    """One agent, with or without true labels: a row of the table; return per episode with its interval."""
    robot = PREFIXES[task.name]
    file = agent_file(robot, name)
    agent = load_agent(file, task=task.name, observation_size=task.observation_size)
    guard = None if least is None else TrueLabels(agent, task, least)
    policy = GuardedPolicy(agent, guard, [seed, 1], task)  # type: ignore[arg-type]
    nearness = Nearness(task)
    found = run_episodes(policy, steps, seed=seed, log=nearness, watch=None if guard is None else guard.watch)
    returns = found["return"].to_numpy()
    low, high = interval_of_mean(returns)
    taken = len(found) * 1000
    return {
        "robot": robot, "agent": name, "least_cm": np.nan if least is None else 100 * least,
        "return": returns.mean(), "return_low": low, "return_high": high,
        "cost_total": int(found["cost"].to_numpy().sum()),
        "entries_total": int(found["entries"].to_numpy().sum()),
        "default_share": np.nan if guard is None else found["defaults"].sum() / taken,
        "near_share": nearness.near / nearness.steps, "near_speed": nearness.speed / max(nearness.near, 1),
        "steps": taken, "seed": seed,
    }  # fmt: skip


def main(arguments: list[str]) -> int:
    """The command; 0 done, 2 wrong arguments. Rows are written as they come; a robot's are replaced."""
    torch.set_num_threads(1)
    try:
        pairs = dict(argument.split("=", 1) for argument in arguments)
        place, task = Path(pairs.pop("out")), get_task(pairs.pop("task", "Safexp-PointGoal1-v0"))
        steps, seed = int(float(pairs.pop("steps", "2e5"))), int(pairs.pop("seed", "5"))
        if pairs:
            raise SafeframeError(f"unknown: {', '.join(pairs)}; known: task, steps, seed, out")
    except (SafeframeError, ValueError, KeyError) as error:
        print(f"wrong arguments: {error}", file=sys.stderr)
        return 2
    kept = pd.read_csv(place) if place.exists() else pd.DataFrame({"robot": []})
    kept = kept[kept["robot"] != PREFIXES[task.name]]
    rows: list[dict[str, Any]] = []
    there = trainings(PREFIXES[task.name])
    for name, least in (one for one in VARIANTS if one[0] in there):
        rows.append(measure(task, name, least, steps, seed))
        print(rows[-1], flush=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(place) as path:
            pd.concat([part for part in (kept, pd.DataFrame(rows)) if len(part)]).to_csv(
                path, index=False, float_format="%.8g"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
