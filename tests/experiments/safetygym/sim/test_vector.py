"""The vector environment: gymnasium's rules, state, branches, clocks, seeds and bad input."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import experiments.safetygym.sim  # noqa: F401 - registers the names
from experiments.safetygym.sim.state import State
from experiments.safetygym.sim.vector import SafetyGymVector
from safeframe.types import SafeframeError

POINT, CAR = "Safexp-PointGoal1-v0", "Safexp-CarGoal1-v0"
both = pytest.mark.parametrize("task", [POINT, CAR])


def play(env, steps, seed=0):
    """Random actions, held for five steps; what came back, stacked."""
    rng, out = np.random.default_rng(seed), []
    for t in range(steps):
        if t % 5 == 0:
            actions = rng.uniform(-1, 1, (env.num_envs, 2))
        out.append(env.step(actions))
    return [np.stack([step[k] for step in out]) for k in range(4)], [step[4] for step in out]


@both
def test_shapes_spaces_and_kinds(task):
    env = gymnasium.make_vec(task, num_envs=3, vectorization_mode="vector_entry_point", seed=0)
    assert isinstance(env, SafetyGymVector)
    obs, info = env.reset(seed=1)
    assert env.observation_space.contains(obs)
    assert info == {}
    assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    obs, reward, terminated, truncated, info = env.step(env.action_space.sample())
    assert env.observation_space.contains(obs)
    assert (reward.shape, reward.dtype) == ((3,), np.float64)
    assert terminated.dtype == truncated.dtype == np.bool_
    assert not terminated.any()
    assert set(info) == {"cost", "goal_met"}
    assert np.isin(info["cost"], (0.0, 1.0)).all()


@both
@pytest.mark.parametrize("layout", ["fast", "reference"])
def test_same_seed_same_numbers(task, layout):
    runs = []
    for seed in (5, 5, 6):
        env = SafetyGymVector(task, num_envs=4, layout=layout)
        env.reset(seed=seed, options={"stagger": True})
        env.state.step[:] = [0, 990, 995, 998]
        runs.append(play(env, 12)[0])
    for first, second in zip(runs[0], runs[1], strict=True):
        np.testing.assert_array_equal(first, second)
    assert (runs[0][0] != runs[2][0]).any()


@both
@pytest.mark.parametrize("layout", ["fast", "reference"])
def test_same_step_autoreset_gives_the_last_and_the_first_observation(task, layout):
    env = SafetyGymVector(task, num_envs=3, seed=0, layout=layout)
    env.reset()
    env.state.step[:] = [999, 10, 999]
    before = env.get_state()
    action = np.full((3, 2), 0.03)
    expected = env.branch(np.arange(3), action)
    obs, reward, _, truncated, info = env.step(action)
    np.testing.assert_array_equal(truncated, [True, False, True])
    np.testing.assert_array_equal(info["_final_obs"], truncated)
    np.testing.assert_array_equal(info["final_obs"][truncated], expected.obs[truncated])
    np.testing.assert_array_equal(reward, expected.reward[:, 0])
    np.testing.assert_array_equal(obs[1], expected.obs[1])
    np.testing.assert_array_equal(info["final_info"]["cost"], info["cost"] * truncated)
    assert (obs[[0, 2]] != info["final_obs"][[0, 2]]).any()
    after = env.get_state()
    np.testing.assert_array_equal(after.step, [0, 11, 0])
    assert (after.hazards[0] != before.hazards[0]).all()
    np.testing.assert_array_equal(after.hazards[1], before.hazards[1])


def test_stagger_spreads_the_ends_of_episodes():
    env = SafetyGymVector(POINT, num_envs=10, seed=0)
    env.reset(options={"stagger": True})
    ends = np.stack([env.step(np.zeros((10, 2)))[3] for _ in range(1000)])
    np.testing.assert_array_equal(ends.sum(axis=0), 1)
    np.testing.assert_array_equal(np.sort(ends.argmax(axis=0)), np.arange(99, 1000, 100))


@both
def test_state_goes_out_and_in(task):
    env = SafetyGymVector(task, num_envs=5, seed=3)
    env.reset()
    play(env, 30)
    kept = env.get_state()
    (first, *_), _ = play(env, 20, seed=8)
    env.set_state(kept)
    (second, *_), _ = play(env, 20, seed=8)
    np.testing.assert_array_equal(first, second)
    env.set_state(kept.select(np.array([4, 2])), np.array([0, 1]))
    np.testing.assert_array_equal(env.get_state(np.array([1])).robot, kept.robot[[2]])


@both
@pytest.mark.parametrize("layout", ["fast", "reference"])
def test_branch_is_what_step_would_do_and_leaves_the_environment(task, layout):
    env = SafetyGymVector(task, num_envs=4, seed=1, layout=layout)
    env.reset()
    play(env, 10)
    plan = np.random.default_rng(0).uniform(-1, 1, (4, 6, 2))
    before = env.get_state()
    branch = env.branch(np.arange(4), plan)
    assert branch.reward.shape == branch.cost.shape == (4, 6)
    np.testing.assert_array_equal(env.get_state().robot, before.robot)
    np.testing.assert_array_equal(env.get_state().rng, before.rng)
    for t in range(6):
        obs, reward, _, _, info = env.step(plan[:, t])
        np.testing.assert_array_equal(reward, branch.reward[:, t])
        np.testing.assert_array_equal(info["cost"], branch.cost[:, t])
    np.testing.assert_array_equal(obs, branch.obs)
    np.testing.assert_array_equal(env.get_state().robot, branch.state.robot)


def test_many_branches_of_one_environment():
    env = SafetyGymVector(POINT, num_envs=3, seed=1)
    env.reset()
    branch = env.branch(np.zeros(15, int), np.linspace(-1, 1, 30).reshape(15, 2))
    assert len(np.unique(branch.state.robot[:, 0])) > 5


@both
def test_hit_pays_and_moves_the_goal(task):
    env = SafetyGymVector(task, num_envs=2, seed=0)
    env.reset()
    state = env.get_state()
    state.goal[0] = state.robot[0, :2] + [0.1, 0.0]
    env.set_state(state)
    obs, reward, _, _, info = env.step(np.zeros((2, 2)))
    np.testing.assert_array_equal(info["goal_met"], [True, False])
    assert reward[0] > 0.99
    assert np.linalg.norm(env.get_state().goal[0] - state.robot[0, :2]) > 0.7
    seen = env.task.block("goal_lidar")
    again = env.set_state(env.get_state())
    np.testing.assert_allclose(obs[:, seen], again[:, seen], atol=1e-7)  # the observation shows the new goal


@both
def test_hazard_costs(task):
    env = SafetyGymVector(task, num_envs=3, seed=0)
    env.reset()
    state = env.get_state()
    state.hazards[0, 3] = state.robot[0, :2] + [0.0, 0.195]
    state.hazards[1, 5] = state.robot[1, :2] + [0.0, 0.205]
    env.set_state(state)
    np.testing.assert_array_equal(env.step(np.zeros((3, 2)))[4]["cost"], [1, 0, 0])


@both
@pytest.mark.parametrize("vase", ["faithful", "fixed"])
def test_vase_is_pushed_only_if_faithful(task, vase):
    env = SafetyGymVector(task, num_envs=1, seed=0, vase=vase)
    env.reset()
    state = env.get_state()
    ahead = -np.pi / 2 if task == CAR else 0.0
    turn = env.robot.heading(state)[0] + ahead
    state.vases[0, 0, :2] = state.robot[0, :2] + 0.33 * np.array([np.cos(turn), np.sin(turn)])
    env.set_state(state)
    for _ in range(60):
        env.step(np.array([[1.0, 1.0 if task == CAR else 0.0]]))
    moved = np.linalg.norm(env.get_state().vases[0, 0, :2] - state.vases[0, 0, :2])
    assert moved > 0.05 if vase == "faithful" else moved == 0.0


def test_pushed_vase_comes_to_rest():
    env = SafetyGymVector(POINT, num_envs=1, seed=0)
    env.reset()
    state = env.get_state()
    state.vases[0, 0, 7:9] = 0.5
    env.set_state(state)
    for _ in range(60):
        env.step(np.zeros((1, 2)))
    after = env.get_state().vases[0, 0]
    assert (after[7:] == 0).all()
    assert 0.005 < np.linalg.norm(after[:2] - state.vases[0, 0, :2]) < 0.1
    assert abs(after[2] - 0.09995638) < 1e-6


@both
def test_bad_input_is_named(task):
    env = SafetyGymVector(task, num_envs=3, seed=0)
    with pytest.raises(SafeframeError, match="before reset"):
        env.step(np.zeros((3, 2)))
    env.reset()
    bad = np.zeros((3, 2))
    bad[1, 0] = np.nan
    with pytest.raises(SafeframeError, match="action of environment 1 is not finite"):
        env.step(bad)
    with pytest.raises(SafeframeError, match=r"actions have shape \(2, 2\); \(3, 2\)"):
        env.step(np.zeros((2, 2)))
    with pytest.raises(SafeframeError, match=r"actions have shape"):
        env.branch(np.array([0, 1]), np.zeros((3, 2)))
    state = env.get_state()
    state.robot[2, 1] = np.nan
    with pytest.raises(SafeframeError, match="robot is not finite in environment 2"):
        env.set_state(state)
    env.state.robot[2, 4] = np.inf
    with pytest.raises(SafeframeError, match="not finite"):
        env.step(np.zeros((3, 2)))


def test_bad_arguments_name_what_is_known():
    with pytest.raises(SafeframeError, match=f"unknown task 'Safexp-AntGoal1-v0'; known: {POINT}, {CAR}"):
        SafetyGymVector("Safexp-AntGoal1-v0")
    with pytest.raises(SafeframeError, match="faithful, fixed"):
        SafetyGymVector(POINT, vase="gone")
    with pytest.raises(SafeframeError, match="fast, reference"):
        SafetyGymVector(POINT, layout="slow")
    with pytest.raises(SafeframeError, match="at least 1"):
        SafetyGymVector(POINT, num_envs=0)
    with pytest.raises(SafeframeError, match="seed"):
        SafetyGymVector(POINT, layout="reference", seed=-1)
    car = SafetyGymVector(CAR, seed=0)
    with pytest.raises(SafeframeError, match="CarGoal1"):
        car.set_state(SafetyGymVector(POINT, seed=0).get_state())


def test_state_knows_its_rows():
    state = State(*(np.arange(4.0)[:, None] for _ in range(6)))
    part = state.select(np.array([2, 0]))
    part.robot[:] = -1.0
    assert state.robot[2, 0] == 2.0
    assert len(part) == 2
