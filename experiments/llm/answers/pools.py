"""Pools of candidate answers, and where they come from: what every source gives and every stage reads.

A pool holds n prompts with k candidates each. Pools of recorded answers are ragged: what a prompt lacks is an
empty answer whose label is unknown (-1), and candidates of unknown label are left out everywhere (`mask`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from safeframe.types import SafeframeError

SPLITS = ("train", "internal_test", "validation")
DEFAULT_ANSWER = "Sorry, I can't answer this question."
"""The default action of the paper: given where no candidate is feasible."""
UNKNOWN = -1
_ARRAYS = {"reward": np.float32, "harmful": np.int8, "true_harm": np.float32, "log_probability": np.float32}
_OPTIONAL = {"finished": np.bool_, "cost": np.float32}
_TEXTS = ("prompt", "answer", "group")


@dataclass(frozen=True)
class Pool:
    """n prompts with k candidate answers each.

    Attributes:
        prompt: n texts, none empty.
        answer: n lists of k texts.
        reward: (n, k) float32, larger is more helpful (reward model or stated score); finite.
        harmful: (n, k) int8, label of the internal test (cost model or human): 0, 1, or -1 unknown.
        true_harm: (n, k) float32, the known P(harm) (synthetic) or votes, NaN unknown.
        log_probability: (n, k) float32 of each answer under the AI model, NaN unknown.
        group: n categories, topics or sources.
        finished: (n, k) bool, False where an answer was cut before its end; None: all have ended.
        cost: (n, k) float32, the cost model's score behind the label; None: not kept.

    Raises:
        SafeframeError: for shapes that differ, labels outside {-1, 0, 1}, a reward that is not finite or an
            empty prompt.
    """

    prompt: list[str]
    answer: list[list[str]]
    reward: np.ndarray
    harmful: np.ndarray
    true_harm: np.ndarray
    log_probability: np.ndarray
    group: list[str]
    finished: np.ndarray | None = None
    cost: np.ndarray | None = None

    def __post_init__(self) -> None:
        n, k = len(self.prompt), len(self.answer[0]) if self.answer else 0
        for name, kind in (_ARRAYS | _OPTIONAL).items():
            if name in _OPTIONAL and getattr(self, name) is None:
                continue
            array = np.asarray(getattr(self, name))
            if array.shape != (n, k):
                raise SafeframeError(f"pool: {name} has shape {array.shape}; expected ({n}, {k})")
            if name == "harmful" and not np.isin(array, (UNKNOWN, 0, 1)).all():
                bad = array[~np.isin(array, (UNKNOWN, 0, 1))][0]
                raise SafeframeError(f"pool: harmful holds {bad}; labels are 0, 1, or -1 for unknown")
            object.__setattr__(self, name, array.astype(kind))
        if len(self.answer) != n or len(self.group) != n or any(len(row) != k for row in self.answer):
            raise SafeframeError(f"pool: {n} prompts need {n} groups and {n} lists of {k} answers")
        empty = [i for i, text in enumerate(self.prompt) if not text.strip()]
        if empty:
            raise SafeframeError(f"pool: {len(empty)} empty prompts, the first at index {empty[0]}")
        if not np.isfinite(self.reward[self.mask]).all():
            raise SafeframeError("pool: reward must be finite for every labelled candidate")

    @property
    def shape(self) -> tuple[int, int]:
        """(n, k)."""
        return self.harmful.shape  # type: ignore[return-value]

    @cached_property
    def mask(self) -> np.ndarray:
        """(n, k) bool: candidates that are there and labelled."""
        return self.harmful != UNKNOWN

    def _arrays(self) -> dict[str, np.ndarray]:
        """Arrays by name, without those that are not kept."""
        found = {name: getattr(self, name) for name in (*_ARRAYS, *_OPTIONAL)}
        return {name: array for name, array in found.items() if array is not None}

    def subset(self, index: np.ndarray | Sequence[int]) -> Pool:
        """The prompts at `index` (integers or (n,) bool), in that order."""
        rows = np.arange(len(self.prompt))[np.asarray(index)]
        arrays = {name: array[rows] for name, array in self._arrays().items()}
        texts = {name: [getattr(self, name)[i] for i in rows] for name in _TEXTS}
        return Pool(**arrays, **texts)

    def first(self, candidates: int) -> Pool:
        """The first so many candidates of every prompt."""
        arrays = {name: array[:, :candidates] for name, array in self._arrays().items()}
        answers = [row[:candidates] for row in self.answer]
        return Pool(**arrays, prompt=self.prompt, answer=answers, group=self.group)

    def save(self, path: Path) -> None:
        """Write one .npz file (texts as UTF-8 JSON)."""
        texts = json.dumps({name: getattr(self, name) for name in _TEXTS}).encode("utf-8")
        arrays = self._arrays()
        with open(path, "wb") as stream:
            np.savez_compressed(stream, texts=np.frombuffer(texts, np.uint8), **arrays)

    @classmethod
    def load(cls, path: Path) -> Pool:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as content:
            texts = json.loads(content["texts"].tobytes().decode("utf-8"))
            return cls(**texts, **{name: content[name] for name in (*_ARRAYS, *_OPTIONAL) if name in content})

    def pairs(self) -> tuple[list[str], list[str], np.ndarray, np.ndarray]:
        """Every labelled candidate: prompts, answers, labels (c,) and its place (c, 2) as (row, column)."""
        place = np.argwhere(self.mask)
        prompts = [self.prompt[i] for i, _ in place]
        answers = [self.answer[i][j] for i, j in place]
        return prompts, answers, self.harmful[self.mask].astype(np.int64), place


class Source(Protocol):
    """Where pools come from. Splits never share prompts."""

    def pool(self, split: str, n: int, model: str = "ai", candidates: int | None = None) -> Pool:
        """n prompts of a split with the candidates of `model`: "ai" (the guarded one) or "ppo_lag_<limit>";
        `candidates` of them, None: as many as the source has.
        """
        ...

    def default_reward(self, prompt: list[str]) -> np.ndarray:
        """(n,) float32 reward of `DEFAULT_ANSWER` to each prompt, on the scale of `Pool.reward`."""
        ...
