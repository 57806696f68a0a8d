"""The command line: exit codes, one message per error, sweeps, parallel launchers."""

from __future__ import annotations

import importlib.util
import re

import pytest

from experiments.support import sweep

HAS_RAY = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="the package ray is not installed (make test-cluster installs it)",
)


def directories(tmp_path):
    return [path for path in (tmp_path / "runs" / "toy").glob("*") if path.name != ".locks"]


def test_a_run_from_anywhere_prints_its_summary_and_place(command, tmp_path):
    done = command("r_t=1e-2")
    assert done.returncode == 0, done.stderr
    assert "above" in done.stdout
    (directory,) = directories(tmp_path)
    assert f"done: {directory}" in done.stderr
    # nothing beside the run: no Hydra folders, no log files
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"cache", "toy"}


@pytest.mark.parametrize("override", ["r_t=2", "training.epochz=1"])
def test_bad_configuration_is_one_line_exit_code_2_and_no_files(command, tmp_path, override):
    done = command(override)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert override.split("=")[0] in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_debug_shows_the_stack(command):
    done = command("r_t=2", SAFEFRAME_DEBUG="1")
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_a_failing_run_has_exit_code_1_and_its_error_file(command, tmp_path):
    done = command(TOY_FAIL="1")
    assert done.returncode == 1
    assert done.stderr.count("told to fail") >= 1
    (directory,) = directories(tmp_path)
    assert "told to fail" in (directory / "error.txt").read_text()


def test_a_sweep_goes_on_after_a_bad_job_and_skips_what_is_done(command, tmp_path):
    sweep = ("seed=0,1", "r_t=1e-2,7")
    done = command(*sweep, multirun=True)
    assert done.returncode == 1  # some runs are done, so it is no configuration of which nothing was run
    assert done.stderr.count("error: r_t") == 2
    assert "Traceback" not in done.stderr
    assert len(directories(tmp_path)) == 2
    again = command("seed=0,1,2", "r_t=1e-2", multirun=True)
    assert again.returncode == 0, again.stderr
    lines = again.stderr.splitlines()
    assert [line.split(", about")[0] for line in lines[:2]] == [
        "1 of 3: seed=0: skipped", "2 of 3: seed=1: skipped"
    ]  # fmt: skip
    assert lines[2].startswith("3 of 3: seed=2: done in ")
    assert len(lines) == 3  # one line a job and no other
    assert again.stdout.splitlines()[0].split() == ["job", "settings", "outcome", "time", "where"]
    assert again.stdout.splitlines()[-1] == "1 done, 2 skipped"
    assert len(directories(tmp_path)) == 3
    (log,) = [
        path for path in (tmp_path / "runs" / "hydra").glob("*/job_3.log") if "seed=2" in path.read_text()
    ]
    assert "toy-train" in log.read_text()
    assert "above" in log.read_text()  # its report


def test_a_sweep_of_which_nothing_can_be_run_is_refused(command):
    done = command("seed=0,1", "r_t=7", multirun=True)
    assert done.returncode == 2
    assert done.stdout.splitlines()[-1] == "2 refused"


@pytest.mark.long
def test_a_sweep_in_parallel_processes(command, tmp_path):
    done = command("launcher=joblib", "seed=0,1", multirun=True)
    assert done.returncode == 0, done.stderr
    assert len(directories(tmp_path)) == 2
    assert all((directory / "DONE").exists() for directory in directories(tmp_path))
    assert "2 of 2: " in done.stderr
    assert done.stdout.splitlines()[-1] == "2 done"


@pytest.mark.long
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", pytest.param("ray", marks=HAS_RAY)])
def test_launchers_report_failures(command, tmp_path, launcher):
    done = command(f"launcher={launcher}", "seed=0,1", multirun=True, TOY_FAIL="1")
    assert done.returncode == 1, done.stderr
    assert len(directories(tmp_path)) == 2  # one that fails does not stop the other
    assert done.stdout.splitlines()[-1] == "2 failed"
    said = [line for line in done.stderr.splitlines() if "WARNING" not in line]  # Ray's about its own
    assert said.count("error: told to fail") == 2
    assert [line[:7] for line in said if "failed in" in line] == ["1 of 2:", "2 of 2:"]
    logs = sorted((tmp_path / "runs" / "hydra").glob("sweep_*/job_*.log"))
    assert [log.name for log in logs] == ["job_1.log", "job_2.log"]
    for log, seed in zip(logs, ("seed=0", "seed=1"), strict=True):  # one file a job, and nothing of another's
        assert re.findall(r"seed=\d", log.read_text()) == [seed]
    again = command(f"launcher={launcher}", "seed=0,1", multirun=True)
    assert again.returncode == 0, again.stderr


@pytest.mark.long
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_launcher_that_loses_its_workers_says_so_and_the_command_goes_on(command, tmp_path, launcher):
    done = command(f"launcher={launcher}", "seed=0,1", multirun=True, TOY_KILL_AT="data")
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[-1] == "2 not run"
    assert done.stderr.count("error: the launcher has lost a job") == 1
    assert "Traceback" not in done.stderr
    again = command(f"launcher={launcher}", "seed=0,1", multirun=True)
    assert again.returncode == 0, again.stderr
    assert all((directory / "DONE").exists() for directory in directories(tmp_path))


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="the package ray is installed")
def test_a_launcher_whose_package_is_missing_is_refused_in_one_line(command):
    done = command("launcher=ray", "seed=0,1", multirun=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: launcher=ray needs the package ray: pip install ray==2.60.0")
    assert done.stderr.count("\n") == 1


@pytest.mark.long
@HAS_RAY
def test_a_job_on_ray_whose_worker_dies_again_and_again_is_one_failed_job(command, tmp_path):
    done = command("launcher=ray", "hydra.launcher.retries=1", "seed=0,1", multirun=True, TOY_KILL_AT="data")
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[-1] == "2 failed"
    assert "error: job 1: its worker died 2 times" in done.stderr
    again = command("launcher=ray", "seed=0,1", multirun=True)
    assert again.returncode == 0, again.stderr
    assert all((directory / "DONE").exists() for directory in directories(tmp_path))


@pytest.mark.long
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", pytest.param("ray", marks=HAS_RAY)])
def test_jobs_have_the_threads_that_are_configured(command, tmp_path, launcher, monkeypatch):
    for name in sweep.THREADS:
        monkeypatch.delenv(name, raising=False)
    done = command(f"launcher={launcher}", "seed=0,1", multirun=True, TOY_THREADS="1")
    assert done.returncode == 0, done.stderr
    logs = (tmp_path / "runs" / "hydra").glob("sweep_*/job_*.log")
    assert {line for log in logs for line in log.read_text().splitlines() if "threads: " in line} == {
        "threads: torch 1, OMP 1"
    }


@pytest.mark.long
def test_what_would_run_can_be_seen_without_running(command, tmp_path):
    done = command("training.epochs=7", "--cfg=job")
    assert done.returncode == 0, done.stderr
    assert "epochs: 7" in done.stdout
    assert list(tmp_path.iterdir()) == []
