"""Routes around hazards: against geometry worked out by hand, and against the simulator's own places."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from experiments.safetygym.agents.checkpoints import load_agent
from experiments.safetygym.perception.route import RoutedVector, bearings, routed, show, turns
from experiments.safetygym.references import agent_file
from experiments.safetygym.sim.task import HAZARD_RADIUS, get_task
from experiments.safetygym.sim.vector import SafetyGymVector

ROOM = 0.03
KEEP = HAZARD_RADIUS + ROOM
FAR = (10.0, 10.0)


def turn(goal: tuple[float, float], *discs: tuple[float, float]) -> float:
    """How far beside the goal at (x, y) the route around discs of radius KEEP begins."""
    x, y = goal
    out = np.empty(1)
    places = np.array([[*discs, FAR]], dtype=float)
    turns(np.array([[np.arctan2(y, x), np.hypot(x, y)]]), places, np.full(places.shape[1], KEEP), out)
    return float(out[0])


def test_a_free_way_is_straight():
    assert turn((2.0, 0.0)) == 0.0
    assert turn((2.0, 0.0), (1.0, KEEP + 1e-6)) == 0.0
    assert turn((2.0, 0.0), (-0.5, 0.0)) == 0.0
    assert turn((1.0, 0.0), (1.5, 0.0)) == 0.0  # behind the goal


@pytest.mark.parametrize("angle", [0.0, 1.0, 3.1, -2.0])
def test_a_disc_is_passed_along_its_tangent_on_the_nearer_side(angle):
    c, s = np.cos(angle), np.sin(angle)

    def at(x, y):
        return c * x - s * y, s * x + c * y

    for side in (1.0, -1.0):
        found = turn(at(2.0, 0.0), at(1.0, -0.05 * side))
        centre = np.arctan2(-0.05 * side, 1.0)
        assert found == pytest.approx(centre + side * np.arcsin(KEEP / np.hypot(1.0, 0.05)))


def test_discs_too_near_to_each_other_are_passed_on_one_side():
    alone = turn((2.0, 0.0), (1.0, 0.1))
    assert alone < 0  # below the one that is above the way
    both = turn((2.0, 0.0), (1.0, 0.1), (1.0, -0.3))
    assert both == pytest.approx(np.arctan2(0.1, 1.0) + np.arcsin(KEEP / np.hypot(1.0, 0.1)))
    apart = turn((2.0, 0.0), (1.0, 0.1), (1.0, -0.4))
    assert apart == pytest.approx(alone)


def test_within_the_room_the_route_leaves_at_a_right_angle():
    assert abs(turn((2.0, 0.0), (0.21, 0.01))) == pytest.approx(np.pi / 2 - np.arctan2(0.01, 0.21))


def test_what_is_shown_is_read_back():
    rng = np.random.default_rng(0)
    goal = np.stack([rng.uniform(0, 2 * np.pi, 500), rng.uniform(0.3, 2.9, 500)], axis=1)
    by, lidar, seen = rng.uniform(-2, 2, 500), np.zeros((500, 16), np.float32), np.empty((500, 2))
    show(goal, by, lidar)
    bearings(lidar, seen)
    wrong = np.angle(np.exp(1j * (seen[:, 0] - goal[:, 0] - by)))
    np.testing.assert_allclose(wrong, 0.0, atol=1e-5)
    np.testing.assert_allclose(seen[:, 1], goal[:, 1], atol=1e-5)


@pytest.mark.parametrize("name", ["Safexp-PointGoal1-v0", "Safexp-PointGoal2-v0"])
def test_shown_goals_lie_on_ways_that_are_free_of_hazards(name):
    """Where one hazard alone is in the way, a straight drive to what is shown keeps out of every hazard."""
    task = get_task(name)
    env = SafetyGymVector(name, 300, seed=3)
    observations, _ = env.reset()
    shown = routed(task, observations, ROOM)
    state, block = env.get_state(), task.block("goal_lidar")
    other = np.ones(observations.shape[1], bool)
    other[block] = False
    np.testing.assert_array_equal(shown[:, other], observations[:, other])
    goal, seen = np.empty((300, 2)), np.empty((300, 2))
    bearings(np.ascontiguousarray(observations[:, block]), goal)
    bearings(np.ascontiguousarray(shown[:, block]), seen)
    moved = (shown[:, block] != observations[:, block]).any(axis=1)
    assert 0.1 < moved.mean() < 0.9
    np.testing.assert_allclose(seen[moved, 1], goal[moved, 1], atol=1e-5)
    heading = state.robot[:, 2] + seen[:, 0]
    ray = np.stack([np.cos(heading), np.sin(heading)], axis=1)
    places = state.hazards - state.robot[:, None, :2]
    along = np.einsum("nhk,nk->nh", places, ray)
    beside = np.linalg.norm(places - along[..., None] * ray[:, None], axis=2)
    corner = np.where(along > 0, along, np.inf)
    inside = (beside < HAZARD_RADIUS) & (corner < np.minimum(goal[:, 1], 1.2)[:, None])
    assert inside.any(axis=1).mean() < 0.01  # places far away are not decoded, hidden ones not seen


def test_an_agent_with_a_route_sees_it_everywhere_and_one_without_nothing_new():
    agent = load_agent(agent_file("point", "ours"), task="Safexp-PointGoal1-v0")
    env = SafetyGymVector(agent.task, 20, seed=1)
    assert agent.wrap(env) is env
    agent.settings = dataclasses.replace(agent.settings, route_room=ROOM)
    wrapped = agent.wrap(SafetyGymVector(agent.task, 20, seed=1))
    assert isinstance(wrapped, RoutedVector)
    raw, _ = env.reset()
    seen, _ = wrapped.reset()
    np.testing.assert_array_equal(seen, routed(env.task, raw, ROOM))
    rng = np.random.default_rng(0)
    for _ in range(1000):
        actions = rng.uniform(-1, 1, (20, 2))
        raw, *_, truncated, info = env.step(actions)
        seen, *_, final = wrapped.step(actions)
        np.testing.assert_array_equal(seen, routed(env.task, raw, ROOM))
    assert truncated.all()
    np.testing.assert_array_equal(final["final_obs"], routed(env.task, info["final_obs"], ROOM))
    np.testing.assert_array_equal(wrapped.set_state(env.get_state()), seen)
