"""Guards that look into the simulator: what they accept, what they leave of the return, bad input."""

import numpy as np
import pandas as pd
import pytest
from safetygym_small import POINT

from experiments.safetygym.agents.checkpoints import load_agent
from experiments.safetygym.evaluation import price
from experiments.safetygym.evaluation.price import TrueLabels, main, measure
from experiments.safetygym.references import agent_file
from experiments.safetygym.sim.task import get_task
from experiments.safetygym.sim.vector import SafetyGymVector
from experiments.safetygym.states import backup
from safeframe.types import SafeframeError


def watched(n: int, least: float) -> tuple[TrueLabels, SafetyGymVector, np.ndarray]:
    task = get_task(POINT)
    agent = load_agent(agent_file("point", "ppo"), task=task.name)
    env = SafetyGymVector(POINT, n, seed=3, vase="fixed")
    observation, _ = env.reset()
    rng = np.random.default_rng(0)
    for _ in range(150):
        observation, *_ = env.step(agent.act(observation, rng))
    labels = TrueLabels(agent, task, least)
    labels.watch(env)
    return labels, env, observation


@pytest.mark.parametrize("least", [0.0, 0.02])
def test_feasible_is_what_keeps_the_clearance_and_margins_are_found_for_some_rows(least):
    labels, env, observation = watched(300, least)
    clearance = backup.clearances(labels.task, env.get_state(), labels.candidates)
    feasible = labels(observation)
    np.testing.assert_array_equal(feasible, clearance > np.float32(least))
    assert 0.5 < feasible.mean() < 1.0
    some = np.array([7, 3, 250])
    np.testing.assert_allclose(labels.way_out(observation[some]), -100 * clearance[some], rtol=1e-6)


def test_other_observations_than_those_of_the_environments_are_refused():
    labels, _, observation = watched(20, 0.0)
    with pytest.raises(SafeframeError, match="not those of the environments watched"):
        labels(observation[:5])


def test_true_labels_enter_no_hazard_and_the_unguarded_agent_does():
    free = measure(get_task(POINT), "ppo", None, 10_000, 5)
    guarded = measure(get_task(POINT), "ppo", 0.0, 10_000, 5)
    assert free["entries_total"] > 20
    assert guarded["entries_total"] == 0
    assert guarded["return"] < free["return"]
    assert free["steps"] == guarded["steps"] == 10_000
    assert guarded["near_share"] > 1.5 * free["near_share"]  # it is stopped at the edges
    assert guarded["near_speed"] < free["near_speed"]


def test_nearness_counts_states_outside_and_near_an_edge():
    labels, env, observation = watched(300, 0.0)
    counted, state = price.Nearness(labels.task), env.get_state()
    for _ in range(2):
        counted.decided(state, observation, np.zeros((300, 2)))
    gap = np.linalg.norm(state.hazards - state.robot[:, None, :2], axis=2).min(axis=1) - 0.2
    near = (gap > 0) & (gap < 0.1)
    assert 0 < near.sum() < 300
    assert (counted.steps, counted.near) == (600, 2 * near.sum())
    speed = np.hypot(state.robot[near, 3], state.robot[near, 4])
    assert counted.speed == pytest.approx(2 * speed.sum(), rel=1e-4)


def test_the_command_replaces_the_rows_of_its_robot_and_refuses_unknown_words(tmp_path, monkeypatch, capsys):
    out = tmp_path / "price.csv"
    monkeypatch.setattr(price, "VARIANTS", (("ppo", None),))
    monkeypatch.setattr(price, "measure", lambda task, *_: {"robot": task.robot, "return": 1.0})
    assert (
        main([f"out={out}"]) == main([f"out={out}", "task=Safexp-CarGoal1-v0"]) == main([f"out={out}"]) == 0
    )
    assert sorted(pd.read_csv(out)["robot"]) == ["car", "point"]
    assert main([f"out={out}", "step=3"]) == 2
    assert "unknown: step" in capsys.readouterr().err
    assert main(["task=Safexp-CarGoal1-v0"]) == 2
