"""A run that is killed (kill -9) at any point and started again ends with the results of one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.support.files import REPOSITORY

HELPERS = Path(__file__).resolve().parents[2] / "helpers"


@pytest.fixture(scope="module", params=["turns", pytest.param("all", marks=pytest.mark.long)])
def killed(request, tmp_path_factory):
    path = os.pathsep.join([str(REPOSITORY), str(HELPERS)])
    done = subprocess.run(
        [
            sys.executable,
            str(HELPERS / "kill_everywhere.py"),
            str(tmp_path_factory.mktemp("killed")),
            request.param,
        ],
        env=os.environ | {"PYTHONPATH": path, "SAFEFRAME_EXPERIMENTS": "toy_experiments"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) | {"all": request.param == "all"}


def test_every_file_put_in_place_is_a_place_to_die(killed):
    assert (
        killed["replacements"] >= 14
    )  # config, manifest twice, two stages of three files, checkpoints, results, DONE
    assert len(killed["cases"]) == (1 + killed["all"]) * killed["replacements"] + 6
    assert all(case["killed"] for case in killed["cases"])


def test_running_again_gives_the_same_bytes_and_leaves_nothing_else(killed):
    assert [case for case in killed["cases"] if case["again"] != 0 or not case["same"]] == []


def test_finished_stages_and_epochs_are_not_done_again(killed):
    steps = {case["step"]: case["steps"] for case in killed["cases"] if "step" in case}
    epochs = [f"epoch {i}" for i in range(4)]
    assert steps["trained"] == ["data", *epochs, "trained", "data", "trained", "evaluated"]
    assert steps["epoch 1"] == ["data", *epochs[:2], "data", *epochs[2:], "trained", "evaluated"]


def test_the_command_can_be_killed_and_typed_again(command, tmp_path):
    """The same through run.py: the whole command line, killed from outside."""
    process = command(wait=False, TOY_SLEEP="60")
    deadline = time.monotonic() + 60
    while not list((tmp_path / "runs" / "cache" / "toy-train").glob("*/stage.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not list((tmp_path / "runs" / "toy").glob("*/DONE"))
    again = command()
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("(from the cache)") == 2
    assert "0.375" in again.stdout
