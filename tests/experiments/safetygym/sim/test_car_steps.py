"""The specialised Car: MuJoCo's converged solution to rounding, and a hand-over where it does not apply."""

import mujoco
import numpy as np
import pytest
from safetygym_car_states import recorded, states  # noqa: F401  (fixture)

from experiments.safetygym.sim.car import steps
from experiments.safetygym.sim.car.dynamics import CarDynamics
from experiments.safetygym.sim.car.mjcf import car_xml
from experiments.safetygym.sim.car.vase import vase_near

PARKED = np.array([1.2, 1.2, 0.09996, 1.0] + [0.0] * 9)


def mujoco_steps(robot: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """mj_step, ten times, at a tolerance of 0; robot (n, 24) before and after."""
    model = mujoco.MjModel.from_xml_string(car_xml(vase=False))
    model.opt.tolerance = 0
    data, after = mujoco.MjData(model), robot.copy()
    for row, action in zip(after, actions, strict=True):
        mujoco.mj_resetData(model, data)
        data.qpos[:], data.qvel[:], data.ctrl[:] = row[:13], row[13:], action
        mujoco.mj_step(model, data, 10)
        row[:13], row[13:] = data.qpos, data.qvel
    return after


def test_recorded_original_to_rounding(recorded):  # noqa: F811
    robot, vase = states(recorded, "")
    expected, _ = states(recorded, "next_")
    apart = np.linalg.norm(robot[:, :2] - vase[:, :2], axis=1) > 0.42
    far = np.flatnonzero(~vase_near(robot, vase) & apart)
    sensors = np.empty_like(robot)
    assert (steps.step_rows(far, robot, recorded["actions"], sensors, True) == steps.DONE).all()
    assert len(far) > 100
    assert np.abs(robot - expected)[far, :13].max() < 1e-12
    assert np.abs(robot - expected)[far].max() < 1e-11
    assert np.abs(sensors - recorded["sensors"])[far].max() < 1e-10


def wild(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """States after some random steps, then kicked: tilted, hopping, skidding; actions in and beyond ±.02."""
    rng = np.random.default_rng(seed)
    dynamics = CarDynamics("fixed", compiled=False)
    robot = dynamics.initial(rng.uniform(-1, 1, (n, 2)), rng.uniform(0, 2 * np.pi, n))
    vase = np.tile(PARKED, (n, 1))
    for _ in range(8):
        dynamics.step(robot, vase, rng.choice([-1, -0.01, 0, 0.01, 1], (n, 2)))
    robot[:, 13:16] += rng.normal(0, 0.2, (n, 3))
    robot[:, 16:18] += rng.normal(0, 1.0, (n, 2))
    robot[:, 18] += rng.normal(0, 3.0, n)
    robot[:, 19:] += rng.normal(0, 20.0, (n, 5))
    return robot, rng.uniform(-0.03, 0.03, (n, 2))


def test_converged_mujoco_in_wild_states():
    """MuJoCo at tolerance 0 on 60 kicked states, sensors included."""
    robot, actions = wild(60, 0)
    expected = mujoco_steps(robot, actions)
    sensors = np.empty_like(robot)
    status = steps.step_rows(np.arange(60), robot, actions, sensors, True)
    done = status == steps.DONE
    assert done.sum() >= 40
    assert np.abs(robot - expected)[done, :13].max() < 1e-11
    assert np.abs(robot - expected)[done].max() < 1e-9
    by_mujoco = CarDynamics("fixed", compiled=False).observe(expected, actions)
    assert np.abs(sensors - by_mujoco)[done, 3:].max() < 1e-9
    assert np.abs(sensors - by_mujoco)[done].max() < 1e-4  # accelerometer: MuJoCo stops at 1e-12 here


def test_chassis_on_the_floor_is_left_to_mujoco():
    dynamics = CarDynamics("fixed")
    robot = dynamics.initial(np.zeros((3, 2)), np.zeros(3))
    robot[1, 2], robot[1, 3:7] = 0.12, [np.cos(0.3), np.sin(0.3), 0, 0]  # nose down
    robot[2, 2], robot[2, 3:7] = 0.055, [0, 1, 0, 0]  # on its back
    before, actions = robot.copy(), np.full((3, 2), 0.02)
    status = steps.step_rows(np.arange(3), robot, actions, np.empty((3, 24)), True)
    assert list(status != steps.DONE) == [False, True, True]
    np.testing.assert_array_equal(robot[1:], before[1:])
    handed_over = before.copy()
    dynamics.step(handed_over, np.tile(PARKED, (3, 1)), actions)
    assert dynamics.in_mujoco == 2
    assert np.abs(handed_over - mujoco_steps(before, actions))[1:].max() < 1e-6


def test_no_solver_history_and_same_numbers():
    """A step depends on state and action alone: any order, any batch."""
    robot, actions = wild(40, 1)
    together, alone = robot.copy(), robot.copy()
    dynamics, vase = CarDynamics("fixed"), np.tile(PARKED, (40, 1))
    sensors = dynamics.step(together, vase, actions)
    for row in range(39, -1, -1):
        one = slice(row, row + 1)
        np.testing.assert_array_equal(dynamics.step(alone[one], vase[one], actions[one])[0], sensors[row])
    np.testing.assert_array_equal(together, alone)


@pytest.mark.long
def test_thousand_wild_states():
    robot, actions = wild(1000, 2)
    expected = mujoco_steps(robot, actions)
    status = steps.step_rows(np.arange(1000), robot, actions, np.empty_like(robot), True)
    done = status == steps.DONE
    assert done.mean() > 0.6
    error = np.abs(robot - expected)[done, :3].max(axis=1)
    assert np.quantile(error, 0.99) < 1e-13
    assert error.max() < 1e-9
