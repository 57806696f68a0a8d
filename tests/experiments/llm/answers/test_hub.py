"""Source `hub` end to end with small random models in folders, loaded as those of the hub are."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from llm_small import SMALL

from experiments.llm.answers.hub import HubSource, split_of_text
from experiments.llm.answers.reading import identity_of
from experiments.llm.models import fine_tune, hub_data
from experiments.llm.models.hub_data import COMPARED, comparison_rows, read_rows
from experiments.llm.models.language_model import (
    load_language_model,
    new_language_model,
    save_pretrained,
)
from experiments.llm.models.model_settings import ModelsConfig
from experiments.llm.models.tokenizer import SYNTHETIC_TEMPLATE
from experiments.llm.world import grammar
from experiments.llm.world.conversation_world import World
from experiments.llm.world.vocabulary import build_tokenizer
from experiments.support import registry
from experiments.support.config import to_object
from experiments.support.errors import ConfigError
from experiments.support.files import REPOSITORY
from experiments.support.results import frames
from experiments.support.runs import running
from experiments.support.seeding import Seeds
from safeframe.types import SafeframeError


def rows(n: int = 400) -> list[dict]:
    """Comparisons in PKU-SafeRLHF's columns."""
    world, rng = World(0), np.random.default_rng(0)
    prompts = grammar.draw_prompts("train", n, rng)
    answers = [grammar.write_answers(prompts, world.use, world.risk(prompts), rng) for _ in range(2)]
    found = [world.truth(prompts, a) for a in answers]
    better = (found[1].helpfulness > found[0].helpfulness).astype(int)
    safer = (found[1].logit < found[0].logit).astype(int)
    texts = [grammar.render(a) for a in answers]
    return [
        {
            "prompt": prompt,
            "response_0": texts[0][i],
            "response_1": texts[1][i],
            "is_response_0_safe": bool(found[0].harm[i] < 0.5),
            "is_response_1_safe": bool(found[1].harm[i] < 0.5),
            "better_response_id": int(better[i]),
            "safer_response_id": int(safer[i]),
            "source": f"s{i % 3}",
        }
        for i, prompt in enumerate(prompts.text())
    ]


