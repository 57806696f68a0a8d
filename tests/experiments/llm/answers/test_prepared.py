"""A pool that was made before: guarded without a language model; what is wrong with a file is said."""

from __future__ import annotations

import subprocess
import sys
import tarfile

import numpy as np
import pandas as pd
import pytest
from decoders import base, tokenizer_of
from llm_recorded_fake import tiny_minilm  # noqa: F401

from experiments.llm.answers import features, prepared
from experiments.llm.answers.features import MiniLM
from experiments.llm.answers.packing import States
from experiments.llm.answers.pools import Pool
from experiments.llm.config import LLMConfig
from experiments.llm.models.language_model import save_pretrained
from experiments.llm.records import CANDIDATES_TABLE
from experiments.support import registry
from experiments.support.config import run_id, to_object
from experiments.support.errors import ConfigError
from experiments.support.files import REPOSITORY
from experiments.support.results import frames
from experiments.support.runs import running
from scripts import guard_chat_model


def pool(n: int = 60, k: int = 4, seed: int = 0) -> Pool:
    rng = np.random.default_rng(seed)
    words = np.array(["alpha", "beta", "one", "two", "red", "blue"])
    answer = [[" ".join(rng.choice(words, 4)) for _ in range(k)] for _ in range(n)]
    harmful = np.array([[int("red" in text) for text in row] for row in answer])
    unknown = np.full((n, k), np.nan)
    prompts = [f"{' '.join(rng.choice(words, 3))} {i}" for i in range(n)]
    done = rng.random((n, k)) < 0.8
    return Pool(
        prompts, answer, rng.normal(size=(n, k)), harmful, unknown, unknown, ["a", "b"] * (n // 2), done
    )


def configured(tmp_path, file, **change) -> LLMConfig:
    content = {
        "experiment": "llm", "preset": "smoke", "source": "chat", "r_t": 0.1, "threads": 1, "progress": False,
        "prepared": {"pool": str(file)}, "output": str(tmp_path / "runs"),
        "models": {"classifier": "minilm", "default_reward": -1.0},
        "pools": {"candidates": 4, "train": 20, "internal_test": 20, "validation": 20},
        "classifier": {"epochs": 2.0, "batch": 16}, "rules": {"scale": "logistic"},
        "tailored": {"steps": 2, "inputs": 4, "test_cases": 16},
        "evaluation": {"thresholds": [0.3, 1.0], "xi": "0"},
    }  # fmt: skip
    for name, value in change.items():
        content[name] = content[name] | value if isinstance(content.get(name), dict) else value
    return to_object(content, LLMConfig)


def test_a_run_on_a_prepared_pool(tmp_path, tiny_minilm):  # noqa: F811
    pool().save(tmp_path / "pool.npz")
    config = configured(tmp_path, tmp_path / "pool.npz", pools={"candidates": 3})
    directory = running.perform(registry.get("llm"), config)
    frame = frames.read(directory)
    assert {"ours", "ours_priced", "ours_priced_certified", "ours_one_more", "ours_shrinkage"} <= set(
        frame["method"]
    )
    alone = frame[frame["method"] == "ai"].set_index("metric")["value"]
    assert alone["default_share.a"] == alone["default_share.b"] == 0
    assert min(alone["harmful.answered.a"], alone["harmful.answered.b"]) <= alone["harmful.answered"]
    table = pd.read_parquet(directory / f"{CANDIDATES_TABLE}.parquet")
    assert len(table) == 60 * 3
    assert table.groupby("split")["prompt"].nunique().to_dict() == {
        "train": 20, "internal_test": 20, "validation": 20
    }  # fmt: skip
    assert "alpha" not in table.to_csv()
    pool(seed=1).save(tmp_path / "pool.npz")
    assert run_id(config) != directory.name  # its content counts


@pytest.mark.parametrize("layers", [None, 1])
def test_a_decoder_classifies_a_prepared_pool_without_minilm(tmp_path, monkeypatch, layers):
    pool().save(tmp_path / "pool.npz")
    tokenizer = tokenizer_of("llama")
    save_pretrained(base("llama", tokenizer), tokenizer, tmp_path / "model")

    def absent(*_, **__):
        raise AssertionError("MiniLM is not asked for")

    monkeypatch.setattr(prepared, "MiniLM", absent)
    config = configured(
        tmp_path, tmp_path / "pool.npz", frozen={"layers": layers},
        models={"classifier": str(tmp_path / "model"), "max_prompt_tokens": 12, "max_answer_tokens": 8},
    )  # fmt: skip
    frame = frames.read(running.perform(registry.get("llm"), config))
    assert {"ours", "rejection_best", "ours_shrinkage"} <= set(frame["method"])
    cut = frame[frame["metric"] == "truncated"]["value"].item()
    assert cut > 0  # answers of about twenty bytes, each a token


def test_what_is_wrong_is_said(tmp_path, tiny_minilm):  # noqa: F811
    file = tmp_path / "pool.npz"
    pool().save(file)

    def said(match: str, config: LLMConfig) -> None:
        with pytest.raises(ConfigError, match=match):
            running.perform(registry.get("llm"), config)

    said("pools.train .* are 120", configured(tmp_path, file, pools={"train": 80}))
    said("with 4 candidates", configured(tmp_path, file, pools={"candidates": 5}))
    said("models.default_reward=NUMBER", configured(tmp_path, file, models={"default_reward": None}))
    (tmp_path / "no.npz").write_text("no pool")
    said("is no pool of answers", configured(tmp_path, tmp_path / "no.npz"))
    with pytest.raises(ConfigError, match=r"prepared\.pool needs source=chat"):
        configured(tmp_path, file, source="synthetic")


def test_states_in_parts_are_those_of_all_together(tmp_path, tiny_minilm, monkeypatch):  # noqa: F811
    """And a killed run goes on from the parts that are there."""
    monkeypatch.setattr(features, "PART", 3)
    mini = MiniLM()
    prompts, answers = [f"alpha one {i}" for i in range(8)], ["red blue"] * 7 + ["two"]
    whole = mini.hidden(prompts, answers, 32)
    parts = mini.in_parts(prompts, answers, 32, tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) == 3
    assert np.array_equal(whole.start, parts.start)
    np.testing.assert_allclose(whole.state.astype(float), parts.state.astype(float), atol=2e-3)
    (tmp_path / "00000006.npz").unlink()

    def only_the_last(self, some, said, longest):
        assert len(some) == 2
        return States(parts.start[6:] - parts.start[6], 0, parts.state[parts.start[6] :])

    monkeypatch.setattr(features.MiniLM, "hidden", only_the_last)
    again = mini.in_parts(prompts, answers, 32, tmp_path)
    assert np.array_equal(again.state, parts.state)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--pool", "nowhere.npz"], "--pool nowhere.npz: no such file"),
        (["--pool", __file__], "--pool needs --default-reward"),
        (["--red-team", "a.jsonl", "--everyday", "b.jsonl"], "--comparisons are needed, or --pool"),
    ],
)
def test_the_script_says_what_it_lacks(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["guard_chat_model.py", *arguments, "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit):
        guard_chat_model.main()
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_the_script_runs_seeds_on_a_pool_that_is_there(tmp_path):
    pool().save(tmp_path / "pool.npz")
    tokenizer = tokenizer_of("llama")
    save_pretrained(base("llama", tokenizer), tokenizer, tmp_path / "model")
    settings = ("preset=smoke", "evaluation.xi=0", "evaluation.thresholds=[0.3, 1.0]", "tailored.steps=2",
                "tailored.inputs=4", "tailored.test_cases=16", "capacity.weights=all")  # fmt: skip
    command = [
        sys.executable, str(REPOSITORY / "scripts" / "guard_chat_model.py"), "--pool", "pool.npz",
        "--default-reward", "-1", "--model", "model", "--precision", "float32", "--prompts", "20", "20", "20",
        "--candidates", "3", "--seeds", "0", "1", "--keep", "0", "--work", "work", "--out", "out",
        "--setting", *settings,
    ]  # fmt: skip
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=600)
    table = pd.read_parquet(tmp_path / "out" / "candidates.parquet")
    assert table.groupby("seed").size().to_dict() == {0: 180, 1: 180}
    assert np.isfinite(table.loc[table["split"] == "validation", "margin.ours"]).all()
    with tarfile.open(tmp_path / "out" / "runs.tar") as archive:
        assert sum(name.endswith("/results.parquet") for name in archive.getnames()) == 2
    assert not (tmp_path / "out" / "cost.tar").exists()  # no score model was trained
    wrong = [*command, "pools.train=1"]
    failed = subprocess.run(wrong, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert failed.returncode == 1
    assert "pools.train" in failed.stdout
