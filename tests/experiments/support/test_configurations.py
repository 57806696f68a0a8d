"""Random configurations of every experiment: refused in words, or the same run however they are written."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.support import registry
from experiments.support.config import identity, run_id, to_object
from experiments.support.errors import ConfigError
from experiments.support.files import REPOSITORY

NAMES = sorted(registry.discover())


@dataclass(frozen=True)
class Near:
    """A factor on a number's default: values that a user might try."""

    factor: float

    def of(self, default: Any) -> Any:
        if isinstance(default, bool) or not isinstance(default, int | float):
            return default
        return type(default)(default * self.factor)


VALUES = st.one_of(
    st.floats(0.5, 2.0).map(Near),
    st.integers(-3, 10**6),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from(["", "measured", "binary", "0.1", "nan", "ours", "local", "???", "${seed}", "a b"]),
    st.booleans(),
    st.none(),
    st.lists(st.floats(1e-6, 1.0), max_size=3),
    st.sampled_from([1e-4, 1e-3, 0.01, 0.1, 0.5, 1.0, 1, 2, 8, 64]),
)


def leaves(config: DictConfig, before: str = "") -> list[str]:
    """Dotted keys of all settings."""
    found = []
    for key in config:
        name = f"{before}{key}"
        value = config._get_node(key)
        found += (
            leaves(value, f"{name}.") if isinstance(value, DictConfig) and not value._is_none() else [name]
        )
    return found


def plain(name: str, schema: type) -> DictConfig:
    content = OmegaConf.structured(schema)
    content.experiment = name
    return content


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("examples", [6, pytest.param(300, marks=pytest.mark.long)])
def test_a_configuration_is_refused_in_words_or_is_one_run(name, examples):
    schema = registry.get(name).schema
    keys = leaves(plain(name, schema))
    fine: list[str] = []
    said: list[str] = []

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(st.sampled_from(keys), VALUES, min_size=1, max_size=3))
    def check(changes: dict[str, Any]) -> None:
        content = plain(name, schema)
        try:
            for key, value in changes.items():
                default = OmegaConf.select(content, key)
                OmegaConf.update(content, key, value.of(default) if isinstance(value, Near) else value)
            config = to_object(content, schema)
            run = run_id(config)  # looks at the files that it names
        except (ConfigError, OmegaConfBaseException) as error:  # the entry explains the latter
            said.append(str(error))
            return
        fine.append(run)
        assert not any(isinstance(value, float) and math.isnan(value) for value in flat(identity(config)))
        written = OmegaConf.create(OmegaConf.to_yaml(OmegaConf.structured(config)))
        again = to_object(OmegaConf.merge(plain(name, schema), written), schema)
        assert run_id(again) == run
        assert identity(again) == identity(config)

    check()
    assert all(text.strip() for text in said)
    assert examples < 100 or len(set(fine)) > examples // 20  # it is not so that all are refused


def flat(value: Any) -> list[Any]:
    """All values of nested mappings and lists."""
    if isinstance(value, dict):
        return [one for item in value.values() for one in flat(item)]
    if isinstance(value, list | tuple):
        return [one for item in value for one in flat(item)]
    return [value]


def composed(*words: str):
    registry.register_schemas()
    with initialize_config_dir(str(REPOSITORY / "configs"), version_base="1.3"):
        config = compose("config", overrides=list(words))
    return to_object(config, registry.get(config.experiment).schema)


@pytest.mark.parametrize(
    ("name", "sweep", "ablation"),
    [("llm", "figure-4", "mended_answers"), ("production", "figure-2", "mended_plans")],
)
def test_an_ablation_of_one_experiment_is_another_run_of_its_sweep(name, sweep, ablation):
    changed = composed(f"+sweep={sweep}", f"+ablation={ablation}")
    assert changed.experiment == name
    assert changed.tailoring.relative
    assert run_id(changed) != run_id(composed(f"+sweep={sweep}"))
