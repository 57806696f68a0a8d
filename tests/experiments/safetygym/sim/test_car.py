"""The Car by MuJoCo against the recorded original (openai/safety-gym, MuJoCo 2.1), teacher-forced."""

import numpy as np
import pytest
from safetygym_car_states import recorded, states  # noqa: F401  (fixture)

from experiments.safetygym.sim.car.dynamics import CarDynamics
from experiments.safetygym.sim.car.vase import gaps, vase_moves, vase_near
from safeframe.types import SafeframeError


def test_one_step_is_the_originals(recorded):  # noqa: F811
    robot, vase = states(recorded, "")
    expected, expected_vase = states(recorded, "next_")
    contact = np.linalg.norm(robot[:, :2] - vase[:, :2], axis=1) < 0.42
    assert contact.sum() >= 10
    assert (~contact).sum() >= 100
    sensors = CarDynamics().step(robot, vase, recorded["actions"])
    error, free = np.abs(robot - expected), ~contact
    assert error[free, :13].max() < 2e-8
    assert error[free, :3].max() < 1e-9
    assert error[free, 13:].max() < 1e-5
    # Against the vase MuJoCo's box collisions have changed since: 1 of 4,900 steps is off by 1.4e-5 m.
    assert np.median(error[contact, :2].max(axis=1)) < 1e-8
    assert error[contact, :3].max() < 2e-5
    assert np.abs(vase - expected_vase)[contact, :2].max() < 2e-3
    assert np.abs(vase - expected_vase)[free, :2].max() < 1e-7
    assert np.abs(sensors - recorded["sensors"])[free].max() < 5e-5
    assert np.abs(sensors - recorded["sensors"])[free, 3:].max() < 5e-6


def test_vase_out_of_reach_changes_nothing(recorded):  # noqa: F811
    """The models with and without the vase agree where the rule says that the vase is not in play."""
    robot, vase = states(recorded, "")
    near = vase_moves(vase) | vase_near(robot, vase)
    assert 0 < near.sum() < len(near) / 4
    fixed, faithful = robot.copy(), robot.copy()
    CarDynamics("fixed").step(fixed, vase.copy(), recorded["actions"])
    CarDynamics("faithful").step(faithful, vase.copy(), recorded["actions"])
    changed = (fixed != faithful).any(axis=1)
    assert changed[~near].sum() <= 5  # met on the way
    assert np.abs(fixed[near] - faithful[near]).max() > 1e-4
    vase[:, 7] = 0.1
    assert vase_moves(vase).all()


def test_vase_is_never_missed():
    """Cars drive around and into a resting vase: the rule's steps are those with it always simulated."""
    rng = np.random.default_rng(0)
    n, dynamics = 3000, CarDynamics("faithful")
    robot = dynamics.initial(rng.uniform(-0.4, 0.4, (n, 2)), rng.uniform(0, 2 * np.pi, n))
    for _ in range(3):  # at the start it only just touches the floor, and rounding decides
        CarDynamics("fixed").step(robot, np.zeros((n, 13)), rng.uniform(-0.01, 0.01, (n, 2)))
    robot[:, 13:15] = -robot[:, :2] * rng.uniform(0, 3, (n, 1))
    robot[:, 18] = rng.normal(0, 3.0, n)
    vase = np.tile([0.0, 0.0, 0.09996, 1.0] + [0.0] * 9, (n, 1))
    turn = rng.uniform(0, np.pi, n)
    vase[:, 3], vase[:, 6] = np.cos(turn / 2), np.sin(turn / 2)
    near = (gaps(robot, vase) > 1e-3) & (gaps(robot, vase) < 0.05)
    robot, vase = robot[near], vase[near]
    actions = rng.uniform(-0.02, 0.02, (len(robot), 2))
    always, always_vase = robot.copy(), vase.copy()
    dynamics._step_rows(True, np.arange(len(robot)), always, always_vase, actions)
    touched = np.abs(always_vase[:, :2] - vase[:, :2]).max(axis=1) > 1e-9
    dynamics.step(robot, vase, actions)
    assert touched.sum() > 20
    assert dynamics.in_mujoco < 0.9 * len(robot)
    assert np.abs(robot - always)[:, :3].max() < 1e-8
    assert np.abs(vase - always_vase)[:, :2].max() < 1e-8


def test_gap_is_a_lower_bound():
    """Never above the distance of points sampled on both boxes."""
    rng = np.random.default_rng(1)
    robot = CarDynamics().initial(rng.uniform(-0.6, 0.6, (200, 2)), rng.uniform(0, 2 * np.pi, 200))
    vase = np.tile([0.0, 0.0, 0.1, 1.0] + [0.0] * 9, (200, 1))
    on_robot = rng.uniform(-1, 1, (400, 2)) * [0.155, 0.1675] + [0.0, -0.0075]
    on_vase = rng.uniform(-0.1, 0.1, (400, 2))
    for row, found in zip(robot, gaps(robot, vase), strict=True):
        yaw = 2 * np.arctan2(row[6], row[3])
        turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
        points = row[:2] + on_robot @ turn.T
        assert found <= np.linalg.norm(points[:, None] - on_vase, axis=2).min() + 1e-12


def test_initial_state_and_determinism():
    dynamics = CarDynamics()
    robot = dynamics.initial(np.array([[0.5, -1.0], [0.0, 0.2]]), np.array([0.3, 5.0]))
    vase = np.tile([1.2, 1.2, 0.09996, 1.0] + [0.0] * 9, (2, 1))
    assert robot.shape == (2, 24)
    sensors = dynamics.observe(robot, np.zeros((2, 2)))
    yaw = 2 * np.arctan2(robot[:, 6], robot[:, 3])
    expected = np.stack([-0.5 * np.sin(yaw), -0.5 * np.cos(yaw)], axis=1)
    np.testing.assert_allclose(sensors[:, 18:20], expected, atol=1e-12)
    again = robot.copy(), vase.copy()
    first = dynamics.step(robot, vase, np.array([[1.0, 0.5], [7.0, -9.0]]))
    second = dynamics.step(*again, np.array([[1.0, 0.5], [1.0, -1.0]]))
    np.testing.assert_array_equal(first, second)  # actions are clipped
    np.testing.assert_array_equal(robot, again[0])


@pytest.mark.parametrize("name", ["robot", "vase", "actions"])
def test_what_is_not_finite_is_named(name):
    dynamics = CarDynamics()
    arrays = {
        "robot": dynamics.initial(np.zeros((3, 2)), np.zeros(3)),
        "vase": np.tile([1.2, 1.2, 0.09996, 1.0] + [0.0] * 9, (3, 1)),
        "actions": np.zeros((3, 2)),
    }
    arrays[name][2, 1] = np.nan
    with pytest.raises(SafeframeError, match=f"{name} is not finite in environment 2"):
        dynamics.step(**arrays)


def test_divergence_is_reported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo leaves its log here
    dynamics = CarDynamics()
    robot = dynamics.initial(np.zeros((1, 2)), np.zeros(1))
    robot[0, 13] = 1e300
    with pytest.raises(SafeframeError, match="not finite"):
        dynamics.step(robot, np.tile([1.2, 1.2, 0.09996, 1.0] + [0.0] * 9, (1, 1)), np.zeros((1, 2)))


def test_bad_arguments():
    with pytest.raises(SafeframeError, match="faithful, fixed"):
        CarDynamics("gone")
    dynamics = CarDynamics()
    with pytest.raises(SafeframeError, match="actions has shape"):
        dynamics.step(dynamics.initial(np.zeros((1, 2)), np.zeros(1)), np.zeros((1, 13)), np.zeros((2, 2)))
