"""How a conversation is written down as tokens, with any tokenizer of transformers.

A template around the prompt, then the answer, then the end-of-sequence token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import models

from safeframe.types import SafeframeError

SYNTHETIC_TEMPLATE = "{prompt} <answer>"
PKU_TEMPLATE = "BEGINNING OF CONVERSATION: USER: {prompt} ASSISTANT:"  # github.com/PKU-Alignment/safe-rlhf


@dataclass(frozen=True)
class Encoded:
    """Token rows: ids (n, length) int64; mask (n, length) bool, False where padded; truncated: rows cut."""

    ids: NDArray[np.int64]
    mask: NDArray[np.bool_]
    truncated: int


def encode_prompts(tokenizer: Any, template: str, prompts: list[str], max_tokens: int) -> Encoded:
    """Prompts in their template, padded on the left, their beginning cut beyond max_tokens (counted).

    Raises SafeframeError for no prompts or an empty one.
    """
    check_texts(prompts, "prompts")
    rows = token_rows(tokenizer, [template.format(prompt=prompt) for prompt in prompts], special=True)
    cut = sum(len(row) > max_tokens for row in rows)
    return padded([row[-max_tokens:] for row in rows], tokenizer.pad_token_id, left=True, truncated=cut)


def encode_answers(tokenizer: Any, answers: list[str], max_tokens: int) -> Encoded:
    """Answers with EOS at the end, padded on the right, cut beyond max_tokens (counted)."""
    rows = [[*row, tokenizer.eos_token_id] for row in token_rows(tokenizer, answers, special=False)]
    cut = sum(len(row) > max_tokens for row in rows)
    return padded([row[:max_tokens] for row in rows], tokenizer.pad_token_id, left=False, truncated=cut)


def token_rows(tokenizer: Any, texts: list[str], *, special: bool) -> list[list[int]]:
    """Token numbers of each text, with the tokenizer's own special tokens around it if asked for.

    Texts all of whose words, split at spaces, are in the vocabulary of a word-level tokenizer are looked up
    here: the same, 10 times as fast.
    """
    core = tokenizer.backend_tokenizer
    if not isinstance(core.model, models.WordLevel):
        return [found.ids for found in core.encode_batch_fast(texts, add_special_tokens=special)]
    get = tokenizer.get_vocab().get
    start = [tokenizer.bos_token_id] if special else []
    rows = [[get(word) for word in text.split(" ")] for text in texts]
    return [
        core.encode(text, add_special_tokens=special).ids if None in row else start + row
        for text, row in zip(texts, rows, strict=True)
    ]


def padded(rows: list[list[int]], pad: int, *, left: bool, truncated: int = 0) -> Encoded:
    """Rows of unequal length as one array."""
    lengths = np.array([len(row) for row in rows], np.int64)
    width = max(1, int(lengths.max(initial=1)))
    column = np.arange(width)
    mask = column >= width - lengths[:, None] if left else column < lengths[:, None]
    ids = np.full(mask.shape, pad, np.int64)
    ids[mask] = np.concatenate([np.asarray(row, np.int64) for row in rows]) if len(rows) else []
    return Encoded(ids, mask, truncated)


def check_texts(texts: list[str], name: str) -> None:
    """Raises SafeframeError where there are none or one is empty."""
    if not texts:
        raise SafeframeError(f"{name}: none given; at least one is needed")
    empty = [i for i, text in enumerate(texts) if not text.strip()]
    if empty:
        raise SafeframeError(f"{name}: {len(empty)} of {len(texts)} are empty, the first at index {empty[0]}")
