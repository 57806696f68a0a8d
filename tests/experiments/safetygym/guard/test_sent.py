"""Shards that workers collect are those that one process collects, one after the other."""

import numpy as np
import pytest
from safetygym_small import POINT, untrained

from experiments.safetygym.agents.checkpoints import save_agent
from experiments.safetygym.config import SafetyGymConfig
from experiments.safetygym.guard.classifier import LogitClassifier
from experiments.safetygym.guard.guarding import Guard, GuardedPolicy
from experiments.safetygym.guard.sent import SHARD, collection_tasks, sent
from experiments.safetygym.sim.task import get_task
from experiments.safetygym.states import collection
from experiments.safetygym.states.collection import collect, planned
from experiments.safetygym.states.internal_data import InternalData
from experiments.support.engine.engine import Engine
from experiments.support.engine.settings import EngineConfig
from experiments.support.engine.store import TaskStore

ABOUT = {"label": "backup", "seed": 5, "vase": "faithful", "every": 10, "window": 60, "with_paths": True}


@pytest.mark.parametrize(
    ("name", "workers"), [("local", 1), pytest.param("joblib", 2, marks=pytest.mark.long)]
)
def test_shards_of_workers_are_those_of_one_process(tmp_path, monkeypatch, name, workers):
    monkeypatch.setattr(collection, "SHARD_CASES", 8000)
    if workers == 1:
        monkeypatch.setattr(collection, "NUM_ENVS", 16)
        monkeypatch.setattr(collection, "BURN_IN", 20)
        monkeypatch.setattr(collection, "SHARD_CASES", 400)
    most = 2 * collection.SHARD_CASES + 100
    task, path = get_task(POINT), tmp_path / "agent.safetensors"
    agent = untrained()
    save_agent(agent, path)
    config = SafetyGymConfig()
    config.classifier.kind, config.classifier.hidden = "logits", [4]
    guard = Guard(LogitClassifier(task, len(agent.candidates), (4,)), 0.0)
    whole = InternalData(tmp_path / "whole", {})
    collect(whole, GuardedPolicy(agent, guard, 0, task), most, **ABOUT)
    parts = InternalData(tmp_path / "parts", {})
    plan = planned(parts, most, "backup", len(agent.candidates))
    assert [cases for _, cases in plan][:2] == [collection.SHARD_CASES] * 2
    engine = Engine(EngineConfig(name, workers))
    todo = collection_tasks(sent(config, path, guard), plan, ABOUT)
    for shard in engine.results(todo, TaskStore(tmp_path / "tasks", SHARD), "shards"):
        parts.append(shard)
    engine.close()
    assert parts.shards == whole.shards
    assert len(parts.shards) == 3
    assert parts.n_t == whole.n_t >= most
    for part, value in vars(whole.load()).items():
        np.testing.assert_array_equal(getattr(parts.load(), part), value, strict=True)
    assert planned(parts, most, "backup", len(agent.candidates)) == []
