"""Configuration of a tiny experiment that exercises the machinery."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.support.config import BaseConfig
from experiments.support.settings import section, setting


@dataclass
class TrainingConfig:
    """Gradient steps."""

    epochs: int = setting(4, "Steps.", low=1)
    rate: float = setting(0.1, "Length of a step.", above=0)


@dataclass
class DataConfig:
    """Numbers that are drawn."""

    size: int = setting(8, "How many.")
    path: str | None = setting(None, "A file that the run depends on.")


@dataclass
class ToyConfig(BaseConfig):
    data: DataConfig = section(DataConfig)
    training: TrainingConfig = section(TrainingConfig)

    def inputs(self) -> dict[str, str]:
        return {} if self.data.path is None else {"data.path": self.data.path}


SCHEMA = ToyConfig
