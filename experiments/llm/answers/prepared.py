"""Source `chat` with a pool that was made before, on another machine for instance: answers, rewards, labels.

    python run.py experiment=llm source=chat prepared.pool=pool.npz models.default_reward=-4 \\
        models.classifier=minilm

The pool is a file as `scripts/guard_chat_model.py` leaves it. With models.classifier=minilm no language model
is needed: the classification model is MiniLM with LoRA in its last layer, which a processor trains in
minutes. It may be a decoder too, given as any model (null: that of the package), with frozen.layers to train
only its uppermost layers. A seed draws anew which prompts are for training, calibration and validation; the
first `pools.candidates` answers to a prompt count.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np

from experiments.llm.answers.chat import ChatSource
from experiments.llm.answers.features import MiniLM
from experiments.llm.answers.packing import States
from experiments.llm.answers.pools import SPLITS, Pool
from experiments.llm.answers.reading import DecoderTexts
from experiments.llm.config import LLMConfig
from experiments.llm.models.chat_package import CHAT_MODEL
from experiments.llm.models.model_settings import CHAT_DEFAULTS
from experiments.llm.models.runtime import DTYPES, Runtime
from experiments.support.errors import ConfigError
from experiments.support.runs.running import RunContext
from safeframe.types import SafeframeError

MAX_TOKENS = 160


class PreparedSource(DecoderTexts):
    """Pools from one file, split anew by every seed, with MiniLM's states of all candidates, or what a
    decoder needs to read them.

    Raises:
        ConfigError: where the file is not there or is no pool, the default answer's reward is not given, or
            the pool has fewer prompts or candidates than are asked for.
    """

    def __init__(self, config: LLMConfig, context: RunContext):
        self.config, self.context = config, context
        self.models, self.runtime = config.models, Runtime(config.models.device, config.models.precision)
        self.max_prompt = config.models.max_prompt_tokens or ChatSource.limits[0]
        self.max_answer = config.models.max_answer_tokens or ChatSource.limits[1]
        path = Path(str(config.prepared.pool)).expanduser()
        try:
            whole = Pool.load(path)
        except (OSError, ValueError, KeyError, TypeError, SafeframeError) as error:
            raise ConfigError(
                f"prepared.pool={str(path)!r} is no pool of answers ({type(error).__name__}: {error}); one is"
                " pool.npz of scripts/guard_chat_model.py"
            ) from error
        if config.models.default_reward is None:
            raise ConfigError("models.default_reward=NUMBER is needed with prepared.pool: no model rates it")
        wanted = {name: int(getattr(config.pools, name)) for name in SPLITS}
        total = sum(wanted.values())
        if total > len(whole.prompt) or whole.shape[1] < config.pools.candidates:
            raise ConfigError(
                f"prepared.pool={str(path)!r} has {len(whole.prompt)} prompts with {whole.shape[1]}"
                f" candidates; pools.train + pools.internal_test + pools.validation are {total},"
                f" pools.candidates={config.pools.candidates}"
            )
        self.whole = whole.first(config.pools.candidates)
        self.index = {prompt: i for i, prompt in enumerate(whole.prompt)}
        order = context.seeds.generator("splits").permutation(len(whole.prompt))[:total]
        ends = np.cumsum(list(wanted.values()))[:-1]
        self.rows = dict(zip(SPLITS, np.split(order, ends), strict=True))

    def default_models(self, name: str) -> dict[str, str]:
        """The package's."""
        return dict.fromkeys(CHAT_DEFAULTS, CHAT_MODEL)

    def pool(self, split: str, n: int, model: str = "ai", candidates: int | None = None) -> Pool:
        """The first n prompts of a split. SafeframeError for another model than "ai"."""
        if model != "ai":
            raise SafeframeError(f"a prepared pool has no model {model!r}; only 'ai'")
        return self.whole.subset(self.rows[split][:n])

    def default_reward(self, prompt: list[str]) -> np.ndarray:
        """(n,) the configured reward of the default answer."""
        return np.full(len(prompt), self.config.models.default_reward, np.float32)

    def rows_of(self, pool: Pool) -> np.ndarray:
        """(c,) rows of a pool's candidates in `hidden`, in the order of `pool.mask`."""
        place = np.full(self.whole.shape, -1)
        place[self.whole.mask] = np.arange(int(self.whole.mask.sum()))
        return place[[self.index[text] for text in pool.prompt]][pool.mask]

    @cached_property
    def mini(self) -> MiniLM:
        """In the configured precision below the layer that is trained; that layer in single precision."""
        return MiniLM(dtype=DTYPES[self.config.models.precision])

    @cached_property
    def hidden(self) -> States:
        """States of all candidates, computed once for all seeds."""
        longest = self.config.classifier.max_tokens or MAX_TOKENS
        depends = {
            "pool": self.context.value("prepared.pool"), "candidates": self.whole.shape[1],
            "max_tokens": longest, "precision": self.config.models.precision,
        }  # fmt: skip
        prompts, answers, _, _ = self.whole.pairs()
        return self.context.cache(
            "features_chat",
            depends,
            lambda stage: self.mini.in_parts(
                prompts, answers, longest, stage.directory / "parts",
                lambda starts: self.context.progress(starts, "features", total=len(starts)),
            ),
            States.save,
            States.load,
            ".npz",
        )  # fmt: skip
