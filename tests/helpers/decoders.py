"""Small random decoders of four kinds with a tokenizer of their manner: templates, pads and ends differ."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from tokenizers.decoders import ByteLevel
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedTokenizerFast

CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ("<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|end|>")
KINDS = ("opt", "llama", "qwen3", "gemma3_text")
"""opt: no chat template, its own pad. llama: pad equal to the end. qwen3: no pad token. gemma3_text:
turns end with another token than texts."""


@cache
def tokenizer_of(kind: str) -> Any:
    """Bytes as tokens, with what tells the kinds apart."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({token: i for i, token in enumerate([*SPECIAL, *letters])}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = ByteLevel()
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", SPECIAL.index("<s>"))]
    )
    pad = {"opt": "<pad>", "llama": "</s>", "gemma3_text": "<pad>"}.get(kind)
    found = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token=pad or "</s>",
        additional_special_tokens=["<|user|>", "<|assistant|>", "<|end|>"], padding_side="left",
    )  # fmt: skip
    if kind != "opt":
        found.chat_template = CHAT
    return found


def base(kind: str, tokenizer: Any, seed: int = 0, positions: int = 256) -> Any:
    """A random language model of a kind; the global random state is left as it was."""
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": positions, "bos_token_id": 1, "eos_token_id": 2,
        "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    if kind == "opt":
        sizes |= {"ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.0}
    else:
        sizes |= {"intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8}
    if kind == "gemma3_text":
        sizes |= {"sliding_window": 16, "eos_token_id": [2, SPECIAL.index("<|end|>")]}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**sizes))
        for weight in model.parameters():
            if weight.dim() > 1:
                torch.nn.init.normal_(weight, std=0.2)
    return model.eval()
