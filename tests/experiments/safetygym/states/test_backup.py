"""Labels by the braking backup against full rollouts of the environment; the default action; induction."""

import numpy as np
import pytest
from safetygym_small import CAR, POINT, Driver, driven, edge_distance, lone_hazard, near_hazards
from scipy.spatial.transform import Rotation

from experiments.safetygym.agents.grid import default_candidates
from experiments.safetygym.sim.clearance import CLEARANCE_HIGH, CLEARANCE_LOW
from experiments.safetygym.sim.point.dynamics import MASS
from experiments.safetygym.sim.state import State
from experiments.safetygym.sim.task import get_task
from experiments.safetygym.sim.vector import SafetyGymVector
from experiments.safetygym.states import backup, backup_point
from experiments.safetygym.states.backup import DefaultAction
from experiments.safetygym.states.backup_point import STANDSTILL, TREMBLE


def braking(task: str, robot: np.ndarray) -> np.ndarray:
    """Actions (n, 2): what stops the robot fastest; the Car brakes by doing nothing."""
    actions = np.zeros((len(robot), 2))
    if task == POINT:
        forward = np.cos(robot[:, 2]) * robot[:, 3] + np.sin(robot[:, 2]) * robot[:, 4]
        actions[:, 0] = np.clip(-forward * MASS / (0.02 * 0.3), -0.05, 0.05)
    return actions


