"""Typed configuration: the base schema, from the composed Hydra config to a checked object, and the identity
of a run.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.support import common_settings as common
from experiments.support.config_errors import explain
from experiments.support.engine.settings import EngineConfig
from experiments.support.errors import ConfigError
from experiments.support.files import REPOSITORY, hash_of, input_checksum
from experiments.support.settings import check, section, setting, unset_later
from experiments.support.storage.objects import folder_of, is_folder, require_known

PRESETS = ("smoke", "laptop", "paper")
TRACKING_MODES = ("none", "disabled", "offline", "online", "auto")
TRACKERS = ("wandb", "tensorboard")

EXECUTION_SETTINGS = ("tracking", "engine", "output", "store", "threads", "progress", "force")
"""Settings that say how a run is carried out and not what it computes: they are no part of its identity."""


@dataclass
class TrackingConfig:
    """Where a run is mirrored to; its local files are the record in any case."""

    mode: str = setting(
        "none",
        "Mirror to Weights & Biases: none and disabled do not, offline writes files to send later, online "
        "sends, auto sends where there is a key and else writes files.",
        choices=TRACKING_MODES,
    )
    to: str = setting(
        "wandb",
        "Which tracker, where mode is not none: wandb (Weights & Biases), or tensorboard (files that "
        "TensorBoard shows on this machine, without an account; of the modes only none matters).",
        choices=TRACKERS,
    )
    project: str = setting("safeframe", "Project on Weights & Biases that the run is mirrored to.")
    entity: str | None = setting(
        None, "User or team on Weights & Biases that owns the project; null is the one that is logged in."
    )


@dataclass
class BaseConfig:
    """What every experiment has.

    An experiment's `SCHEMA` is a dataclass derived from this one.
    """

    experiment: str = setting("???", "Name of the experiment: production, safetygym, llm or theory.")
    preset: str = setting(
        "laptop",
        "How much of the experiment: smoke takes seconds and its numbers mean nothing, laptop takes minutes, "
        "paper takes hours.",
        choices=PRESETS,
    )
    r_t: float = common.r_t(1e-3)
    seed: int = setting(
        0, "Root of all random numbers: the same seed on the same machine gives the same results.", low=0
    )
    tracking: TrackingConfig = section(TrackingConfig)
    engine: EngineConfig = section(EngineConfig)
    output: str = setting(
        "results/runs", "Folder that runs are kept in; a relative one counts from the repository's root."
    )
    store: str | None = setting(
        None,
        "Where long stages are kept that runs share: a folder, or a URL of fsspec (s3://bucket/folder) that "
        "several machines share; null is the folder cache in output.",
    )
    threads: int = setting(
        2, "Threads, or processes where an experiment uses them, that a run may take.", low=1
    )
    progress: bool = setting(True, "Show progress bars.")
    force: bool = setting(False, "Do a run again that is done; its cached stages are still used.")

    def validate(self) -> None:
        """Hold every setting to the values that its field declares; raise `ConfigError` (or any `ValueError`)
        that names key, value and what is allowed.

        Derived schemas call `super().validate()` first, and add rules between settings only.
        """
        check(self)
        if self.store is not None:
            require_known(self.store)

    def inputs(self) -> dict[str, str]:
        """Files that the run reads, by their configuration key.

        Their contents, not their paths, enter the run's identity.
        """
        return {}

    def reads(self) -> list[Path]:
        """Other files that results rest on and that come with the repository: a run that is done says so when
        one of them has changed since.
        """
        return []


Schema = TypeVar("Schema", bound=BaseConfig)


def to_object(config: DictConfig | dict[str, Any], schema: type[Schema]) -> Schema:
    """Merge a composed configuration onto its schema, convert it and check it.

    Raises `ConfigError` for an unknown key, a wrong type, a missing value or one out of range.
    """
    content = config if isinstance(config, DictConfig) else OmegaConf.create(config)
    try:
        plain = OmegaConf.to_container(content, resolve=True)
        merged = OmegaConf.merge(OmegaConf.structured(schema), plain)
        result = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error, schema)) from error
    if not isinstance(result, schema):
        raise TypeError(f"expected a {schema.__name__}, got {type(result).__name__}")
    try:
        result.validate()
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return result


def identity(config: BaseConfig) -> dict[str, Any]:
    """What a run's results depend on: the configuration less `EXECUTION_SETTINGS` and the sections that came
    later and are at their defaults; input files by their checksum.

    Raises `ConfigError` if an input file does not exist.
    """
    content: dict[str, Any] = dataclasses.asdict(config)
    for key in (*EXECUTION_SETTINGS, *unset_later(config)):
        content.pop(key, None)
    for key, path in config.inputs().items():
        *parents, name = key.split(".")
        place = content
        for parent in parents:
            place = place[parent]
        place[name] = f"sha256:{input_checksum(input_path(key, path))}"
    return content


def run_id(config: BaseConfig) -> str:
    """Sixteen hexadecimal digits that depend on nothing but `identity(config)`."""
    return hash_of(identity(config))


def input_path(key: str, path: str | Path) -> Path:
    """An input file's path (relative ones count from the working directory); `ConfigError` if there is no
    such file.
    """
    found = Path(path).expanduser()
    if not found.is_file():
        raise ConfigError(
            f"{key}: no such file: {str(path)!r}; give the path of an existing file ({key}=/path/to/file)"
        )
    return found


def output_root(config: BaseConfig) -> Path:
    """Where runs are kept. Relative paths count from the repository's root, so that the working directory
    does not matter.
    """
    return (REPOSITORY / config.output).resolve()


def cache_of(config: BaseConfig) -> Path:
    """The folder of long stages: `store` where that is one, else `cache` in `output`, which is this machine's
    copy of a store behind a URL.
    """
    if config.store is not None and is_folder(config.store):
        return (REPOSITORY / folder_of(config.store)).resolve()
    return output_root(config) / "cache"
