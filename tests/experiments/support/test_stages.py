"""The cache of stages: what it is keyed by, what it shares, and that a damaged file is never used."""

from __future__ import annotations

import json

import numpy as np
import pytest

from experiments.support import registry
from experiments.support.errors import CacheError
from experiments.support.runs import checkpoints, code, running, stages
from experiments.support.tracking import NoTracker


@pytest.fixture
def context(toy, tmp_path):
    def context_(*overrides: str) -> running.RunContext:
        return running.RunContext(
            registry.get("toy"), toy(*overrides), tmp_path, tmp_path / "cache", NoTracker()
        )

    return context_


class Counter:
    """Counts how often it computes."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, stage: stages.Stage) -> float:
        self.calls += 1
        return 1.25


def cached(context: running.RunContext, compute, depends_on=("training", "seed"), **options) -> float:
    return context.cache(
        "s",
        depends_on,
        compute,
        lambda v, p: p.write_text(str(v)),
        lambda p: float(p.read_text()),
        ".txt",
        **options,
    )


def test_shared_between_runs_that_agree_on_what_it_depends_on(context):
    compute = Counter()
    assert cached(context("r_t=1e-2"), compute) == 1.25
    again = context("r_t=1e-1")
    assert cached(again, compute) == 1.25
    assert compute.calls == 1
    assert again.stage_times["s"]["reused"]
    cached(context("training.rate=0.5"), compute)
    cached(context("seed=1"), compute)
    assert compute.calls == 3


def test_keyed_by_earlier_stages_values_and_code(context, tmp_path):
    compute = Counter()
    run = context()
    with run.stage("a", ["data"]) as first, run.stage("a", {"data": 1}) as second:
        assert first.hash != second.hash
    cached(run, compute, [first])
    cached(run, compute, [second])
    cached(run, compute, {"stage": first, "x": np.arange(3)})
    cached(run, compute, {"stage": first, "x": np.arange(4)})
    cached(run, compute, [first], code=stages.Stage)
    cached(run, compute, [first], code=code.fingerprint)
    assert compute.calls == 6
    cached(run, compute, [first])
    assert compute.calls == 6


def stage_files(tmp_path):
    (record,) = (tmp_path / "cache" / "s").glob("*/stage.json")
    return record, record.parent / "value.txt"


def test_a_damaged_value_is_refused(context, tmp_path):
    cached(context(), Counter())
    _, value = stage_files(tmp_path)
    value.write_text("9.99")
    with pytest.raises(
        CacheError, match=r"value.txt is damaged .* delete the directory .* to compute the stage again"
    ):
        cached(context(), Counter())
    value.unlink()
    with pytest.raises(CacheError, match=r"value.txt is missing; delete the directory"):
        cached(context(), Counter())


@pytest.mark.parametrize("content", ["", "{}", '{"file": "value.txt"}', "null", "[1]"])
def test_a_damaged_record_is_refused(context, tmp_path, content):
    cached(context(), Counter())
    record, _ = stage_files(tmp_path)
    record.write_text(content)
    with pytest.raises(CacheError, match=r"stage.json cannot be read .*delete the directory"):
        cached(context(), Counter())


def test_a_value_that_does_not_load_is_refused(context, tmp_path):
    cached(context(), Counter())
    with pytest.raises(CacheError, match=r"value.txt cannot be loaded \(ZeroDivisionError"):
        context().cache("s", ("training", "seed"), Counter(), lambda v, p: None, lambda p: 1 / 0, ".txt")


def test_an_unfinished_stage_is_computed_again(context, tmp_path):
    compute = Counter()
    cached(context(), compute)
    record, value = stage_files(tmp_path)
    record.unlink()
    (value.parent / ".value.abc.tmp.txt").write_text("half")
    assert cached(context(), compute) == 1.25
    assert compute.calls == 2
    assert not list(value.parent.glob(".*"))


def test_the_key_can_be_read(context, tmp_path):
    cached(context(), Counter())
    record, _ = stage_files(tmp_path)
    key = json.loads((record.parent / "key.json").read_text())
    assert key["experiment"] == "toy"
    assert key["depends_on"]["training"] == {"epochs": 4, "rate": 0.1}
    assert len(key["code"]) == 16


def test_a_failed_computation_leaves_no_record_and_no_temporary_file(context, tmp_path):
    def fails(stage: stages.Stage) -> float:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        cached(context(), fails)
    assert [path.name for path in (tmp_path / "cache" / "s").glob("*/*")] == ["key.json"]
    assert cached(context(), Counter()) == 1.25


def test_checkpoints_are_whole_or_refused(tmp_path):
    path = tmp_path / "checkpoint"
    assert checkpoints.read_checked(path) is None
    checkpoints.write_checked(path, b"state")
    assert checkpoints.read_checked(path) == b"state"
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole + b"x", b"", b"x" + whole, whole[:30] + b"\0" + whole[31:]):
        path.write_bytes(damaged)
        with pytest.raises(CacheError, match=r"checkpoint .*checkpoint is damaged; delete it"):
            checkpoints.read_checked(path)


def test_checkpoints_of_tensors(tmp_path):
    import torch

    path = tmp_path / "checkpoint"
    assert checkpoints.load_checkpoint(path) is None
    checkpoints.save_checkpoint(path, {"epoch": 3, "weights": torch.arange(4.0)})
    state = checkpoints.load_checkpoint(path)
    assert state is not None
    assert state["epoch"] == 3
    assert torch.equal(state["weights"], torch.arange(4.0))


def test_a_stage_that_keeps_something_says_what_makes_it(context):
    with context().stage("s", ["seed"]) as stage, pytest.raises(TypeError, match="open it with code="):
        stage.cached(lambda: 1.0, lambda v, p: None, lambda p: 1.0)
