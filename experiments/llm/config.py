"""Typed configuration of the language experiment (arXiv 2504.20924, section 5.3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from experiments.llm.models.model_settings import ModelsConfig
from experiments.support.config import (
    BaseConfig,
    measured_or_radius,
    require_choice,
    require_range,
    require_threshold,
)
from experiments.support.errors import ConfigError

SOURCES = ("synthetic", "recorded", "hub")
FORMATS = ("pku", "diasafety")
THRESHOLDS = tuple(round(10 ** (-3 + 3 * k / 9), 10) for k in range(10))
"""Ten thresholds, equally spaced in logarithms, in [1e-3, 1]."""
DIASAFETY_FILES = {
    "train": "labelled_train.json.gz",
    "val": "labelled_val.json.gz",
    "test": "labelled_test.json.gz",
    "generations": "generations_unlabelled.jsonl.gz",
}


@dataclass
class DataConfig:
    """Recorded answers (source=recorded): path of the file (pku) or of the folder (diasafety), and which of
    the two it is. prompts: of diasafety, how many of its prompts (with 140 answers each) are read.
    """

    path: str | None = None
    format: str = "pku"
    prompts: int = 1200


@dataclass
class TransferConfig:
    """Another set of recorded answers that the calibrated guard is applied to; no path, no transfer. epsilon:
    share of inputs like the internal test data that the coverage guard may refuse.
    """

    path: str | None = None
    format: str = "diasafety"
    epsilon: float = 0.05


@dataclass
class PoolsConfig:
    """Prompts of each split and candidates a prompt (paper: 16)."""

    candidates: int = 16
    train: int = 1000
    internal_test: int = 4000
    validation: int = 2000


@dataclass
class ClassifierConfig:
    """Safety classification model. rank, alpha: of LoRA (without dropout). max_tokens: longer texts are cut
    (the prompt's beginning goes first), and counted. full_learning_rate: of the fully fine-tuned baseline.
    """

    rank: int = 16
    alpha: float = 32.0
    epochs: float = 3.0
    batch: int = 64
    learning_rate: float = 3e-3
    full_learning_rate: float = 1e-3
    weight_decay: float = 0.01
    max_tokens: int = 128


@dataclass
class TailoredConfig:
    """The approximate loss: steps, step size, decay of the averaged weights; inputs (prompts) and internal
    test cases of a step; temperatures in margin units; beta, lambda; anchor: weight of the cross-entropy of
    the same cases, which is added.
    """

    steps: int = 60
    learning_rate: float = 5e-4
    average: float = 0.95
    inputs: int = 32
    test_cases: int = 768
    temperature: float = 1.0
    temperature_output: float = 1.0
    penalty: float = 0.3
    perturbation: float = 1.5
    harm_cost: float = 1.0
    anchor: float = 10.0


@dataclass
class EvaluationConfig:
    """n_t: labelled candidates of the internal test to calibrate on, None = all. xi: "measured" or a number.
    xi_mass: mass left out when the radius is measured, in units of r_t, added to the bound. thresholds: r_t
    validated at (the run's own is added). delta: 1 - confidence of the certified thresholds.
    """

    n_t: int | None = None
    xi: str = "measured"
    xi_mass: float = 0.1
    delta: float = 0.05
    thresholds: list[float] = field(default_factory=lambda: list(THRESHOLDS))
    cost_limits: list[float] = field(default_factory=list)


@dataclass
class LLMConfig(BaseConfig):
    """python run.py experiment=llm source=synthetic r_t=1e-2"""

    r_t: float = 1e-2
    source: str = "synthetic"
    data: DataConfig = field(default_factory=DataConfig)
    transfer: TransferConfig = field(default_factory=TransferConfig)
    models: ModelsConfig = field(default_factory=ModelsConfig)
    pools: PoolsConfig = field(default_factory=PoolsConfig)
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    tailored: TailoredConfig = field(default_factory=TailoredConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def validate(self) -> None:
        super().validate()
        require_choice("source", self.source, SOURCES)
        for section in ("data", "transfer"):
            require_choice(f"{section}.format", getattr(self, section).format, FORMATS)
        if self.source == "recorded" and not self.data.path:
            raise ConfigError("data.path is missing: source=recorded needs data.path=/path/to/the/answers")
        if self.transfer.path and self.source != "recorded":
            raise ConfigError("transfer.path is for source=recorded; other sources have no recorded answers")
        require_range("transfer.epsilon", self.transfer.epsilon, low=1e-6, high=0.999999)
        require_range("data.prompts", self.data.prompts, low=30)
        self.models.validate()
        require_range("pools.candidates", self.pools.candidates, low=2)
        for name in ("train", "internal_test", "validation"):
            require_range(f"pools.{name}", getattr(self.pools, name), low=10)
        for name in ("rank", "batch", "max_tokens"):
            require_range(f"classifier.{name}", getattr(self.classifier, name), low=1)
        for name in ("alpha", "epochs", "learning_rate", "full_learning_rate"):
            require_range(f"classifier.{name}", getattr(self.classifier, name), low=1e-9)
        require_range("classifier.weight_decay", self.classifier.weight_decay, low=0)
        for name in ("steps", "inputs", "test_cases"):
            require_range(f"tailored.{name}", getattr(self.tailored, name), low=1)
        for name in ("learning_rate", "temperature", "temperature_output", "penalty", "perturbation"):
            require_range(f"tailored.{name}", getattr(self.tailored, name), low=1e-9)
        for name in ("harm_cost", "anchor"):
            require_range(f"tailored.{name}", getattr(self.tailored, name), low=0)
        require_range("tailored.average", self.tailored.average, low=0, high=0.999999)
        if not self.evaluation.thresholds:
            raise ConfigError("evaluation.thresholds must hold at least one number")
        for index, r_t in enumerate(self.evaluation.thresholds):
            require_threshold(f"evaluation.thresholds[{index}]", r_t)
        if self.evaluation.n_t is not None:
            require_range("evaluation.n_t", self.evaluation.n_t, low=16)
        require_range("evaluation.delta", self.evaluation.delta, low=1e-12, high=0.5)
        require_range("evaluation.xi_mass", self.evaluation.xi_mass, low=0, high=1)
        self.fixed_radius()

    def fixed_radius(self) -> float | None:
        """The configured xi, or None where it is to be measured."""
        return measured_or_radius("evaluation.xi", self.evaluation.xi)

    def inputs(self) -> dict[str, str]:
        if self.source != "recorded":
            return self.models.files(shipped=self.source == "synthetic")
        if not self.data.path:
            return {}
        found = _files("data", self.data.path, self.data.format)
        if self.transfer.path:
            found |= _files("transfer", self.transfer.path, self.transfer.format)
        return found


def _files(section: str, path: str, kind: str) -> dict[str, str]:
    if kind == "pku":
        return {f"{section}.path": path}
    files = {f"{section}.{name}": str(Path(path) / file) for name, file in DIASAFETY_FILES.items()}
    return {f"{section}.path": files.pop(f"{section}.generations"), **files}


SCHEMA = LLMConfig
