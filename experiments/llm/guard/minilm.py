"""MiniLM as the safety classification model: its last layer with LoRA, over cached states of those below."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from experiments.llm.capacity import Capacity
from experiments.llm.config import ClassifierConfig
from experiments.llm.guard.classifier import lora_of

BERT_TARGETS = ["query", "key", "value", "dense"]


class MiniLMClassifier(nn.Module):
    """Logits (b, 2) from the states below the last layer: (b, l, d), with mask (b, l).

    Only the first token asks, so keys and values of the others need not be computed: q'(W_k h_t) =
    (W_k' q)'h_t, and sum_t a_t (W_v h_t) = W_v sum_t a_t h_t, with W the weights with their adapters. The
    same numbers as the layer's own at the first token, for a tenth of the work.
    """

    def __init__(self, layer: Any, hidden: int):
        super().__init__()
        self.layer = layer
        self.head = nn.Sequential(nn.Linear(2 * hidden, 128), nn.GELU(), nn.Linear(128, 2))

    def first_token(self, state: Tensor, mask: Tensor) -> Tensor:
        """(b, d) output of the layer at the first token."""
        first, own = state[:, :1], self.layer.attention.self
        heads = own.num_attention_heads
        query = own.query(first).unflatten(-1, (heads, -1))[:, 0]  # (b, h, e)
        keys, values = (effective_weight(x).unflatten(0, (heads, -1)) for x in (own.key, own.value))
        asked = torch.einsum("bhe,hed->bhd", query, keys)
        score = asked @ state.transpose(1, 2) / math.sqrt(query.shape[-1])  # b_k adds the same to every token
        attention = score.masked_fill(~mask[:, None, :], -torch.inf).softmax(-1)
        read = torch.einsum("bhd,hed->bhe", attention @ state, values).flatten(1) + own.value.bias
        attended = self.layer.attention.output(read[:, None], first)
        return self.layer.output(self.layer.intermediate(attended), attended)[:, 0]

    def forward(self, state: Tensor, mask: Tensor) -> Tensor:
        mean = (state * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return self.head(torch.cat([self.first_token(state, mask), mean], dim=-1))


def effective_weight(linear: Any) -> Tensor:
    """The weight of a linear layer with its LoRA adapters added, differentiable in them."""
    if not hasattr(linear, "base_layer"):
        return linear.weight
    weight = linear.base_layer.weight
    for name in linear.active_adapters:
        weight = weight + linear.get_delta_weight(name)
    return weight


def minilm_classifier(
    layer: nn.Module, hidden: int, settings: ClassifierConfig, capacity: Capacity, seed: int
) -> MiniLMClassifier:
    """A copy of MiniLM's last layer with a new head, to train: one member of the capacity."""
    from peft import LoraConfig, inject_adapter_in_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = MiniLMClassifier(copy.deepcopy(layer), hidden)
        if capacity.training == "lora":
            adapters = lora_of(LoraConfig, settings, capacity, BERT_TARGETS)
            adapted: Any = inject_adapter_in_model(adapters, found.layer)
            found.layer = adapted
        else:
            found.layer.requires_grad_(capacity.training == "all")
        found.head.requires_grad_(True)
    return found
