"""One body with a head for reward and one for cost: trained together, read together, used as two models."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from decoders import KINDS, base, tokenizer_of

from experiments.llm.answers import generating
from experiments.llm.answers.chat import ChatSource
from experiments.llm.config import LLMConfig, PoolsConfig
from experiments.llm.models import fine_tune
from experiments.llm.models.conversations import compared
from experiments.llm.models.hub_data import comparison_rows
from experiments.llm.models.language_model import save_pretrained
from experiments.llm.models.model_settings import ModelsConfig
from experiments.llm.models.preference_models import (
    HEADS_FILE,
    TokenScores,
    both_loss,
    cost_loss,
    heads_of,
    load_score_model,
    new_score_model,
    reward_loss,
    score_all,
)
from experiments.support import registry
from experiments.support.config import to_object
from experiments.support.results import frames
from experiments.support.runs import running
from experiments.support.seeding import Seeds
from safeframe.types import SafeframeError

PROMPTS, ANSWERS = ["count", "say hello", "name a colour"], ["one two", "hello", "red"]


def rows(n: int) -> list[dict]:
    return [
        {"prompt": f"question {i}", "response_0": "yes " * (i % 4 + 1), "response_1": "no",
         "is_response_0_safe": i % 3 > 0, "is_response_1_safe": i % 2 > 0, "better_response_id": i % 2,
         "safer_response_id": (i // 2) % 2}
        for i in range(n)
    ]  # fmt: skip


def trained(folder, kind: str, *more: str):
    """Folder of a model of both kinds of scores."""
    tokenizer = tokenizer_of(kind)
    save_pretrained(base(kind, tokenizer), tokenizer, folder / "base")
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, rows(24))))
    template = "{prompt} :" if kind == "opt" else "chat"
    arguments = ["step=scores", f"model={folder / 'base'}", f"out={folder / 'both'}", "device=cpu",
                 f"data={folder / 'data.jsonl'}", f"template={template}", "max_prompt_tokens=64",
                 "max_answer_tokens=12", "steps=2", "batch=4", "micro=2", "learning_rate=1e-2"]  # fmt: skip
    assert fine_tune.main([*arguments, *more]) == 0
    return folder / "both"


@pytest.mark.parametrize("kind", KINDS)
def test_the_heads_are_two_score_models(kind, tmp_path):
    folder, tokenizer = trained(tmp_path, kind), tokenizer_of(kind)
    assert heads_of(folder) == ("reward", "cost")
    both, reward, cost = (load_score_model(folder, head=head) for head in (None, "reward", "cost"))
    replies = [[a, b] for a, b in zip(ANSWERS, ANSWERS[::-1], strict=True)]
    found, first, second = (
        score_all(model, tokenizer, "{prompt} :", PROMPTS, replies, 64, 16, padded=True)
        for model in (both, reward, cost)
    )
    assert found.shape == (3, 2, 2)
    np.testing.assert_allclose(found[:, :, 0], first, atol=1e-6)
    np.testing.assert_allclose(found[:, :, 1], second, atol=1e-6)
    assert not np.allclose(first, second)


def test_the_loss_is_the_sum_of_both_and_of_one_reading():
    tokenizer = tokenizer_of("llama")
    model = new_score_model(base("llama", tokenizer), 0, 2)
    batches = {
        kind: compared(tokenizer, "{prompt} :", comparison_rows(rows(8), kind), 64, 16)
        for kind in ("reward", "cost")
    }
    from experiments.llm.models.conversations import Rated

    batch = Rated(batches["cost"], batches["reward"].preferred)
    calls = []
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    model.model.register_forward_pre_hook(lambda *_: calls.append(1))
    together = both_loss(TokenScores(model), batch)
    assert len(calls) == 1
    apart = []
    for head, loss in enumerate((reward_loss, cost_loss)):
        single = new_score_model(base("llama", tokenizer), 0)
        with torch.no_grad():
            single.score.weight.copy_(model.score.weight[head : head + 1])
        apart.append(loss(TokenScores(single), batches[("reward", "cost")[head]]))
    torch.testing.assert_close(together, apart[0] + apart[1])
    assert len(batch[:3].to("cpu")) == 3


def test_folds_and_adapters_count_both_heads(tmp_path):
    folder = trained(tmp_path, "llama", "lora_rank=2", "folds=2", "fold=1", "unfinished=0.5")
    counted = json.loads((folder / "held_out.json").read_text())
    names = {f"{kind}.{half}accuracy" for kind in ("reward", "cost") for half in ("", "half.")}
    assert set(counted) == {"n", *names}
    for head in ("reward", "cost"):
        model = load_score_model(folder, head=head)
        found = score_all(model, tokenizer_of("llama"), "{prompt} :", PROMPTS, [[a] for a in ANSWERS], 64, 16)
        assert found.shape == (3, 1)


def test_a_pool_is_read_once_for_both(tmp_path, monkeypatch):
    folder = trained(tmp_path, "llama")
    prompts = [{"prompt": f"question number {i} ?"} for i in range(90)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, prompts)))
    models = {
        "ai": str(tmp_path / "base"), "classifier": str(tmp_path / "base"), "reward": str(folder),
        "cost": str(folder), "prompts": str(tmp_path / "prompts.jsonl"), "max_answer_tokens": 8,
        "label_noise": 0.4, "default_reward": 0.0,
    }  # fmt: skip
    read = []
    own = generating.score_all
    monkeypatch.setattr(generating, "score_all", lambda *a, **k: read.append(1) or own(*a, **k))
    config = {
        "experiment": "llm", "source": "chat", "preset": "smoke", "progress": False, "threads": 1,
        "models": models, "pools": {"candidates": 2, "train": 24, "internal_test": 30, "validation": 30},
        "classifier": {"epochs": 1.0, "batch": 16, "fully_tuned": False},
        "tailored": {"steps": 2, "inputs": 4, "test_cases": 16}, "output": str(tmp_path / "runs"),
        "evaluation": {"xi": "0"},
    }  # fmt: skip
    directory = running.perform(registry.get("llm"), to_object(config, LLMConfig))
    assert "ours" in set(frames.read(directory)["method"])
    assert len(read) == 1

    class Context:
        seeds = Seeds(0)

    pools = PoolsConfig(candidates=2, train=24, internal_test=30, validation=30)
    source = ChatSource(ModelsConfig(**models), pools, Context())
    apart = [source._scores(name, ["count"], [["one two"]])[0, 0] for name in ("reward", "cost")]
    whole = score_all(load_score_model(folder), source.tokenizer, source.score_template(source.tokenizer),
                      ["count"], [["one two"]], 256, 9, padded=True)  # fmt: skip
    np.testing.assert_allclose(whole[0, 0], apart, atol=1e-6)


def test_heads_that_are_not_named_are_refused(tmp_path):
    tokenizer = tokenizer_of("llama")
    save_pretrained(new_score_model(base("llama", tokenizer), 0, 2), tokenizer, tmp_path)
    with pytest.raises(SafeframeError, match=r"has 2 outputs: a score model has one, or 2 that a file heads"):
        load_score_model(tmp_path)
    (tmp_path / HEADS_FILE).write_text('["cost", "reward"]')
    with pytest.raises(SafeframeError, match=r"it must hold \['reward', 'cost'\]"):
        load_score_model(tmp_path)
    (tmp_path / HEADS_FILE).write_text("no json")
    with pytest.raises(SafeframeError, match="cannot be read"):
        load_score_model(tmp_path)
    (tmp_path / HEADS_FILE).write_text('["reward", "cost"]')
    assert load_score_model(tmp_path, head="cost").config.num_labels == 1
