"""Pickles and deep copies of environments go on as the original does, also where MuJoCo moves the vase."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import gymnasium
import numpy as np
import pytest

import experiments.safetygym.sim  # noqa: F401 - registers the names
from experiments.safetygym.sim.single import SafetyGymEnv
from experiments.safetygym.sim.vector import SafetyGymVector

TASKS = ["Safexp-PointGoal1-v0", "Safexp-CarGoal1-v0"]
HOW = {"pickle": lambda env: pickle.loads(pickle.dumps(env)), "deepcopy": copy.deepcopy}
each = pytest.mark.parametrize("task", TASKS)
by = pytest.mark.parametrize("how", HOW.values(), ids=HOW.keys())


def push_the_vase(env: SafetyGymVector) -> None:
    """Every robot right before its vase, which it then drives into."""
    state = env.get_state()
    state.vases[:, 0, :2] = state.robot[:, :2] + [0.25, 0.0]
    env.set_state(state)


def in_mujoco(env: SafetyGymVector) -> int:
    """Control steps that MuJoCo made so far."""
    robot = env.robot
    return robot.handed_over if hasattr(robot, "handed_over") else robot.dynamics.in_mujoco


def same(ours, theirs) -> None:
    for a, b in zip(ours[:4], theirs[:4], strict=True):
        np.testing.assert_array_equal(a, b)
    assert ours[4].keys() == theirs[4].keys()
    np.testing.assert_array_equal(ours[4]["cost"], theirs[4]["cost"])
    np.testing.assert_array_equal(ours[4]["goal_met"], theirs[4]["goal_met"])


@each
@by
@pytest.mark.parametrize("layout", ["fast", "reference"])
def test_a_copy_of_a_vector_goes_on_alike(task, how, layout):
    env = SafetyGymVector(task, num_envs=5, seed=3, layout=layout)
    env.reset(options={"stagger": True})
    rng = np.random.default_rng(0)
    for _ in range(20):
        env.step(rng.uniform(-1, 1, (5, 2)))
    push_the_vase(env)
    env.step(np.ones((5, 2)))
    other = how(env)
    assert in_mujoco(other) == in_mujoco(env) > 0
    before = in_mujoco(env)
    for _ in range(250):  # past the end of some episodes: the random streams are the same too
        actions = rng.uniform(-1, 1, (5, 2))
        same(other.step(actions), env.step(actions))
    assert in_mujoco(other) == in_mujoco(env) > before
    for ours, theirs in zip(other.state.arrays, env.state.arrays, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@each
@by
def test_a_copy_is_independent(task, how):
    env = gymnasium.make(task)
    env.reset(seed=1)
    other, kept = how(env), env.unwrapped.get_state()
    for _ in range(5):
        other.step(np.ones(2, np.float32))
    np.testing.assert_array_equal(env.unwrapped.get_state().robot, kept.robot)
    again = how(env)
    action = np.array([0.3, -0.2], np.float32)
    same(again.step(action), env.step(action))


@each
@by
def test_an_environment_that_has_not_begun(task, how):
    env = SafetyGymEnv(task, seed=5)
    other = how(env)
    np.testing.assert_array_equal(other.reset()[0], env.reset()[0])
    np.testing.assert_array_equal(other.action_space.sample().shape, (2,))


def test_pickles_are_small():
    """The state goes into a pickle, MuJoCo's models do not."""
    for task in TASKS:
        assert len(pickle.dumps(SafetyGymVector(task))) < 20_000


@each
def test_another_process_goes_on_alike(task):
    """As joblib, Ray and AsyncVectorEnv do with spawn."""
    env = SafetyGymVector(task, num_envs=2, seed=0)
    env.reset()
    actions = np.random.default_rng(1).uniform(-1, 1, (2, 2))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(SafetyGymVector.step, env, actions).result()
    same(found, env.step(actions))
