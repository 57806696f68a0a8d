"""Which experiments there are: packages with config.py (`SCHEMA`) and experiment.py (`run`).

Packages are looked for in `experiments` and in those that the environment variable SAFEFRAME_EXPERIMENTS
names (dotted, separated by colons), so that an experiment can also live outside this repository.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from types import ModuleType
from typing import Any

from hydra.core.config_store import ConfigStore

from experiments.support.config import BaseConfig
from experiments.support.errors import ConfigError

NOT_EXPERIMENTS = ("support",)


@dataclass(frozen=True)
class Experiment:
    """One experiment.

    Attributes:
        name: as on the command line.
        package: dotted.
        schema: dataclass of its configuration.
    """

    name: str
    package: str
    schema: type[BaseConfig]

    @property
    def module(self) -> ModuleType:
        """The package's experiment.py, imported when first asked for (it may be slow: torch, physics)."""
        return importlib.import_module(f"{self.package}.experiment")

    @property
    def run(self) -> Callable[[Any, Any], Any]:
        """`run(config, context) -> DataFrame`."""
        return self.module.run


def discover() -> dict[str, Experiment]:
    """All experiments by name. Imports each config.py, which therefore must be light.

    Raises:
        ConfigError: for a bad one.
    """
    found: dict[str, Experiment] = {}
    for parent in ("experiments", *filter(None, os.environ.get("SAFEFRAME_EXPERIMENTS", "").split(":"))):
        if importlib.util.find_spec(parent) is None:
            raise ConfigError(
                f"SAFEFRAME_EXPERIMENTS names {parent!r}, which cannot be imported: is it on PYTHONPATH?"
            )
        package = importlib.import_module(parent)
        for item in pkgutil.iter_modules(package.__path__):
            name = f"{parent}.{item.name}"
            if (
                not item.ispkg
                or item.name in NOT_EXPERIMENTS
                or importlib.util.find_spec(f"{name}.config") is None
            ):
                continue
            schema = getattr(importlib.import_module(f"{name}.config"), "SCHEMA", None)
            if not (is_dataclass(schema) and isinstance(schema, type) and issubclass(schema, BaseConfig)):
                raise ConfigError(
                    f"{name}.config: SCHEMA must be a dataclass derived from "
                    "experiments.support.config.BaseConfig"
                )
            found[item.name] = Experiment(item.name, name, schema)
    return found


def get(name: str) -> Experiment:
    """One experiment.

    Args:
        name: as on the command line.

    Returns:
        The experiment.

    Raises:
        ConfigError: if there is none of this name; it lists those there are.
    """
    experiments = discover()
    if name not in experiments:
        raise ConfigError(
            f"experiment={name!r} does not exist; there are: {', '.join(sorted(experiments)) or 'none'}"
        )
    return experiments[name]


def register_schemas() -> None:
    """Put every schema into Hydra's ConfigStore as schema/<experiment>: overrides are then typed."""
    store = ConfigStore.instance()
    for name, experiment in discover().items():
        store.store(group="schema", name=name, node=experiment.schema, package="_global_")
