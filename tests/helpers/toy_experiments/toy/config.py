"""Configuration of a tiny experiment that exercises the machinery."""

from __future__ import annotations

from dataclasses import dataclass, field

from experiments.support.config import BaseConfig, require_range


@dataclass
class TrainingConfig:
    epochs: int = 4
    rate: float = 0.1


@dataclass
class DataConfig:
    size: int = 8
    path: str | None = None


@dataclass
class ToyConfig(BaseConfig):
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def validate(self) -> None:
        super().validate()
        require_range("training.epochs", self.training.epochs, low=1)

    def inputs(self) -> dict[str, str]:
        return {} if self.data.path is None else {"data.path": self.data.path}


SCHEMA = ToyConfig
