"""Typed configuration: the base schema, from the composed Hydra config to a checked object, and the identity
of a run.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.support.config_errors import explain
from experiments.support.errors import ConfigError
from experiments.support.files import REPOSITORY, hash_of, input_checksum
from safeframe.chance_constraint import validate_radius, validate_threshold
from safeframe.types import SafeframeError

PRESETS = ("smoke", "laptop", "paper")
TRACKING_MODES = ("none", "disabled", "offline", "online", "auto")

EXECUTION_SETTINGS = ("tracking", "output", "threads", "progress", "force")
"""Settings that say how a run is carried out and not what it computes: they are no part of its identity."""


@dataclass
class TrackingConfig:
    """Where to mirror a run; the local files are the record in any case."""

    mode: str = "none"
    project: str = "safeframe"
    entity: str | None = None


@dataclass
class BaseConfig:
    """What every experiment's configuration has.

    An experiment's `SCHEMA` is a dataclass derived from this one.
    """

    experiment: str = "???"
    preset: str = "laptop"
    r_t: float = 1e-3
    seed: int = 0
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    output: str = "results/runs"
    threads: int = 2
    progress: bool = True
    force: bool = False

    def validate(self) -> None:
        """Check ranges; raise `ConfigError` (or any `ValueError`) that names key, value and what is allowed.

        Derived schemas call `super().validate()` first.
        """
        require_threshold("r_t", self.r_t)
        require_choice("preset", self.preset, PRESETS)
        require_range("seed", self.seed, low=0)
        require_range("threads", self.threads, low=1)
        require_choice("tracking.mode", self.tracking.mode, TRACKING_MODES)

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
    """What a run's results depend on: the configuration less `EXECUTION_SETTINGS`, input files by their
    checksum.

    Raises `ConfigError` if an input file does not exist.
    """
    content: dict[str, Any] = dataclasses.asdict(config)
    for key in EXECUTION_SETTINGS:
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


def require_threshold(key: str, value: float) -> None:
    """A risk threshold lies in (0, 1]."""
    try:
        validate_threshold(value, where=key)
    except SafeframeError as error:
        raise ConfigError(str(error)) from error


def require_range(key: str, value: float, low: float | None = None, high: float | None = None) -> None:
    """`low` ≤ value ≤ `high`, where given; NaN is out of every range."""
    if math.isnan(value) or (low is not None and value < low) or (high is not None and value > high):
        allowed = " and ".join(
            text
            for text in (f"at least {low}" * (low is not None), f"at most {high}" * (high is not None))
            if text
        )
        raise ConfigError(f"{key}={value!r} is out of range: it must be {allowed or 'a number'}")


def require_choice(key: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """`value` is one of `allowed`."""
    if value not in allowed:
        raise ConfigError(f"{key}={value!r} is not one of: {', '.join(str(item) for item in allowed)}")


def measured_or_radius(key: str, value: str) -> float | None:
    """A radius of conservative testing given as text: None for "measured", else a number of at least 0."""
    if value == "measured":
        return None
    try:
        radius = float(value)
    except ValueError:
        raise ConfigError(f'{key}={value!r}: "measured" or a number >= 0 is needed') from None
    return validate_radius(radius, key)
