"""Tracking is optional: no package, no key, no network needed, and the files are the record all the same."""

from __future__ import annotations

import sys

import pytest
import wandb_file

from experiments.support import tracking
from experiments.support.config import TrackingConfig
from experiments.support.errors import TrackingError
from experiments.support.results import frames
from scripts import sync_wandb


def test_nothing_is_imported_without_tracking(run_toy, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # an import would fail
    assert (run_toy() / "DONE").exists()


def test_tracking_without_the_package_says_what_to_do(run_toy, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(TrackingError, match=r"pip install wandb\); or run with tracking=none"):
        run_toy("tracking=wandb")
    assert not list((tmp_path / "toy").glob("*/DONE"))
    assert (run_toy() / "DONE").exists()


class FakeRun:
    """What tracking uses of a W&B run."""

    def __init__(self) -> None:
        self.logged, self.summary, self.exit_code = [], {}, None
        self.defined, self.artifacts = {}, {}

    def define_metric(self, name, step_metric=None, hidden=False, summary=None) -> None:
        self.defined[name] = step_metric

    def log_artifact(self, artifact) -> None:
        self.artifacts[artifact.name] = sorted(artifact.manifest.entries)

    def log(self, metrics, step=None) -> None:
        self.logged.append((metrics, step))

    def finish(self, exit_code=0) -> None:
        self.exit_code = exit_code


@pytest.fixture
def fake(monkeypatch):
    import wandb

    run, calls = FakeRun(), []
    monkeypatch.setattr(wandb, "init", lambda **options: calls.append(options) or run)
    return run, calls


def test_what_is_mirrored(run_toy, fake):
    run, calls = fake
    directory = run_toy("tracking=wandb", "tracking.mode=offline")
    (options,) = calls
    assert options["mode"] == "offline"
    assert options["id"] == directory.name
    assert options["config"]["r_t"] == 0.001
    assert "tracking" not in options["config"]
    assert (options["group"], options["job_type"], options["tags"]) == ("single runs", "toy", ["laptop"])
    frame = frames.read(directory).set_index("metric")
    mean, above = frame.loc["mean", "value"], frame.loc["above", "value"]
    assert run.logged[0][0] == {"mean": mean}
    assert run.logged[1][0] == {"curve/r_t": 0.001, "curve/toy/above": above, "curve/toy/mean": mean}
    assert set(run.logged[2][0]) == {"results"}
    assert run.defined["curve/toy/mean"] == "curve/r_t"
    seconds = {"seconds/toy-data", "seconds/toy-train"}
    assert set(run.summary) == {"toy/mean", "toy/above"} | seconds
    assert (run.summary["toy/mean"], run.summary["toy/above"]) == (mean, above)
    kept = ["config.yaml", "manifest.json", "results.csv", "results.parquet"]
    assert run.artifacts == {f"results-{directory.name}": kept}
    assert run.exit_code == 0


def test_a_run_that_was_done_without_tracking_is_mirrored_later(run_toy, fake):
    run, calls = fake
    directory = run_toy()
    assert calls == []
    assert run_toy("tracking=wandb") == directory
    assert calls[0]["id"] == directory.name
    assert {"toy/mean", "toy/above", "seconds/toy-train"} <= set(run.summary)
    (directory / "wandb").mkdir()
    run_toy("tracking=wandb")
    assert len(calls) == 1


def test_a_failed_run_is_marked(run_toy, fake, monkeypatch):
    run, _ = fake
    monkeypatch.setenv("TOY_FAIL", "1")
    with pytest.raises(RuntimeError, match="told to fail"):
        run_toy("tracking=wandb")
    assert run.exit_code == 1


def test_mode_follows_the_key(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert tracking.resolve_mode("auto") == "offline"
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password x")
    assert tracking.resolve_mode("auto") == "online"
    (tmp_path / "netrc").write_text("machine example.org")
    assert tracking.resolve_mode("auto") == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert tracking.resolve_mode("auto") == "online"
    assert tracking.resolve_mode("offline") == "offline"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert tracking.resolve_mode("auto") == "disabled"


def test_disabled_with_the_real_package(run_toy):
    assert (run_toy("tracking=wandb", "tracking.mode=disabled") / "DONE").exists()


@pytest.mark.long
def test_offline_with_the_real_package(command, tmp_path):
    done = command("tracking=wandb", WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr
    (mirror,) = (tmp_path / "runs" / "toy").glob("*/wandb/offline-run-*")
    directory = mirror.parents[1]
    assert (directory / "DONE").exists()
    assert sync_wandb.waiting(tmp_path / "runs") == [mirror]
    written = wandb_file.read(mirror)
    frame = frames.read(directory).set_index("metric")
    assert written.summary["toy/mean"] == frame.loc["mean", "value"]
    (curve,) = [row for row in written.history if "curve/r_t" in row]
    assert curve["curve/toy/above"] == frame.loc["above", "value"]
    assert written.steps["curve/toy/above"] == "curve/r_t"
    assert (f"results-{directory.name}", "results") in written.artifacts


@pytest.mark.long
def test_the_runs_of_a_sweep_are_a_group(command, tmp_path):
    done = command("seed=0,1", "tracking=wandb", multirun=True, WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr
    mirrors = list((tmp_path / "runs" / "toy").glob("*/wandb/offline-run-*"))
    assert [wandb_file.read(path).run.run_group for path in mirrors] == ["over seed"] * 2


def test_nothing_to_upload(tmp_path, capsys):
    marked = tmp_path / "toy" / "x" / "wandb" / "offline-run-1"
    marked.mkdir(parents=True)
    (marked / "run-1.wandb.synced").touch()
    assert sync_wandb.main([str(tmp_path)]) == 0
    assert "nothing to upload" in capsys.readouterr().out


def test_no_tracker_accepts_everything(tmp_path):
    tracker = tracking.start(TrackingConfig(), tmp_path, "toy", {})
    tracker.log({"x": 1.0}, step=3)
    tracker.trained("network", 3, 0.5)
    tracker.finish({"x": 1.0})
    assert list(tmp_path.iterdir()) == []


def test_a_loss_is_told_now_and_then_and_not_touched_without_a_tracker(toy, tmp_path, fake):
    import torch

    from experiments.support import registry
    from experiments.support.runs.running import RunContext

    def loss(x):
        return torch.tensor(float(x), requires_grad=True)

    run, _ = fake
    experiment, config = registry.get("toy"), toy("tracking=wandb")
    alone = RunContext(experiment, config, tmp_path, tmp_path, tracking.NoTracker())
    assert alone.watched("network", loss) is loss
    tracker = tracking.start(config.tracking, tmp_path, "toy", {})
    watched = RunContext(experiment, config, tmp_path, tmp_path, tracker).watched("network", loss, every=3)
    assert [float(watched(x).detach()) for x in range(5)] == [0, 1, 2, 3, 4]
    keys = ("train/network/step", "train/network/loss")
    assert [(row[keys[0]], row[keys[1]]) for row, _ in run.logged] == [(0, 0.0), (3, 3.0)]
    assert run.defined[keys[1]] == keys[0]
