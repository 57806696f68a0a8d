"""The compiled Point against the NumPy reference and MuJoCo; when MuJoCo is needed; compiled code."""

from __future__ import annotations

import os

import numpy as np
import pytest

from experiments.safetygym.sim import compiled
from experiments.safetygym.sim.lidar import angle_in_bins
from experiments.safetygym.sim.point import dynamics, reference
from experiments.safetygym.sim.point.batch import observe_points
from experiments.safetygym.sim.vase import VasePhysics
from experiments.safetygym.sim.vase_contact import REACH, overlaps, vase_axis
from safeframe.types import SafeframeError


def some_robots(n, rng):
    return np.column_stack(
        [
            rng.uniform(-1.5, 1.5, (n, 2)),
            rng.uniform(-7, 7, n),
            rng.normal(0, 0.7, (n, 2)),
            rng.normal(0, 2.0, n),
        ]
    )


def some_actions(n, rng):
    return rng.choice([0.04, 1.5], (n, 1)) * rng.uniform(-1, 1, (n, 2))


def vases(n, xy, turn):
    out = np.zeros((n, 13))
    out[:, :2], out[:, 2] = xy, 0.09995638
    out[:, 3], out[:, 6] = np.cos(turn / 2), np.sin(turn / 2)
    return out


def test_compiled_step_is_the_reference():
    rng = np.random.default_rng(0)
    robot, actions = some_robots(500, rng), some_actions(500, rng)
    expected = reference.control_step(robot, actions)
    for row, action in zip(robot, actions, strict=True):
        dynamics.control_step(row, *action)
    np.testing.assert_allclose(robot, expected, rtol=1e-11, atol=1e-13)


def test_compiled_observation_is_the_reference():
    rng = np.random.default_rng(1)
    n = 500
    robot, actions = some_robots(n, rng), some_actions(n, rng)
    goal, hazards = rng.uniform(-3, 3, (n, 2)), rng.uniform(-3, 3, (n, 8, 2))
    vase = vases(n, rng.uniform(-3, 3, (n, 2)), rng.uniform(0, 6, n))
    hazards[0] = robot[0, :2]  # at the robot itself
    goal[1] = robot[1, :2] + [np.cos(robot[1, 2]), np.sin(robot[1, 2])]  # straight ahead: between two bins
    obs = np.zeros((n, 60), np.float32)
    observe_points(np.arange(n), robot, goal, hazards, vase[:, None], actions, obs)
    expected = reference.observe(robot, actions, goal, hazards, vase[:, :2])
    lidars = np.r_[3:19, 22:38, 41:57]
    straight = np.ones(n, bool)
    straight[1] = False  # rounding decides between bins 0 and 15, as in the original
    np.testing.assert_allclose(obs[straight][:, lidars], expected[straight][:, lidars], atol=3e-7)
    rest = np.setdiff1d(np.arange(60), lidars)
    np.testing.assert_allclose(obs[:, rest], expected[:, rest], rtol=3e-7, atol=1e-6)
    assert obs[1, [3, 18]].max() == pytest.approx(2 / 3, abs=1e-6)


def test_reference_is_mujoco_away_from_the_vase():
    rng = np.random.default_rng(2)
    robot, actions = some_robots(200, rng), some_actions(200, rng)
    expected = reference.control_step(robot, actions)
    vase = vases(200, (5.0, 5.0), np.zeros(200))
    VasePhysics().step(robot, vase[:, None], actions)
    np.testing.assert_allclose(robot, expected, rtol=1e-8, atol=1e-10)


