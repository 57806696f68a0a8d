"""Every experiment composes with every preset, and its smallest preset runs from end to end."""

from __future__ import annotations

import re

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from experiments.support import registry
from experiments.support.config import PRESETS, run_id, to_object
from experiments.support.files import REPOSITORY
from experiments.support.results import frames

NAMES = sorted(registry.discover())
SWEEPS = sorted(path.stem for path in (REPOSITORY / "configs" / "sweep").glob("*.yaml"))


def composed(*overrides: str, hydra: bool = False):
    registry.register_schemas()
    with initialize_config_dir(str(REPOSITORY / "configs"), version_base="1.3"):
        return compose("config", overrides=list(overrides), return_hydra_config=hydra)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", NAMES)
def test_composes(name, preset):
    config = to_object(composed(f"experiment={name}", f"preset={preset}"), registry.get(name).schema)
    assert (config.experiment, config.preset) == (name, preset)


@pytest.mark.parametrize("name", NAMES)
def test_presets_are_different_runs_and_cost_is_no_part_of_them(name):
    schema = registry.get(name).schema
    ids = [
        run_id(to_object(composed(f"experiment={name}", f"preset={preset}"), schema)) for preset in PRESETS
    ]
    assert len(set(ids)) == len(PRESETS)
    assert run_id(to_object(composed(f"experiment={name}", "preset=laptop", "threads=1"), schema)) == ids[1]


@pytest.mark.parametrize("name", NAMES)
def test_the_smoke_preset_runs_from_end_to_end(name, smoke):
    frame = frames.read(smoke(name))
    assert len(frame)
    assert set(frame["experiment"]) == {name}


@pytest.mark.parametrize("sweep", SWEEPS)
def test_sweeps_name_keys_that_exist(sweep):
    config = composed(f"+sweep={sweep}", hydra=True)
    params = config.hydra.sweeper.params
    assert params
    for key in params:
        if (REPOSITORY / "configs" / key.lstrip("+")).is_dir():
            continue  # a group of configurations, not a key
        missing = object()
        assert OmegaConf.select(config, key.lstrip("+"), default=missing) is not missing, key


def test_hydra_leaves_no_directories_or_logs():
    config = composed("launcher=serial", hydra=True)
    HydraConfig.instance().set_config(config)
    assert config.hydra.output_subdir is None
    assert config.hydra.run.dir == "."
    assert not config.hydra.job.chdir


def test_requirements_are_pinned_and_hold_what_the_readme_promises():
    lines = (REPOSITORY / "requirements.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9.]*", line) for line in pins)
    names = {line.split("==")[0] for line in pins}
    named = "torch hydra-core omegaconf numpy pandas matplotlib cvxpy mujoco transformers peft datasets wandb"
    assert set(named.split()) <= names
    assert "torch==2.13.0" in pins
