"""Recorded answers as pools: PKU-SafeRLHF with human labels, DiaSafety with a judge trained on human labels.

PKU-SafeRLHF (Ji et al. 2023, arXiv 2307.04657; Dai et al. 2024): several answers of one model to a prompt,
each labelled by people. DiaSafety (Sun et al. 2022, arXiv 2110.08466): 140 unlabelled answers a prompt, and
11,209 other (context, response) pairs labelled by people. There a judge stands in for the paper's cost model:
it learns from the pairs whose context is no prompt of the pools, and labels the candidates; pairs whose
context is one measure its error.

Reward, for want of a reward model, is relevance: the cosine of the sentence embeddings of prompt and answer
(MiniLM), the default answer included. Splits are by prompt (context), so none is shared.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.llm.answers.pools import UNKNOWN, Pool
from experiments.llm.config import DIASAFETY_FILES
from safeframe.types import SafeframeError

SHARES = {"train": 0.4, "internal_test": 0.3, "validation": 0.3}
"""Of all prompts, where the configured numbers exceed what there is."""
LABELS = {"Safe": 0, "Unsafe": 1}
_PKU_FIELDS = ("prompt", "response", "unsafe", "unsafe_rate")
_DRAW = 20250424  # which of the 140 answers are candidates: the same for every seed


@dataclass(frozen=True)
class Labelled:
    """n (prompt, answer) pairs with human labels (n,); prompts with recorded answers that were not drawn."""

    prompt: list[str]
    answer: list[str]
    label: np.ndarray
    group: list[str]
    undrawn: frozenset[str] = frozenset()


def read_pku(path: Path, candidates: int) -> Pool:
    """All prompts with two labelled answers or more, up to `candidates` each (the first in the file).

    Raises SafeframeError for a line that is no JSON object, a missing column, an empty prompt, a label
    outside {0, 1, -1}, or a class that is absent.
    """
    by_prompt: dict[str, list[dict]] = {}
    for number, row in _lines(path):
        _require(row, _PKU_FIELDS, path, number)
        if not str(row["prompt"]).strip():
            raise SafeframeError(f"{path}, line {number}: the prompt is empty; every line needs one")
        if row["unsafe"] not in (0, 1, UNKNOWN):
            raise SafeframeError(
                f"{path}, line {number}: unsafe={row['unsafe']!r}; it must be 0, 1, or -1 (votes conflict)"
            )
        if row["unsafe"] != UNKNOWN and str(row["response"]).strip():
            by_prompt.setdefault(row["prompt"], []).append(row)
    kept = {prompt: rows[:candidates] for prompt, rows in by_prompt.items() if len(rows) >= 2}
    if not kept:
        raise SafeframeError(f"{path}: no prompt has two labelled answers or more")
    width = max(map(len, kept.values()))
    harmful = np.full((len(kept), width), UNKNOWN, dtype=np.int8)
    rate = np.full((len(kept), width), np.nan, dtype=np.float32)
    answers = []
    for i, rows in enumerate(kept.values()):
        harmful[i, : len(rows)] = [row["unsafe"] for row in rows]
        rate[i, : len(rows)] = [row["unsafe_rate"] for row in rows]
        answers.append([row["response"] for row in rows] + [""] * (width - len(rows)))
    require_both(harmful[harmful != UNKNOWN], str(path))
    return _pool(list(kept), answers, harmful, rate, ["alpaca-7b"] * len(kept))


def read_diasafety(folder: Path, candidates: int, prompts: int) -> tuple[Pool, Labelled]:
    """`prompts` prompts with `candidates` of their 140 answers, labels unknown; and all human-labelled pairs.

    Candidates are drawn over the fourteen models evenly, with a fixed seed. Raises SafeframeError as
    `read_pku`; `judged` fills in the labels.
    """
    labelled: list[dict] = []
    for name in ("train", "val", "test"):
        path = folder / DIASAFETY_FILES[name]
        try:
            rows = json.loads(gzip.decompress(path.read_bytes()))
        except (OSError, ValueError, EOFError) as error:
            raise SafeframeError(f"{path} is not a gzipped JSON list ({error})") from error
        for number, row in enumerate(rows, 1):
            _require(row, ("context", "response", "category", "label"), path, number)
            if row["label"] not in LABELS:
                raise SafeframeError(
                    f"{path}, entry {number}: label={row['label']!r}; it must be Safe or Unsafe"
                )
        labelled += [row for row in rows if row["context"].strip() and row["response"].strip()]
    label = np.array([LABELS[row["label"]] for row in labelled])
    require_both(label, str(folder))
    category = {row["context"]: row["category"] for row in labelled}
    path = folder / DIASAFETY_FILES["generations"]
    by_prompt: dict[str, dict] = {}
    for number, row in _lines(path):
        _require(row, ("prompt", "candidates"), path, number)
        if not str(row["prompt"]).strip():
            raise SafeframeError(f"{path}, line {number}: the prompt is empty; every line needs one")
        by_prompt.setdefault(row["prompt"], row["candidates"])
    rng = np.random.default_rng(_DRAW)
    chosen = sorted(rng.permutation(len(by_prompt))[:prompts])
    names = list(by_prompt)
    answers, kept = [], []
    for i in chosen:
        drawn = _drawn(by_prompt[names[i]], candidates, rng)
        if len(drawn) == candidates:
            answers.append(drawn)
            kept.append(names[i])
    if not kept:
        raise SafeframeError(f"{path}: no prompt has {candidates} answers")
    shape = (len(kept), candidates)
    unknown = np.full(shape, UNKNOWN, dtype=np.int8)
    groups = [category.get(prompt, "unlabelled") for prompt in kept]
    human = Labelled(
        [row["context"] for row in labelled],
        [row["response"] for row in labelled],
        label,
        [row["category"] for row in labelled],
        frozenset(names) - frozenset(kept),
    )
    return _pool(kept, answers, unknown, np.full(shape, np.nan), groups), human


def _drawn(by_model: dict[str, list[str]], count: int, rng: np.random.Generator) -> list[str]:
    """`count` answers that are not empty, models in turn."""
    shuffled = []
    for name in sorted(by_model):
        texts = [text for text in by_model[name] if text.strip()]
        shuffled.append([texts[j] for j in rng.permutation(len(texts))])
    order = rng.permutation(len(shuffled))
    rounds = max(map(len, shuffled), default=0)
    flat = [shuffled[m][j] for j in range(rounds) for m in order if j < len(shuffled[m])]
    return flat[:count]


def _pool(prompts, answers, harmful, rate, groups) -> Pool:
    zeros = np.zeros(harmful.shape, dtype=np.float32)
    return Pool(prompts, answers, zeros, harmful, rate, np.full(harmful.shape, np.nan), groups)


def with_reward(pool: Pool, reward: np.ndarray) -> Pool:
    """The pool with rewards (n, k) filled in."""
    content = dict(vars(pool)) | {"reward": reward}
    return Pool(**{name: content[name] for name in Pool.__dataclass_fields__})


def judged(pool: Pool, probability: np.ndarray) -> Pool:
    """The pool labelled by a judge's P(harm) (n, k): harmful where it exceeds one half."""
    content = dict(vars(pool)) | {"harmful": (probability > 0.5).astype(np.int8)}
    return Pool(**{name: content[name] for name in Pool.__dataclass_fields__})


