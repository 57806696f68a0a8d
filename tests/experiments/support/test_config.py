"""Wrong configuration stops at once, with the key, the value and what is allowed; the identity of a run."""

from __future__ import annotations

import dataclasses
import enum
import math
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from experiments.support import registry
from experiments.support.config import BaseConfig, identity, output_root, run_id, to_object
from experiments.support.config_errors import explain
from experiments.support.errors import ConfigError
from experiments.support.files import REPOSITORY, canonical, hash_of
from experiments.support.settings import require_range


def refused(composed, *overrides: str) -> str:
    """The message of a configuration that must not pass."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 (Hydra's errors and ours; the message is what counts)
        to_object(composed(*overrides), registry.get("toy").schema)
    return explain(caught.value, registry.get("toy").schema)


@pytest.mark.parametrize("value", ["0", "-0.1", "1.0001", "nan", "inf", "-inf"])
def test_threshold_outside_its_range(composed, value):
    message = refused(composed, f"r_t={value}")
    assert "r_t" in message
    assert "(0, 1]" in message


@pytest.mark.parametrize("value", ["1", "1.0", "1e-12"])
def test_threshold_at_the_edges_is_allowed(toy, value):
    assert toy(f"r_t={value}").r_t == float(value)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.epochz=3", ["training.epochz", "no such key", "did you mean training.epochs?", "rate"]),
        ("+sed=3", ["sed", "no such key", "did you mean seed?"]),
        ("training.epochs=many", ["training.epochs", "'many'", "Integer"]),
        ("training.epochs=1.5", ["training.epochs", "'1.5'", "Integer"]),
        ("r_t=abc", ["r_t", "'abc'", "Float"]),
        ("r_t=", ["r_t", "''", "Float"]),
        ("training=3", ["training", "TrainingConfig"]),
        ("training.epochs=0", ["training.epochs=0", "at least 1"]),
        ("seed=-1", ["seed=-1", "at least 0"]),
        ("threads=0", ["threads=0", "at least 1"]),
        ("preset=huge", ["preset/huge", "laptop", "paper", "smoke"]),
        ("experiment=nope", ["experiment/nope", "toy"]),
        ("launcher=nope", ["launcher/nope", "joblib"]),
        ("tracking.mode=loud", ["tracking.mode='loud'", "offline"]),
        ("data.path=/no/such/file.csv", ["data.path", "/no/such/file.csv", "no such file"]),
    ],
)
def test_wrong_key_type_or_value(composed, override, expected):
    if "data.path" in override:
        with pytest.raises(ConfigError) as caught:
            identity(to_object(composed(override), registry.get("toy").schema))
        message = str(caught.value)
    else:
        message = refused(composed, override)
    for part in expected:
        assert part in message
    assert "\n" not in message


def test_mappings_are_checked_like_the_command_line():
    schema = BaseConfig
    assert to_object({"experiment": "x", "seed": 3}, schema) == BaseConfig(experiment="x", seed=3)
    with pytest.raises(ConfigError, match="seeds: there is no such key"):
        to_object({"experiment": "x", "seeds": 3}, schema)
    with pytest.raises(ConfigError, match=r"seed: .*'three'.*expected: int"):
        to_object({"experiment": "x", "seed": "three"}, schema)


def test_a_schema_s_own_value_error_becomes_a_configuration_error():
    @dataclasses.dataclass
    class Odd(BaseConfig):
        def validate(self) -> None:
            raise ValueError("odd=1: must be even")

    with pytest.raises(ConfigError, match="odd=1: must be even"):
        to_object({"experiment": "x"}, Odd)


def test_range_refuses_nan():
    with pytest.raises(ConfigError, match=r"x=nan is out of range: it must be at least 0 and at most 1"):
        require_range("x", math.nan, low=0, high=1)
    with pytest.raises(ConfigError, match="at most 1"):
        require_range("x", 1.5, high=1)
    require_range("x", 1, low=1, high=1)


def test_identity_is_of_the_meaning_not_of_the_words(toy, tmp_path):
    reference = run_id(toy("r_t=1e-4"))
    assert run_id(toy("r_t=0.0001")) == reference
    assert run_id(toy("seed=0", "r_t=1.0e-4")) == reference
    for same in ("threads=1", "progress=true", "force=true", f"output={tmp_path / 'x'}", "tracking=wandb"):
        assert run_id(toy("r_t=1e-4", same)) == reference, same
    for other in ("r_t=1.0001e-4", "seed=1", "training.rate=0.2", "preset=smoke", "data.size=9"):
        assert run_id(toy("r_t=1e-4", other)) != reference, other


def test_identity_follows_the_content_of_input_files(toy, tmp_path):
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text("1")
    second.write_text("1")
    same = run_id(toy(f"data.path={first}"))
    assert run_id(toy(f"data.path={second}")) == same
    second.write_text("2")
    assert run_id(toy(f"data.path={second}")) != same


def test_a_missing_input_file_stops_the_run_before_anything_is_written(run_toy, tmp_path):
    with pytest.raises(ConfigError, match=r"data.path: no such file: '/no/such.csv'; give the path"):
        run_toy("data.path=/no/such.csv")
    assert list(tmp_path.iterdir()) == []


def test_canonical_forms():
    class Colour(enum.Enum):
        RED = 1

    assert canonical(1e-4) == canonical(np.float64(0.0001)) == {"float": "0.0001"}
    assert canonical(-0.0) == canonical(0.0)
    assert canonical(1) != canonical(1.0)
    assert canonical(True) is True
    assert canonical({"b": 1, "a": (Path("x"), Colour.RED)}) == {"a": ["x", "RED"], "b": 1}
    assert hash_of({"a": 1, "b": 2}) == hash_of({"b": 2, "a": 1})
    assert hash_of(np.arange(3)) != hash_of(np.arange(4))
    assert hash_of(np.zeros(4)) != hash_of(np.zeros((2, 2)))
    with pytest.raises(TypeError, match="cannot hash"):
        canonical(object())


def test_output_is_taken_from_the_repository():
    assert output_root(BaseConfig(output="results/runs")) == REPOSITORY / "results" / "runs"
    assert output_root(BaseConfig(output="/tmp/elsewhere")) == Path("/tmp/elsewhere").resolve()


def test_registry(toy_package, monkeypatch):
    assert registry.get("toy").package == "toy_experiments.toy"
    assert "support" not in registry.discover()
    with pytest.raises(ConfigError, match=r"experiment='nope' does not exist; there are: .*toy"):
        registry.get("nope")
    monkeypatch.setenv("SAFEFRAME_EXPERIMENTS", "not_installed")
    with pytest.raises(ConfigError, match="'not_installed', which cannot be imported"):
        registry.discover()


def test_schema_must_derive_from_the_base(toy_package, monkeypatch):
    import toy_experiments.toy.config as module

    monkeypatch.setattr(module, "SCHEMA", dict)
    with pytest.raises(ConfigError, match=r"SCHEMA must be a dataclass derived from .*BaseConfig"):
        registry.discover()


def test_the_launcher_on_ray_is_the_one_that_comes_with_the_repository(composed):
    config = composed("launcher=ray")
    with initialize_config_dir(str(REPOSITORY / "configs"), version_base="1.3"):
        arguments = ["experiment=theory", "launcher=ray", "hydra.launcher.cpus=2"]
        hydra = compose("config", overrides=arguments, return_hydra_config=True).hydra
    assert config.threads == 1
    assert hydra.launcher["_target_"] == "hydra_plugins.ray_launcher.RayLauncher"
    assert (hydra.launcher.cpus, hydra.launcher.retries, hydra.launcher.address) == (2, 3, None)


@pytest.mark.parametrize("launcher", ["joblib", "submitit", "submitit_local", "ray"])
def test_launchers_that_fill_a_machine_with_jobs_give_each_one_thread(launcher):
    content = OmegaConf.load(REPOSITORY / "configs" / "launcher" / f"{launcher}.yaml")
    assert content.threads == 1
