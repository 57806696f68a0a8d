"""The source of recorded answers: features once, rewards, labels (human, or a judge's), splits by prompt."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from experiments.llm.answers import features, recorded
from experiments.llm.answers.features import MiniLM
from experiments.llm.answers.packing import States
from experiments.llm.answers.pools import DEFAULT_ANSWER, SPLITS, Pool
from experiments.llm.config import LLMConfig
from experiments.support.config import identity
from experiments.support.runs.running import RunContext, value_at
from safeframe.types import SafeframeError


class Judged(Protocol):
    """What a judge says: P(harm) of every candidate, (n, k)."""

    @property
    def probability(self) -> np.ndarray: ...


MAX_TOKENS = 128
FEATURE_KEYS = ("source", "data", "pools.candidates", "classifier.max_tokens")


class RecordedSource:
    """Pools from files. `hidden` holds the states of every labelled or judged candidate, by `place`: row
    `place[i, j]` belongs to answer j of prompt i of `everything`; -1 where there is none.

    `judge(source)` labels answers that no person has labelled (data.format=diasafety): its `probability` is
    P(harm) of every candidate, (n, k).
    """

    def __init__(self, config: LLMConfig, context: RunContext, judge: Callable[[RecordedSource], Judged]):
        self.config, self.context, self.judge = config, context, judge
        self._identity = identity(config)
        self.path = Path(str(config.data.path))
        self.human: recorded.Labelled | None = None
        if config.data.format == "pku":
            unlabelled = recorded.read_pku(self.path, config.pools.candidates)
            self.present = unlabelled.mask
        else:
            unlabelled, self.human = recorded.read_diasafety(
                self.path, config.pools.candidates, config.data.prompts
            )
            self.present = np.ones(unlabelled.shape, dtype=bool)
        spare = self.human is not None and config.people.spare
        self.spared = self.human.undrawn if self.human and spare else frozenset()
        """Prompts beside the pools whose labelled pairs the judge does not learn from."""
        self._texts = unlabelled
        self.place = np.full(self.present.shape, -1)
        self.place[self.present] = np.arange(int(self.present.sum()))
        self.index = {prompt: i for i, prompt in enumerate(unlabelled.prompt)}
        wanted = {name: getattr(config.pools, name) for name in SPLITS}
        sizes = recorded.split_sizes(len(unlabelled.prompt), wanted)
        order = context.seeds.generator("splits").permutation(len(unlabelled.prompt))
        ends = np.cumsum([sizes[name] for name in SPLITS])
        self.rows = dict(zip(SPLITS, np.split(order[: ends[-1]], ends[:-1]), strict=True))

    @cached_property
    def mini(self) -> MiniLM:
        return MiniLM()

    @cached_property
    def hidden(self) -> States:
        """States of all candidates."""
        at = np.argwhere(self.present)
        prompts = [self._texts.prompt[i] for i, _ in at]
        answers = [self._texts.answer[i][j] for i, j in at]
        return self._hidden("features", prompts, answers)

    @cached_property
    def human_hidden(self) -> States:
        """States of the human-labelled pairs (diasafety)."""
        if self.human is None:
            raise SafeframeError("only data.format=diasafety has pairs beside the pools")
        return self._hidden("features_human", self.human.prompt, self.human.answer)

    def _hidden(self, name: str, prompts: list[str], answers: list[str]) -> States:
        return self.context.cache(
            name,
            self.keys(*FEATURE_KEYS),
            lambda _: self.mini.hidden(
                prompts, answers, self.config.classifier.max_tokens or MAX_TOKENS, self._progress(name)
            ),
            States.save,
            States.load,
            suffix=".npz",
        )

    @cached_property
    def relevance(self) -> tuple[np.ndarray, np.ndarray]:
        """(n, k) relevance of every answer (0 where there is none), (n,) of the default answer."""

        def compute(_) -> np.ndarray:
            prompts = self.mini.embed(self._texts.prompt, self._progress("rewards, prompts"))
            default = self.mini.embed([DEFAULT_ANSWER])[0]
            at = np.argwhere(self.present)
            answers = self.mini.embed(
                [self._texts.answer[i][j] for i, j in at], self._progress("rewards, answers")
            )
            return np.concatenate([(answers * prompts[at[:, 0]]).sum(1), prompts @ default])

        both = self.context.cache(
            "rewards",
            self.keys(*FEATURE_KEYS),
            compute,
            features.save_array,
            np.load,
            suffix=".npy",
        )
        reward = np.zeros(self.present.shape, dtype=np.float32)
        count = int(self.present.sum())
        reward[self.present] = both[:count]
        return reward, both[count:].astype(np.float32)

    @cached_property
    def prompt_embedding(self) -> np.ndarray:
        """(n, d) sentence embeddings of the prompts of `everything`, of unit length."""
        return self.context.cache(
            "prompt_embeddings",
            self.keys(*FEATURE_KEYS),
            lambda _: self.mini.embed(self._texts.prompt, self._progress("embeddings of prompts")),
            features.save_array,
            np.load,
            suffix=".npy",
        )

    @cached_property
    def everything(self) -> Pool:
        """All prompts with rewards and labels; the judge is trained when first asked for."""
        pool = recorded.with_reward(self._texts, self.relevance[0])
        if self.human is None:
            return pool
        return recorded.judged(pool, self.judge(self).probability)

    def rows_of(self, pool: Pool) -> np.ndarray:
        """(c,) rows of a pool's candidates in `hidden`, in the order of `pool.mask`."""
        return self.place[[self.index[text] for text in pool.prompt]][pool.mask]

    def pool(self, split: str, n: int, model: str = "ai", candidates: int | None = None) -> Pool:
        """The first n prompts of a split with all their answers. Recorded answers have one model:
        SafeframeError for another, or for more prompts than there are.
        """
        if model != "ai":
            raise SafeframeError(f"recorded answers have no model {model!r}; only 'ai'")
        rows = self.rows[split]
        if n > len(rows):
            raise SafeframeError(f"{split}: {n} prompts wanted, the file has {len(rows)} for this split")
        return self.everything.subset(rows[:n])

    def default_reward(self, prompt: list[str]) -> np.ndarray:
        """(n,) relevance of the default answer to prompts of the file."""
        return self.relevance[1][[self.index[text] for text in prompt]]

    def keys(self, *names: str) -> dict[str, Any]:
        """Values of the source's own configuration, which need not be the run's, for stages."""
        return {name: value_at(self._identity, name) for name in names}

    def _progress(self, name: str):
        return lambda steps: self.context.progress(steps, name)
