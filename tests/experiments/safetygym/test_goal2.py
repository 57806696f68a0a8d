"""The same experiment on another level, small: PointGoal2 from labels to episodes."""

import json

import pandas as pd
import pytest
from safetygym_small import safetygym, untrained

from experiments.safetygym import references
from experiments.safetygym.agents.checkpoints import save_agent
from experiments.safetygym.config import TASKS
from experiments.safetygym.records import APART
from experiments.safetygym.sim import task as sim
from experiments.safetygym.states import collection
from experiments.support.results import frames

TASK = "Safexp-PointGoal2-v0"


def test_a_run_of_the_level(tmp_path, capsys):
    save_agent(untrained(TASK), tmp_path / "agent.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collection, "NUM_ENVS", 50)
        code = safetygym(
            f"task={TASK}", "preset=smoke", f"output={tmp_path / 'runs'}",
            f"agent.path={tmp_path / 'agent.safetensors'}", "agent.baselines=[]",
            "learning.random_paths=200", "learning.steps=100", "evaluation.thresholds=[1]",
        )  # fmt: skip
    assert code == 0
    (directory,) = (tmp_path / "runs" / "safetygym").glob("[!.]*")
    episodes = pd.read_parquet(directory / "episodes.parquet")
    assert set(APART) <= set(episodes)
    hazards, vases = episodes["hazard_cost"], episodes["vase_cost"]
    assert (episodes["cost"] <= hazards + vases).all()
    assert (episodes["cost"] >= pd.concat([hazards, vases], axis=1).max(axis=1)).all()
    assert (episodes["entries"] <= episodes["hazard_entries"] + episodes["vase_entries"]).all()
    assert set(APART) <= set(frames.read(directory)["metric"])
    shown = json.loads((directory / "episodes.json").read_text())
    assert all(key.startswith("steps_with_a_cost") or key == "return" for key in shown["episode_guarded"])
    assert "touched or moving" in capsys.readouterr().out


def test_tasks_are_told_once():
    """The configuration knows them without the simulator, which takes a while to import."""
    assert list(TASKS) == list(sim.TASKS)
    for name, prefix in references.PREFIXES.items():
        task = sim.get_task(name)
        assert prefix == ("goal2_" if task.level.vases_cost else "") + task.robot
    prefixes = list(references.PREFIXES.values())
    assert not any(a != b and b.startswith(f"{a}_") for a in prefixes for b in prefixes)
