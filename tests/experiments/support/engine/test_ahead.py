"""Parts of a run done ahead by workers: the stages that the run makes itself, found when it comes to them."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import engine_parts
import engine_tasks as helper
import pytest

from experiments.support import registry
from experiments.support.files import REPOSITORY
from experiments.support.runs.ahead import Losses, ahead
from experiments.support.runs.context import RunContext
from safeframe.types import SafeframeError


@pytest.fixture
def context(toy, tmp_path, monkeypatch):
    """`context("joblib", 2)`: of a run of the toy experiment on an engine; it listens to losses."""
    helpers = str(Path(engine_parts.__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), helpers]))
    made = []

    def context_(name: str, workers: int = 1, cache: str = "cache") -> RunContext:
        config = toy(f"engine={name}", f"engine.workers={workers}")
        losses = Losses(watching=True)
        made.append(RunContext(registry.get("toy"), config, tmp_path / "run", tmp_path / cache, losses))
        return made[-1]

    yield context_
    for one in made:
        one.engine.close()


def values(context: RunContext, folder: Path) -> list[float]:
    """What the run itself asks for."""
    return [engine_parts.number(context.config, context, name, folder) for name in "abc"]


def content(cache: Path) -> dict[str, bytes]:
    return {str(path.relative_to(cache)): path.read_bytes() for path in cache.rglob("value*")}


def test_on_this_process_parts_come_in_their_turn(context, tmp_path):
    ahead(context("local", 2), engine_parts.parts(tmp_path))
    assert helper.calls(tmp_path) == []


def test_workers_make_the_stages_that_the_run_finds(context, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir(), there.mkdir()
    alone = context("local", cache="alone")
    expected = values(alone, here)
    spread = context("joblib", 1)
    ahead(spread, engine_parts.parts(there))
    assert len(helper.calls(there)) == 9
    assert values(spread, there) == expected
    assert len(helper.calls(there)) == 9  # found, not made again
    assert content(tmp_path / "cache") == content(tmp_path / "alone")
    assert spread.measurements == alone.measurements == {f"draws.{name}": 3.0 for name in "abc"}
    assert sorted(spread._tracker.trained_) == sorted(alone._tracker.trained_)
    assert spread.stage_times.keys() == alone.stage_times.keys()
    for name, about in alone.stage_times.items():
        assert spread.stage_times[name]["hash"] == about["hash"]
        assert not spread.stage_times[name]["reused"]
    assert not (tmp_path / "run" / "parts").exists()


@pytest.mark.long
def test_a_killed_worker_goes_on_from_its_checkpoint_and_nothing_else_is_done_again(context, tmp_path):
    spread = context("joblib", 2)
    ahead(spread, engine_parts.parts(tmp_path, "kill"))
    assert sorted(helper.calls(tmp_path)) == [f"{name}{step}" for name in "abc" for step in range(3)]
    assert values(spread, tmp_path) == values(context("local", cache="alone"), tmp_path)


@pytest.mark.long
def test_a_killed_engine_goes_on_with_what_was_under_way(context, tmp_path):
    (tmp_path / "config").write_bytes(pickle.dumps(context("joblib", 1).config))
    code = "import pathlib, sys, engine_parts; engine_parts.main(pathlib.Path(sys.argv[1]))"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    deadline = time.monotonic() + 120
    while not (tmp_path / "waited").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(1)  # its worker ends by itself
    assert helper.calls(tmp_path) == ["a0", "a1", "a2", "b0"]
    ahead(context("joblib", 1), engine_parts.parts(tmp_path))
    assert helper.calls(tmp_path)[4:] == ["b1", "b2", "c0", "c1", "c2"]


@pytest.mark.long
def test_an_error_names_its_part_and_others_are_kept(context, tmp_path):
    spread = context("joblib", 1)
    with pytest.raises(SafeframeError, match=r"^task b: told to fail$"):
        ahead(spread, engine_parts.parts(tmp_path, "fail"))
    assert helper.calls(tmp_path) == ["a0", "a1", "a2", "b0"]
    ahead(spread, engine_parts.parts(tmp_path))
    assert helper.calls(tmp_path)[4:] == ["b1", "b2", "c0", "c1", "c2"]
