"""One epoch of experience: the policy steps many environments; values are computed afterwards, all at once.

Details and sources: time limits keep their final observation so that the value there can be bootstrapped
(Pardo et al. 2018); only the actor runs while stepping, since values are needed only when the epoch is
complete; under a guard the policy is restricted to feasible candidates, and where there is none the default
action is taken: such a step counts in returns but carries no policy gradient, the policy having had no part
in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from experiments.safetygym.agents.networks import Networks
from experiments.safetygym.agents.normalisation import Normaliser
from experiments.safetygym.agents.policies import sample_gaussian, sample_masked
from safeframe.types import BoolArray, FloatArray, IntArray, SafeframeError

Guard = Callable[[FloatArray], BoolArray]
DefaultAction = Callable[[FloatArray], FloatArray]
Labeller = Callable[[Any], BoolArray]


@dataclass
class Rollout:
    """T steps of n environments, time first.

    observations (T, n, d) float32, raw; last (n, d); actions (T, n) candidate indices or (T, n, 2);
    log_probabilities, rewards, task_rewards (those before a method's shaping), costs (T, n) float32;
    entries (T, n) bool, a cost that the step before did not have; ended (T, n) bool; ends: step and
    environment (m,) of each time limit and its final observation (m, d) (true ends have none: their value
    is 0); feasible (T, n, k) bool or None; active (T, n) bool, False where the default action was taken;
    labels (T, n, 2) bool or None, (certainly safe, unsafe) of each observation.
    """

    observations: FloatArray
    last: FloatArray
    actions: FloatArray | IntArray
    log_probabilities: FloatArray
    rewards: FloatArray
    task_rewards: FloatArray
    costs: FloatArray
    entries: BoolArray
    ended: BoolArray
    ends: tuple[IntArray, IntArray, FloatArray]
    feasible: BoolArray | None
    active: BoolArray
    labels: BoolArray | None


def collect(
    env: Any,
    networks: Networks,
    normaliser: Normaliser,
    candidates: FloatArray,
    observations: FloatArray,
    in_hazard: BoolArray,
    horizon: int,
    generator: np.random.Generator,
    guard: Guard | None = None,
    default_action: DefaultAction | None = None,
    labeller: Labeller | None = None,
    gaussian: bool = False,
    guarded_size: int | None = None,
) -> tuple[Rollout, FloatArray, BoolArray]:
    """Step `env` `horizon` times; the rollout, the observations and hazard flags (n,) to go on from.

    guard sees the first `guarded_size` columns of the raw observations. Raises SafeframeError for a guard
    with a Gaussian policy, without a default action, or with an answer of the wrong shape.
    """
    if guard is not None and (gaussian or default_action is None):
        raise SafeframeError(
            "training under a guard needs policy=categorical (it judges candidates) and a default action"
        )
    n, size = observations.shape
    k = len(candidates)
    data = Rollout(
        observations=np.empty((horizon, n, size), np.float32),
        last=observations,
        actions=np.empty((horizon, n, 2), np.float32) if gaussian else np.empty((horizon, n), np.int64),
        log_probabilities=np.empty((horizon, n), np.float32),
        rewards=np.empty((horizon, n), np.float32),
        task_rewards=np.empty((horizon, n), np.float32),
        costs=np.empty((horizon, n), np.float32),
        entries=np.empty((horizon, n), bool),
        ended=np.zeros((horizon, n), bool),
        ends=(np.empty(0, int), np.empty(0, int), np.empty((0, size), np.float32)),
        feasible=None if guard is None else np.empty((horizon, n, k), bool),
        active=np.ones((horizon, n), bool),
        labels=None if labeller is None else np.empty((horizon, n, 2), bool),
    )
    free = np.empty((0, k), bool)
    found: list[tuple[IntArray, IntArray, FloatArray]] = []
    for step in range(horizon):
        data.observations[step] = observations
        if data.labels is not None and labeller is not None:
            data.labels[step] = labeller(env)
        with torch.inference_mode():
            output = networks.actor(normaliser(observations)).numpy()
        if gaussian:
            actions, data.log_probabilities[step] = sample_gaussian(
                output, networks.log_std.detach().numpy(), generator
            )
            data.actions[step] = actions
        else:
            feasible = free
            if guard is not None and data.feasible is not None:
                feasible = checked_guard(guard, observations[:, :guarded_size], k)
                data.feasible[step] = feasible
            index, data.log_probabilities[step], active = sample_masked(output, generator.random(n), feasible)
            data.actions[step], data.active[step] = index, active
            actions = candidates[index]
            if default_action is not None and not active.all():
                rest = ~active
                actions[rest] = default_action(observations[rest][:, :guarded_size])
        observations, rewards, terminated, truncated, info = env.step(actions)
        data.rewards[step], data.costs[step] = rewards, info["cost"]
        data.task_rewards[step] = info.get("task_reward", rewards)
        cost = np.asarray(info["cost"]) > 0
        data.entries[step] = cost & ~in_hazard
        over = terminated | truncated
        in_hazard = cost & ~over
        if over.any():
            data.ended[step] = over
            where = np.flatnonzero(truncated & ~terminated)
            rows = final_observations(info, where)
            found.append((np.full(len(where), step), where, rows))
    data.last = observations
    if found:
        data.ends = tuple(np.concatenate(parts) for parts in zip(*found, strict=True))  # type: ignore[assignment]
    return data, observations, in_hazard


def final_observations(info: dict[str, Any], where: IntArray) -> FloatArray:
    """The final observations (m, d) of environments `where` that ended with this step."""
    rows = info["final_obs"]
    if isinstance(rows, np.ndarray) and rows.dtype.kind == "O":
        return np.stack([np.asarray(rows[i], np.float32) for i in where])
    return np.asarray(rows, np.float32)[where]


def checked_guard(guard: Guard, observations: FloatArray, k: int) -> BoolArray:
    """The guard's answer (n, k) bool; SafeframeError if its shape or type is another."""
    feasible = np.asarray(guard(observations))
    if feasible.shape != (len(observations), k) or feasible.dtype != bool:
        raise SafeframeError(
            f"the guard answered {feasible.dtype} {feasible.shape}; it must be bool {(len(observations), k)},"
            " one column per candidate"
        )
    return feasible
