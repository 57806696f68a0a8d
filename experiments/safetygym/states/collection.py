"""Collecting internal test data while an agent, guarded or not, goes about its business.

States are taken every `every` control steps from many environments whose episodes are out of phase: many
layouts, few states of each, because states of one layout are almost one case. Labels:

- logged (arXiv 2504.20924): of the candidate nearest to the action taken, does the agent enter a hazard
  within `window` steps, behaviour as usual; cut windows are dropped.
- branched: a random candidate now, then the agent, for `window` steps in a copy of the environment.
- backup: every candidate now, then maximum braking (`backup.clearances`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from experiments.safetygym.agents.agent import Agent
from experiments.safetygym.sim.task import EPISODE_STEPS
from experiments.safetygym.sim.vector import SafetyGymVector
from experiments.safetygym.states import backup
from experiments.safetygym.states.internal_data import InternalData, Shard

NUM_ENVS = 512
SHARD_CASES = 1_000_000
BURN_IN = 200
"""Control steps before the first state is taken: fresh layouts have the robot at rest and far from
hazards."""
FEWEST_ENVS, OF_EACH = 16, 4
"""Environments at least, and states of each, where states are of any age."""


class Policy(Protocol):
    """An agent as it goes about its business, under a guard (`guard.guarding.GuardedPolicy`) or not."""

    agent: Agent
    generator: np.random.Generator

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Actions (n, 2) for observations (n, d)."""
        ...


def collect(
    data: InternalData,
    policy: Policy,
    n_t: int,
    label: str,
    *,
    seed: int,
    vase: str = "faithful",
    every: int = 20,
    window: int = 60,
    with_paths: bool = False,
    any_age: bool = False,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Append shards to `data` until it holds n_t cases. Every shard has an environment of its own, seeded by
    (seed, its number), so that an interrupted collection goes on to the same data.

    any_age: states of any age, as episodes have them, a few of each environment; else soon after BURN_IN.
    """
    for index, cases in planned(data, n_t, label, len(policy.agent.candidates)):
        data.append(
            collect_shard(policy, index, cases, label, seed, vase, every, window, with_paths, any_age)
        )
        if progress is not None:
            progress(data.n_t)


def planned(data: InternalData, n_t: int, label: str, candidates: int) -> list[tuple[int, int]]:
    """(number, cases) of the shards that `data` lacks; a shard has whole states, backup labels every
    candidate of one.
    """
    return _shards(len(data.shards), data.n_t, n_t, label, candidates)


def shards_of(n_t: int, label: str, candidates: int) -> int:
    """How many shards so many cases make."""
    return len(_shards(0, 0, n_t, label, candidates))


def _shards(index: int, total: int, n_t: int, label: str, candidates: int) -> list[tuple[int, int]]:
    per_state = candidates if label == "backup" else 1
    found = []
    while total < n_t:
        cases = min(SHARD_CASES, n_t - total)
        found.append((index, cases))
        index, total = index + 1, total + -(-cases // per_state) * per_state
    return found


def collect_shard(
    policy: Policy, index: int, cases: int, label: str, seed: int, vase: str, every: int, window: int,
    with_paths: bool, any_age: bool = False,
) -> Shard:  # fmt: skip
    """One shard, from random streams of its own: it is the same wherever and whenever it is collected."""
    states = -(-cases // (len(policy.agent.candidates) if label == "backup" else 1))
    env = policy.agent.wrap(
        SafetyGymVector(
            policy.agent.task,
            min(NUM_ENVS, max(FEWEST_ENVS, -(-states // OF_EACH))) if any_age else NUM_ENVS,
            seed=int(np.random.SeedSequence([seed, index]).generate_state(1)[0]),
            vase=vase,
        )
    )
    policy.generator = np.random.default_rng([seed, index, 1])
    if label == "logged":  # whole episodes in any case
        return _logged(env, policy, cases, label, every, window, with_paths)
    burn_in = EPISODE_STEPS if any_age else BURN_IN
    return _labelled(env, policy, cases, label, every, window, with_paths, burn_in)


def _labelled(env, policy, cases, label, every, window, with_paths, burn_in) -> Shard:
    candidates = policy.agent.candidates
    k = len(candidates)
    per_state = k if label == "backup" else 1
    found: dict[str, list[np.ndarray]] = {"observation": [], "unsafe": [], "clearance": [], "path": []}
    observation, _ = env.reset(options={"stagger": True})
    rows, step = 0, 0
    offset = int(policy.generator.integers(1, every + 1))
    while rows * per_state < cases:
        step += 1
        if step > burn_in and step % every == offset % every:
            found["observation"].append(observation[:, : env.task.observation_size].copy())
            if label == "backup":
                clearance = backup.clearances(env.task, env.get_state(), candidates)
                found["clearance"].append(clearance)
                found["unsafe"].append((clearance <= 0).astype(np.int8))
            else:
                found["unsafe"].append(_branch(env, policy, window))
            if with_paths:
                found["path"].append(backup.paths(env.task, env.get_state(), candidates))
            rows += len(observation)
        observation, *_ = env.step(policy(observation))
    keep = -(-cases // per_state)
    arrays = {part: np.concatenate(value)[:keep] for part, value in found.items() if value}
    return Shard(**arrays)


def _branch(env, policy, window) -> np.ndarray:
    """Labels (n, k), one candidate a row: it, then the agent, for `window` steps in copied environments."""
    n, candidates = env.num_envs, policy.agent.candidates
    index = policy.generator.integers(0, len(candidates), n)
    copy = policy.agent.wrap(SafetyGymVector(env.task.name, n, seed=0, vase=env.vase))
    copy.reset()
    observation = copy.set_state(env.get_state())
    unsafe = np.zeros(n, bool)
    ended = np.zeros(n, bool)
    action = candidates[index]
    for _ in range(window):
        observation, _, _, truncated, info = copy.step(action)
        unsafe |= (info["cost"] > 0) & ~ended
        ended |= truncated
        action = policy(observation)
    out = np.full((n, len(candidates)), -1, np.int8)
    out[np.arange(n), index] = unsafe
    return out


def _logged(env, policy, cases, label, every, window, with_paths) -> Shard:
    candidates = policy.agent.candidates
    spread = candidates.std(axis=0) + 1e-9
    found: dict[str, list[np.ndarray]] = {"observation": [], "unsafe": [], "path": []}
    rows = 0
    while rows < cases:
        observation, _ = env.reset()
        taken, chosen, cost = [], [], np.zeros((EPISODE_STEPS, env.num_envs), bool)
        starts = range(int(policy.generator.integers(every)), EPISODE_STEPS - window, every)
        for step in range(EPISODE_STEPS):
            action = policy(observation)
            if step in starts:
                taken.append(observation[:, : env.task.observation_size].copy())
                if with_paths:
                    found["path"].append(backup.paths(env.task, env.get_state(), candidates))
                gap = ((action[:, None] - candidates[None]) / spread) ** 2
                chosen.append(gap.sum(axis=2).argmin(axis=1))
            observation, _, _, _, info = env.step(action)
            cost[step] = info["cost"] > 0
        for start, observed, index in zip(starts, taken, chosen, strict=True):
            out = np.full((env.num_envs, len(candidates)), -1, np.int8)
            out[np.arange(env.num_envs), index] = cost[start : start + window].any(axis=0)
            found["observation"].append(observed)
            found["unsafe"].append(out)
            rows += env.num_envs
    return Shard(**{part: np.concatenate(value)[:cases] for part, value in found.items() if value})
