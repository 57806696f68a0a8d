"""Source `chat`: a small chat model of a package, and a mixture of prompts.

    python run.py experiment=llm source=chat models.prompts=RED_TEAM.jsonl.gz+EVERYDAY.jsonl.gz \\
        models.reward=DIR models.cost=DIR

The pipeline is that of `hub`. The model behind the guard and the one that the classifier is fine-tuned from
are SmolLM2-135M-Instruct (`sources.py`) unless others are named; reward and cost models are made by
`python -m experiments.llm.models.fine_tune`. Prompts are few and answers take long, so there is one pool of
all prompts, the same for every seed; a seed draws anew which of its prompts are for training, calibration and
validation.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from experiments.llm.answers.features import save_array
from experiments.llm.answers.hub import HubSource
from experiments.llm.answers.pools import DEFAULT_ANSWER, SPLITS, Pool
from experiments.llm.answers.reading import identity_of
from experiments.llm.config import PoolsConfig
from experiments.llm.models.chat_package import CHAT_MODEL
from experiments.llm.models.model_settings import CHAT_DEFAULTS, ModelsConfig
from experiments.support.runs.running import RunContext
from experiments.support.seeding import Seeds
from safeframe.types import SafeframeError

POOL_SEED = 0  # of the prompts and answers, the same for every run
ALL = "all"


class ChatSource(HubSource):
    """A real chat model's answers to a mixture of prompts, split anew by every seed."""

    limits = (256, 48)

    def __init__(self, models: ModelsConfig, pools: PoolsConfig, context: RunContext):
        super().__init__(models, pools.candidates, context)
        self.seeds = Seeds(POOL_SEED)
        self.wanted = {split: int(getattr(pools, split)) for split in SPLITS}

    def default_models(self, name: str) -> dict[str, str]:
        """The package's."""
        return dict.fromkeys(CHAT_DEFAULTS, CHAT_MODEL)

    @cached_property
    def rows(self) -> dict[str, np.ndarray]:
        """Rows of every split in the pool of all prompts."""
        total = sum(self.wanted.values())
        order = self.context.seeds.generator("splits").permutation(total)
        ends = np.cumsum(list(self.wanted.values()))[:-1]
        return dict(zip(SPLITS, np.split(order, ends), strict=True))

    def pool(self, split: str, n: int, model: str = "ai", candidates: int | None = None) -> Pool:
        """The first n prompts of a split with the candidates of a model.

        Raises SafeframeError for an unknown split, or for more prompts than it has.
        """
        if split not in SPLITS:
            raise SafeframeError(f"split={split!r} is not one of: {', '.join(SPLITS)}")
        rows = self.rows[split]
        if n > len(rows):
            raise SafeframeError(f"{split}: {n} prompts wanted, pools.{split} is {len(rows)}")
        return self.made(ALL, sum(self.wanted.values()), model, candidates).subset(rows[:n])

    @cached_property
    def _defaults(self) -> dict[str, float]:
        """Reward of the default answer to every prompt of the pool, computed once for all seeds."""
        m, prompts = self.models, self.made(ALL, sum(self.wanted.values()), "ai").prompt
        depends = {
            "prompts": prompts, "reward": identity_of(self.place("reward")), "template": m.score_template,
            "max_prompt_tokens": self.max_prompt, "precision": m.precision, "answer": DEFAULT_ANSWER,
        }  # fmt: skip
        found = self.context.cache(
            "default_reward", depends, lambda _: HubSource.default_reward(self, prompts), save_array, np.load,
            ".npy",
        )  # fmt: skip
        return dict(zip(prompts, found.tolist(), strict=True))

    def default_reward(self, prompt: list[str]) -> NDArray[np.float32]:
        """(n,) reward of the default answer to prompts of the pool, or models.default_reward."""
        if self.models.default_reward is not None:
            return super().default_reward(prompt)
        return np.array([self._defaults[text] for text in prompt], np.float32)

    def belongs(self, text: str, split: str) -> bool:
        """Every prompt is of the one pool."""
        return split == ALL

    def sizes(self, split: str) -> str:
        """Splits are parts of the one pool."""
        return " + ".join(f"pools.{name}" for name in SPLITS)