def split_sizes(total: int, wanted: dict[str, int]) -> dict[str, int]:
    """Prompts of each split: as wanted where there are enough, else by `SHARES`."""
    if sum(wanted.values()) <= total:
        return wanted
    sizes = {name: int(share * total) for name, share in SHARES.items()}
    return {name: min(sizes[name], wanted[name]) for name in sizes}


def require_both(label: np.ndarray, where: str) -> None:
    """SafeframeError if a class has no case."""
    harmful, total = int((label == 1).sum()), len(label)
    if harmful in (0, total):
        raise SafeframeError(
            f"{where}: {harmful} of {total} labelled answers are harmful; harmful and harmless ones are "
            "needed"
        )


def _lines(path: Path):
    """(number, object) of every line of a .jsonl or .jsonl.gz file."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise SafeframeError(f"{path}, line {number}: expected a JSON object")
                    yield number, row
    except FileNotFoundError as error:
        raise SafeframeError(f"no such file: {path}") from error
    except (OSError, EOFError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SafeframeError(f"{path} cannot be read as lines of JSON ({error})") from error


def _require(row: dict[str, Any], names: tuple[str, ...], path: Path, number: int) -> None:
    missing = [name for name in names if name not in row]
    if missing:
        raise SafeframeError(
            f"{path}, line {number}: missing {', '.join(missing)}; needed: {', '.join(names)}"
        )