def write(path, content) -> str:
    path.write_text("\n".join(json.dumps(row) for row in content) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A base model, data, and every step of the fine-tuning."""
    place = tmp_path_factory.mktemp("hub")
    save_pretrained(new_language_model(build_tokenizer(), SMALL, 0), build_tokenizer(), place / "base")
    write(place / "data.jsonl", rows())
    common = [
        f"data={place / 'data.jsonl'}",
        f"template={SYNTHETIC_TEMPLATE}",
        "device=cpu",
        "max_prompt_tokens=40",
    ]
    common += ["max_answer_tokens=24"]
    fit = ["steps=3", "batch=8", "micro=4", "learning_rate=1e-2"]
    ppo = ["iterations=2", "batch=8", "minibatch=4", "cost_limit=0.1", "ptx_coefficient=1"]
    for step, start, more in (
        ("sft", "base", fit),
        ("reward", "sft", fit),
        ("cost", "sft", fit),
        ("ppo_lag", "sft", [f"reward={place / 'reward'}", f"cost={place / 'cost'}", *ppo]),
    ):
        out = "ai" if step == "ppo_lag" else step
        assert (
            fine_tune.main([f"step={step}", f"model={place / start}", f"out={place / out}", *more, *common])
            == 0
        )
    save_pretrained(
        new_language_model(build_tokenizer(), SMALL, 9), build_tokenizer(), place / "classifier_base"
    )
    return place


def models(folder, **more) -> dict:
    return {
        "folder": str(folder), "prompts": str(folder / "data.jsonl"), "template": SYNTHETIC_TEMPLATE,
        "score_template": SYNTHETIC_TEMPLATE, "label_noise": 0.3, **more,
    }  # fmt: skip


def test_every_step_changes_what_it_started_from(folder):
    weights = {
        name: load_language_model(folder / name).state_dict()["model.decoder.layers.0.fc1.weight"]
        for name in ("base", "sft", "ai")
    }
    assert not torch.equal(weights["base"], weights["sft"])
    assert not torch.equal(weights["sft"], weights["ai"])
    assert not list(folder.glob("*.checkpoint"))


def test_what_is_done_is_left_alone(folder, capsys):
    before = identity_of(str(folder / "sft"))
    assert fine_tune.main(["step=sft", f"model={folder / 'base'}", f"out={folder / 'sft'}", "steps=9"]) == 0
    assert "is done" in capsys.readouterr().out
    assert identity_of(str(folder / "sft")) == before


def test_the_whole_experiment_runs(folder, tmp_path):
    experiment = registry.get("llm")
    config = to_object(
        {
            "experiment": "llm",
            "source": "hub",
            "preset": "smoke",
            "models": models(folder, max_answer_tokens=24),
            "progress": False,
            "pools": {"candidates": 3, "train": 40, "internal_test": 60, "validation": 60},
            "threads": 1,
            "classifier": {"epochs": 1.0, "batch": 16},
            "tailored": {"steps": 2, "inputs": 4, "test_cases": 32},
            "output": str(tmp_path),
        },
        experiment.schema,
    )
    frame = frames.read(running.perform(experiment, config))
    assert {"ours", "ai", "best_of_k"} <= set(frame["method"])


class Context:
    """What a source asks of a run, without a cache."""

    def __init__(self, seed: int = 0):
        self.seeds = Seeds(seed)


def test_splits_share_no_prompt_and_too_few_are_told(folder):
    source = HubSource(ModelsConfig(**models(folder)), 2, Context())
    asked = {split: source.ask(split, 60) for split in ("train", "internal_test", "validation")}
    texts = [set(found.text) for found in asked.values()]
    assert not (texts[0] & texts[1] | texts[0] & texts[2] | texts[1] & texts[2])
    assert set(asked["train"].group) == {"s0", "s1", "s2"}
    with pytest.raises(
        SafeframeError, match=r"different prompts for train, 1000 are asked for.*lower.*pools\.train"
    ):
        source.ask("train", 1000)
    assert split_of_text("Open  the LOCK ?") == split_of_text("open the lock ?")


@pytest.mark.parametrize("compressed", [True, False])
def test_rows_are_read_from_files(tmp_path, compressed):
    content = rows(5)
    if compressed:
        path = tmp_path / "data.jsonl.gz"
        with gzip.open(path, "wt") as file:
            file.write("\n".join(json.dumps(row) for row in content))
    else:
        path = write(tmp_path / "data.jsonl", content)
    assert read_rows(str(path), COMPARED) == content


def broken(tmp_path, kind: str) -> str:
    content = rows(4)
    if kind == "column":
        del content[2]["better_response_id"]
    elif kind == "empty":
        content[1]["prompt"] = "  "
    elif kind == "none":
        content = []
    path = tmp_path / "data.jsonl"
    write(path, content)
    if kind == "json":
        path.write_text('{"prompt": "a"}\n{"prompt": \n')
    return str(tmp_path / "no.jsonl") if kind == "file" else str(path)


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("file", ConfigError, "no such file: .*no.jsonl"),
        ("column", ConfigError, "row 2 lacks better_response_id; its columns are prompt"),
        ("empty", SafeframeError, "1 of 4 are empty, the first at index 1"),
        ("none", ConfigError, "holds no rows"),
        ("json", ConfigError, "line 2 is not JSON"),
    ],
)
def test_bad_data(tmp_path, kind, error, message):
    with pytest.raises(error, match=message):
        read_rows(broken(tmp_path, kind), ("prompt",) if kind == "json" else COMPARED)


def test_labels_outside_zero_and_one():
    content = rows(3)
    assert [row["preferred"] for row in comparison_rows(content, "cost")] == [
        1 - r["safer_response_id"] for r in content
    ]
    content[1]["safer_response_id"] = 2
    with pytest.raises(SafeframeError, match="row 1: safer_response_id is 2; 0 or 1 is needed"):
        comparison_rows(content, "cost")


def test_without_a_network_the_data_say_what_to_download(monkeypatch):
    def unreachable(*_args, **_more):
        raise ConnectionError("Couldn't reach 'PKU-Alignment/PKU-SafeRLHF' on the Hub")

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    with pytest.raises(ConfigError, match=r"hf download PKU-Alignment/PKU-SafeRLHF --repo-type dataset"):
        hub_data.read_rows("PKU-Alignment/PKU-SafeRLHF", COMPARED)


def test_the_guarded_model_must_be_given():
    source = HubSource(ModelsConfig(), 2, Context())
    assert source.place("cost") == "PKU-Alignment/beaver-7b-v1.0-cost"
    with pytest.raises(ConfigError, match=r"the model 'ai' is missing: give models.ai=DIR"):
        source.place("ai")
    with pytest.raises(ConfigError, match=r"models.policies.ppo_lag_0.1=DIR"):
        source.place("ppo_lag_0.1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["step=dpo", "model=a", "out=b"], "step='dpo' is not one of: sft, reward, cost, scores, ppo_lag"),
        (["step=sft", "model=a"], "step=sft needs out=..."),
        (["step=ppo_lag", "model=a", "out=b"], "needs reward=..., cost=..."),
        (["step=sft", "model=a", "out=b", "clip=0.1"], "unknown settings: clip"),
        (["step=sft", "model=a", "out=b", "steps=many"], "steps='many': a value of type int"),
        (["step=cost", "model=a", "out=b", "unfinished=2"], "unfinished=2.0: a share from 0 to 1"),
        (["sft"], "'sft' is not key=value"),
    ],
)
def test_wrong_arguments(arguments, message, capsys):
    assert fine_tune.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_step_that_fails_says_why_and_leaves_nothing(tmp_path, capsys):
    data = write(tmp_path / "data.jsonl", rows(4))
    done = fine_tune.main(["step=sft", f"model={tmp_path / 'no'}", f"out={tmp_path / 'sft'}", f"data={data}"])
    assert done == 1
    assert "could not be loaded" in capsys.readouterr().err
    assert not (tmp_path / "sft").exists()


@pytest.mark.long
def test_two_processes_through_accelerate(folder, tmp_path):
    """Each takes half of every batch; the result is that of one process with the whole."""
    made = {}
    for processes in (1, 2):
        out = tmp_path / f"sft_{processes}"
        command = [
            sys.executable,
            "-m",
            "accelerate.commands.launch",
            "--cpu",
            "--num_processes",
            str(processes),
        ]
        command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "-m"]
        command += [
            "experiments.llm.models.fine_tune",
            "step=reward",
            f"model={folder / 'sft'}",
            f"out={out}",
            "steps=3",
        ]
        command += ["batch=8", "micro=8", "learning_rate=1e-3", f"data={folder / 'data.jsonl'}", "device=cpu"]
        command += [f"template={SYNTHETIC_TEMPLATE}", "distributed=true", "max_prompt_tokens=40"]
        done = subprocess.run(
            command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        made[processes] = load_language_model_weights(out)
    for name, value in made[1].items():
        torch.testing.assert_close(value, made[2][name], atol=1e-4, rtol=1e-3)


def load_language_model_weights(folder) -> dict:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")
