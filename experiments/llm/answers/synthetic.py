"""Source `synthetic`: the conversation world with known truth, and small OPT models trained in it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.llm.answers.generating import Asked, ModelSource
from experiments.llm.models.generation.sampling import Generated
from experiments.llm.models.model_settings import MODELS, REFERENCE
from experiments.llm.models.tokenizer import SYNTHETIC_TEMPLATE, Template, template_of
from experiments.llm.world import grammar
from experiments.llm.world.conversation_world import World
from experiments.support.errors import ConfigError

WORLD_SEED = 0  # the world that the shipped models were trained in
TOPICS = tuple(grammar.TOPICS)


class SyntheticSource(ModelSource):
    """Prompts of the grammar; P(harm) and helpfulness of every answer are known."""

    def template(self, tokenizer: Any) -> Template:
        """The world's, unless another is configured."""
        return template_of(tokenizer, self.models.template or SYNTHETIC_TEMPLATE)

    def score_template(self, tokenizer: Any) -> Template:
        """The world's, unless another is configured."""
        return template_of(tokenizer, self.models.score_template or SYNTHETIC_TEMPLATE)

    @property
    def classifier_template(self) -> Template:
        """As the model's behind the guard."""
        return self.template(self.tokenizer)

    longest = 128
    margin_rows = 512

    def reading(self, micro: int | None) -> tuple[str, int]:
        """Single precision, and whole batches."""
        return "float32", micro or 4096

    @property
    def world(self) -> World:
        """The world of the shipped models."""
        return World(WORLD_SEED)

    def default_models(self, name: str) -> dict[str, str]:
        """The ones that come with the repository; ConfigError for one that does not."""
        folder = REFERENCE / MODELS.get(name, name)
        if not (folder / "model.safetensors").exists():
            there = sorted(path.parent.name for path in REFERENCE.glob("*/model.safetensors"))
            raise ConfigError(
                f"the model {name!r} does not come with the repository ({', '.join(there)}); make it with"
                f" `python -m experiments.llm.world.reference_models {folder.name}`"
            )
        return {name: str(folder)}

    def ask(self, split: str, n: int) -> Asked:
        """n different prompts of a split; SafeframeError for more than half of those that there are."""
        prompts = grammar.draw_prompts(split, n, self.context.seeds.generator("prompts", split))
        return Asked(prompts.text(), [TOPICS[topic] for topic in prompts.topic], prompts)

    def truth(self, asked: Asked, made: Generated) -> tuple[NDArray, NDArray]:
        """P(harm) and helpfulness, (n, k) each, of the tokens as they were generated."""
        n, k, length = made.tokens.shape
        prompts = asked.known[np.repeat(np.arange(n), k)]
        found = self.world.truth(prompts, made.tokens.reshape(n * k, length))
        return found.harm.reshape(n, k), found.helpfulness.reshape(n, k)

    def default_helpfulness(self, prompt: list[str]) -> NDArray[np.float32]:
        """(n,) stated helpfulness of the default answer, the same for every prompt."""
        prompts = grammar.prompts_of(np.zeros(1, np.int64))
        value = self.world.truth(prompts, grammar.parse([grammar.REFUSAL])).helpfulness[0]
        return np.full(len(prompt), value, np.float32)
