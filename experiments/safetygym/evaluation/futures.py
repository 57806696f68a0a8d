"""Is the paper's event a function of the state at all? Many futures of one state, counted.

The paper's label of a case is the agent's own future: does it enter a hazard within 60 steps, behaving as
usual (`internal_test.label=logged`). Here each of many states is taken up again and again: everything that
the simulator knows is the same, only the policy's draws and the places of coming goals are new. With k of m
futures unsafe in one half, and the share that is unsafe in the other, this gives the error that is left to a
classifier which has seen m futures of that very state, more than any classifier of observations can know.
A label by a backup policy is the same in every future.

python -m experiments.safetygym.evaluation.futures agent=point_ours states=512 futures=400 seed=5 out=FILE.csv
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
from experiments.safetygym.evaluation.episodes import interval_of_mean, rare
from experiments.safetygym.guard.guarding import GuardedPolicy
from experiments.safetygym.references import PREFIXES, agent_file
from experiments.safetygym.sim.task import EPISODE_STEPS, TASKS, get_task
from experiments.safetygym.sim.vector import SafetyGymVector
from experiments.safetygym.states.collection import BURN_IN
from experiments.support.files import atomic_path
from safeframe.types import SafeframeError

WINDOW = 60
"""Control steps that a future has: the paper's."""
ROBOTS = {PREFIXES[name]: task for name, task in TASKS.items()}
SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)
"""Of the states, the least risky first."""
LEVELS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Thresholds r_t."""


def counts(agent: Agent, states: int, futures: int, window: int, seed: int) -> np.ndarray:
    """How many futures of a state enter a hazard, in two halves.

    Args:
        agent: as it is, without a guard.
        states: environments, of each of which the state after `BURN_IN` steps is taken, if it is outside all
            hazards and its episode has `window` steps left.
        futures: of each half.
        window: steps of a future.
        seed: of states and futures.

    Returns:
        (states taken, 2) counts, each of `futures`.
    """
    policy = GuardedPolicy(agent, None, [seed, 1], get_task(agent.task))
    vase = get_task(agent.task).easiest_vase
    env = agent.wrap(SafetyGymVector(agent.task, states, seed=seed, vase=vase))
    observation, _ = env.reset(options={"stagger": True})
    inside = np.zeros(states, bool)
    for _ in range(BURN_IN):
        observation, _, _, _, info = env.step(policy(observation))
        inside = info["cost"] > 0
    start = env.get_state(np.flatnonzero(~inside & (env.state.step <= EPISODE_STEPS - window)))
    copies = agent.wrap(SafetyGymVector(agent.task, len(start), seed=seed, vase=vase))
    generator, found = np.random.default_rng([seed, 2]), np.zeros((len(start), 2), np.int64)
    for number in range(2 * futures):
        start.rng[:] = generator.integers(0, 2**63, len(start), dtype=np.uint64)
        observation, unsafe = copies.set_state(start), np.zeros(len(start), bool)
        for _ in range(window):
            observation, _, _, _, info = copies.step(policy(observation))
            unsafe |= info["cost"] > 0
        found[:, number % 2] += unsafe
    return found


def left(found: np.ndarray, futures: int) -> list[dict[str, Any]]:
    """What counts (n, 2) of `futures` leave to a classifier that ranks states by their first column.

    Returns:
        Rows of metric, level, value, low, high (intervals over states; exact where they are rare):

        - unsafe: the share of futures, of all states.
        - never: the share of states none of whose first futures was unsafe; unsafe_where_never: the share of
          their second futures that is.
        - unsafe_of_least: the same of the `level` of all states whose first futures are least often unsafe.
        - acceptable: the largest share of the states, in that order, whose second futures are unsafe in at
          most `level` of the cases; what is equally ranked is taken or left together.
    """
    first, second = found[:, 0], found[:, 1] / futures
    order = np.argsort(first, kind="stable")
    rows = [_row("unsafe", np.nan, found.sum(axis=1) / (2 * futures))]
    never = first == 0
    rows.append({"metric": "never", "level": np.nan, "value": never.mean()})
    if never.any():
        rows.append(_row("unsafe_where_never", np.nan, second[never]))
    for level in SHARES:
        rows.append(_row("unsafe_of_least", level, second[order[: max(round(level * len(order)), 1)]]))
    ends = np.append(np.flatnonzero(np.diff(first[order])), len(order) - 1)
    risk = (np.cumsum(second[order]) / np.arange(1, len(order) + 1))[ends]
    for level in LEVELS:
        kept = ends[risk <= level]
        share = (kept[-1] + 1) / len(order) if len(kept) else 0.0
        rows.append({"metric": "acceptable", "level": level, "value": share})
    return rows


def _row(metric: str, level: float, values: np.ndarray) -> dict[str, Any]:
    low, high = interval_of_mean(values) if (values > 0).sum() > 30 else rare(values)
    return {"metric": metric, "level": level, "value": values.mean(), "low": max(low, 0.0), "high": high}


def main(arguments: list[str]) -> int:
    """The command; 0 done, 2 wrong arguments. An agent's rows are replaced."""
    torch.set_num_threads(1)
    try:
        pairs = dict(argument.split("=", 1) for argument in arguments)
        place, name = Path(pairs.pop("out")), pairs.pop("agent")
        states, futures = int(pairs.pop("states", "512")), int(pairs.pop("futures", "400"))
        seed = int(pairs.pop("seed", "5"))
        robot = next((robot for robot in ROBOTS if name.startswith(f"{robot}_")), None)
        if pairs or robot is None or min(states, futures) < 1:
            known = " or ".join(f"{robot}_<name>" for robot in ROBOTS)
            raise SafeframeError(f"known: agent={known}, states, futures >= 1, seed, out")
        method = name.removeprefix(f"{robot}_")
        task = ROBOTS[robot]
        agent = load_agent(agent_file(robot, method), task=task.name, observation_size=task.observation_size)
    except (SafeframeError, ValueError, KeyError) as error:
        print(f"wrong arguments: {error}", file=sys.stderr)
        return 2
    found = counts(agent, states, futures, WINDOW, seed)
    about = {"robot": robot, "agent": method, "states": len(found), "futures": futures, "seed": seed}
    rows = pd.DataFrame([about | row for row in left(found, futures)])
    if place.exists():
        kept = pd.read_csv(place)
        rows = pd.concat([kept[(kept["robot"] != robot) | (kept["agent"] != method)], rows])
    place.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(place) as path:
        rows.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")
    print(rows.to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
