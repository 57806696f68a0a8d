"""Prompts and answers as one row of tokens: padding, prompt, answer, padding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from experiments.llm.models.tokenizer import Encoded, Template, encode_answers, encode_prompts
from safeframe.types import SafeframeError


@dataclass(frozen=True)
class Conversations:
    """ids (n, length) int64; mask (n, length) bool, False where padded; answer (n, length) bool, True at the
    tokens of the answer, its end included. Prompts end and answers begin at column `start` in every row."""

    ids: Tensor
    mask: Tensor
    answer: Tensor
    start: int

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Any) -> Conversations:
        return Conversations(self.ids[index], self.mask[index], self.answer[index], self.start)

    @property
    def position(self) -> Tensor:
        """(n, length) place of each token in its row, padding not counted."""
        return (self.mask.long().cumsum(dim=1) - 1).clamp_min(0)

    @property
    def last(self) -> Tensor:
        """(n,) column of the last token."""
        return self.mask.long().cumsum(dim=1).argmax(dim=1)

    def to(self, device: Any) -> Conversations:
        """The same on another device."""
        return Conversations(self.ids.to(device), self.mask.to(device), self.answer.to(device), self.start)

    def arguments(self) -> dict[str, Tensor]:
        """What a transformers model is called with; the mask is left out where a plain causal one does."""
        if bool(self.mask.all()):
            return {"input_ids": self.ids}
        return {"input_ids": self.ids, "attention_mask": self.mask.long(), "position_ids": self.position}


def join(prompts: Encoded, answers: Encoded) -> Conversations:
    """Rows of prompts (padded left) and answers (padded right); SafeframeError if their numbers differ."""
    if len(prompts.ids) != len(answers.ids):
        raise SafeframeError(f"{len(prompts.ids)} prompts and {len(answers.ids)} answers: one each is needed")
    p, a = torch.from_numpy(prompts.mask), torch.from_numpy(answers.mask)
    return Conversations(
        torch.cat([torch.from_numpy(prompts.ids), torch.from_numpy(answers.ids)], dim=1),
        torch.cat([p, a], dim=1),
        torch.cat([torch.zeros_like(p), a], dim=1),
        p.shape[1],
    )


def cut_short(batch: Conversations, keep: Tensor) -> Conversations:
    """The same with at most keep (n,) tokens of every answer, at least one; what follows is padding."""
    place = batch.answer.long().cumsum(dim=1)
    left = batch.mask & ~(batch.answer & (place > keep.clamp_min(1)[:, None]))
    return Conversations(batch.ids, left, batch.answer & left, batch.start)


def stacked(first: Conversations, second: Conversations) -> Conversations:
    """The rows of both, one below the other; SafeframeError if their prompts differ in width."""
    if first.start != second.start:
        raise SafeframeError(
            f"conversations begin at columns {first.start} and {second.start}: the same is needed"
        )
    width = max(first.ids.shape[1], second.ids.shape[1])
    parts = [
        torch.cat([pad(part, (0, width - part.shape[1])) for part in pair])
        for pair in zip(
            (first.ids, first.mask, first.answer), (second.ids, second.mask, second.answer), strict=True
        )
    ]
    return Conversations(*parts, first.start)


def answer_log_probabilities(logits: Tensor, batch: Conversations, temperature: float = 1.0) -> Tensor:
    """(n, answer length) log-probability of every answer token under logits (n, length, v); 0 where padded.

    Exactly those of the columns from `start` on: the logits one column before say what comes next.
    """
    predicting = logits[:, batch.start - 1 : -1].float() / temperature
    target = batch.ids[:, batch.start :]
    log_p = predicting.log_softmax(-1).gather(-1, target[..., None])[..., 0]
    return log_p * batch.answer[:, batch.start :]


@dataclass(frozen=True)
class Comparisons:
    """n comparisons of two answers to one prompt.

    Attributes:
        a: n conversations, with one answer.
        b: n conversations, with the other.
        preferred: (n,) True if a is preferred (reward) or more harmful (cost).
        harmful_a: (n,) labels, for the cost model only.
        harmful_b: (n,) labels, for the cost model only.
    """

    a: Conversations
    b: Conversations
    preferred: Tensor
    harmful_a: Tensor
    harmful_b: Tensor

    def __len__(self) -> int:
        return len(self.a)

    def __getitem__(self, index: Any) -> Comparisons:
        return Comparisons(
            self.a[index], self.b[index], self.preferred[index], self.harmful_a[index], self.harmful_b[index]
        )

    def to(self, device: Any) -> Comparisons:
        """The same on another device."""
        return Comparisons(*(value.to(device) for value in vars(self).values()))


def compared(
    tokenizer: Any, template: str | Template, rows: list[dict[str, Any]], max_prompt: int, max_answer: int
) -> Comparisons:
    """Comparisons from rows with prompt, response_0, response_1, preferred (0 or 1), harmful_0, harmful_1."""
    said = encode_prompts(tokenizer, template, [row["prompt"] for row in rows], max_prompt)
    both = [encode_answers(tokenizer, [row[f"response_{k}"] for row in rows], max_answer) for k in (0, 1)]
    return Comparisons(
        join(said, both[0]),
        join(said, both[1]),
        torch.tensor([row["preferred"] == 0 for row in rows]),
        torch.tensor([bool(row.get("harmful_0", 0)) for row in rows]),
        torch.tensor([bool(row.get("harmful_1", 0)) for row in rows]),
    )


@dataclass(frozen=True)
class Judged:
    """n answers that people have judged: conversations, and harmful (n,) bool."""

    said: Conversations
    harmful: Tensor

    def __len__(self) -> int:
        return len(self.said)

    def __getitem__(self, index: Any) -> Judged:
        return Judged(self.said[index], self.harmful[index])

    def to(self, device: Any) -> Judged:
        """The same on another device."""
        return Judged(self.said.to(device), self.harmful.to(device))


def judged(
    tokenizer: Any, template: str | Template, rows: list[dict[str, Any]], max_prompt: int, max_answer: int
) -> Judged:
    """Judged answers from rows with prompt, response, unsafe (0 or 1)."""
    said = encode_prompts(tokenizer, template, [row["prompt"] for row in rows], max_prompt)
    answers = encode_answers(tokenizer, [row["response"] for row in rows], max_answer)
    return Judged(join(said, answers), torch.tensor([row["unsafe"] == 1 for row in rows]))


@dataclass(frozen=True)
class Rated:
    """n comparisons of two answers to one prompt, by harm and by which is better.

    Attributes:
        harm: as of the cost model.
        better: (n,) True if a is the better answer.
    """

    harm: Comparisons
    better: Tensor

    def __len__(self) -> int:
        return len(self.harm)

    def __getitem__(self, index: Any) -> Rated:
        return Rated(self.harm[index], self.better[index])

    def to(self, device: Any) -> Rated:
        """The same on another device."""
        return Rated(self.harm.to(device), self.better.to(device))
