"""Pools from language models: prompts, sampled candidates, their rewards, and the cost model's labels.

`ModelSource` is the pipeline; what differs between the synthetic world (`synthetic.py`) and pretrained models
(`hub.py`, `chat.py`) is where prompts come from, how texts are written down, and whether the truth is known.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from experiments.llm.answers.pools import DEFAULT_ANSWER, SPLITS, Pool
from experiments.llm.answers.reading import DecoderTexts, identity_of
from experiments.llm.models.generation.sampling import Generated, Sampling, generate, texts_of
from experiments.llm.models.language_model import (
    load_language_model,
    load_tokenizer,
    require_fit,
    require_room,
)
from experiments.llm.models.model_settings import ModelsConfig
from experiments.llm.models.preference_models import HEADS, heads_of, load_score_model, score_all
from experiments.llm.models.runtime import DTYPES, Runtime
from experiments.llm.models.sources import by_fold
from experiments.llm.models.spreading import Place, spread_answers, spread_scores
from experiments.llm.models.tokenizer import PKU_TEMPLATE, Encoded, Template, encode_prompts, template_of
from experiments.support.errors import ConfigError
from experiments.support.files import input_checksum
from experiments.support.runs.running import RunContext
from experiments.support.runs.stages import Stage
from safeframe.types import SafeframeError

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Asked:
    """Prompts of a pool: texts, groups, and what the source itself knows of them."""

    text: list[str]
    group: list[str]
    known: Any = None


class ModelSource(DecoderTexts):
    """Candidates of language models; derived classes give `ask`, and `truth` where it is known."""

    limits: ClassVar[tuple[int, int]] = (40, 24)
    """Longest prompt and answer in tokens where the configuration names none."""
    real = False
    """Real texts: prompts of unlike lengths share a batch, and an answer that was cut has no end token."""

    def __init__(self, models: ModelsConfig, candidates: int, context: RunContext):
        self.models, self.context = models, context
        self.seeds = context.seeds
        self.max_prompt = models.max_prompt_tokens or self.limits[0]
        self.max_answer = models.max_answer_tokens or self.limits[1]
        self.sampling = Sampling(
            candidates, self.max_answer, models.temperature, models.top_p, models.batch, models.shard,
            models.top_k, self.real,
        )  # fmt: skip
        self.runtime = Runtime(models.device, models.precision)
        self._both: tuple[list, NDArray] | None = None

    def template(self, tokenizer: Any) -> Template:
        """What stands around a prompt for a model with this tokenizer; see models.template."""
        return template_of(tokenizer, self.models.template)

    def score_template(self, tokenizer: Any) -> Template:
        """The same for reward and cost models; see models.score_template."""
        return template_of(tokenizer, self.models.score_template, PKU_TEMPLATE)

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
        return self.made(split, n, model, candidates)

    def made(self, split: str, n: int, model: str, candidates: int | None = None) -> Pool:
        """As `pool`, for whatever splits `ask` knows."""
        sampling = dataclasses.replace(self.sampling, candidates=candidates or self.sampling.candidates)
        names = [model] + ["reward"] * (self.models.rewards == "reward_model")
        names += ["cost"] * (self.models.labels == "cost_model")
        depends = {
            "source": type(self).__name__, "split": split, "n": n, "seed": self.seeds.root,
            "models": {name: identity_of(self.place(name)) for name in names},
            "sampling": dataclasses.asdict(sampling), "settings": self._labelling(),
            "templates": [self.models.template, self.models.score_template, *self.limits],
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
            "labels": m.labels, "rewards": m.rewards, "noise": m.label_noise,
            "prompts": [content_of(path) for path in m.prompt_files()], "shares": m.shares,
            "max_prompt_tokens": self.max_prompt, "precision": m.precision,
        }  # fmt: skip

    def _make(self, split: str, n: int, model: str, sampling: Sampling, stage: Stage) -> Pool:
        asked, name = self.ask(split, n), self.place(model)
        own = load_tokenizer(name)
        encoded = encode_prompts(own, self.template(own), asked.text, self.max_prompt)
        if encoded.truncated:
            log.warning(
                "%d of %d prompts (%s) are longer than models.max_prompt_tokens=%d and were cut",
                encoded.truncated, n, split, self.max_prompt,
            )  # fmt: skip
        made = self._answers(name, own, encoded, sampling, self.seeds.integer("answers", model, split), stage)
        answers = texts_of(own, made.tokens)
        finished = made.finished if self.real else None
        harm, helpful = self.truth(asked, made)
        reward = self._rewards(asked.text, answers, helpful, finished, stage)
        label, cost = self._labels(asked.text, answers, harm, split, model, finished, stage)
        self._both = None
        shutil.rmtree(stage.directory / "shards", ignore_errors=True)
        self.runtime.release()
        unknown = np.full(reward.shape, np.nan, np.float32)
        return Pool(
            asked.text,
            answers,
            reward,
            label,
            unknown if harm is None else harm,
            made.log_probability,
            asked.group,
            finished,
            cost if self.real else None,
        )

    def _answers(
        self, name: str, own: Any, encoded: Encoded, sampling: Sampling, seed: int, stage: Stage
    ) -> Generated:
        """Answers to all prompts: here, or by the workers of an engine."""
        if self.context.engine.elsewhere:
            return spread_answers(self._spread(stage), self._place(name), encoded, sampling, seed)
        ai = load_language_model(name, DTYPES[self.models.precision], self.runtime.device)
        require_fit(ai, own, name)
        require_room(ai, encoded.ids.shape[1] + self.max_answer, name)
        shards, said = stage.directory / "shards", f"answers, {stage.name}"
        progress = lambda starts: self.context.progress(starts, said, total=len(starts))  # noqa: E731
        return generate(ai, own, encoded, sampling, seed, shards, progress)

    def _spread(self, stage: Stage) -> Any:
        return lambda tasks, form, what: stage.spread(
            self.context.engine, tasks, form, f"{what}, {stage.name}"
        )

    def _place(self, name: str) -> Place:
        return name, identity_of(name), self.models.precision, str(self.runtime.device)

    def cut_prompts(self, pool: Pool) -> int:
        """Prompts of a pool that the model behind the guard saw without their beginning."""
        own = load_tokenizer(self.place("ai"))
        return encode_prompts(own, self.template(own), pool.prompt, self.max_prompt).truncated

    def _rewards(
        self,
        prompts: list[str],
        answers: list[list[str]],
        helpful: NDArray | None,
        finished: NDArray | None,
        stage: Stage,
    ) -> NDArray:
        if self.models.rewards == "world":
            if helpful is None:
                raise ConfigError(
                    "models.rewards=world: this source's helpfulness is not known; use reward_model"
                )
            return helpful.astype(np.float32)
        return self._scores("reward", prompts, answers, finished, stage)

    def _labels(
        self,
        prompts: list[str],
        answers: list[list[str]],
        harm: NDArray | None,
        split: str,
        model: str,
        finished: NDArray | None,
        stage: Stage,
    ) -> tuple[NDArray, NDArray | None]:
        """(labels, cost model's scores if it gave them)."""
        rng, cost = self.seeds.generator("labels", model, split), None
        if self.models.labels == "world":
            if harm is None:
                raise ConfigError("models.labels=world: this source's P(harm) is not known; use cost_model")
            label = rng.random(harm.shape) < harm
        else:
            cost = self._scores("cost", prompts, answers, finished, stage)
            label = cost > 0
        flipped = rng.random(label.shape) < self.models.label_noise
        return (label ^ flipped).astype(np.int8), cost

    def _scores(
        self,
        name: str,
        prompts: list[str],
        answers: list[list[str]],
        finished: NDArray | None = None,
        stage: Stage | None = None,
    ) -> NDArray[np.float32]:
        """(n, k) scores of the reward or cost model; of one trained in folds, each prompt's by the model that
        was not trained on it (`sources.by_fold`). In a stage, by the workers of an engine where there are.
        """
        kept = self._both
        if kept is not None and kept[0] is answers and self.place(name) == self.place("reward"):
            return kept[1][:, :, HEADS.index(name)]
        m, shape = self.models, (len(prompts), len(answers[0]))
        both = stage is not None and self._one_body
        found = np.zeros((*shape, len(HEADS)) if both else shape, np.float32)
        head = None if both else name
        for place, index in by_fold(self.place(name), prompts):
            some, replies = [prompts[i] for i in index], [answers[i] for i in index]
            ended = None if finished is None else finished[index]
            if stage is not None and self.context.engine.elsewhere:
                template, limits = (
                    self.score_template(load_tokenizer(place)),
                    (self.max_prompt, self.max_answer + 1),
                )
                found[index] = spread_scores(
                    self._spread(stage),
                    self._place(place),
                    template,
                    some,
                    replies,
                    limits,
                    m.batch,
                    ended,
                    self.real,
                    head,
                )
                continue
            tokenizer = load_tokenizer(place)
            model = load_score_model(place, DTYPES[m.precision], self.runtime.device, head)
            require_fit(model, tokenizer, place)
            found[index] = score_all(
                model, tokenizer, self.score_template(tokenizer), some, replies, self.max_prompt,
                self.max_answer + 1, m.batch, ended, self.real,
            )  # fmt: skip
        if both:
            self._both = answers, found
            return found[:, :, HEADS.index(name)]
        return found

    @property
    def _one_body(self) -> bool:
        """Whether reward and cost are the heads of one model, so that both are read off at once."""
        wanted = self.models.rewards == "reward_model" and self.models.labels == "cost_model"
        if not wanted or self.place("reward") != self.place("cost"):
            return False
        first = next(iter(sorted(Path(self.place("reward")).glob("fold_*"))), self.place("reward"))
        return bool(heads_of(first))

    def default_reward(self, prompt: list[str]) -> NDArray[np.float32]:
        """(n,) reward of `DEFAULT_ANSWER` to each prompt, or models.default_reward."""
        answers = [[DEFAULT_ANSWER] for _ in prompt]
        if self.models.default_reward is not None:
            return np.full(len(prompt), self.models.default_reward, np.float32)
        if self.models.rewards == "world":
            return self.default_helpfulness(prompt)
        return self._scores("reward", prompt, answers)[:, 0]

    def default_helpfulness(self, prompt: list[str]) -> NDArray[np.float32]:
        """(n,) stated helpfulness of `DEFAULT_ANSWER`."""
        raise ConfigError("models.rewards=world: this source's helpfulness is not known; use reward_model")


def content_of(path: str) -> str:
    """The checksum of a file, or the name of what is none."""
    return input_checksum(Path(path).expanduser()) if Path(path).expanduser().is_file() else path
