"""The Point, its observation, rewards, costs and layouts against the recorded original, step by step."""

from __future__ import annotations

import numpy as np
import pytest
from safetygym_recorded import load

from experiments.safetygym.sim import layout_reference
from experiments.safetygym.sim.state import State
from experiments.safetygym.sim.task import GOAL_1
from experiments.safetygym.sim.vector import SafetyGymVector

TASK = "Safexp-PointGoal1-v0"


@pytest.fixture(scope="module")
def rows():
    return load()


def stepped(rows, vase):
    """What one step of SafetyGymVector makes of every row: (obs, reward, info, state)."""
    n = len(rows["t"])
    env = SafetyGymVector(TASK, num_envs=n, seed=0, vase=vase)
    env.reset()
    state = State(
        rows["robot"].copy(),
        rows["goal"].copy(),
        rows["hazards"][rows["episode"]].copy(),
        rows["vase"][:, None].copy(),
        np.zeros(n, np.int64),
        np.arange(n, dtype=np.uint64),
    )
    env.set_state(state)
    obs, reward, _, _, info = env.step(rows["action"])
    return obs, reward, info, env.get_state()


def not_redrawn(rows):
    """(k, 60) bool: what does not depend on a new goal, which only the reference layout draws alike."""
    mask = np.ones_like(rows["obs"], bool)
    mask[rows["met"], 3:19] = False
    return mask


def test_without_contact_everything_agrees(rows):
    free = ~rows["contact"]
    assert free.sum() >= 130
    obs, reward, _, state = stepped(rows, "faithful")
    error = np.abs(obs - rows["obs"]) * not_redrawn(rows)
    assert error[free].max() <= 2e-6
    assert np.abs(reward - rows["reward"])[free].max() <= 1e-6
    assert np.abs(state.robot - rows["next_robot"])[free].max() <= 1e-9


def test_costs_and_hits_are_exact_everywhere(rows):
    _, _, info, _ = stepped(rows, "faithful")
    np.testing.assert_array_equal(info["cost"], rows["cost"])
    np.testing.assert_array_equal(info["goal_met"], rows["met"])
    assert rows["cost"].sum() >= 30
    assert rows["met"].sum() >= 10


def test_pushing_the_vase(rows):
    """MuJoCo's box collisions have changed since 2.1, so contact agrees only roughly."""
    touched = rows["contact"]
    assert touched.sum() >= 25
    _, _, _, state = stepped(rows, "faithful")
    error = np.abs(state.robot[:, :2] - rows["next_robot"][:, :2])[touched].max(axis=1)
    vase = np.abs(state.vases[:, 0, :2] - rows["next_vase"][:, :2])[touched].max(axis=1)
    assert error.max() < 2e-5
    assert np.median(error) < 1e-6
    assert vase.max() < 2e-3
    assert np.median(vase) < 1e-4
    pushed = np.abs(rows["next_vase"][:, :2] - rows["vase"][:, :2]).max(axis=1)
    assert pushed[touched].max() > 5e-3  # how far off a vase would be that stays where it is


def test_fixed_vase_agrees_without_contact(rows):
    free = ~rows["contact"]
    obs, reward, _, _ = stepped(rows, "fixed")
    assert (np.abs(obs - rows["obs"]) * not_redrawn(rows))[free].max() <= 2e-6
    assert np.abs(reward - rows["reward"])[free].max() <= 1e-6


def test_reference_layouts_are_the_originals(rows):
    for episode, seed in enumerate(rows["seed"]):
        env = SafetyGymVector(TASK, num_envs=1, layout="reference")
        obs, _ = env.reset(seed=int(seed))
        state = env.get_state()
        np.testing.assert_array_equal(state.hazards[0], rows["hazards"][episode])
        np.testing.assert_array_equal(state.goal[0], rows["goal0"][episode, :2])
        np.testing.assert_array_equal(state.robot[0, :3], rows["start"][episode])
        np.testing.assert_array_equal(state.vases[0, 0, [0, 1]], rows["vase0"][episode, :2])
        np.testing.assert_allclose(state.vases[0, 0, 3:7], rows["vase0"][episode, 3:], atol=1e-15)
        np.testing.assert_allclose(obs[0], rows["obs0"][episode], atol=2e-6)


def test_reference_goals_after_hits_are_the_originals(rows):
    """The sequence of goals of a whole episode: the generator also pays for one binomial a step."""
    env = SafetyGymVector(TASK, num_envs=1, layout="reference")
    episode = 2
    env.reset(seed=int(rows["seed"][episode]))
    state = env.get_state()
    hits = np.flatnonzero(rows["met"] & (rows["episode"] == episode))
    assert len(hits) >= 10
    done = 0
    for row in hits:
        state.rng += np.uint64(rows["t"][row] + 1 - done)
        done = rows["t"][row] + 1
        state.robot[0], state.vases[0, 0] = rows["next_robot"][row], rows["next_vase"][row]
        assert layout_reference.next_goal(state, 0, GOAL_1)
        np.testing.assert_array_equal(state.goal[0], rows["next_goal"][row])


def test_seed_grows_by_one_at_each_reset(rows):
    env = SafetyGymVector(TASK, num_envs=1, layout="reference")
    env.reset(seed=int(rows["seed"][1]) - 1)
    env.reset()
    np.testing.assert_array_equal(env.get_state().hazards[0], rows["hazards"][1])
