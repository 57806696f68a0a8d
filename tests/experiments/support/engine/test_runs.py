"""Whole runs: an engine changes neither a run's identity nor a byte of its results."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir

from experiments.support import registry
from experiments.support.config import identity, run_id, to_object
from experiments.support.files import REPOSITORY
from experiments.support.runs import running


def configured(name: str, *overrides: str):
    registry.register_schemas()
    with initialize_config_dir(str(REPOSITORY / "configs"), version_base="1.3"):
        arguments = [f"experiment={name}", "preset=smoke", "threads=1", "progress=false", *overrides]
        return to_object(compose("config", overrides=arguments), registry.get(name).schema)


@pytest.mark.parametrize("name", ["joblib", "ray"])
def test_an_engine_is_no_part_of_a_run(name):
    plain = configured("safetygym")
    other = configured("safetygym", f"engine={name}", "engine.workers=3")
    assert (plain.engine.name, other.engine.name, other.engine.workers) == ("local", name, 3)
    assert run_id(plain) == run_id(other)
    assert "engine" not in identity(other)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("production", []),
        ("safetygym", []),
        ("llm", ["models.shard=40"]),
        ("llm", ["capacity.weights=best", "capacity.among=[lora2,all*2]"]),
    ],
    ids=["production", "safetygym", "llm", "capacities"],
)
def test_a_run_on_an_engine_leaves_the_same_results(tmp_path, name, more):
    experiment, found = registry.get(name), []
    for engine in (["engine=local"], ["engine=joblib", "engine.workers=2"]):
        root = tmp_path / engine[0].partition("=")[2]
        directory = running.perform(experiment, configured(name, f"output={root}", *engine, *more))
        found.append({path.name: path.read_bytes() for path in directory.glob("*.parquet")})
    assert found[0].keys() >= {"results.parquet"}
    assert found[0] == found[1]
