"""Candidate answers: sampled in batches with a key/value cache, kept on disk in shards.

The loop runs the model's own forward. A prompt is read once, its cache is repeated for the k candidates, and
sequences that have ended leave the batch, so that long answers do not hold up short ones. Sampling is from
softmax(logits / temperature) within the top-k tokens and the top-p nucleus (`drawing`); each shard has its
own random stream, so a resumed generation gives the same answers as an uninterrupted one.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.llm.models.generation.drawing import drawn
from experiments.llm.models.generation.key_value_cache import reading_cache, reserved_cache
from experiments.llm.models.language_model import end_tokens, memory_guard, revision
from experiments.llm.models.runtime import own_attention
from experiments.llm.models.tokenizer import Encoded
from experiments.support.errors import CacheError
from experiments.support.files import atomic_path, hash_of
from safeframe.types import SafeframeError


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn.

    Attributes:
        candidates: k answers a prompt.
        max_tokens: of an answer, its end included.
        temperature: of the distribution sampled from, > 0.
        top_p: mass of the nucleus sampled from, in (0, 1].
        batch: sequences at once.
        shard: prompts in a file of the cache.
        top_k: tokens sampled from, the likeliest; 0: all.
        padded: whether prompts of unlike lengths share a batch, padded on the left (real prompts); otherwise
            only those of equal length do.
    """

    candidates: int = 16
    max_tokens: int = 24
    temperature: float = 1.0
    top_p: float = 1.0
    batch: int = 4096
    shard: int = 4096
    top_k: int = 0
    padded: bool = False

    def __post_init__(self) -> None:
        for name in ("candidates", "max_tokens", "batch", "shard"):
            if getattr(self, name) < 1:
                raise SafeframeError(f"sampling.{name}={getattr(self, name)}: at least 1 is needed")
        if self.top_k < 0:
            raise SafeframeError(f"sampling.top_k={self.top_k}: 0 (all tokens) or more is needed")
        if not self.temperature > 0:
            raise SafeframeError(f"sampling.temperature={self.temperature}: more than 0 is needed")
        if not 0 < self.top_p <= 1:
            raise SafeframeError(f"sampling.top_p={self.top_p}: a number in (0, 1] is needed")


@dataclass(frozen=True)
class Generated:
    """Answers to n prompts, k each.

    Attributes:
        tokens: (n, k, max_tokens) int32, padded on the right; the end token is kept.
        log_probability: (n, k) float32 of the whole answer under the distribution sampled from.
        finished: (n, k) bool, whether it has its end token; the others were cut.
    """

    tokens: NDArray[np.int32]
    log_probability: NDArray[np.float32]
    finished: NDArray[np.bool_]


@torch.inference_mode()
@own_attention()
def sample(
    model: Any,
    prompts: Encoded,
    sampling: Sampling,
    generator: torch.Generator,
    ends: int | Sequence[int],
    pad: int,
) -> Generated:
    """k answers to each of n prompts (ids padded on the left), in one batch; ends: tokens that end one."""
    n, k, device = len(prompts.ids), sampling.candidates, model.device
    total = n * k
    tokens = torch.full((total, sampling.max_tokens), pad, dtype=torch.int32)
    score = torch.zeros(total)
    finished = torch.zeros(total, dtype=torch.bool)
    ids = torch.from_numpy(prompts.ids).to(device)
    padded = not prompts.mask.all()
    mask = torch.from_numpy(prompts.mask).to(device).long() if padded else None
    place = None if mask is None else (mask.cumsum(dim=1) - 1).clamp_min(0)
    last = torch.tensor([ends] if isinstance(ends, int) else list(ends), device=device)
    cache = reserved_cache(model, sampling.max_tokens)
    output = model(
        input_ids=ids, attention_mask=mask, position_ids=place, past_key_values=cache, use_cache=True,
        logits_to_keep=1,
    )  # fmt: skip
    cache.batch_repeat_interleave(k)
    logits = output.logits[:, -1].repeat_interleave(k, dim=0)
    mask = None if mask is None else mask.repeat_interleave(k, dim=0)
    alive = torch.arange(total)
    for position in range(sampling.max_tokens):
        chosen, log_p = drawn(
            logits, sampling.top_k, sampling.top_p, generator, temperature=sampling.temperature
        )
        score[alive] += log_p.cpu()
        tokens[alive, position] = chosen.to("cpu", torch.int32)
        finished[alive[torch.isin(chosen, last).cpu()]] = True
        if position + 1 == sampling.max_tokens or bool(finished.all()):
            break
        if finished[alive].float().mean() > 0.125:  # the ended leave the batch
            stay = (~finished[alive]).nonzero()[:, 0]
            alive = alive[stay]
            stay = stay.to(device)
            cache.batch_select_indices(stay)
            chosen = chosen[stay]
            mask = None if mask is None else mask[stay]
        if mask is not None:
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            place = mask.sum(dim=1, keepdim=True) - 1
        logits = model(
            input_ids=chosen[:, None], attention_mask=mask, position_ids=place, past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]  # fmt: skip
        if bool(finished[alive].any()):  # ended but still in the batch: nothing but pads follow
            done = finished[alive].to(device)
            logits[done] = -torch.inf
            logits[done, pad] = 0.0
    shape = (n, k)
    return Generated(tokens.view(n, k, -1).numpy(), score.view(shape).numpy(), finished.view(shape).numpy())


