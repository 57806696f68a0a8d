"""A key/value cache for transformers' models that writes into reserved memory.

transformers' DynamicCache concatenates at every token, which for small models on a CPU costs more than the
model itself. This one reserves room for `reserve` more tokens whenever it is full.

Reading it costs as much: for one new token of many sequences in half precision, torch's attention on a CPU
takes four times as long as two matrix products over the heads that share keys (`one_token`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import Cache, DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask


class ReservedLayer(DynamicLayer):
    """Keys and values of one layer, (batch, heads, length, size), as views of larger buffers."""

    def __init__(self, reserve: int):
        super().__init__()
        self.reserve = reserve
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append the states of the newest tokens; all keys and values so far."""
        old = self.get_seq_length()
        new = old + key_states.shape[-2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if self._buffers is None or new > self._buffers[0].shape[-2]:
            shape = (*key_states.shape[:2], new + self.reserve, key_states.shape[-1])
            keys, values = key_states.new_empty(shape), value_states.new_empty(shape)
            if old:
                keys[:, :, :old], values[:, :, :old] = self.keys, self.values
            self._buffers = keys, values
        keys, values = self._buffers
        keys[:, :, old:new], values[:, :, old:new] = key_states, value_states
        self.keys, self.values = keys[:, :, :new], values[:, :, :new]
        return self.keys, self.values

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every sequence."""
        super().batch_repeat_interleave(repeats)
        self._buffers = None

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some of the sequences."""
        super().batch_select_indices(indices)
        self._buffers = None


def reserved_cache(model: Any, reserve: int) -> Cache:
    """An empty cache for one of transformers' decoder models."""
    return Cache(layers=[ReservedLayer(reserve) for _ in range(model.config.num_hidden_layers)])


ONE_TOKEN = "one_token_over_cache"
"""Name under which transformers' models find `one_token`."""


def one_token(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """Attention of one new token: (b, 1, heads, d) from query (b, heads, 1, d), keys and values (b, groups,
    length, d). Of several tokens torch's own. Products are in the type of the query, the softmax is in
    single precision.
    """
    if query.shape[2] != 1 or more.get("dropout"):
        return sdpa_attention_forward(  # pyright: ignore[reportReturnType]
            module, query, key, value, attention_mask, scaling=scaling, **more
        )
    groups, size = key.shape[1], query.shape[-1]
    asked = query[:, :, 0].unflatten(1, (groups, -1))  # (b, groups, heads of a group, d)
    score = torch.matmul(asked, key.transpose(-1, -2)).float() * (scaling or size**-0.5)
    if attention_mask is not None:
        seen = attention_mask[..., : key.shape[2]]
        score = score.masked_fill(~seen, -torch.inf) if seen.dtype == torch.bool else score + seen
    read = torch.matmul(score.softmax(-1).to(value.dtype), value)
    return read.flatten(1, 2)[:, None], None


AttentionInterface.register(ONE_TOKEN, one_token)
AttentionMaskInterface.register(ONE_TOKEN, sdpa_mask)


@contextlib.contextmanager
def reading_cache(model: Any) -> Iterator[None]:
    """Attention by `one_token` while a model answers in half precision on a CPU; elsewhere its own."""
    before = model.config._attn_implementation
    if before != "sdpa" or model.dtype != torch.bfloat16 or model.device.type != "cpu":
        yield
        return
    model.set_attn_implementation(ONE_TOKEN)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
