"""Candidate answers and their scores by workers of the engine, each of which loads a model once.

A task makes one shard of answers from its own random stream, or scores whole batches, cut as one process cuts
them. So answers and scores are the bytes that one process with one thread (threads=1) gives.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.llm.models.generation.sampling import Generated, Sampling, batches_of, made_shard, read, take
from experiments.llm.models.language_model import (
    load_language_model,
    load_tokenizer,
    require_fit,
    require_room,
)
from experiments.llm.models.preference_models import load_score_model, score_all
from experiments.llm.models.runtime import DTYPES
from experiments.llm.models.tokenizer import Encoded, Template, encode_prompts
from experiments.support.engine.tasks import Form, Task

Spread = Callable[[list[Task], Form, str], Iterable[Any]]
"""Does tasks of a stage: `Stage.spread` of a run's engine."""
Place = tuple[str, Any, str, str]
"""A model: its folder or name, what identifies its content, precision, device."""
ROWS = 8192
"""Answers that a task scores, about."""


def spread_answers(
    spread: Spread, model: Place, prompts: Encoded, sampling: Sampling, seed: int
) -> Generated:
    """As `generation.generate`, shard by shard on an engine.

    Args:
        spread: does the tasks.
        model: the language model.
        prompts: n texts as tokens.
        sampling: k, lengths, temperature; `shard` prompts make one task.
        seed: of the sampling.

    Returns:
        The answers, in the order of the prompts.

    Raises:
        SafeframeError: for a model that does not fit, or where memory runs out.
    """
    parts = [take(prompts, index) for index in _cut(np.arange(len(prompts.ids)), sampling.shard)]
    about = {"model": model[1:3], "sampling": asdict(sampling), "seed": seed}
    tasks = [
        Task(
            _answers,
            (model, part, sampling, seed, number, prompts.ids.shape[1]),
            {**about, "number": number, "ids": part.ids, "mask": part.mask},
            f"answers {number}",
        )
        for number, part in enumerate(parts)
    ]
    made = list(spread(tasks, Form(_save_answers, read, ".npz"), "answers"))
    return Generated(
        *(np.concatenate([getattr(part, name) for part in made]) for name in Generated.__annotations__)
    )


def spread_scores(
    spread: Spread,
    model: Place,
    template: Template,
    prompts: list[str],
    answers: list[list[str]],
    limits: tuple[int, int],
    batch: int,
    finished: NDArray[np.bool_] | None,
    padded: bool,
    head: str | None = None,
) -> NDArray[np.float32]:
    """As `preference_models.score_all`, some batches a task.

    Args:
        spread: does the tasks.
        model: the reward or cost model.
        template: around a prompt.
        prompts: n texts.
        answers: k of each.
        limits: the longest prompt and the longest answer in tokens.
        batch: answers that are scored at once.
        finished: (n, k), which answers have their end; None: all.
        padded: whether prompts of unlike lengths share a batch.
        head: as of `preference_models.load_score_model`.

    Returns:
        (n, k) scores; (n, k, heads) of a model of several whose heads are all kept.
    """
    k = len(answers[0])
    ended = np.ones((len(prompts), k), bool) if finished is None else finished
    said = encode_prompts(load_tokenizer(model[0]), template, prompts, limits[0])
    batches = batches_of(said, max(1, batch // k), padded)
    about = {"model": model[1:3], "template": asdict(template), "limits": limits, "batch": batch}
    tasks, order = [], []
    for number, group in enumerate(_grouped(batches, max(1, ROWS // k))):
        rows = [([prompts[i] for i in index], [answers[i] for i in index], ended[index]) for index in group]
        tasks.append(
            Task(
                _scores,
                (model, template, rows, limits, batch, padded, head),
                {**about, "padded": padded, "rows": rows} | ({} if head is None else {"head": head}),
                f"scores {number}",
            )
        )
        order.append(np.concatenate(group))
    made = list(spread(tasks, Form(_save_scores, np.load, ".npy"), "scores"))
    result = np.zeros((len(prompts), *made[0].shape[1:]), np.float32)
    for index, found in zip(order, made, strict=True):
        result[index] = found
    return result


def _cut(index: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [index[start : start + size] for start in range(0, len(index), size)]


def _grouped(batches: Iterable[NDArray[np.int64]], rows: int) -> Iterator[list[NDArray[np.int64]]]:
    """Batches in their order, as many together as have at least `rows` prompts."""
    group: list[NDArray[np.int64]] = []
    for index in batches:
        group.append(index)
        if sum(map(len, group)) >= rows:
            yield group
            group = []
    if group:
        yield group


def _answers(
    model: Place, prompts: Encoded, sampling: Sampling, seed: int, number: int, longest: int
) -> Generated:
    name, _, precision, device = model
    ai, own = _language_model(name, precision, device)
    require_room(ai, longest + sampling.max_tokens, name)
    return made_shard(ai, own, prompts, sampling, seed, number)


def _scores(
    model: Place,
    template: Template,
    rows: list,
    limits: tuple[int, int],
    batch: int,
    padded: bool,
    head: str | None,
) -> NDArray[np.float32]:
    name, _, precision, device = model
    scorer, tokenizer = _score_model(name, precision, device, head)
    return np.concatenate(
        [
            score_all(scorer, tokenizer, template, prompts, answers, *limits, batch, finished, padded)
            for prompts, answers, finished in rows
        ]
    )


@functools.lru_cache(maxsize=1)
def _language_model(name: str, precision: str, device: str) -> tuple[Any, Any]:
    _score_model.cache_clear()  # one model at a time in memory
    model, tokenizer = load_language_model(name, DTYPES[precision], device), load_tokenizer(name)
    require_fit(model, tokenizer, name)
    return model, tokenizer


@functools.lru_cache(maxsize=1)
def _score_model(name: str, precision: str, device: str, head: str | None) -> tuple[Any, Any]:
    _language_model.cache_clear()
    model, tokenizer = load_score_model(name, DTYPES[precision], device, head), load_tokenizer(name)
    require_fit(model, tokenizer, name)
    return model, tokenizer


def _save_answers(made: Generated, path: Path) -> None:
    np.savez(path, **vars(made))


def _save_scores(scores: NDArray[np.float32], path: Path) -> None:
    np.save(path, scores)
