"""PointGoal2: costs computed by hand, layouts, lidar, and the vases in play against all ten in MuJoCo."""

import gymnasium
import mujoco
import numpy as np
import pytest

from experiments.safetygym.sim.layout import keepouts
from experiments.safetygym.sim.mjcf import VASE_START_HEIGHT, point_model
from experiments.safetygym.sim.point import reference
from experiments.safetygym.sim.point.dynamics import vases_in_play
from experiments.safetygym.sim.state import State
from experiments.safetygym.sim.task import GOAL_2, VASE_SPEED_COST, get_task
from experiments.safetygym.sim.vase import REST_SPEED, VasePhysics
from experiments.safetygym.sim.vector import SafetyGymVector
from safeframe.types import SafeframeError

TASK = "Safexp-PointGoal2-v0"
STILL = np.zeros((1, 2))


def alone() -> tuple[SafetyGymVector, State]:
    """A Point at the origin that looks along x, at rest; everything else is far from it and apart."""
    env = SafetyGymVector(TASK, 1, seed=0)
    env.reset()
    state = env.get_state()
    state.robot[:] = 0.0
    state.goal[:] = 40.0
    state.hazards[0] = np.column_stack([np.arange(10.0) + 20.0, np.full(10, 20.0)])
    state.vases[0, :, :2] = np.column_stack([np.arange(10.0) + 20.0, np.full(10, -20.0)])
    state.vases[0, :, 3:7], state.vases[0, :, 7:] = (1.0, 0.0, 0.0, 0.0), 0.0
    return env, state


def cost_of(env: SafetyGymVector, state: State, action: np.ndarray = STILL) -> tuple[float, float, float]:
    """All, hazards, vases, of one step."""
    env.set_state(state)
    _, _, _, _, info = env.step(action)
    return float(info["cost"][0]), float(info["cost_hazards"][0]), float(info["cost_vases"][0])


def test_nothing_near_costs_nothing():
    assert cost_of(*alone()) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("distance", "cost"), [(0.1999, 1.0), (0.2001, 0.0)])
def test_a_hazard_costs_within_its_radius(distance, cost):
    env, state = alone()
    state.hazards[0, 7] = 0.0, distance
    assert cost_of(env, state) == (cost, cost, 0.0)


@pytest.mark.parametrize(
    ("x", "cost"),
    [(0.2499, 1.0), (0.2502, 0.0)],  # the arrow ends at .15, the vase begins .1 before its centre
)
def test_a_touched_vase_costs(x, cost):
    """Its overlap is pushed out within a step, but then it moves."""
    env, state = alone()
    state.vases[0, 4, :2] = x, 0.0
    assert cost_of(env, state) == (cost, 0.0, cost)


def test_a_vase_turned_by_an_eighth_reaches_farther():
    env, state = alone()
    x = 0.15 + 0.1 * np.sqrt(2.0) - 1e-3
    state.vases[0, 4, :2] = x, 0.0
    assert cost_of(env, state) == (0.0, 0.0, 0.0)
    state.vases[0, 4, 3:7] = np.cos(np.pi / 8), 0.0, 0.0, np.sin(np.pi / 8)
    assert cost_of(env, state) == (1.0, 0.0, 1.0)


def test_a_vase_in_motion_costs_until_it_is_slower_than_the_threshold():
    """Nobody touches it: friction brings it to rest, from one step to the next."""
    env, state = alone()
    state.vases[0, 9, 7] = 0.3
    env.set_state(state)
    found = []
    for _ in range(30):
        _, _, _, _, info = env.step(STILL)
        speed = np.linalg.norm(env.get_state().vases[0, 9, 7:10])
        assert info["cost_vases"][0] == (speed >= VASE_SPEED_COST)
        found.append(info["cost_vases"][0])
    assert found[0] == 1.0
    assert found[-1] == 0.0
    assert (np.diff(found) <= 0).all()
    assert (env.get_state().vases[0, :, 7:] == 0).all()


def test_slower_than_the_threshold_is_free():
    env, state = alone()
    state.vases[0, 9, 7] = 0.5 * VASE_SPEED_COST
    assert cost_of(env, state) == (0.0, 0.0, 0.0)


def test_both_at_once_cost_one():
    env, state = alone()
    state.vases[0, 0, :2] = 0.24, 0.0
    state.hazards[0, 0] = 0.0, 0.1
    assert cost_of(env, state) == (1.0, 1.0, 1.0)


