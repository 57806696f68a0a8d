"""Rollouts of the Car and its clearance under braking."""

import numpy as np
import pytest

from experiments.safetygym.sim.car import rollout
from experiments.safetygym.sim.car.dynamics import CarDynamics
from safeframe.types import SafeframeError

LEVELS = np.array([-1.0, -0.02, -0.01, 0.0, 0.01, 0.02, 1.0])


def driven(n: int, steps: int, seed: int) -> np.ndarray:
    """States (n, 24) after random driving: actions held for a while, wheels often alike."""
    rng = np.random.default_rng(seed)
    dynamics = CarDynamics("fixed")
    robot = dynamics.initial(rng.uniform(-1, 1, (n, 2)), rng.uniform(0, 2 * np.pi, n))
    actions = np.zeros((n, 2))
    for _ in range(steps):
        change = rng.random(n) < 0.15
        actions[change] = rng.choice(LEVELS, (change.sum(), 2))
        alike = change & (rng.random(n) < 0.4)
        actions[alike, 1] = actions[alike, 0]
        dynamics.step(robot, np.zeros((n, 13)), actions)
    return robot


def test_rollout_is_the_steps_one_by_one():
    robot = driven(12, 20, 0)
    robot[3, 2], robot[3, 3:7] = 0.12, [np.cos(0.3), np.sin(0.3), 0, 0]  # nose down: MuJoCo's
    actions = np.random.default_rng(1).uniform(-0.03, 0.03, (12, 15, 2))
    before = robot.copy()
    xy = rollout.rollout_positions(robot, actions)
    np.testing.assert_array_equal(robot, before)
    dynamics = CarDynamics("fixed")
    for t in range(15):
        dynamics.step(robot, np.zeros((12, 13)), actions[:, t])
        # turning the ball's velocity into its own axes and back after each step costs a rounding error
        np.testing.assert_allclose(xy[:, t], robot[:, :2], atol=1e-9)
    assert dynamics.in_mujoco > 0


def test_rollout_with_the_vase_in_the_way():
    dynamics = CarDynamics("fixed")
    robot = dynamics.initial(np.zeros((2, 2)), np.zeros(2))
    vase = np.tile([0.0, -0.5, 0.09996, 1.0] + [0.0] * 9, (2, 1))
    vase[1, 1] = 5.0
    actions = np.full((2, 25, 2), 0.02)
    through, against = (
        rollout.rollout_positions(robot, actions),
        rollout.rollout_positions(robot, actions, vase),
    )
    moved = np.linalg.norm(against - through, axis=2)
    assert through[0, -1, 1] < -0.3  # it drives along -y, where its nose is
    assert moved[1].max() < 1e-12
    assert moved[0].max() > 1e-3


def test_braking_stops_within_its_reach():
    robot = driven(1500, 60, 2)
    speed = np.hypot(robot[:, 13], robot[:, 14])
    assert np.quantile(speed, 0.9) > 0.4
    xy = rollout.rollout_positions(robot, np.zeros((len(robot), 30, 2)))
    travel = np.linalg.norm(xy - robot[:, None, :2], axis=2).max(axis=1)
    reach = np.array([rollout.braking_reach(*row[[13, 14, 18]]) for row in robot])
    assert (reach - travel).min() > 0.005
    assert np.linalg.norm(xy[:, -1] - xy[:, 10], axis=1).max() < 1e-3


def test_clearances_are_those_of_full_rollouts():
    robot = driven(300, 40, 3)
    rng = np.random.default_rng(4)
    hazards = robot[:, None, :2] + rng.uniform(-0.6, 0.6, (300, 8, 2))
    candidates = np.array([(a, b) for a in (-0.02, 0.0, 0.02) for b in (-0.02, 0.0, 0.02)])
    robot[7, 2], robot[7, 3:7] = 0.12, [np.cos(0.3), np.sin(0.3), 0, 0]
    got = rollout.braking_clearances(robot, hazards, candidates)
    actions = np.zeros((300, 9, 40, 2))
    actions[:, :, 0] = candidates
    xy = rollout.rollout_positions(np.repeat(robot, 9, axis=0), actions.reshape(2700, 40, 2)).reshape(
        300, 9, 40, 2
    )
    distance = np.linalg.norm(xy[:, :, :, None] - hazards[:, None, None], axis=4).min(axis=(2, 3)) - 0.2
    expected = np.clip(distance, -0.1, 0.15)
    assert (expected == -0.1).any()
    assert ((expected > 0) & (expected < 0.15)).mean() > 0.1
    error = expected - got
    assert error.min() > -1e-6  # never overstated
    assert error.max() < 2 * rollout.CREEP


def test_far_from_every_hazard_nothing_is_rolled_out():
    robot = driven(5, 20, 5)
    hazards = np.full((5, 8, 2), 50.0)
    assert (rollout.braking_clearances(robot, hazards, np.zeros((2, 2))) == np.float32(0.15)).all()


def test_bad_input():
    robot = driven(2, 1, 6)
    with pytest.raises(SafeframeError, match=r"actions have shape \(2, 2\)"):
        rollout.rollout_positions(robot, np.zeros((2, 2)))
    robot[1, 5] = np.nan
    with pytest.raises(SafeframeError, match="not finite"):
        rollout.rollout_positions(robot, np.zeros((2, 3, 2)))
    with pytest.raises(SafeframeError, match="not finite"):
        rollout.braking_clearances(robot, np.zeros((2, 8, 2)), np.zeros((1, 2)))
