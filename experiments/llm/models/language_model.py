"""Language models from transformers' own classes: made from a configuration, saved and loaded.

`from_pretrained` takes a folder or a name on the hub.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, OPTConfig, OPTForCausalLM
from transformers.utils.logging import disable_progress_bar

from experiments.support.errors import ConfigError
from experiments.support.files import hash_of
from experiments.support.weights import digest_of
from safeframe.types import SafeframeError

disable_progress_bar()  # of loading and saving weights


@dataclass(frozen=True)
class Shape:
    """Size of an OPT (Zhang et al. 2022, arXiv 2205.01068)."""

    hidden: int = 64
    layers: int = 2
    heads: int = 4
    feed_forward: int = 256
    positions: int = 64


def configuration(tokenizer: Any, shape: Shape) -> OPTConfig:
    """OPT's configuration of this shape for a tokenizer, without dropout."""
    return OPTConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        word_embed_proj_dim=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        ffn_dim=shape.feed_forward,
        max_position_embeddings=shape.positions,
        dropout=0.0,
        attention_dropout=0.0,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def new_language_model(tokenizer: Any, shape: Shape, seed: int) -> OPTForCausalLM:
    """A randomly initialised OPT; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return OPTForCausalLM(configuration(tokenizer, shape))


def save_pretrained(model: Any, tokenizer: Any, folder: Path | str, dtype: torch.dtype | None = None) -> None:
    """Write model and tokenizer as from_pretrained reads them (safetensors), in `dtype` if given."""
    if dtype is not None:
        own = model.dtype
        model.to(dtype)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if dtype is not None:
        model.to(own)


def load_tokenizer(name: str | Path) -> Any:
    """AutoTokenizer of a folder or a name on the hub, padding on the left."""
    with loading(name):
        tokenizer = AutoTokenizer.from_pretrained(str(name), padding_side="left")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_language_model(name: str | Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Any:
    """AutoModelForCausalLM of a folder or a name on the hub, in evaluation mode."""
    with loading(name):
        model = AutoModelForCausalLM.from_pretrained(str(name), dtype=dtype)
    return model.to(device).eval()


@contextlib.contextmanager
def loading(name: str | Path) -> Iterator[None]:
    """Turn what from_pretrained raises where something is missing into one message that says what to do."""
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"{str(name)!r} could not be loaded ({str(error).splitlines()[0]}); it must be a folder that"
            " save_pretrained wrote (config.json, model.safetensors, tokenizer.json) or a name on"
            " huggingface.co that can be reached or is in the local cache. Without a network: run"
            f" `hf download {name} --local-dir DIR` where there is one, copy DIR here and give its path "
            "instead"
        ) from error


@contextlib.contextmanager
def memory_guard(what: str, advice: str) -> Iterator[None]:
    """Turn torch's out-of-memory errors into a SafeframeError.

    Args:
        what: was too large.
        advice: what to lower.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise SafeframeError(f"out of memory in {what} ({str(error).splitlines()[0]}); {advice}") from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        raise SafeframeError(f"out of memory in {what}; {advice}") from error


def revision(model: Any) -> str:
    """A hash of all weights and of the configuration: what a cache of generated text depends on."""
    configuration = repr(sorted(model.config.to_diff_dict().items()))
    return hash_of({"weights": digest_of(model.state_dict()), "configuration": configuration})