def test_settling_would_cost_nothing():
    """Vases begin settled here; in the original they fall by 4e-5 m, never at a speed that costs."""
    model = point_model(1)
    data = mujoco.MjData(model)
    data.qpos[3:] = 1.0, 0.0, VASE_START_HEIGHT, 1.0, 0.0, 0.0, 0.0
    speeds = []
    for _ in range(20):
        mujoco.mj_step(model, data, 10)
        speeds.append(np.linalg.norm(data.qvel[3:6]))
    assert 1e-5 < max(speeds) < 0.8 * VASE_SPEED_COST
    assert speeds[-1] < REST_SPEED


@pytest.mark.parametrize("layout", ["fast", "reference"])
def test_layouts_keep_their_distances(layout):
    env = SafetyGymVector(TASK, 60, seed=1, layout=layout)
    env.reset()
    state, kept = env.get_state(), np.array(keepouts(GOAL_2))
    assert state.hazards.shape == (60, 10, 2)
    assert state.vases.shape == (60, 10, 13)
    placed = np.concatenate(
        [state.robot[:, None, :2], state.goal[:, None], state.hazards, state.vases[:, :, :2]], axis=1
    )
    assert kept.shape == (22,)
    assert (np.abs(placed) <= 2.0 - kept[:, None]).all()
    assert np.abs(placed).max() > 1.7
    i, j = np.triu_indices(22, 1)
    distance = np.linalg.norm(placed[:, i] - placed[:, j], axis=2)
    assert (distance >= kept[i] + kept[j]).all()
    turns = 2 * np.arctan2(state.vases[:, :, 6], state.vases[:, :, 3])
    assert np.ptp(turns) > 5
    assert (state.vases[:, :, 7:] == 0).all()


def test_new_goals_keep_clear_of_everything():
    env = SafetyGymVector(TASK, 200, seed=2)
    env.reset()
    state = env.get_state()
    state.goal[:] = state.robot[:, :2]
    env.set_state(state)
    _, _, _, _, info = env.step(np.zeros((200, 2)))
    assert info["goal_met"].all()
    state = env.get_state()
    others = np.concatenate([state.robot[:, None, :2], state.hazards, state.vases[:, :, :2]], axis=1)
    kept = 0.305 + np.array([0.4] + [0.18] * 10 + [0.15] * 10)
    assert (np.linalg.norm(others - state.goal[:, None], axis=2) >= kept).all()
    assert np.abs(state.goal).max() <= 2.0 - 0.305


def test_lidars_see_all_ten():
    env = SafetyGymVector(TASK, 300, seed=3)
    obs, _ = env.reset()
    state = env.get_state()
    for name, objects in (
        ("goal_lidar", state.goal[:, None]),
        ("hazards_lidar", state.hazards),
        ("vases_lidar", state.vases[:, :, :2]),
    ):
        expected = reference.lidar(state.robot, objects)
        np.testing.assert_allclose(obs[:, get_task(TASK).block(name)], expected, atol=3e-7)
    assert (obs[:, get_task(TASK).block("vases_lidar")] > 0.5).sum() > 300


