"""The fast layouts: valid, and distributed as those that the original's generator draws."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from experiments.safetygym.sim import layout, layout_reference
from experiments.safetygym.sim.layout import keepouts
from experiments.safetygym.sim.random import uniform
from experiments.safetygym.sim.task import GOAL_1
from experiments.safetygym.sim.vector import SafetyGymVector

TASK = "Safexp-PointGoal1-v0"
N = 3000


def starts(kind, seed):
    env = SafetyGymVector(TASK, num_envs=N, seed=seed, layout=kind)
    env.reset()
    return env.get_state()


@pytest.fixture(scope="module")
def fast():
    return starts("fast", 1)


@pytest.fixture(scope="module")
def reference():
    return starts("reference", 1)


def features(state):
    """(name, (N,) values) of a start; the marginals and the pairs that rejection shapes."""
    robot, goal, vase = state.robot[:, :2], state.goal, state.vases[:, 0, :2]
    nearest = np.linalg.norm(state.hazards - robot[:, None], axis=2)
    between = np.linalg.norm(state.hazards[:, :, None] - state.hazards[:, None], axis=3)
    between = between[:, *np.triu_indices(8, 1)]
    yield "robot x", robot[:, 0]
    yield "robot y", robot[:, 1]
    yield "heading", state.robot[:, 2]
    yield "first hazard x", state.hazards[:, 0, 0]
    yield "last hazard y", state.hazards[:, 7, 1]
    yield "goal x", goal[:, 0]
    yield "vase y", vase[:, 1]
    yield "vase turn", np.abs(np.arctan2(state.vases[:, 0, 6], state.vases[:, 0, 3]))
    yield "goal to robot", np.linalg.norm(goal - robot, axis=1)
    yield "vase to goal", np.linalg.norm(goal - vase, axis=1)
    yield "nearest hazard", nearest.min(axis=1)
    yield "farthest hazard", nearest.max(axis=1)
    yield "closest hazards", between.min(axis=1)
    yield "hazard order", nearest.argmin(axis=1).astype(float)


def test_fast_layouts_have_the_references_distribution(fast, reference):
    """Two-sample Kolmogorov-Smirnov tests, corrected for their number; seeds are fixed: no lottery."""
    for (name, a), (_, b) in zip(features(fast), features(reference), strict=True):
        assert stats.ks_2samp(a, b).pvalue > 0.01 / 14, name


def test_a_wrong_distribution_would_be_found(fast, reference):
    """Noise does not hide hazards placed without regard to the robot, or goals not drawn a second time."""
    moved = np.linalg.norm(fast.hazards - np.roll(fast.robot[:, :2], 1, axis=0)[:, None], axis=2).min(axis=1)
    true = np.linalg.norm(reference.hazards - reference.robot[:, None, :2], axis=2).min(axis=1)
    assert stats.ks_2samp(moved, true).pvalue < 1e-6


@pytest.mark.parametrize("kind", ["fast", "reference"])
def test_layouts_keep_their_distances(kind, fast, reference):
    state = fast if kind == "fast" else reference
    placed = np.concatenate([state.robot[:, None, :2], state.goal[:, None], state.hazards], axis=1)
    placed = np.concatenate([placed, state.vases[:, :, :2]], axis=1)
    keepout = np.array(keepouts(GOAL_1))
    assert (np.abs(placed) <= 1.5 - keepout[:, None]).all()
    distance = np.linalg.norm(placed[:, :, None] - placed[:, None], axis=3)
    i, j = np.triu_indices(11, 1)
    assert (distance[:, i, j] >= (keepout[i] + keepout[j])).all()
    assert (state.step == 0).all()
    assert (state.robot[:, 3:] == 0).all()
    assert (state.vases[:, :, 7:] == 0).all()


def test_episodes_of_different_environments_differ(reference, fast):
    for state in (reference, fast):
        assert len(np.unique(state.hazards[:, 0, 0])) == N
        assert len(np.unique(state.rng)) == N


def test_goal_that_finds_no_place_ends_the_episode(monkeypatch):
    """As in the original; it has not happened in 200,000 goals."""
    env = SafetyGymVector(TASK, num_envs=2, seed=0, layout="reference")
    env.reset()
    state = env.get_state()
    state.goal[1] = state.robot[1, :2]
    env.set_state(state)
    monkeypatch.setattr(layout_reference, "GOAL_TRIES", 0)
    branch = env.branch(np.array([1]), np.zeros((1, 2)))
    np.testing.assert_array_equal(branch.state.goal[0], state.goal[1])  # the old goal stays
    monkeypatch.setattr(layout, "GOAL_TRIES", 0)
    goal = state.goal.copy()
    assert not layout.sample_goal.py_func(state.rng, 1, 0.0, 0.0, 1.0, 1.0, state.hazards, goal)
    np.testing.assert_array_equal(goal, state.goal)
    calls = iter([False, True, True])
    monkeypatch.setattr(layout_reference, "next_goal", lambda state, i, level: next(calls))
    monkeypatch.setattr(layout_reference, "GOAL_TRIES", 10_000)
    _, _, terminated, truncated, info = env.step(np.zeros((2, 2)))
    np.testing.assert_array_equal(truncated, [False, True])
    np.testing.assert_array_equal(info["goal_met"], [False, True])
    assert not terminated.any()


def test_generator_is_uniform():
    rng = np.array([3], np.uint64)
    values = np.array([uniform(rng, 0, -1.0, 2.0) for _ in range(20_000)])
    assert stats.kstest((values + 1) / 3, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.03


def test_reference_cursor_is_randomstate():
    theirs = np.random.RandomState(17)
    cursor = layout_reference.Cursor(17 << 32)
    for _ in range(5):
        assert cursor.uniform(-1.1, 1.1) == theirs.uniform(-1.1, 1.1)
    theirs.binomial(10, 1.0)
    cursor = layout_reference.Cursor(int(cursor.packed) + 1)
    assert cursor.uniform(0, 3) == theirs.uniform(0, 3)
