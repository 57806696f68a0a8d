"""Pools from language models: prompts, sampled candidates, their rewards, and the cost model's labels.

`ModelSource` is the pipeline; what differs between the synthetic world (`synthetic.py`) and pretrained models
(`hub.py`) is where prompts come from and whether the truth is known.
"""

from __future__ import annotations

import dataclasses
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.llm.answers.pools import DEFAULT_ANSWER, SPLITS, Pool
from experiments.llm.models import language_model, tokenizer
from experiments.llm.models.generation import Generated, Sampling, generate, texts_of
from experiments.llm.models.language_model import load_language_model, load_tokenizer
from experiments.llm.models.model_settings import ModelsConfig
from experiments.llm.models.preference_models import load_score_model, score_all
from experiments.llm.models.runtime import DTYPES, Runtime
from experiments.llm.models.tokenizer import encode_prompts
from experiments.support.errors import ConfigError
from experiments.support.files import input_checksum
from experiments.support.runs.running import RunContext
from experiments.support.runs.stages import Stage
from safeframe.types import SafeframeError


@dataclasses.dataclass(frozen=True)
class Asked:
    """Prompts of a pool: texts, groups, and what the source itself knows of them."""

    text: list[str]
    group: list[str]
    known: Any = None


class ModelSource:
    """Candidates of language models; derived classes give `ask`, and `truth` where it is known."""

    default_template = tokenizer.SYNTHETIC_TEMPLATE
    default_score_template = tokenizer.SYNTHETIC_TEMPLATE

    def __init__(self, models: ModelsConfig, candidates: int, context: RunContext):
        self.models, self.context = models, context
        self.sampling = Sampling(
            candidates, models.max_answer_tokens, models.temperature, models.top_p, models.batch, models.shard
        )
        self.template = models.template or self.default_template
        self.score_template = models.score_template or self.default_score_template
        self.runtime = Runtime(models.device, models.precision)
        self.truncated: dict[str, int] = {}

    def place(self, name: str) -> str:
        """Folder or name on the hub of a model."""
        return self.models.place(name, self.default_models(name))

    def default_models(self, name: str) -> dict[str, str]:
        """Where a model is if the configuration does not say."""
        return {}

    @cached_property
    def tokenizer(self) -> Any:
        """The classification model's own."""
        return load_tokenizer(self.place("classifier"))

    def classifier_model(self) -> Any:
        """What the classification model is fine-tuned from: a sequence classifier with two outputs."""
        from transformers import AutoModelForSequenceClassification

        name = self.place("classifier")
        with language_model.loading(name):
            return AutoModelForSequenceClassification.from_pretrained(name, num_labels=2).eval()

    def ask(self, split: str, n: int) -> Asked:
        """n prompts of a split; SafeframeError where there are not as many."""
        raise NotImplementedError

    def truth(self, asked: Asked, made: Generated) -> tuple[NDArray | None, NDArray | None]:
        """(known P(harm), stated helpfulness), each (n, k), or None where unknown."""
        return None, None

    def pool(self, split: str, n: int, model: str = "ai", candidates: int | None = None) -> Pool:
        """n prompts of a split with the candidates of a model (None: as many as configured), from the cache
        if they were made before.

        Raises SafeframeError for an unknown split, ConfigError for a model that cannot be loaded.
        """
        if split not in SPLITS:
            raise SafeframeError(f"split={split!r} is not one of: {', '.join(SPLITS)}")
        sampling = dataclasses.replace(self.sampling, candidates=candidates or self.sampling.candidates)
        names = [model] + ["reward"] * (self.models.rewards == "reward_model")
        names += ["cost"] * (self.models.labels == "cost_model")
        depends = {
            "source": type(self).__name__, "split": split, "n": n, "seed": self.context.seeds.root,
            "models": {name: identity_of(self.place(name)) for name in names},
            "sampling": dataclasses.asdict(sampling), "templates": [self.template, self.score_template],
            "settings": self._labelling(),
        }  # fmt: skip
        return self.context.cache(
            f"pool_{model}_{split}",
            depends,
            lambda stage: self._make(split, n, model, sampling, stage),
            Pool.save,
            Pool.load,
            ".npz",
        )

    def _labelling(self) -> dict[str, Any]:
        m = self.models
        return {
            "labels": m.labels, "rewards": m.rewards, "noise": m.label_noise, "prompts": m.prompts,
            "max_prompt_tokens": m.max_prompt_tokens, "precision": m.precision,
        }  # fmt: skip

    def _make(self, split: str, n: int, model: str, sampling: Sampling, stage: Stage) -> Pool:
        asked, name = self.ask(split, n), self.place(model)
        own = load_tokenizer(name)
        encoded = encode_prompts(own, self.template, asked.text, self.models.max_prompt_tokens)
        self.truncated[f"{model}_{split}"] = encoded.truncated
        shards = stage.directory / "shards"
        made = generate(
            load_language_model(name, DTYPES[self.models.precision], self.runtime.device),
            own,
            encoded,
            sampling,
            self.context.seeds.integer("answers", model, split),
            shards,
            lambda starts: self.context.progress(starts, f"answers, {split}", total=len(starts)),
        )
        answers = texts_of(own, made.tokens)
        harm, helpful = self.truth(asked, made)
        reward = self._rewards(asked.text, answers, helpful)
        label = self._labels(asked.text, answers, harm, split, model)
        shutil.rmtree(shards, ignore_errors=True)
        unknown = np.full(reward.shape, np.nan, np.float32)
        return Pool(
            asked.text,
            answers,
            reward,
            label,
            unknown if harm is None else harm,
            made.log_probability,
            asked.group,
        )

    def _rewards(self, prompts: list[str], answers: list[list[str]], helpful: NDArray | None) -> NDArray:
        if self.models.rewards == "world":
            if helpful is None:
                raise ConfigError(
                    "models.rewards=world: this source's helpfulness is not known; use reward_model"
                )
            return helpful.astype(np.float32)
        return self._scores("reward", prompts, answers)

    def _labels(
        self, prompts: list[str], answers: list[list[str]], harm: NDArray | None, split: str, model: str
    ) -> NDArray:
        rng = self.context.seeds.generator("labels", model, split)
        if self.models.labels == "world":
            if harm is None:
                raise ConfigError("models.labels=world: this source's P(harm) is not known; use cost_model")
            label = rng.random(harm.shape) < harm
        else:
            label = self._scores("cost", prompts, answers) > 0
        flipped = rng.random(label.shape) < self.models.label_noise
        return (label ^ flipped).astype(np.int8)

    def _scores(self, name: str, prompts: list[str], answers: list[list[str]]) -> NDArray[np.float32]:
        place, m = self.place(name), self.models
        return score_all(
            load_score_model(place, DTYPES[m.precision], self.runtime.device), load_tokenizer(place),
            self.score_template, prompts, answers, m.max_prompt_tokens, m.max_answer_tokens + 1, m.batch,
        )  # fmt: skip

    def default_reward(self, prompt: list[str]) -> NDArray[np.float32]:
        """(n,) reward of `DEFAULT_ANSWER` to each prompt."""
        answers = [[DEFAULT_ANSWER] for _ in prompt]
        if self.models.rewards == "world":
            return self.default_helpfulness(prompt)
        return self._scores("reward", prompt, answers)[:, 0]

    def default_helpfulness(self, prompt: list[str]) -> NDArray[np.float32]:
        """(n,) stated helpfulness of `DEFAULT_ANSWER`."""
        raise ConfigError("models.rewards=world: this source's helpfulness is not known; use reward_model")


def identity_of(name: str) -> str | dict[str, str]:
    """What a model is, for caches: checksums of a folder's files, or the hub's name and cached commit."""
    folder = Path(name)
    if folder.is_dir():
        files = sorted(folder.glob("*.json")) + sorted(folder.glob("*.safetensors"))
        return {path.name: input_checksum(path) for path in files}
    from transformers.utils import cached_file

    with language_model.loading(name):
        path = cached_file(name, "config.json")
    commit = Path(path or "").parent.name
    return f"{name}@{commit}"
