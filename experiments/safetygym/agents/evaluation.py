"""An agent's episodes, counted: return, cost, entries, length, default actions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from experiments.safetygym.agents.agent import Agent
from experiments.safetygym.agents.rollout import DefaultAction, Guard, checked_guard
from safeframe.types import SafeframeError


def evaluate(
    agent: Agent,
    env: Any,
    steps: int,
    *,
    seed: int = 0,
    guard: Guard | None = None,
    default_action: DefaultAction | None = None,
) -> pd.DataFrame:
    """At least `steps` steps in whole episodes.

    Every environment starts afresh, so all episodes are whole; the first ones that end are not preferred, as
    all have one length. Under a guard a Gaussian policy is drawn by the mass of each candidate's bin.

    Args:
        agent: that acts.
        env: a vector environment of the agent's task, reset here.
        steps: of all episodes together, at least.
        seed: of the environments and of the policy's draws.
        guard: as in training.
        default_action: as in training; needed with a guard.

    Returns:
        One row per episode: return, cost, entries (steps with a cost that the step before did not have),
            length, defaults.

    Raises:
        SafeframeError: for an environment of another observation size, or a guard without a default action.
    """
    size = env.single_observation_space.shape[0]
    if size != agent.observation_size:
        raise SafeframeError(
            f"the agent of {agent.task} acts on {agent.observation_size} observations; the environment"
            f" gives {size}"
        )
    if guard is not None and default_action is None:
        raise SafeframeError("a guard needs a default action for states without a feasible candidate")
    env = agent.wrap(env)
    generator = np.random.default_rng([seed, 1])
    observations, _ = env.reset(seed=seed)
    n, k = len(observations), len(agent.candidates)
    sums = np.zeros((n, 5))
    before = np.zeros(n, bool)
    rows: list[np.ndarray] = []
    done_steps = 0
    while done_steps < steps:
        if guard is None or default_action is None:
            actions = agent.act(observations, generator)
        else:
            feasible = checked_guard(guard, observations[:, :size], k)
            actions, active = agent.choose(observations, feasible, generator)
            rest = ~active
            if rest.any():
                actions[rest] = default_action(observations[rest][:, :size])
            sums[:, 4] += rest
        observations, rewards, terminated, truncated, info = env.step(actions)
        cost = np.asarray(info["cost"]) > 0
        sums[:, 0] += info.get("task_reward", rewards)
        sums[:, 1] += cost
        sums[:, 2] += cost & ~before
        sums[:, 3] += 1
        over = terminated | truncated
        before = cost & ~over
        if over.any():
            rows.append(sums[over])
            done_steps += int(sums[over, 3].sum())
            sums[over] = 0
    table = pd.DataFrame(np.concatenate(rows), columns=["return", "cost", "entries", "length", "defaults"])
    return table.astype(dict.fromkeys(("cost", "entries", "length", "defaults"), int))
