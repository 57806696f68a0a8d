"""A run's directory: what it holds, when it is skipped, what a failure leaves, two processes at once."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from omegaconf import OmegaConf

from experiments.support import registry
from experiments.support.errors import CacheError, ResultsError
from experiments.support.files import REPOSITORY, checksum
from experiments.support.results import collect, frames
from experiments.support.runs import running
from experiments.support.tracking import NoTracker


def test_a_run_leaves_its_record(run_toy, tmp_path):
    directory = run_toy("r_t=1e-2", "seed=3")
    assert directory.parent == tmp_path / "toy"
    names = {path.name for path in directory.iterdir()}
    assert names == {"config.yaml", "manifest.json", "results.csv", "results.parquet", "DONE"}
    config = OmegaConf.load(directory / "config.yaml")
    assert (config.r_t, config.seed, config.experiment) == (0.01, 3, "toy")
    manifest = json.loads((directory / "manifest.json").read_text())
    assert manifest["status"] == "done"
    assert manifest["seed"] == 3
    assert set(manifest["stages"]) == {"toy-data", "toy-train"}
    assert all(stage["seconds"] >= 0 for stage in manifest["stages"].values())
    assert manifest["versions"]["torch"].startswith("2.")
    assert manifest["hardware"]["cores"] >= 1
    assert {"command", "commit", "dirty", "started", "finished", "threads", "inputs"} <= set(manifest)
    frame = frames.read(directory)
    assert list(frame["metric"]) == ["mean", "above"]
    assert set(frame["experiment"]) == {"toy"}
    assert set(frame["seed"]) == {3}
    pd.testing.assert_frame_equal(frames.tidy(pd.read_csv(directory / "results.csv")), frame)


def test_the_manifest_names_input_files_but_no_place_of_this_machine(run_toy, monkeypatch, tmp_path):
    data = tmp_path / "data.csv"
    data.write_text("x")
    arguments = [str(REPOSITORY / "run.py"), f"data.path={data}", "seed=3"]
    monkeypatch.setattr("sys.argv", arguments)
    directory = run_toy(f"data.path={data}", f"output={tmp_path / 'runs'}")
    text = (directory / "manifest.json").read_text()
    assert str(tmp_path) not in text
    manifest = json.loads(text)
    assert manifest["command"] == "python run.py data.path=data.csv seed=3"
    assert manifest["inputs"] == {"data.path": {"file": "data.csv", "sha256": checksum(data)}}


def test_done_is_skipped_and_force_runs_again(run_toy, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    first = run_toy()
    lines = (tmp_path / "log").read_text()
    with caplog.at_level("INFO"):
        assert run_toy() == first
    assert (tmp_path / "log").read_text() == lines
    assert "already done, skipped" in caplog.text
    assert run_toy("force=true") == first
    assert (tmp_path / "log").read_text() != lines


def test_changed_code_is_noted_when_a_run_is_skipped(run_toy, caplog):
    directory = run_toy()
    done = json.loads((directory / "DONE").read_text())
    done["code"] = "0" * 16
    (directory / "DONE").write_text(json.dumps(done))
    with caplog.at_level("WARNING"):
        run_toy()
    assert "the code has changed since that run was made" in caplog.text


def test_same_seed_same_numbers_other_seed_others(run_toy, tmp_path):
    first = (run_toy(f"output={tmp_path / 'a'}") / "results.csv").read_bytes()
    again = (run_toy(f"output={tmp_path / 'b'}") / "results.csv").read_bytes()
    other = (run_toy(f"output={tmp_path / 'c'}", "seed=1") / "results.csv").read_bytes()
    assert first == again
    assert first != other


def test_a_failure_leaves_its_error_and_a_later_success_removes_it(run_toy, monkeypatch, tmp_path):
    monkeypatch.setenv("TOY_FAIL", "1")
    with pytest.raises(RuntimeError, match="told to fail"):
        run_toy()
    (directory,) = [path for path in (tmp_path / "toy").iterdir() if path.name != ".locks"]
    text = (directory / "error.txt").read_text()
    assert "Traceback" in text
    assert "told to fail" in text
    assert not (directory / "DONE").exists()
    assert not (directory / "results.csv").exists()
    assert json.loads((directory / "manifest.json").read_text())["status"] == "failed"
    with pytest.raises(CacheError, match="no finished run"):
        frames.read(directory)
    monkeypatch.delenv("TOY_FAIL")
    assert run_toy() == directory
    assert not (directory / "error.txt").exists()
    assert (directory / "DONE").exists()


def test_an_interruption_is_recorded_as_one(run_toy, monkeypatch, tmp_path):
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("toy_experiments.toy.experiment.kill_point", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_toy()
    (directory,) = [path for path in (tmp_path / "toy").iterdir() if path.name != ".locks"]
    assert json.loads((directory / "manifest.json").read_text())["status"] == "interrupted"
    assert not (directory / "error.txt").exists()
    assert run_toy() == directory


@pytest.mark.parametrize("name", ["results.csv", "results.parquet"])
def test_changed_results_are_refused(run_toy, name):
    directory = run_toy()
    with (directory / name).open("ab") as file:
        file.write(b"\n")
    with pytest.raises(CacheError, match=f"{name} was changed after the run wrote it; delete the directory"):
        run_toy()
    (directory / name).unlink()
    with pytest.raises(CacheError, match=f"{name} is missing"):
        frames.read(directory)


def test_unreadable_done_is_refused(run_toy):
    directory = run_toy()
    (directory / "DONE").write_text("{")
    with pytest.raises(CacheError, match=r"DONE cannot be read .* delete the directory"):
        run_toy()


def test_context_refuses_what_does_not_fit(toy, tmp_path):
    context = running.RunContext(registry.get("toy"), toy(), tmp_path, tmp_path / "cache", NoTracker())
    with pytest.raises(ResultsError, match="r_t must lie in"):
        context.record([{"method": "a", "metric": "b", "value": 1.0, "n": 1, "r_t": 2.0}])
    with pytest.raises(ResultsError, match="produced no results"):
        context.table(None)
    with (
        pytest.raises(KeyError, match=r"the configuration has no key 'training.nope'"),
        context.stage("s", ["training.nope"]),
    ):
        pass


def test_collected_runs(run_toy, tmp_path):
    for seed in range(3):
        run_toy(f"seed={seed}", "r_t=1e-2")
    run_toy("r_t=1e-1")
    frame = collect.load("toy", {"r_t": 0.01, "preset": "laptop"}, keys=("training.rate",), root=tmp_path)
    assert sorted(set(frame["seed"])) == [0, 1, 2]
    assert set(frame["training.rate"]) == {0.1}
    assert frame["run"].nunique() == 3
    assert collect.finished("toy", {"data.nothing": 1}, root=tmp_path) == []
    with pytest.raises(ResultsError, match="no finished run of toy with seed=9"):
        collect.load("toy", {"seed": 9}, root=tmp_path)


def test_two_processes_on_one_run(command, tmp_path):
    log = tmp_path / "log"
    first = command(wait=False, TOY_LOG=str(log), TOY_SLEEP="2")
    second = command(wait=False, TOY_LOG=str(log), TOY_SLEEP="2")
    outputs = [process.communicate(timeout=120) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    messages = "".join(err for _, err in outputs)
    assert messages.count("another process is at work on the run") == 1
    assert messages.count("already done, skipped") == 1
    assert log.read_text().count("evaluated") == 1
    assert outputs[0][0] == outputs[1][0]


def test_a_file_that_changed_since_is_noted(toy, run_toy, tmp_path, caplog, monkeypatch):
    """Files that come with the repository (agents) are no part of a run's identity, but a note tells."""
    weights = tmp_path / "agent.safetensors"
    weights.write_text("one")
    monkeypatch.setattr(type(toy()), "reads", lambda self: [weights])
    run_toy()
    caplog.clear()
    run_toy()
    assert "has changed since" not in caplog.text
    weights.write_text("other")
    run_toy()
    assert "agent.safetensors has changed since that run was made; force=true runs it again" in caplog.text
