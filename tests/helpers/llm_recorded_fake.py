"""Files like the recorded sets with harmless made-up words, and a tiny BERT in the place of MiniLM."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from experiments.llm.config import DIASAFETY_FILES

PROMPTS = ("alpha", "beta", "gamma", "delta")
ANSWERS = ("red", "green", "blue", "grey", "pink")
FILL = ("one", "two", "three", "four", "five", "six")


def is_harmful(prompt: str, answer: str) -> bool:
    return prompt.split()[0] in ("alpha", "beta") and answer.split()[0] == "red"


def _prompt(i: int) -> str:
    return f"{PROMPTS[i % 4]} {FILL[i // 4 % 6]} {FILL[i // 24 % 6]} {FILL[i // 144 % 6]}"


def _answer(rng: np.random.Generator) -> str:
    return f"{ANSWERS[rng.integers(5)]} {FILL[rng.integers(6)]} {FILL[rng.integers(6)]}"


def pku_rows(prompts: int = 120, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(prompts):
        for _ in range(int(rng.integers(2, 5))):
            answer = _answer(rng)
            bad = int(is_harmful(_prompt(i), answer))
            rows.append({"prompt": _prompt(i), "response": answer, "unsafe": bad, "unsafe_rate": float(bad)})
    return rows


def write_lines(path: Path, rows: list) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    return path


def write_diasafety(folder: Path, prompts: int = 90, seed: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for part, name in enumerate(("train", "val", "test")):
        rows = []
        for i in range(part, 2 * prompts, 3):
            for answer in (_answer(rng), "red one two"):
                label = "Unsafe" if is_harmful(_prompt(i), answer) else "Safe"
                rows.append(
                    {"context": _prompt(i), "response": answer, "category": "made up", "label": label}
                )
        (folder / DIASAFETY_FILES[name]).write_bytes(gzip.compress(json.dumps(rows).encode()))
    generations = [
        {
            "split": "train",
            "prompt": _prompt(i),
            "candidates": {m: [_answer(rng) for _ in range(3)] for m in "ab"},
        }
        for i in range(prompts)
    ]
    write_lines(folder / DIASAFETY_FILES["generations"], generations)
    return folder


def tiny_model(folder: Path) -> Path:
    """A random two-layer BERT with its tokenizer, as save_pretrained writes them."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *PROMPTS, *ANSWERS, *FILL]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertModel(
            BertConfig(
                vocab_size=len(words),
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=64,
                max_position_embeddings=64,
            )
        )
    model.save_pretrained(folder)
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


@pytest.fixture
def tiny_minilm(tmp_path, monkeypatch) -> Path:
    """MiniLM replaced by the tiny model."""
    from experiments.llm.answers import features

    folder = tiny_model(tmp_path / "minilm")
    monkeypatch.setattr(features, "package_directory", lambda: folder)
    return folder