def batches_of(prompts: Encoded, rows: int, padded: bool = False) -> list[NDArray[np.int64]]:
    """Prompt indices in batches of at most `rows`: of equal length within each, so that none is padded, or
    (padded) of like length.
    """
    lengths = prompts.mask.sum(axis=1)
    if padded:
        groups = [np.argsort(lengths, kind="stable")]
    else:
        groups = [np.flatnonzero(lengths == length) for length in np.unique(lengths)]
    return [group[start : start + rows] for group in groups for start in range(0, len(group), rows)]


def take(prompts: Encoded, index: NDArray[np.int64]) -> Encoded:
    """Some of the prompts, without columns that are padding for all of them."""
    mask = prompts.mask[index]
    start = int(mask.any(axis=0).argmax())
    return Encoded(prompts.ids[index, start:], mask[:, start:], 0)


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Encoded,
    sampling: Sampling,
    seed: int,
    directory: Path | None = None,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Generated:
    """k answers to every prompt.

    Args:
        model: the language model.
        tokenizer: of the model.
        prompts: n texts as tokens.
        sampling: k, lengths and temperature.
        seed: of the sampling.
        directory: shards are kept there, and those that are there are not made again; they depend on the
            model's weights, the prompts, the sampling and the seed, so a folder can serve any number of
            generations. None: nothing is kept.
        progress: wraps the shards (tqdm).

    Returns:
        The answers, in the order of the prompts.

    Raises:
        CacheError: for a damaged shard.
        SafeframeError: where memory runs out.
    """
    starts = range(0, len(prompts.ids), sampling.shard)
    key = None
    if directory is not None:
        settings = asdict(sampling) | {"ends": end_tokens(model, tokenizer)}
        key = hash_of({"model": revision(model), "sampling": settings, "seed": seed, "prompts": prompts.ids})
    parts = []
    for number, start in enumerate(progress(starts)):
        path = None if directory is None else directory / f"{key}_{number:05d}.npz"
        if path is not None and path.exists():
            parts.append(read(path))
            continue
        piece = take(prompts, np.arange(start, min(start + sampling.shard, len(prompts.ids))))
        part = made_shard(model, tokenizer, piece, sampling, seed, number)
        if path is not None:
            with atomic_path(path) as temporary:
                np.savez(temporary, **vars(part))
        parts.append(part)
    return Generated(
        *(np.concatenate([getattr(p, name) for p in parts]) for name in Generated.__annotations__)
    )


def hash_to_seed(*values: int) -> int:
    """One seed of several numbers."""
    return int(np.random.SeedSequence(list(values)).generate_state(1, np.uint64)[0] >> 1)


def made_shard(
    model: Any, tokenizer: Any, prompts: Encoded, sampling: Sampling, seed: int, number: int
) -> Generated:
    """Answers to the prompts of one shard, from the random stream of its number."""
    generator = torch.Generator(device=model.device).manual_seed(hash_to_seed(seed, number))
    return _shard(model, tokenizer, prompts, sampling, generator)


def _shard(
    model: Any, tokenizer: Any, prompts: Encoded, sampling: Sampling, generator: torch.Generator
) -> Generated:
    n, k = len(prompts.ids), sampling.candidates
    tokens = np.full((n, k, sampling.max_tokens), tokenizer.pad_token_id, np.int32)
    score, finished = np.zeros((n, k), np.float32), np.zeros((n, k), bool)
    advice = (
        f"lower models.batch (now {sampling.batch}) or models.max_answer_tokens (now {sampling.max_tokens})"
    )
    ends = end_tokens(model, tokenizer)
    for index in batches_of(prompts, max(1, sampling.batch // k), sampling.padded):
        with memory_guard("generation", advice), reading_cache(model):
            made = sample(model, take(prompts, index), sampling, generator, ends, tokenizer.pad_token_id)
        tokens[index], score[index], finished[index] = made.tokens, made.log_probability, made.finished
    return Generated(tokens, score, finished)


def read(path: Path) -> Generated:
    """Answers from their file; CacheError if it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as content:
            return Generated(**{name: content[name] for name in Generated.__annotations__})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CacheError(f"generated answers in {path} cannot be read ({error}); delete the file") from error


def texts_of(tokenizer: Any, tokens: NDArray[np.int32]) -> list[list[str]]:
    """(n, k, length) token numbers as n lists of k texts, special tokens left out."""
    n, k, length = tokens.shape
    flat = tokenizer.backend_tokenizer.decode_batch(tokens.reshape(n * k, length).tolist())
    return [flat[i * k : (i + 1) * k] for i in range(n)]
