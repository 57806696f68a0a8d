"""A decoder whose lower layers no training changes: they are computed once for each text, and kept.

`frozen.layers=n` trains the uppermost n layers of the classification model (LoRA in their linear layers, or
all of their weights) and its head. What the layers below put out does not depend on what is trained, so every
step and every margin begins there: the same numbers as through all layers (in single precision up to
rounding), for about n of the N layers' work.

The decoder's own forward runs, with each lower layer replaced by `Given`: masks, positions and what a kind of
decoder does beside its layers stay its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.llm.answers.packing import Tokens
from experiments.llm.guard.classifier import DecoderClassifier
from experiments.llm.models.preference_models import body, plain
from experiments.llm.models.runtime import computing_in
from safeframe.types import SafeframeError


class Given(nn.Module):
    """In the place of a layer: passes on what comes in, or the state that was given."""

    def __init__(self) -> None:
        super().__init__()
        self.state: Tensor | None = None

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        return hidden_states if self.state is None else self.state


class Reached(Exception):
    """The first layer that is trained was reached, with these states."""

    def __init__(self, state: Tensor):
        super().__init__("reached")
        self.state = state


class Stop(nn.Module):
    """In the place of the first layer that is trained: ends the forward pass there."""

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        raise Reached(hidden_states)


def layers_of(model: Any) -> nn.ModuleList:
    """The layers of a decoder, lowest first. SafeframeError where they cannot be found."""
    inner = body(model)
    for module in (inner, getattr(inner, "decoder", None)):
        found = getattr(module, "layers", None)
        if isinstance(found, nn.ModuleList) and len(found) == plain(model).config.num_hidden_layers:
            return found
    raise SafeframeError(
        f"frozen.layers: the layers of a model of kind {plain(model).config.model_type!r} were not found;"
        " leave it null, which trains through all of them"
    )


def lower_count(model: Any, trained: int) -> int:
    """How many layers lie below the `trained` uppermost ones. SafeframeError unless it is one at least."""
    total = len(layers_of(model))
    if not 1 <= trained < total:
        raise SafeframeError(
            f"frozen.layers={trained}: the classification model has {total} layers; from 1 to {total - 1} can"
            " be trained over frozen ones, and null trains through all"
        )
    return total - trained


def split(model: Any, trained: int) -> tuple[Any, Any]:
    """(a model that stops below its `trained` uppermost layers, one that begins there); `model` stays as it
    is, and the first shares its weights.
    """
    count = lower_count(model, trained)
    layers = layers_of(model)
    kept = list(layers)
    try:
        for i in range(count):
            layers[i] = Given()
        upper = copy.deepcopy(model)
    finally:
        for i in range(count):
            layers[i] = kept[i]
    parts = {id(value): value for value in model.parameters()} | {id(b): b for b in model.buffers()}
    lower = copy.deepcopy(model, parts)  # the weights themselves are not copied
    below = layers_of(lower)
    for i in range(count, len(below)):
        below[i] = Stop()
    return lower, upper


@torch.inference_mode()
def states_of(
    lower: Any,
    tokens: Tokens,
    precision: str,
    batch: int,
    progress: Callable[[range], Iterable[int]] = iter,
    path: Path | None = None,
) -> np.ndarray:
    """`States.state` of texts, in batches of like length; in single precision, or kept in half where the
    model computes in bfloat16.

    path: a file that the numbers are written to while they are made, in the place of memory.
    """
    device = next(lower.parameters()).device
    kind = np.uint16 if precision == "bfloat16" else np.float32
    shape = (int(tokens.start[-1]), int(plain(lower).config.hidden_size))
    if path is None:
        out = np.empty(shape, kind)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        out = np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape)
    order = np.argsort(tokens.length, kind="stable")
    for first in progress(range(0, len(order), batch)):
        rows = order[first : first + batch]
        ids, mask = (part.to(device) for part in tokens.batch(rows))
        try:
            with computing_in(precision, device.type):
                body(lower)(input_ids=ids, attention_mask=mask.long(), use_cache=False)
        except Reached as reached:
            state = reached.state.cpu()
        else:
            raise SafeframeError("frozen.layers: the model never came to the layers that are trained")
        state = state.bfloat16().view(torch.uint16) if kind is np.uint16 else state.float()
        for i, row in zip(rows, state.numpy(), strict=True):
            out[tokens.start[i] : tokens.start[i + 1]] = row[: tokens.start[i + 1] - tokens.start[i]]
    return out


class UpperClassifier(DecoderClassifier):
    """Logits (b, 2) from the states below the layers that are trained; otherwise as `DecoderClassifier`."""

    def _logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        first: Any = layers_of(self.model)[0]
        first.state = ids  # states (b, l, d)
        try:
            return super()._logits(torch.zeros(mask.shape, dtype=torch.long, device=mask.device), mask)
        finally:
            first.state = None


def load_states(path: Path) -> np.ndarray:
    """`States.state` from its file, read as it is needed."""
    return np.load(path, mmap_mode="r")