def test_no_contact_is_missed():
    """Where `meets_vase` says no, MuJoCo with the vase gives what the closed form gives."""
    rng = np.random.default_rng(3)
    n = 4000
    robot, actions = some_robots(n, rng), some_actions(n, rng)
    robot[:, 3:5] *= 1.5 / np.maximum(1.5, np.linalg.norm(robot[:, 3:5], axis=1))[:, None]
    angle, distance = rng.uniform(0, 2 * np.pi, n), rng.uniform(0.2, 0.36, n)
    xy = robot[:, :2] + distance[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    vase = vases(n, xy, rng.uniform(0, 2 * np.pi, n))
    asked = np.array([dynamics.meets_vase(r, *a, v) for r, a, v in zip(robot, actions, vase, strict=True)])
    assert 0.2 < asked.mean() < 0.9
    stepped, pushed = robot.copy(), vase.copy()
    VasePhysics().step(stepped, pushed[:, None], actions)
    expected = reference.control_step(robot, actions)
    np.testing.assert_allclose(stepped[~asked], expected[~asked], rtol=1e-7, atol=1e-8)
    assert np.abs(pushed - vase)[~asked][:, :2].max() < 1e-8
    moved = np.abs(pushed - vase)[asked][:, :2].max(axis=1) > 1e-6
    assert moved.mean() > 0.8  # and it is not asked much too often


def test_reach_covers_the_fastest_robot():
    """From REACH on, no action at full speed brings the outlines together within a step."""
    rng = np.random.default_rng(4)
    for _ in range(3000):
        angle = rng.uniform(0, 2 * np.pi)
        robot = np.array(
            [0, 0, rng.uniform(0, 7), 1.5 * np.cos(angle), 1.5 * np.sin(angle), rng.uniform(-8, 8)]
        )
        vase = vases(1, REACH * np.array([np.cos(angle), np.sin(angle)]), rng.uniform(0, 7))[0]
        ux, uy, flat = vase_axis(vase)
        assert flat
        dynamics.control_step(robot, rng.choice([-0.05, 0.05]), rng.choice([-1.0, 1.0]))
        c, s = np.cos(robot[2]), np.sin(robot[2])
        assert not overlaps(robot[0] - vase[0], robot[1] - vase[1], c, s, ux, uy)


def test_vase_on_another_face_and_a_tilted_one():
    quarter = np.sqrt(0.5)
    vase = vases(1, (0.0, 0.0), 0.0)[0]
    vase[3:7] = quarter, quarter, 0.0, 0.0  # turned about x: stands flat
    assert vase_axis(vase) == (1.0, 0.0, True)
    vase[3:7] = quarter, 0.0, quarter, 0.0  # about y
    ux, uy, flat = vase_axis(vase)
    assert flat
    assert abs(ux) < 1e-12
    assert abs(abs(uy) - 1) < 1e-12
    vase[3:7] = np.cos(0.2), np.sin(0.2), 0.0, 0.0
    assert not vase_axis(vase)[2]
    robot = np.array([0.34, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert dynamics.meets_vase(robot, 0.0, 0.0, vase)
    robot[0] = 0.5
    assert not dynamics.meets_vase(robot, 0.0, 0.0, vase)
    vase[9] = 0.1
    assert dynamics.meets_vase(robot, 0.0, 0.0, vase)


def test_physics_that_breaks_down_is_reported():
    physics, vase = VasePhysics(), vases(1, (1.0, 1.0), 0.0)[:, None]
    with pytest.raises(SafeframeError, match="not finite before"):
        physics.step(np.full((1, 6), np.nan), vase, np.zeros((1, 2)))
    with pytest.raises(SafeframeError, match="10\\^6"):
        physics.step(np.array([[0, 0, 0, 1e200, 0, 0]]), vase.copy(), np.zeros((1, 2)))
    robot = np.zeros((1, 6))
    physics.step(robot, vase, np.zeros((1, 2)))  # and it can be used again
    assert np.isfinite(robot).all()


def test_turn_by_is_a_rotation():
    for angle in (0.0, 1e-5, -0.0199, 0.0201, 0.08, -0.1):
        c, s = dynamics.turn_by(np.cos(0.4), np.sin(0.4), angle)
        np.testing.assert_allclose([c, s], [np.cos(0.4 + angle), np.sin(0.4 + angle)], atol=2e-16, rtol=1e-15)


@pytest.mark.parametrize("n", [1, 16, 37])
def test_rows_side_by_side_are_the_single_step_to_the_bit(n):
    rng = np.random.default_rng(5)
    robot, actions = some_robots(n, rng), some_actions(n, rng)
    one_by_one = robot.copy()
    for row, action in zip(one_by_one, actions, strict=True):
        dynamics.control_step(row, *action)
    dynamics.control_step_rows(robot, actions, np.empty(dynamics.WORK))
    np.testing.assert_array_equal(robot, one_by_one)


def test_a_spinning_robot_is_right_too():
    rng = np.random.default_rng(6)
    robot, actions = some_robots(20, rng), some_actions(20, rng)
    robot[3, 5], robot[17, 5] = 900.0, -70.0
    expected = reference.control_step(robot, actions)
    dynamics.control_step_rows(robot, actions, np.empty(dynamics.WORK))
    np.testing.assert_allclose(robot, expected, rtol=1e-9, atol=1e-11)


def test_angle_in_bins():
    angle = np.linspace(0.0, 2 * np.pi, 4001)[:-1]
    found = np.array([angle_in_bins(0.7 * np.cos(a), 0.7 * np.sin(a)) for a in angle])
    np.testing.assert_allclose(found, angle * 8 / np.pi, atol=2e-9)
    assert angle_in_bins(0.0, 0.0) == 0.0


def test_compiled_code_is_kept_by_source(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert compiled.choose_folder() == tmp_path / compiled.fingerprint()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))  # cannot be made: the next one is taken
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert compiled.choose_folder() == tmp_path / "cache" / "safeframe" / "numba" / compiled.fingerprint()
    package = tmp_path / "package"
    package.mkdir()
    (package / "a.py").write_text("import numba\n")
    (package / "b.py").write_text("import numpy\n")
    monkeypatch.setattr(compiled, "PACKAGE", package)
    first = compiled.fingerprint()
    (package / "b.py").write_text("import scipy\n")
    assert compiled.fingerprint() == first
    (package / "a.py").write_text("import numba  # changed\n")
    assert compiled.fingerprint() != first


def test_old_compiled_code_is_forgotten(tmp_path):
    old, new, other = tmp_path / ("a" * 16), tmp_path / ("b" * 16), tmp_path / "somebody else's"
    for folder in (old, new, other):
        folder.mkdir()
        (folder / "file").write_text("")
    for folder in (old, other):
        os.utime(folder, (0, 0))
    compiled.forget_old(tmp_path)
    assert [folder.exists() for folder in (old, new, other)] == [False, True, True]