def rolled_out(task: str, state: State, actions: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The environment itself: an action, then braking. Least distance to an edge (n,), positions (n, T, 2).
    Nothing is pruned."""
    env = SafetyGymVector(task, len(state), vase="fixed")
    env.set_state(state)
    least, xy = np.full(len(state), np.inf), np.empty((len(state), steps, 2))
    for step in range(steps):
        env.step(actions)
        least = np.minimum(least, edge_distance(env.state))
        xy[:, step] = env.state.robot[:, :2]
        actions = braking(task, env.state.robot)
    return least, xy


def check_point(n: int, seed: int) -> None:
    """n states for every candidate."""
    true, got = [], []
    for index, candidate in enumerate(default_candidates(POINT)):
        state = near_hazards(n, seed + index)
        true.append(rolled_out(POINT, state, np.tile(candidate, (n, 1)), 250)[0])
        got.append(backup.clearances(get_task(POINT), state, candidate[None])[:, 0])
    true = np.clip(np.concatenate(true), CLEARANCE_LOW, CLEARANCE_HIGH)
    error = true - np.concatenate(got)
    assert ((true > 0) & (true < CLEARANCE_HIGH)).mean() > 0.1
    assert 0.05 < (true <= 0).mean() < 0.95
    assert (true == CLEARANCE_HIGH).any()
    assert error.min() > -1e-6, "a clearance is overstated"
    assert error.max() < TREMBLE + STANDSTILL


def test_clearances_of_the_point_are_those_of_full_rollouts():
    check_point(150, 0)


@pytest.mark.long
def test_clearances_of_the_point_in_very_many_states():
    for part in range(4):
        check_point(2000, 1000 * (part + 1))


def test_all_candidates_at_once_are_the_candidates_one_by_one():
    state, task, candidates = near_hazards(200, 7), get_task(POINT), default_candidates(POINT)
    state.hazards[::3] += 100.0  # every third is far from everything: the short cut
    together = backup.clearances(task, state, candidates)
    apart = [backup.clearances(task, state, candidate[None])[:, 0] for candidate in candidates]
    np.testing.assert_array_equal(together, np.stack(apart, axis=1))
    assert (together[::3] == np.float32(CLEARANCE_HIGH)).all()


def test_clearances_of_the_car_are_those_of_full_rollouts():
    n, rng = 300, np.random.default_rng(1)
    state = driven(CAR, n, 40, 2).get_state()
    state.step[:] = 0
    state.hazards[:] = 50.0
    state.hazards[:, :3] = state.robot[:, None, :2] + rng.uniform(-0.5, 0.5, (n, 3, 2))
    candidates = default_candidates(CAR)
    index = rng.integers(0, len(candidates), n)
    got = backup.clearances(get_task(CAR), state, candidates)[np.arange(n), index]
    true = np.clip(rolled_out(CAR, state, candidates[index], 60)[0], CLEARANCE_LOW, CLEARANCE_HIGH)
    assert ((true > 0) & (true < CLEARANCE_HIGH)).mean() > 0.1
    assert (true - got).min() > -1e-6, "a clearance is overstated"
    assert (true - got).max() < 1e-3


@pytest.mark.parametrize(("task", "tolerance"), [(POINT, 2 * TREMBLE), (CAR, 2e-4)])
def test_paths_are_rollouts_seen_from_the_robot(task, tolerance):
    state = near_hazards(30, 3) if task == POINT else driven(CAR, 30, 40, 3).get_state()
    state.step[:] = 0
    candidates, steps = default_candidates(task)[::6], backup.PATH_STEPS[get_task(task).robot]
    got = backup.paths(get_task(task), state, candidates)
    assert got.shape == (30, len(candidates), len(steps), 2)
    for k, candidate in enumerate(candidates):
        rest = backup_point.HORIZON if task == POINT else steps[-1]  # the Point's last point: where it stops
        _, xy = rolled_out(task, state, np.tile(candidate, (30, 1)), rest)
        moved = xy[:, np.array([*steps[:-1], rest]) - 1] - state.robot[:, None, :2]
        moved = np.concatenate([moved, np.zeros((30, len(steps), 1))], axis=2)
        if task == POINT:
            body = Rotation.from_euler("z", state.robot[:, 2, None])
        else:
            body = Rotation.from_quat(state.robot[:, [4, 5, 6, 3]])
        seen = np.einsum("nij,ntj->nti", body.inv().as_matrix(), moved)[..., :2]
        np.testing.assert_allclose(got[:, k], seen, atol=tolerance)
        assert np.abs(seen).max() > 0.01


def induction(task: str, n: int, steps: int, seed: int) -> tuple[float, int]:
    """Steps in a hazard, and preferred candidates refused, of a driver restricted to what is truly safe."""
    env = SafetyGymVector(task, n, seed=seed, vase="fixed")
    observation, _ = env.reset(options={"stagger": True})
    driver, default = Driver(task, 0.03, seed), DefaultAction(env.task)
    candidates, rng = driver.agent.candidates, np.random.default_rng(seed)
    cost, refused = 0.0, 0
    for _ in range(steps):
        driver(observation)
        safe = backup.clearances(env.task, env.get_state(), candidates) > 0
        wish = np.where(safe, rng.random(safe.shape), -1.0)
        wish[np.arange(n), driver.candidate] += 2.0 * safe[np.arange(n), driver.candidate]
        refused += int((~safe[np.arange(n), driver.candidate]).sum())
        action = candidates[wish.argmax(axis=1)]
        none = ~safe.any(axis=1)
        action[none] = default(observation[none])
        observation, _, _, _, info = env.step(action)
        cost += info["cost"].sum()
    return cost, refused


def test_what_keeps_to_truly_safe_candidates_never_enters_a_hazard():
    cost, refused = induction(POINT, 250, 400, 0)
    assert cost == 0
    assert refused > 1000  # it would have


@pytest.mark.long
@pytest.mark.parametrize(("task", "steps"), [(POINT, 8000), (CAR, 400)])
def test_what_keeps_to_truly_safe_candidates_never_enters_a_hazard_in_many_steps(task, steps):
    cost, refused = induction(task, 250, steps, 1)
    assert cost == 0
    assert refused > 100


@pytest.mark.parametrize("task", [POINT, CAR])
def test_the_default_action_leaves_a_hazard(task):
    n, rng = 200, np.random.default_rng(5)
    env = SafetyGymVector(task, n, seed=3, vase="fixed")
    env.reset()
    lone_hazard(env, rng.uniform(0.0, 0.19, n), rng)
    observation, default, outside = env.last_observation, DefaultAction(env.task), np.zeros(n, bool)
    for _ in range(200):
        observation, _, _, _, info = env.step(default(observation))
        outside |= info["cost"] == 0
    assert outside.all()
    assert (info["cost"] == 0).mean() > 0.99  # and stays outside


@pytest.mark.parametrize("task", [POINT, CAR])
def test_the_default_action_brakes_outside(task):
    env = driven(task, 100, 60, 4)
    state = env.get_state()
    state.hazards[:] = 50.0
    state.step[:] = 0
    observation, default = env.set_state(state), DefaultAction(env.task)
    block = env.task.block("velocimeter")
    before = np.abs(observation[:, block][:, :2]).max()
    for _ in range(60):
        np.testing.assert_allclose(default(observation), braking(task, env.state.robot), atol=1e-6)
        observation, *_ = env.step(default(observation))
    assert before > 0.3
    assert np.abs(observation[:, block.start if task == POINT else block.start + 1]).max() < 0.02


def test_a_standing_robot_takes_the_least_risky_way_out():
    """Where nothing is feasible: braking while it moves, the candidate of least margin once it stands."""
    env = SafetyGymVector(POINT, 4, seed=0, vase="fixed")
    state = near_hazards(4, 2)
    state.robot[:, 3:] = 0.0
    state.robot[2, 3] = state.robot[3, 4] = 0.5  # these two move
    state.hazards[:] = 50.0
    state.hazards[1, 0] = state.robot[1, :2] + [0.1, 0.0]  # and this one is inside
    observation, candidates = env.set_state(state), default_candidates(POINT)
    margins = np.random.default_rng(0).normal(size=(1, len(candidates)))
    default = DefaultAction(env.task, candidates, lambda seen: margins[[0] * len(seen)])
    action, plain = default(observation), DefaultAction(env.task)(observation)
    np.testing.assert_array_equal(action[0], candidates[margins[0].argmin()])
    np.testing.assert_array_equal(action[1:], plain[1:])
    np.testing.assert_array_equal(plain[0], [0.0, 0.0])
    assert abs(plain[1, 0]) == 0.05
