"""Agents learn, resume to the same numbers, and are saved and refused as files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetygym_toy import ToyVector

from experiments.safetygym.agents import train as command
from experiments.safetygym.agents.checkpoints import load_agent, save_agent
from experiments.safetygym.agents.evaluation import evaluate
from experiments.safetygym.agents.settings import AgentSettings
from experiments.safetygym.agents.training import train
from experiments.safetygym.sim.vector import SafetyGymVector
from safeframe.types import SafeframeError

SMALL = {"num_envs": 16, "horizon": 32, "minibatch": 128, "chunk": 64, "hidden": (16,), "steps": 512 * 6}
TASK = "Safexp-PointGoal1-v0"


def toy(settings):
    return ToyVector(settings.num_envs)


def weights(agent):
    return torch.cat([value.flatten() for value in agent.networks.state_dict().values()])


@pytest.mark.parametrize("policy", ["categorical", "gaussian"])
def test_ppo_learns_the_best_action(policy):
    settings = AgentSettings(
        **SMALL | {"policy": policy, "steps": 512 * 20, "learning_rate": 1e-2, "target_kl": 0.0}
    )
    agent = train(settings, toy)
    table = evaluate(agent, ToyVector(16), 16 * 20)
    assert (table["length"] == 20).all()
    assert table["return"].mean() / 20 > 0.8  # random: 0; best: 1, or more for a Gaussian
    best = agent.candidate_probabilities(np.zeros((1, 60), np.float32))[0]
    assert best[agent.candidates[:, 1] == 1.0].sum() > 0.7


def test_a_lagrangian_gives_up_what_costs():
    settings = AgentSettings(
        **SMALL
        | {
            "method": "ppo_lag",
            "cost_limit": 0.0,
            "steps": 512 * 25,
            "learning_rate": 1e-2,
            "target_kl": 0.0,
            "lagrange_initial": 3.0,
        }
    )
    agent = train(settings, toy)
    probabilities = agent.candidate_probabilities(np.zeros((1, 60), np.float32))[0]
    assert probabilities[agent.candidates[:, 1] == 1.0].sum() < 0.1
    assert probabilities[agent.candidates[:, 1] == 0.5].sum() > 0.6


def test_under_a_guard_the_policy_learns_within_it():
    def guard(observations):
        feasible = np.ones((len(observations), 15), bool)
        feasible[:, 4::5] = False  # turn 1 is forbidden
        feasible[observations[:, 1] > 0.8] = False
        return feasible

    rows = []
    settings = AgentSettings(**SMALL | {"steps": 512 * 20, "learning_rate": 1e-2, "target_kl": 0.0})
    agent = train(
        settings,
        toy,
        guard=guard,
        default_action=lambda seen: np.zeros((len(seen), 2)),
        callback=lambda trainer: rows.append(len(trainer.history)),
    )
    assert rows == list(range(20))
    assert agent.record["cost"] == 0
    assert agent.record["default_share"] == pytest.approx(0.15, abs=0.02)
    table = evaluate(
        agent, ToyVector(16), 320, guard=guard, default_action=lambda seen: np.zeros((len(seen), 2))
    )
    assert table["return"].mean() > 0.8 * 17 * 0.5
    assert table["cost"].sum() == 0
    with pytest.raises(SafeframeError, match="policy=categorical"):
        train(AgentSettings(**SMALL | {"policy": "gaussian"}), toy, guard=guard, default_action=guard)


class Killed(Exception):
    pass


@pytest.mark.parametrize("method", ["ppo", "ppo_lag", "saute"])
def test_a_killed_training_resumes_to_the_same_numbers(tmp_path, method):
    settings = AgentSettings(**SMALL | {"method": method, "cost_limit": 2.0})
    whole = train(settings, toy, tmp_path / "whole", checkpoint_every=2)

    def kill(trainer):
        if trainer.epoch == 5:
            raise Killed

    with pytest.raises(Killed):
        train(settings, toy, tmp_path / "cut", checkpoint_every=2, callback=kill)
    assert (tmp_path / "cut" / "checkpoint.pt").exists()
    started = []
    resumed = train(
        settings,
        toy,
        tmp_path / "cut",
        checkpoint_every=2,
        callback=lambda trainer: started.append(trainer.epoch),
    )
    assert started == [4, 5]
    assert torch.equal(weights(whole), weights(resumed))
    assert whole.record["return"] == resumed.record["return"]
    assert not (tmp_path / "cut" / "checkpoint.pt").exists()
    first, second = ((tmp_path / name / "history.csv").read_text().splitlines() for name in ("whole", "cut"))
    assert len(first) == len(second) == 7


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    def kill(trainer):
        if trainer.epoch == 3:
            raise Killed

    with pytest.raises(Killed):
        train(AgentSettings(**SMALL), toy, tmp_path, checkpoint_every=2, callback=kill)
    with pytest.raises(SafeframeError, match="learning_rate differ"):
        train(AgentSettings(**SMALL | {"learning_rate": 0.5}), toy, tmp_path)


def test_an_agents_file_acts_as_the_agent_did(tmp_path):
    agent = train(AgentSettings(**SMALL | {"steps": 512 * 2}), toy)
    save_agent(agent, tmp_path / "a.safetensors")
    save_agent(agent, tmp_path / "small.safetensors", critics=False)
    observations = np.random.default_rng(0).normal(size=(30, 60)).astype(np.float32)
    for name in ("a", "small"):
        loaded = load_agent(
            tmp_path / f"{name}.safetensors", task=TASK, observation_size=60, candidates=agent.candidates
        )
        np.testing.assert_array_equal(
            loaded.candidate_probabilities(observations), agent.candidate_probabilities(observations)
        )
        assert loaded.record == agent.record
        assert loaded.settings == agent.settings
    np.testing.assert_array_equal(
        load_agent(tmp_path / "a.safetensors").values(observations), agent.values(observations)
    )
    assert (tmp_path / "small.safetensors").stat().st_size < (tmp_path / "a.safetensors").stat().st_size
    with pytest.raises(SafeframeError, match="no critic 'reward'"):
        load_agent(tmp_path / "small.safetensors").values(observations)


def test_agents_of_another_task_shape_or_grid_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    agent = train(AgentSettings(**SMALL | {"steps": 512}), toy)
    save_agent(agent, path)
    with pytest.raises(SafeframeError, match="agent of Safexp-PointGoal1-v0; one of Safexp-CarGoal1-v0"):
        load_agent(path, task="Safexp-CarGoal1-v0")
    with pytest.raises(SafeframeError, match="acts on 60 observations; the task has 72"):
        load_agent(path, observation_size=72)
    with pytest.raises(SafeframeError, match="candidate actions of its own"):
        load_agent(path, candidates=np.zeros((3, 2)))
    with pytest.raises(SafeframeError, match="no agent file"):
        load_agent(tmp_path / "absent.safetensors")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(SafeframeError, match=r"damaged or no agent file"):
        load_agent(path)
    with pytest.raises(SafeframeError, match="acts on 60 observations"):
        evaluate(agent, ToyVector(4, size=72), 100)
    with pytest.raises(SafeframeError, match=r"acts on \(n, 60\)"):
        agent.candidate_probabilities(np.zeros((2, 72), np.float32))


def test_training_goes_on_from_another_agent(tmp_path):
    first = train(AgentSettings(**SMALL | {"steps": 512 * 15, "learning_rate": 1e-2, "target_kl": 0.0}), toy)
    second = train(AgentSettings(**SMALL | {"steps": 512, "learning_rate": 1e-6}), toy, initial=first)
    assert second.record["return"] > 0.7 * 1000 * first.record["return"] / 1000
    with pytest.raises(SafeframeError, match="does not fit this training"):
        train(AgentSettings(**SMALL | {"hidden": (8,)}), toy, initial=first)


def test_barrier_training_in_the_simulator_resumes_to_the_same_numbers(tmp_path):
    settings = AgentSettings(**SMALL | {"method": "ppo_barrier", "steps": 512 * 4})

    def make(settings):
        return SafetyGymVector(settings.task, num_envs=settings.num_envs, seed=settings.seed, vase="fixed")

    def kill(trainer):
        if trainer.epoch == 3:
            raise Killed

    whole = train(settings, make)
    with pytest.raises(Killed):
        train(settings, make, tmp_path, checkpoint_every=2, callback=kill)
    assert torch.equal(weights(whole), weights(train(settings, make, tmp_path)))


def test_the_command_trains_evaluates_and_leaves_what_is_done_alone(tmp_path, capsys):
    arguments = [f"{key}={value}" for key, value in SMALL.items() if key not in ("hidden", "steps")]
    arguments += ["hidden=16", "steps=512", f"out={tmp_path}", "evaluate=1000", "method=ppo_lag"]
    assert command.main(arguments) == 0
    result = json.loads((tmp_path / "evaluation.json").read_text())
    assert result["episodes"] == 100
    assert result["training"]["steps"] == 512
    assert load_agent(tmp_path / "agent.safetensors").settings.method == "ppo_lag"
    capsys.readouterr()
    assert command.main(arguments) == 0
    assert "is done" in capsys.readouterr().out
    assert command.main(["steps=-1"]) == 2
    assert "steps is -1; it must be > 0" in capsys.readouterr().err
    assert command.main(["steps"]) == 2
    assert command.main(["task=Safexp-DoggoGoal1-v0", f"out={tmp_path / 'x'}"]) == 2
    assert "unknown task" in capsys.readouterr().err


def small(**more) -> list[str]:
    """Arguments of a training that takes a second."""
    pairs = {**SMALL, "hidden": "16", "steps": 512, "evaluate": 0, "method": "ppo_lag", **more}
    return [f"{key}={value}" for key, value in pairs.items()]


def test_several_agents_are_tasks_and_each_is_what_it_is_alone(tmp_path, capsys):
    several = small(out=tmp_path / "all", seed="0,1", cost_limit="1,25", evaluate=1000)
    assert command.main(several) == 0
    folders = sorted((tmp_path / "all").iterdir())
    assert [folder.name[-19:] for folder in folders] == [
        f"{limit}_categorical_5e+02_seed{seed}"[-19:] for limit in (1, 25) for seed in (0, 1)
    ]
    assert command.main(small(out=tmp_path / "one", seed=1, cost_limit=25)) == 0
    alone, among = (load_agent(folder / "agent.safetensors") for folder in (tmp_path / "one", folders[3]))
    assert torch.equal(weights(alone), weights(among))
    assert len({float(weights(load_agent(folder / "agent.safetensors")).sum()) for folder in folders}) >= 2
    assert capsys.readouterr().out.count("episodes") == 4
    (folders[2] / "evaluation.json").unlink()
    assert command.main(several) == 0
    said = capsys.readouterr().out
    assert said.count("is done") == 3
    assert f"{folders[2]}: " in said
    assert command.main(small(out=tmp_path, learning_rate="1e-3,1e-4")) == 2
    assert "two of these trainings have the same name" in capsys.readouterr().err
    assert command.main(small(out=tmp_path, engine="slurm")) == 2
    assert "slurm" in capsys.readouterr().err


@pytest.mark.long
def test_a_killed_training_among_several_goes_on(tmp_path):
    arguments = small(out=tmp_path, seed="0,1", steps=512 * 50, workers=2)
    program = [sys.executable, "-m", "experiments.safetygym.agents.train", *arguments]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*/*checkpoint*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert len(list(tmp_path.glob("*/agent.safetensors"))) < 2
    assert subprocess.run(program, check=False).returncode == 0
    for seed in (0, 1):
        assert command.main(small(out=tmp_path / f"alone_{seed}", seed=seed, steps=512 * 50)) == 0
        (folder,) = tmp_path.glob(f"*_seed{seed}")
        found = [load_agent(place / "agent.safetensors") for place in (folder, tmp_path / f"alone_{seed}")]
        assert torch.equal(weights(found[0]), weights(found[1]))
