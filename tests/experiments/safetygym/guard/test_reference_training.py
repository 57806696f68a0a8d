"""How reference agents are trained: their files say the settings that the commands give."""

import dataclasses
import json

import pytest
import torch
from safetensors import safe_open
from safetygym_small import untrained

from experiments.safetygym import references
from experiments.safetygym.agents.checkpoints import load_agent, save_agent
from experiments.safetygym.agents.settings import AgentSettings
from experiments.safetygym.guard import reference_training
from experiments.safetygym.guard.guarded_training import PHASES
from experiments.safetygym.guard.reference_training import main, parts, train_again
from safeframe.types import SafeframeError

AGENTS = [
    (robot, name, seed)
    for robot in references.PREFIXES.values()
    for name, seeds in references.trainings(robot).items()
    for seed in seeds
]


@pytest.mark.parametrize(("robot", "name", "seed"), AGENTS)
def test_what_is_shipped_was_trained_as_the_commands_say(robot, name, seed):
    with safe_open(references.agent_file(robot, name, seed), "numpy") as file:
        told = json.loads(file.metadata()["agent"])["settings"]
    last = parts(f"{robot}_{name}", seed)[-1]
    texts = dict(text.split("=", 1) for text in last.settings)
    for key in ("agent", "cases"):  # of the guarded training, not of the agent
        texts.pop(key, None)
    if last.module == "guarded_training":  # the file is of the last phase
        phase = len(PHASES) - 1
        texts = {"entropy": "0.002"} | texts
        texts["steps"] = str(int(PHASES[phase] * float(texts["steps"])))
        texts["seed"] = str(int(texts["seed"]) + phase)
    assert AgentSettings.from_dict(told) == AgentSettings.parse(texts)


def test_no_two_trainings_share_a_seed():
    for agent in ("point_ours", "car_ours", "goal2_point_ours", "point_ours_routed", "car_ours_routed"):
        used = [
            int(text.removeprefix("seed=")) + phase
            for training in range(9)
            for part in parts(agent, training)
            if part.module == "guarded_training"
            for phase in range(len(PHASES))
            for text in part.settings
            if text.startswith("seed=")
        ]
        assert len(set(used)) == len(used)


def test_commands_are_shown_and_the_second_part_goes_on_with_the_first(capsys):
    assert main(["agent=car_ppo_lag_0.5", "training_seed=2", "out=made", "show=true"]) == 0
    assert capsys.readouterr().out.strip() == (
        "python -m experiments.safetygym.agents.train method=ppo_lag cost_limit=0.5 steps=1e7 hidden=64,64 "
        "task=Safexp-CarGoal1-v0 seed=2 out=made/ppo_lag_0.5"
    )
    assert main(["agent=point_ours", "training_seed=2", "out=made", "show=true"]) == 0
    begun, rest = capsys.readouterr().out.splitlines()
    assert begun.endswith("reference/point_ppo.safetensors steps=8e6 seed=20 out=made/ours_1")
    assert "agent=made/ours_1/phase_2/agent.safetensors steps=6e6 seed=120 learning_rate=5e-4" in rest


def test_trainings_run_in_order_once_and_leave_the_agent(tmp_path, monkeypatch):
    calls, agent = [], untrained()

    class Fake:
        @staticmethod
        def main(arguments):
            part = parts("point_ours", 1)[len(calls)]
            calls.append(arguments)
            (tmp_path / part.agent).parent.mkdir(parents=True)
            save_agent(dataclasses.replace(agent, record={"part": part.folder}), tmp_path / part.agent)
            return 0

    monkeypatch.setattr(reference_training, "MODULES", {"train": Fake, "guarded_training": Fake})
    for _ in range(2):  # the second time everything is there
        assert train_again("point_ours", 1, tmp_path) == tmp_path / "point_ours_seed1.safetensors"
        again = load_agent(tmp_path / "point_ours_seed1.safetensors")
        assert again.record == {"part": "ours"}
        assert not again.networks.critics  # of training 0 alone
        actors = zip(again.networks.actor.parameters(), agent.networks.actor.parameters(), strict=True)
        assert all(torch.equal(one, other) for one, other in actors)
        assert len(calls) == 2
    monkeypatch.setattr(Fake, "main", staticmethod(lambda arguments: 1))
    with pytest.raises(SafeframeError, match="its training ours_1 has failed"):
        train_again("car_ours", 1, tmp_path / "other")


@pytest.mark.parametrize(
    "arguments",
    [
        ["agent=boat_ppo", "out=x"],
        ["agent=point_best", "out=x"],
        ["agent=car_ppo"],
        ["agent=car_ppo", "out=x", "seed=1"],
        ["agent=car_ppo", "out=x", "training_seed=-1"],
    ],
)
def test_what_is_no_agent_is_refused(arguments, capsys):
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("wrong arguments:")


def test_another_level_has_agents_of_its_own(capsys):
    assert main(["agent=goal2_point_ours", "training_seed=1", "out=made", "show=true"]) == 0
    short, begun = capsys.readouterr().out.splitlines()
    assert "method=ppo steps=2e6 evaluate=0 task=Safexp-PointGoal2-v0 seed=1 out=made/ours_0" in short
    assert "agent=made/ours_0/agent.safetensors" in begun
    assert not any(name.startswith("goal2") for name in references.trainings("point"))
    with pytest.raises(SafeframeError, match="point_<name>, car_<name>, goal2_point_<name>"):
        parts("goal3_point_ours")
