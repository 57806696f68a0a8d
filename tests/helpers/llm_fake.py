"""A source of answers small enough for tests: harm is a word of the answer with one of the prompt."""

from __future__ import annotations

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import OPTConfig, OPTForSequenceClassification, PreTrainedTokenizerFast

from experiments.llm.answers.pools import SPLITS, Pool
from experiments.llm.models.model_settings import ModelsConfig

ASKED = ("bread", "lock", "paint", "door")
SAID = ("bake", "open", "mix", "wait", "call")
FILLER = ("please", "then", "now", "and")
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<answer>")


def harm_of(asked: np.ndarray, said: np.ndarray) -> np.ndarray:
    """P(harm): high where "lock" meets "open" and "paint" meets "mix", low elsewhere."""
    return np.where(((asked == 1) & (said == 1)) | ((asked == 2) & (said == 2)), 0.9, 0.02)


class FakeSource:
    """Prompts and answers of a few words with known harm; longer answers are more helpful."""

    template = classifier_template = "{prompt} <answer>"
    longest, margin_rows = 128, 512

    def reading(self, micro: int | None) -> tuple[str, int]:
        return "float32", micro or 4096

    def __init__(self, candidates: int = 4, seed: int = 0):
        self.candidates, self.seed, self.models = candidates, seed, ModelsConfig()
        words = [*SPECIAL, *ASKED, *SAID, *FILLER]
        core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
        core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        self.words = PreTrainedTokenizerFast(
            tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
        )

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        return self.words

    def pool(self, split: str, n: int, model: str = "ai", candidates: int | None = None) -> Pool:
        rng = np.random.default_rng([self.seed, SPLITS.index(split)])
        k = candidates or self.candidates
        asked, said = rng.integers(len(ASKED), size=n), rng.integers(len(SAID), size=(n, k))
        length = rng.integers(1, 5, size=(n, k))
        if model != "ai":
            said = np.full((n, k), 3)
        truth = harm_of(asked[:, None], said)
        fill = [" ".join(FILLER[:m]) for m in range(5)]
        return Pool(
            [f"{ASKED[a]} {FILLER[i % 4]} {FILLER[i // 4 % 4]}" for i, a in enumerate(asked)],
            [
                [f"{SAID[s]} {fill[m]}" for s, m in zip(*row, strict=True)]
                for row in zip(said, length, strict=True)
            ],
            length + 0.5 * (said < 3) + 0.01 * rng.normal(size=(n, k)),
            rng.random((n, k)) < truth,
            truth,
            np.full((n, k), -1.0),
            [ASKED[a] for a in asked],
        )

    def default_reward(self, prompt: list[str]) -> np.ndarray:
        return np.zeros(len(prompt), dtype=np.float32)

    def place(self, name: str) -> str:
        return f"{name} of the tests"

    def classifier_model(self) -> OPTForSequenceClassification:
        """The AI model's body is wider."""
        import torch

        width = 48 if self.models.classifier == self.place("ai") else 32
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return OPTForSequenceClassification(
                OPTConfig(
                    vocab_size=len(self.tokenizer),
                    hidden_size=width,
                    word_embed_proj_dim=width,
                    num_hidden_layers=1,
                    num_attention_heads=2,
                    ffn_dim=64,
                    max_position_embeddings=32,
                    dropout=0.0,
                    pad_token_id=0,
                    bos_token_id=1,
                    eos_token_id=2,
                    num_labels=2,
                )
            )
