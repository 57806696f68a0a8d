"""What models of the synthetic world are trained on: answers that people wrote, comparisons that they made.

Everything is drawn afresh for every batch, from prompts of the split "model", which no pool uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.llm.models.conversations import Conversations
from experiments.llm.models.generation.sampling import Sampling, generate
from experiments.llm.models.preference_models import Comparisons
from experiments.llm.models.tokenizer import Encoded
from experiments.llm.world import grammar
from experiments.llm.world.conversation_world import Truth, World
from experiments.llm.world.grammar import ANSWER, BOS, MAX_ANSWER, PAD, Prompts, Tokens
from experiments.llm.world.vocabulary import build_tokenizer


def model_prompts(n: int, rng: np.random.Generator) -> Prompts:
    """n prompts of the split "model", some possibly twice."""
    codes = np.zeros(0, np.int64)
    while len(codes) < n:
        drawn = rng.integers(grammar.N_PROMPTS, size=len(grammar.SPLITS) * (n - len(codes)) + 64)
        codes = np.concatenate([codes, drawn[grammar.split_of(drawn) == grammar.SPLITS.index("model")]])
    return grammar.prompts_of(codes[:n])


def conversations(prompts: Prompts, answers: Tokens) -> Conversations:
    """Token rows of prompts and answers, as `encode_prompts` and `encode_answers` make them of texts."""
    n = len(prompts)
    said = prompts.tokens()
    lengths = (said != PAD).sum(axis=1) + 2
    width = int(lengths.max())
    rows = np.concatenate([np.full((n, 1), BOS, np.int16), said, np.full((n, 1), PAD, np.int16)], axis=1)[
        :, :width
    ]
    rows[np.arange(n), lengths - 1] = ANSWER
    place = np.arange(width) - (width - lengths[:, None])
    left = np.where(place >= 0, np.take_along_axis(rows, np.maximum(place, 0), axis=1), PAD)
    answered = answers != PAD
    ids = np.concatenate([left, answers], axis=1).astype(np.int64)
    mask = np.concatenate([place >= 0, answered], axis=1)
    answer = np.concatenate([np.zeros_like(left, bool), answered], axis=1)
    return Conversations(torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(answer), width)


def written(world: World, batch: int, seed: int) -> Callable[[int], Conversations]:
    """Batches of prompts with the answers that people wrote; batch number s is a function of (seed, s)."""

    def draw(step: int) -> Conversations:
        rng = np.random.default_rng([seed, step])
        prompts = model_prompts(batch, rng)
        return conversations(prompts, grammar.write_answers(prompts, world.use, world.risk(prompts), rng))

    return draw


def said(prompts: Prompts) -> Encoded:
    """Prompts as a language model reads them, padded on the left."""
    rows = conversations(prompts, np.full((len(prompts), 1), PAD, np.int16))
    return Encoded(rows.ids[:, : rows.start].numpy(), rows.mask[:, : rows.start].numpy(), 0)


TEMPERATURES = (0.7, 1.0, 1.5)
SOUGHT = (
    0.25  # comparisons of harm are sought where there is some: weight of a prompt, 0.25 + its largest P(harm)
)
REWARD_SHARPNESS, HARM_SHARPNESS, NO_INSTRUCTION = 2.0, 0.5, -12.0


@dataclass(frozen=True)
class Bank:
    """Prompts (n,), answers (n, k, length) to each, and what is true of them (each (n, k))."""

    prompts: Prompts
    answers: Tokens
    harm: np.ndarray
    logit: np.ndarray
    helpfulness: np.ndarray

    def __len__(self) -> int:
        return len(self.prompts)


def make_bank(
    world: World,
    model: Any,
    n: int,
    seed: int,
    directory: Path | None,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Bank:
    """n prompts with eight answers each: two of a language model at each of TEMPERATURES, two that people
    wrote. Hot ones are often malformed, so that scores are learned there too."""
    rng = np.random.default_rng([seed, 77])
    prompts = model_prompts(n, rng)
    encoded, parts = said(prompts), []
    for k, temperature in enumerate(TEMPERATURES):
        sampling = Sampling(2, MAX_ANSWER, temperature)
        parts.append(
            generate(model, build_tokenizer(), encoded, sampling, seed + k, directory, progress).tokens
        )
    parts += [grammar.write_answers(prompts, world.use, world.risk(prompts), rng)[:, None] for _ in range(2)]
    answers = np.concatenate(parts, axis=1).astype(np.int16)
    k = answers.shape[1]
    found: Truth = world.truth(prompts[np.repeat(np.arange(n), k)], answers.reshape(n * k, -1))
    logit = np.maximum(found.logit, NO_INSTRUCTION)
    return Bank(prompts, answers, *(a.reshape(n, k) for a in (found.harm, logit, found.helpfulness)))


def comparisons(bank: Bank, batch: int, seed: int, about: str) -> Callable[[int], Comparisons]:
    """Batches of noisy comparisons, number s a function of (seed, s).

    Args:
        bank: conversations that are compared.
        batch: comparisons at once.
        seed: of the draw.
        about: "helpfulness" (P(a preferred) = sigma(2 difference)) or "harm" (P(a said more harmful) =
            sigma(0.5 difference of the logits)); labels of harm are drawn with P(harm).

    Returns:
        s -> the batch of that number.
    """

    weight = np.cumsum(SOUGHT + bank.harm.max(axis=1)) if about == "harm" else np.arange(1.0, len(bank) + 1)

    def draw(step: int) -> Comparisons:
        rng = np.random.default_rng([seed, 5, step])
        row = np.searchsorted(weight, rng.random(batch) * weight[-1], side="right")
        a, b = rng.permuted(np.tile(np.arange(bank.answers.shape[1]), (batch, 1)), axis=1)[:, :2].T
        value = REWARD_SHARPNESS * bank.helpfulness if about == "helpfulness" else HARM_SHARPNESS * bank.logit
        preferred = rng.random(batch) < 1 / (1 + np.exp(value[row, b] - value[row, a]))
        prompts = bank.prompts[row]
        return Comparisons(
            conversations(prompts, bank.answers[row, a]),
            conversations(prompts, bank.answers[row, b]),
            torch.from_numpy(preferred),
            torch.from_numpy(rng.random(batch) < bank.harm[row, a]),
            torch.from_numpy(rng.random(batch) < bank.harm[row, b]),
        )

    return draw
