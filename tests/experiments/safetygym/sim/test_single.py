"""The single environment under gymnasium's own checks, and rendering."""

from __future__ import annotations

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from PIL import Image

import experiments.safetygym.sim  # noqa: F401 - registers the names
from experiments.safetygym.sim import render
from experiments.safetygym.sim.single import SafetyGymEnv
from experiments.safetygym.sim.vector import SafetyGymVector
from safeframe.types import SafeframeError

POINT, CAR = "Safexp-PointGoal1-v0", "Safexp-CarGoal1-v0"
both = pytest.mark.parametrize("task", [POINT, CAR])


@both
def test_gymnasium_accepts_it(task):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(gymnasium.make(task, render_mode="rgb_array").unwrapped)
    unexpected = [str(w.message) for w in caught if "infinity" not in str(w.message)]
    assert unexpected == []  # the original's box has no limits either


@both
def test_it_is_the_vector_of_one(task):
    env, vector = gymnasium.make(task), SafetyGymVector(task, num_envs=1)
    obs, _ = env.reset(seed=4)
    np.testing.assert_array_equal(obs, vector.reset(seed=4)[0][0])
    for action in np.random.default_rng(0).uniform(-1, 1, (20, 2)).astype(np.float32):
        obs, reward, terminated, truncated, info = env.step(action)
        expected = vector.step(action[None])
        np.testing.assert_array_equal(obs, expected[0][0])
        assert (reward, terminated, truncated) == (expected[1][0], False, False)
        assert info == {"cost": expected[4]["cost"][0], "goal_met": expected[4]["goal_met"][0]}


def test_episode_ends_after_a_thousand_steps():
    env = SafetyGymEnv(POINT)
    env.reset(seed=0)
    ends = [env.step(np.zeros(2))[3] for _ in range(1000)]
    assert ends == [False] * 999 + [True]
    with pytest.raises(SafeframeError, match="reset"):
        env.step(np.zeros(2))
    env.reset()
    env.step(np.zeros(2))


def test_single_errors():
    with pytest.raises(SafeframeError, match="rgb_array"):
        SafetyGymEnv(POINT, render_mode="human")
    env = SafetyGymEnv(POINT)
    env.reset()
    with pytest.raises(SafeframeError, match=r"\(2,\) is needed"):
        env.step(np.zeros(3))


def frames(task, **more):
    env = SafetyGymVector(task, num_envs=2, seed=0)
    env.reset()
    out = []
    for _ in range(4):
        env.step(np.full((2, 2), 0.05))
        out.append(render.Frame.of(env, 1, **more))
    return out


@both
def test_picture_shows_what_is_there(task):
    env = gymnasium.make(task, render_mode="rgb_array").unwrapped
    env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (480, 480, 3)
    state, per_metre = env.get_state(), 480 / (2 * (1.5 + render.BEYOND))

    def colour(xy):
        row, column = ((1.5 + render.BEYOND) - xy[1]) * per_metre, (xy[0] + (1.5 + render.BEYOND)) * per_metre
        return picture[round(row), round(column)].astype(int)

    for hazard in state.hazards[0]:
        red, _, blue = colour(hazard)
        assert blue > red + 30
    red, green, _ = colour(state.goal[0])
    assert green > red + 20
    red, green, _ = colour(state.robot[0, :2])
    assert red > green + 100
    red, green, blue = colour(state.vases[0, 0, :2])
    assert min(green, blue) > red + 30


def test_no_picture_without_a_mode():
    env = SafetyGymEnv(POINT)
    env.reset()
    assert env.render() is None


def test_gif_and_png_are_written(tmp_path):
    actions = np.array([[a, b] for a in (-0.05, 0.0, 0.05) for b in (-1.0, 0.0, 1.0)])
    candidates = render.Candidates(actions, np.geomspace(1e-7, 1.0, 9), 1e-4, chosen=2)
    shown = frames(POINT, candidates=candidates, text="step", path=np.zeros((3, 2)), cost=1.0)
    with Image.open(render.save_gif(shown, tmp_path / "folder" / "rollout.gif")) as gif:
        assert (gif.n_frames, gif.size) == (4, (480 + render.PANEL, 480))
    with Image.open(render.save_png(shown[0], tmp_path / "one.png")) as png:
        assert png.size == (480 + render.PANEL, 480)
    with pytest.raises(SafeframeError, match="at least one frame"):
        render.save_gif([], tmp_path / "none.gif")


def test_candidates_are_coloured_by_their_bound():
    low, high = render.bound_colour(1e-9, 1e-4), render.bound_colour(0.5, 1e-4)
    assert low[1] > low[0]
    assert high[0] > 2 * high[1]
    just_under, just_over = render.bound_colour(0.99e-4, 1e-4), render.bound_colour(1.01e-4, 1e-4)
    assert just_under[1] - just_over[1] > 30
    with pytest.raises(SafeframeError, match="candidates"):
        render.Candidates(np.zeros((3, 2)), np.zeros(2), 1e-4)


def test_robot_far_out_is_still_shown():
    shown = frames(POINT)
    far = render.Frame(**{**vars(shown[0]), "robot": np.array([4.0, 0.0, 0.0])})
    assert render.extent_of([shown[0]]) == (1.5 + render.BEYOND)
    assert render.extent_of([shown[0], far]) == 4.5
    picture = render.draw(far)
    assert (picture[240, 440:].astype(int) @ [1, -1, 0] > 100).any()
