"""Typed configuration of the language experiment (arXiv 2504.20924, section 5.3)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from experiments.llm.capacity import Capacity
from experiments.llm.later_settings import (
    AnswerTailoringSettings,
    CapacityConfig,
    FrozenConfig,
    PeopleConfig,
    PreparedConfig,
    RulesConfig,
)
from experiments.llm.models.chat_package import CHAT_MODEL
from experiments.llm.models.model_settings import CHAT_DEFAULTS, ModelsConfig, model_files
from experiments.support import common_settings as common
from experiments.support.config import BaseConfig
from experiments.support.errors import ConfigError
from experiments.support.settings import section, setting
from safeframe.types import SafeframeError

SOURCES = ("synthetic", "recorded", "hub", "chat")
FORMATS = ("pku", "diasafety")
MINILM = "minilm"
"""models.classifier of a pool that was prepared: MiniLM with its last layer trained."""
_PACKAGE = dict.fromkeys(CHAT_DEFAULTS, CHAT_MODEL)
THRESHOLDS = common.ten_thresholds(3)
"""Ten thresholds, equally spaced in logarithms, in [1e-3, 1]."""
DIASAFETY_FILES = {
    "train": "labelled_train.json.gz",
    "val": "labelled_val.json.gz",
    "test": "labelled_test.json.gz",
    "generations": "generations_unlabelled.jsonl.gz",
}


@dataclass
class DataConfig:
    """Recorded answers (source=recorded)."""

    path: str | None = setting(
        None, "The file of answers (format=pku) or their folder (format=diasafety); source=recorded needs it."
    )
    format: str = setting(
        "pku",
        "Which set it is: pku (PKU-SafeRLHF, one file) or diasafety (DiaSafety, a folder).",
        choices=FORMATS,
    )
    prompts: int = setting(1200, "Prompts that are read of diasafety; each has 140 answers.", low=30)


@dataclass
class TransferConfig:
    """Another set of recorded answers, to which the calibrated guard is applied."""

    path: str | None = setting(None, "Its file or folder, as data.path; null leaves transfer out.")
    format: str = setting("diasafety", "Which set it is, as data.format.", choices=FORMATS)
    epsilon: float = setting(
        0.05,
        "Share of prompts like the internal test data that the coverage guard may refuse.",
        above=0,
        below=1,
    )


@dataclass
class PoolsConfig:
    """How many prompts each split has, and how many answers a prompt."""

    candidates: int = setting(16, "Candidate answers to a prompt (paper: 16).", low=2)
    train: int = setting(1000, "Prompts that the classifier is trained on.", low=10)
    internal_test: int = setting(4000, "Prompts that thresholds are calibrated on.", low=10)
    validation: int = setting(2000, "Prompts whose answers are counted.", low=10)


@dataclass
class ClassifierConfig:
    """The safety classification model, fine-tuned by cross-entropy with LoRA."""

    rank: int = setting(16, "Rank of LoRA's updates.", low=1)
    alpha: float = setting(32.0, "Scale of LoRA's updates; they are multiplied by alpha / rank.", above=0)
    epochs: float = setting(3.0, "Passes over the labelled answers to the training prompts.", above=0)
    batch: int = setting(64, "Answers of an update.", low=1)
    learning_rate: float = setting(3e-3, "Peak of the one-cycle learning rate with LoRA.", above=0)
    full_learning_rate: float = setting(
        1e-3, "Peak of the one-cycle learning rate of the baseline in which all weights are trained.", above=0
    )
    weight_decay: float = setting(0.01, "Weight decay of AdamW.", low=0)
    max_tokens: int | None = setting(
        None,
        "Longest conversation in tokens; a longer one is cut, the prompt's beginning first, and counted; "
        "null is 128 (synthetic, recorded), prompt and answer together (hub, chat).",
        low=1,
    )
    micro: int | None = setting(
        None,
        "Texts that are read at once in training; more are read in parts, which takes less memory and one "
        "more forward pass; null is 4096 (synthetic), 256 on a GPU and 64 on a CPU (hub, chat).",
        low=1,
    )
    checkpoint_every: int = setting(
        200, "Updates between checkpoints of the training; a tenth of it by the approximate loss.", low=1
    )
    fully_tuned: bool = setting(
        True, "Whether the baseline in which all weights are trained is run (rejection sampling needs it)."
    )


@dataclass
class TailoredConfig:
    """Training the classifier on by the approximate loss."""

    steps: int = setting(60, "Updates.", low=1)
    learning_rate: float = setting(5e-4, "Learning rate.", above=0)
    average: float = common.average(0.95)
    inputs: int = setting(32, "Prompts whose answer an update looks at.", low=1)
    test_cases: int = setting(768, "Internal test cases that carry the bound in an update.", low=1)
    temperature: float = common.temperature(1.0)
    temperature_output: float = common.temperature_output(1.0)
    penalty: float = common.penalty(0.3, "the standard deviation of rewards")
    perturbation: float = common.perturbation(1.5)
    harm_cost: float = common.violation_cost(1.0, "a harmful answer", "the standard deviation of rewards")
    anchor: float = setting(
        10.0, "Weight of the cross-entropy of the same cases, which is added; 0 is the paper's loss.", low=0
    )


@dataclass
class EvaluationConfig:
    """Calibration, and what is counted on the validation prompts."""

    n_t: int | None = setting(
        None,
        "Labelled answers n_t of the internal test prompts to calibrate on; null is all of them.",
        low=16,
    )
    xi: str = common.xi("measured", ("measured",))
    xi_mass: float = common.xi_mass(0.1)
    delta: float = common.delta(0.05)
    thresholds: list[float] = common.thresholds(THRESHOLDS, at_least_one="threshold")
    cost_limits: list[float] = setting(
        [],
        "Cost limits of the PPO-Lag models that are baselines, each a model ppo_lag_<limit>; not for "
        "recorded answers.",
    )


@dataclass
class LLMConfig(BaseConfig):
    """python run.py experiment=llm source=synthetic r_t=1e-2"""

    r_t: float = common.r_t(1e-2)
    source: str = setting(
        "synthetic",
        "Where answers come from: synthetic, small models in a made-up world whose truth is known; "
        "recorded, files of answers; hub, pretrained models; chat, a small chat model of a package and a "
        "mixture of prompts.",
        choices=SOURCES,
    )
    data: DataConfig = section(DataConfig)
    transfer: TransferConfig = section(TransferConfig)
    models: ModelsConfig = section(ModelsConfig)
    pools: PoolsConfig = section(PoolsConfig)
    classifier: ClassifierConfig = section(ClassifierConfig)
    tailored: TailoredConfig = section(TailoredConfig)
    evaluation: EvaluationConfig = section(EvaluationConfig)
    tailoring: AnswerTailoringSettings = section(AnswerTailoringSettings, later=True)
    rules: RulesConfig = section(RulesConfig, later=True)
    capacity: CapacityConfig = section(CapacityConfig, later=True)
    prepared: PreparedConfig = section(PreparedConfig, later=True)
    people: PeopleConfig = section(PeopleConfig, later=True)
    frozen: FrozenConfig = section(FrozenConfig, later=True)

    def validate(self) -> None:
        super().validate()
        if self.source == "recorded" and not self.data.path:
            raise ConfigError("data.path is missing: source=recorded needs data.path=/path/to/the/answers")
        files = len(self.models.prompt_files())
        if self.models.shares and len(self.models.shares) != max(1, files):
            raise ConfigError(
                f"models.shares has {len(self.models.shares)} numbers and models.prompts {files} files: one"
                " each is needed"
            )
        if self.capacity.weights == "all" and not self.classifier.fully_tuned:
            raise ConfigError(
                "capacity.weights=all begins with the fully tuned classifier: set classifier.fully_tuned=true"
            )
        self._validate_capacities()
        if self.prepared.pool and self.source != "chat":
            raise ConfigError("prepared.pool needs source=chat")
        if self.models.classifier == MINILM and not self.prepared.pool:
            raise ConfigError(
                f"models.classifier={MINILM} needs prepared.pool=FILE: it reads a pool that is there; name a"
                " decoder"
            )
        if self.frozen.layers and (self.source == "recorded" or self.models.classifier == MINILM):
            raise ConfigError("frozen.layers is for decoders; of MiniLM the last layer alone is trained")
        if self.people.spare and not self.people.calibrate:
            raise ConfigError("people.spare is for people.calibrate=true, which it gives more labelled pairs")
        if self.people.calibrate and self.source != "recorded":
            raise ConfigError("people.calibrate is for source=recorded; others have no labels by people")
        if self.transfer.path and self.source != "recorded":
            raise ConfigError("transfer.path is for source=recorded; other sources have no recorded answers")

    def capacities(self) -> list[Capacity]:
        """Those of capacity.among. SafeframeError for what is none."""
        return [Capacity.of(text) for text in self.capacity.among]

    def _validate_capacities(self) -> None:
        """Those that are compared: written right, each once, and such as the classification model has."""
        if self.capacity.weights != "best":
            return
        for index, text in enumerate(self.capacity.among):
            key = f"capacity.among[{index}]"
            try:
                one = Capacity.of(text)
            except SafeframeError as error:
                raise ConfigError(f"{key}={error}") from error
            if text in self.capacity.among[:index]:
                raise ConfigError(f"{key}={text!r} is named twice")
            if one.body != "ai":
                continue
            if self.source == "recorded" or self.models.classifier == MINILM:
                raise ConfigError(f"{key}={text!r}: answers are judged by MiniLM; ai: is for decoders")
            if self.frozen.layers:
                raise ConfigError(
                    f"{key}={text!r}: frozen.layers keeps states of models.classifier's lower layers; set it"
                    " to null, or leave out ai:"
                )

    def fixed_radius(self) -> float | None:
        """The configured xi, or None where it is to be measured."""
        return common.fixed_radius(self.evaluation.xi)

    def inputs(self) -> dict[str, str]:
        if self.prepared.pool:
            found = {"prepared.pool": self.prepared.pool}
            if self.models.classifier != MINILM:
                found |= model_files("models.classifier", self.models.place("classifier", _PACKAGE))
            return found
        if self.source != "recorded":
            return self.models.files(self.source == "synthetic", self.source == "chat")
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
