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

from experiments.llm.models.sources import ADAPTERS, base_of, model_folder, with_adapters
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
    """AutoTokenizer of a folder or a name on the hub (`sources.model_folder`), padding on the left.

    Where it has no pad token the end token pads: masks say what is padding, never the token. SafeframeError
    for one without an end token.
    """
    folder = Path(model_folder(name))
    if (folder / ADAPTERS).is_file() and not (folder / "tokenizer.json").is_file():
        folder = Path(base_of(folder))
    with loading(name):
        tokenizer = AutoTokenizer.from_pretrained(str(folder), padding_side="left")
    if tokenizer.eos_token_id is None:
        raise SafeframeError(
            f"{str(name)!r}: the tokenizer has no end-of-sequence token, so no answer would end; set"
            " eos_token in its tokenizer_config.json"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_language_model(name: str | Path, dtype: torch.dtype = torch.float32, device: Any = "cpu") -> Any:
    """AutoModelForCausalLM of a folder, a folder of LoRA adapters or a name on the hub, in evaluation
    mode.
    """
    folder = model_folder(name)
    with loading(name):
        model = with_adapters(
            folder, lambda base: AutoModelForCausalLM.from_pretrained(str(base), dtype=dtype)
        )
    return model.to(device).eval()


def end_tokens(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Tokens that end an answer: the tokenizer's, and those of the model's generation_config."""
    said = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    more = [said] if isinstance(said, int) else list(said or [])
    return tuple(dict.fromkeys([tokenizer.eos_token_id, *more]))


def require_fit(model: Any, tokenizer: Any, name: str | Path) -> None:
    """Raises SafeframeError where model and tokenizer do not have the same vocabulary.

    A model may have somewhat more rows than the tokenizer has tokens: they are rounded up.
    """
    rows, tokens = model.get_input_embeddings().weight.shape[0], len(tokenizer)
    if rows < tokens or rows > max(tokens + 2048, 1.05 * tokens):
        raise SafeframeError(
            f"{str(name)!r}: the model has {rows} tokens and the tokenizer {tokens}: they do not belong"
            " together; give the tokenizer that the model was trained with"
        )


def require_room(model: Any, tokens: int, name: str | Path) -> None:
    """Raises SafeframeError where a model's positions do not suffice for so many tokens."""
    most = getattr(model.config, "max_position_embeddings", None)
    if most is not None and tokens > most:
        raise SafeframeError(
            f"{str(name)!r} reads at most {most} tokens, prompt and answer have up to {tokens}; lower"
            " models.max_prompt_tokens or models.max_answer_tokens"
        )


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
