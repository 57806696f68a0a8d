"""A key/value cache for transformers' models that writes into reserved memory.

transformers' DynamicCache concatenates at every token, which for small models on a CPU costs more than the
model itself. This one reserves room for `reserve` more tokens whenever it is full.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


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
