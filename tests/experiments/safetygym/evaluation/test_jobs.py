"""Evaluations in blocks: interrupted ones go on, finished ones are not run again."""

import numpy as np
import pandas as pd
import pytest
from safetygym_small import POINT, untrained

from experiments.safetygym.agents.checkpoints import save_agent
from experiments.safetygym.config import SafetyGymConfig
from experiments.safetygym.evaluation import jobs
from experiments.safetygym.guard.classifier import LogitClassifier
from experiments.safetygym.sim.task import get_task
from experiments.support.engine.engine import Engine
from experiments.support.engine.settings import EngineConfig
from experiments.support.engine.store import TaskStore


@pytest.fixture
def blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "BLOCK_STEPS", 2000)
    path = tmp_path / "agent.safetensors"
    save_agent(untrained(), path)
    config = SafetyGymConfig()
    config.classifier.kind, config.classifier.hidden = "logits", [4]
    weights = dict(LogitClassifier(get_task(POINT), 15, (4,)).state_dict())
    guarded = jobs.blocks(config, {"method": "ours", "r_t": 0.1}, 4000, path, 3, weights, 0.0)
    return [*guarded, *jobs.blocks(config, {"method": "ppo"}, 2000, path, 3)]


def done(blocks, folder, engine=None):
    """Episodes and entries of all blocks, and the bytes that are kept of them."""
    engine = engine or Engine(EngineConfig())
    found = list(engine.results(jobs.tasks(blocks), TaskStore(folder, jobs.FORM), "episodes"))
    engine.close()
    return found, {path.name: path.read_bytes() for path in folder.glob("*.zip")}


def test_an_interrupted_evaluation_goes_on_to_the_same_numbers(blocks, tmp_path, monkeypatch):
    whole, kept = done(blocks, tmp_path / "whole")
    real, run = jobs.run_job, []

    def interrupted(job):
        run.append(job)
        if len(run) == 3:
            raise KeyboardInterrupt
        return real(job)

    monkeypatch.setattr(jobs, "run_job", interrupted)
    with pytest.raises(KeyboardInterrupt):
        done(blocks, tmp_path / "parts")
    assert len(run) == 3
    again, bytes_again = done(blocks, tmp_path / "parts")
    assert run[3:] == [blocks[2]]  # only what was missing
    assert bytes_again == kept
    assert len(kept) == 3
    for (episodes, entries), (expected, traced) in zip(again, whole, strict=True):
        pd.testing.assert_frame_equal(episodes, expected)
        pd.testing.assert_frame_equal(entries, traced)


@pytest.mark.long
@pytest.mark.parametrize("name", ["local", "joblib"])
def test_worker_processes_give_the_same_bytes(blocks, tmp_path, name):
    kept = [done(blocks, tmp_path / str(n), Engine(EngineConfig(name, n)))[1] for n in (1, 2)]
    assert kept[0] == kept[1] == done(blocks, tmp_path / "here")[1]


def test_blocks_differ_by_all_that_they_depend_on(blocks):
    first, second, other = blocks
    keys = {str(job.key) for job in blocks}
    assert len(keys) == 3
    assert {first.seed, second.seed, other.seed} == {job.key["seed"] for job in blocks}
    changed = jobs.Job(**{**vars(first), "tau": np.zeros(15)})
    assert changed.key != first.key
    heavier = {name: value + 1 for name, value in (first.weights or {}).items()}
    assert jobs.Job(**{**vars(first), "weights": heavier}).key != first.key
    assert jobs.Job(**{**vars(first), "constants": {}}).key == first.key


def test_blocks_differ_by_the_error_of_paths_where_there_is_a_guard(blocks):
    """Its weight is no part of the network's weights."""
    guarded, _, alone = blocks
    before = guarded.key
    assert "path_error" not in before
    for block in (guarded, alone):
        block.config.classifier.kind, block.config.path_error.quantile = "path", 0.99
    first = guarded.key
    guarded.config.path_error.weight = 3.0
    assert len({str(key) for key in (before, first, guarded.key)}) == 3
    assert "path_error" not in alone.key