def crowded(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points at speed among vases, some near them, some in a row one behind the other."""
    rng = np.random.default_rng(seed)
    robot = np.zeros((n, 6))
    robot[:, 2], robot[:, 5] = rng.uniform(-np.pi, np.pi, n), rng.normal(0, 2, n)
    speed = rng.uniform(-1.5, 1.5, n)
    robot[:, 3], robot[:, 4] = speed * np.cos(robot[:, 2]), speed * np.sin(robot[:, 2])
    vases = np.zeros((n, 10, 13))
    vases[:, :, :2] = np.stack(np.meshgrid([-1.5, -0.9, 0.9, 1.5, 2.1], [-1.2, 1.2]), -1).reshape(10, 2)
    ahead = robot[:, 2] + np.where(speed < 0, np.pi, 0) + rng.normal(0, 0.3, n)
    first = rng.uniform(0.2, 0.36, n)
    for v, distance in ((3, first), (7, first + rng.uniform(0.285, 0.35, n)), (8, first + 0.75)):
        vases[:, v, 0], vases[:, v, 1] = distance * np.cos(ahead), distance * np.sin(ahead)
    turn = rng.uniform(0, 2 * np.pi, (n, 10))
    turn[:, 7] = turn[:, 3]
    vases[:, :, 2] = 0.09995638
    vases[:, :, 3], vases[:, :, 6] = np.cos(turn / 2), np.sin(turn / 2)
    return robot, vases, rng.choice([0.05, 1.0], (n, 1)) * rng.uniform(-1, 1, (n, 2))


def test_vases_in_play_are_all_that_move():
    """Teacher-forced for some steps on end: the model with those in play gives what the one with all ten
    does, also where one vase is pushed into another."""
    n = 120
    robot, vases, _ = crowded(n, 5)
    rng, partly, whole = np.random.default_rng(6), VasePhysics(), VasePhysics()
    moved_another, some, fewer = 0, 0, 0
    for _ in range(6):
        actions = rng.uniform(-0.05, 0.05, (n, 2))
        play = vases_in_play(robot, actions, vases)
        all_robot, all_vases = robot.copy(), vases.copy()
        _, cost = whole.step(all_robot, all_vases, actions)
        rows = play.any(axis=1)
        own_robot, own_vases = robot[rows], vases[rows]
        _, own_cost = partly.step(own_robot, own_vases, actions[rows], play[rows])
        np.testing.assert_allclose(own_robot, all_robot[rows], atol=2e-6)
        np.testing.assert_allclose(own_vases, all_vases[rows], atol=2e-4)
        assert np.quantile(np.abs(own_vases - all_vases[rows]).max(axis=(1, 2)), 0.95) < 1e-7
        np.testing.assert_array_equal(own_cost, cost[rows])
        assert (cost[~rows] == 0).all()
        assert np.abs(all_vases - vases)[~play][:, :7].max() < 1e-7
        np.testing.assert_allclose(
            all_robot[~rows], reference.control_step(robot[~rows], actions[~rows]), atol=1e-8
        )
        moved_another += int((np.abs(all_vases[:, 7, :2] - vases[:, 7, :2]).max(axis=1) > 1e-4).sum())
        some, fewer = some + rows.sum(), fewer + int((play[rows].sum(axis=1) < 5).sum())
        robot, vases = all_robot, all_vases
    assert moved_another > 20
    assert some > 300
    assert fewer > 0.8 * some


def test_the_environment_is_mujoco_with_ten_vases():
    """A step of the environment from crowded states: costs and places."""
    n = 200
    robot, vases, actions = crowded(n, 7)
    env = SafetyGymVector(TASK, n, seed=0)
    env.reset()
    state = env.get_state()
    state.robot[:], state.vases[:], state.hazards[:], state.goal[:] = robot, vases, 50.0, 60.0
    env.set_state(state)
    _, _, _, _, info = env.step(actions)
    _, cost = VasePhysics().step(robot, vases, np.clip(actions, -1, 1))
    after = env.get_state()
    np.testing.assert_array_equal(info["cost"], cost)
    np.testing.assert_array_equal(info["cost_vases"], cost)
    assert 0.2 < cost.mean() < 0.95
    np.testing.assert_allclose(after.robot, robot, atol=1e-6)
    np.testing.assert_allclose(after.vases[:, :, :2], vases[:, :, :2], atol=1e-6)


def test_costs_of_copies_count_vases_too():
    env, state = alone()
    state.vases[0, 4, :2] = 0.2499, 0.0
    env.set_state(state)
    assert env.branch(np.array([0]), STILL).cost[0, 0] == 1.0
    assert env.branch(np.array([0]), STILL + 0.05).cost[0, 0] == 1.0


def test_registered_and_single():
    env = gymnasium.make(TASK, seed=0, render_mode="rgb_array")
    observation, _ = env.reset(seed=0)
    assert observation.shape == (60,)
    *_, info = env.step(np.zeros(2))
    assert set(info) == {"cost", "cost_hazards", "cost_vases", "goal_met"}
    assert env.render().shape == (480, 480, 3)


def test_what_does_not_fit_is_refused():
    with pytest.raises(SafeframeError, match="vases cost in Safexp-PointGoal2-v0"):
        SafetyGymVector(TASK, 1, vase="fixed")
    env = SafetyGymVector(TASK, 1)
    other = SafetyGymVector("Safexp-PointGoal1-v0", 1)
    other.reset()
    with pytest.raises(SafeframeError, match="8 hazards and 1 vases"):
        env.set_state(other.get_state())


def test_ends_of_episodes_tell_both_costs():
    env = SafetyGymVector(TASK, 3, seed=0)
    env.reset()
    env.state.step[:] = (999, 0, 0)
    _, _, _, truncated, info = env.step(np.zeros((3, 2)))
    assert truncated.tolist() == [True, False, False]
    assert {"cost", "cost_hazards", "cost_vases", "goal_met"} <= set(info["final_info"])
