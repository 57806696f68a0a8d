"""How a conversation is written down as tokens, with any tokenizer of transformers.

A template around the prompt, then the answer, then the end-of-sequence token if the answer has ended. The
template is the tokenizer's own for chats, safe-rlhf's, or any text with {prompt}.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import models

from safeframe.types import SafeframeError

SYNTHETIC_TEMPLATE = "{prompt} <answer>"
PKU_TEMPLATE = "BEGINNING OF CONVERSATION: USER: {prompt} ASSISTANT:"  # github.com/PKU-Alignment/safe-rlhf
CHAT, SAFE_RLHF = "chat", "safe-rlhf"
"""Words that stand for a template: the tokenizer's own, and `PKU_TEMPLATE`."""
_MARK = "<<the user's words>>"


@dataclass(frozen=True)
class Encoded:
    """Token rows: ids (n, length) int64; mask (n, length) bool, False where padded; truncated: rows cut."""

    ids: NDArray[np.int64]
    mask: NDArray[np.bool_]
    truncated: int


@dataclass(frozen=True)
class Template:
    """What stands before and after a prompt.

    Attributes:
        before: text.
        after: text.
        special: whether the tokenizer adds its own special tokens (a chat template holds them already).
    """

    before: str
    after: str
    special: bool = True

    def text(self, prompt: str) -> str:
        """The prompt as the model sees it."""
        return f"{self.before}{prompt}{self.after}"

    @classmethod
    def of(cls, text: str) -> Template:
        """From a text with {prompt}, in which \\n is a line break (a command line cannot hold one).

        Raises SafeframeError where {prompt} does not occur exactly once, or with other braces.
        """
        parts = text.replace("\\n", "\n").split("{prompt}")
        if len(parts) != 2 or any(brace in part for part in parts for brace in "{}"):
            raise SafeframeError(
                f"template {text!r}: it must hold {{prompt}} exactly once and no other braces; or give"
                f" {CHAT!r} (the tokenizer's own) or {SAFE_RLHF!r}"
            )
        return cls(*parts)


def template_of(tokenizer: Any, given: str | None, fallback: str | None = None) -> Template:
    """The template of a tokenizer's conversations.

    Args:
        tokenizer: of the model that reads.
        given: "chat", "safe-rlhf" or a text with {prompt}; None: the tokenizer's own for chats.
        fallback: text that is taken where none is given and the tokenizer has none.

    Raises:
        SafeframeError: where the tokenizer has no chat template and it is needed, or for a text without
            {prompt}.
    """
    if given == SAFE_RLHF:
        return Template.of(PKU_TEMPLATE)
    if given not in (None, CHAT):
        return Template.of(given)
    if getattr(tokenizer, "chat_template", None):
        said = [{"role": "user", "content": _MARK}]
        text = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
        parts = text.split(_MARK)
        if len(parts) != 2:
            raise SafeframeError(
                "the tokenizer's chat template does not give back the user's words exactly once; give a"
                " template with {prompt}"
            )
        return Template(*parts, special=False)
    if given is None and fallback is not None:
        return Template.of(fallback)
    raise SafeframeError(
        f"the tokenizer has no chat template: give models.template={SAFE_RLHF} (of the paper's models) or a"
        " text with {prompt} (fine_tune: template=...)"
    )


def encode_prompts(tokenizer: Any, template: str | Template, prompts: list[str], max_tokens: int) -> Encoded:
    """Prompts in their template, padded on the left. Beyond max_tokens the beginning of the prompt is cut
    (counted), never the template.

    Raises SafeframeError for no prompts, an empty one, or where max_tokens leaves none of a prompt.
    """
    check_texts(prompts, "prompts")
    if isinstance(template, str):
        template = Template.of(template)
    rows = token_rows(tokenizer, [template.text(prompt) for prompt in prompts], special=template.special)
    cut = [i for i, row in enumerate(rows) if len(row) > max_tokens]
    for i in cut:
        rows[i] = shortened(tokenizer, template, prompts[i], max_tokens)
    return padded(rows, tokenizer.pad_token_id, left=True, truncated=len(cut))


def shortened(tokenizer: Any, template: Template, prompt: str, max_tokens: int) -> list[int]:
    """A prompt in its template as `max_tokens` tokens, the beginning of the prompt left out.

    Raises SafeframeError where the template alone has as many.
    """
    head, said, tail = parts_of(tokenizer, template, prompt)
    room = max_tokens - len(head) - len(tail)
    if room < 1:
        raise SafeframeError(
            f"max_prompt_tokens={max_tokens} leaves nothing of a prompt: the template alone has"
            f" {len(head) + len(tail)} tokens; give more"
        )
    return head + said[-room:] + tail


def parts_of(tokenizer: Any, template: Template, prompt: str) -> tuple[list[int], list[int], list[int]]:
    """Tokens before the prompt, of it, and after it."""
    found = tokenizer.backend_tokenizer.encode(template.text(prompt), add_special_tokens=template.special)
    first, last = len(template.before), len(template.before) + len(prompt)
    inside = [i for i, (begin, end) in enumerate(found.offsets) if begin < last and end > first]
    start, stop = inside[0], inside[-1] + 1
    return found.ids[:start], found.ids[start:stop], found.ids[stop:]


def encode_answers(
    tokenizer: Any,
    answers: list[str],
    max_tokens: int,
    finished: Sequence[bool] | NDArray[np.bool_] | None = None,
) -> Encoded:
    """Answers padded on the right, with EOS at the end of those that are finished (None: all), cut beyond
    max_tokens (counted).
    """
    done = [True] * len(answers) if finished is None else finished
    texts = token_rows(tokenizer, answers, special=False)
    rows = [
        [*row, tokenizer.eos_token_id] if ended else (row or [tokenizer.eos_token_id])
        for row, ended in zip(texts, done, strict=True)
    ]
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
