"""Margins by workers of an engine: the bytes of one process, however they are cut."""

from __future__ import annotations

import dataclasses

import engine_tasks as helper
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from experiments.llm import margins
from experiments.llm.answers.packing import Chosen, States, Tokens
from experiments.llm.assembly import untrained
from experiments.llm.capacity import Capacity
from experiments.llm.guard import classifier, trained_weights
from experiments.support import registry
from experiments.support.config import to_object
from experiments.support.files import REPOSITORY
from experiments.support.runs.stages import Stage
from safeframe.types import SafeframeError

BATCH = 16


@pytest.fixture(scope="module")
def config():
    registry.register_schemas()
    with initialize_config_dir(str(REPOSITORY / "configs"), version_base="1.3"):
        arguments = ["experiment=llm", "preset=smoke", "threads=1", "progress=false", "classifier.rank=4"]
        return to_object(compose("config", overrides=arguments), registry.get("llm").schema)


@pytest.fixture(scope="module")
def module(config):
    """A classifier whose adapters are not what they were in the beginning."""
    made = untrained(config, Capacity("lora", 4))
    torch.manual_seed(5)
    with torch.no_grad():
        for value in made.parameters():
            if value.requires_grad:
                value.add_(0.1 * torch.randn_like(value))
    return made


@pytest.fixture(scope="module")
def table() -> Tokens:
    """250 texts of unlike length."""
    rng = np.random.default_rng(0)
    length = rng.integers(3, 30, size=250)
    ids = rng.integers(4, 60, size=int(length.sum())).astype(np.int32)
    return Tokens(np.concatenate([[0], np.cumsum(length)]).astype(np.int64), 0, ids, pad=1)


def spread(tmp_path, config, module, table) -> tuple[np.ndarray, int]:
    """(margins by tasks, number of tasks)."""
    stage = Stage(tmp_path, "llm", "margins", {}, "code")
    found = margins.spread_margins(stage, helper.engine(), config, module, Capacity("lora", 4), table, BATCH)
    return found, len(list((stage.directory / "tasks").glob("*.npy")))


@pytest.mark.parametrize(("texts", "shards"), [(10**6, 1), (64, 4), (16, 16), (5, 16)])
def test_one_four_and_sixteen_shards_are_the_same_bytes(
    tmp_path, monkeypatch, config, module, table, texts, shards
):
    monkeypatch.setattr(margins, "TEXTS", texts)
    expected = classifier.margins(module, table, BATCH)
    found, number = spread(tmp_path, config, module, table)
    assert number == shards
    assert found.tobytes() == expected.tobytes()
    assert len(set(expected.tolist())) > 200


def test_what_is_done_is_not_done_again(tmp_path, monkeypatch, config, module, table):
    monkeypatch.setattr(margins, "TEXTS", 64)
    first, _ = spread(tmp_path, config, module, table)
    monkeypatch.setattr(margins, "_judge", None)  # whoever calls it now fails
    again, _ = spread(tmp_path, config, module, table)
    assert again.tobytes() == first.tobytes()


def test_rows_are_packed_with_nothing_else(table):
    drawn = np.random.default_rng(1).normal(size=(int(table.start[-1]), 3)).astype(np.float16)
    states = States(table.start, 0, drawn)
    index = np.array([7, 3, 200])
    for whole in (table, states, Chosen(table, np.arange(250)[::-1]), Chosen(states, np.arange(250)[::-1])):
        some = whole.take(index)
        assert len(some) == 3
        for one, other in zip(some.batch(np.arange(3)), whole.batch(index), strict=True):
            assert torch.equal(one, other)
        assert some.length.sum() == whole.length[index].sum()


def test_weights_of_another_classifier_are_refused(tmp_path, config, module, table):
    stage = Stage(tmp_path, "llm", "margins", {}, "code")
    other = dataclasses.replace(config, classifier=dataclasses.replace(config.classifier, rank=2))
    weights = trained_weights.trained(module)
    weights.pop(next(iter(weights)))
    with pytest.raises(SafeframeError, match=r"holds \d+ weights, \d+ other ones are needed"):
        trained_weights.put(untrained(other, Capacity("lora", 4)), weights, "x")
    assert not stage.directory.exists()
