"""Tasks on a Ray started here (make test-cluster); skipped where the package ray is not installed."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import engine_tasks as helper
import pytest

from experiments.support.engine import on_ray
from experiments.support.engine.worker import TaskError
from experiments.support.errors import ConfigError, EngineError

HAS_RAY = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="the package ray is not installed (make test-cluster installs it)",
)


@pytest.fixture(scope="module")
def cluster():
    """A Ray of two processors with the tests' helpers on its path; engines use it and leave it."""
    ray = pytest.importorskip("ray")
    before = os.environ.get("PYTHONPATH")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    path = os.pathsep.join(filter(None, (str(Path(helper.__file__).parent), str(on_ray.REPOSITORY), before)))
    variables = {**on_ray.worker.ONE_THREAD, "PYTHONPATH": path}
    ray.init(
        "local", num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": variables}
    )
    yield ray
    ray.shutdown()


@HAS_RAY
@pytest.mark.long
def test_the_same_bytes_as_here(cluster, tmp_path):
    found = []
    for name, workers in (("local", 1), ("ray", 1), ("ray", 4), ("ray", 16)):
        folder = tmp_path / f"{name}{workers}"
        folder.mkdir()
        store, todo = helper.store(folder), helper.tasks(tmp_path, helper.draw, 16, 400)
        values = [value.tobytes() for value in helper.engine(name, workers).results(todo, store, "draw")]
        found.append((values, {path.name: path.read_bytes() for path in store.directory.glob("*.npy")}))
    assert all(one == found[0] for one in found[1:])


@HAS_RAY
@pytest.mark.long
def test_the_task_of_a_killed_worker_is_done_again_and_nothing_else(cluster, tmp_path):
    todo = helper.tasks(tmp_path, helper.die_first, 4, 0)
    values = list(helper.engine("ray", 2).results(todo, helper.store(tmp_path), "killed"))
    assert [value[0] for value in values] == [0, 1, 2, 3]
    assert sorted(helper.calls(tmp_path)) == ["0", "0", "1", "2", "3"]


@HAS_RAY
@pytest.mark.long
def test_an_error_names_its_task_and_results_of_others_are_kept(cluster, tmp_path):
    store, todo = helper.store(tmp_path), helper.tasks(tmp_path, helper.fail, 4, 1, False)
    with pytest.raises(TaskError, match="task draw 1: ZeroDivisionError: told to fail"):
        list(helper.engine("ray", 2).results(todo, store, "failing"))
    assert store.done(todo[0])
    with pytest.raises(ConfigError, match=r"^task draw 1: speed=3: at most 2$"):
        list(helper.engine("ray", 2).results(helper.tasks(tmp_path, helper.fail, 4, 1, True), store, "x"))
    store, todo = helper.store(tmp_path / "dies"), helper.tasks(tmp_path, helper.die, 1)
    with pytest.raises(EngineError, match="its worker died 2 times"):
        list(helper.engine("ray", 2, retries=1).results(todo, store, "killed"))


def program(folder: Path, settings: str, **environment: str) -> subprocess.CompletedProcess:
    """A program of its own that does two tasks on engine ray with these settings and prints their sum."""
    code = (
        "import pathlib, engine_tasks as h; p = pathlib.Path('.').resolve();"
        f"e = h.engine('ray', {settings});"
        "print(sum(v[0] for v in e.results(h.tasks(p, h.fail, 2, -1, False), h.store(p), '')));"
        "print('workers', e.workers.count if hasattr(e, 'workers') else 0); e.close()"
    )
    path = os.pathsep.join([str(on_ray.REPOSITORY), str(Path(helper.__file__).parent)])
    environment = {"PYTHONPATH": path, "RAY_gcs_rpc_server_connect_timeout_s": "2", **environment}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=180, check=False,
        env=os.environ | environment,
    )  # fmt: skip


@HAS_RAY
@pytest.mark.long
def test_a_cluster_that_runs_is_found_by_its_address_and_left_running(tmp_path):
    place = Path(sys.executable).parent / "ray"
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--head", f"--port={port}", "--num-cpus=3", "--include-dashboard=false", "--block"]
    head = subprocess.Popen(
        [place, "start", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"} | token, start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 90
        while (done := program(tmp_path, "None", RAY_ADDRESS=f"127.0.0.1:{port}", **token)).returncode:
            assert time.monotonic() < deadline, done.stderr
        assert done.stdout.split() == ["1.0", "workers", "3"]
        assert head.poll() is None
        assert sorted(helper.calls(tmp_path)) == ["0", "1"]
    finally:
        os.killpg(head.pid, signal.SIGKILL)
        head.wait()


@HAS_RAY
@pytest.mark.long
def test_ray_is_started_here_where_no_cluster_is_named(tmp_path):
    done = program(tmp_path, "2")
    assert done.stdout.split() == ["1.0", "workers", "2"], done.stderr


@HAS_RAY
@pytest.mark.long
def test_a_killed_command_goes_on_with_what_was_under_way(tmp_path):
    helper.kill_engine(tmp_path, "ray", 2)
    before = helper.calls(tmp_path)
    todo = helper.tasks(tmp_path, helper.wait_first, 6, 2)
    values = list(helper.engine("local", 1).results(todo, helper.store(tmp_path), "killed"))
    assert [value[0] for value in values] == [0, 1, 2, 3, 4, 5]
    assert helper.calls(tmp_path)[len(before) :] == ["2"]


@HAS_RAY
@pytest.mark.long
def test_a_cluster_that_is_not_there_is_named(tmp_path):
    done = program(tmp_path, "1, address='127.0.0.1:1'")
    assert "EngineError: engine=ray: no cluster at '127.0.0.1:1'" in done.stderr


def test_without_the_package_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"pip install ray==2.60.0 \(the extra `cluster`\).*engine=joblib"):
        list(
            helper.engine("ray", 1).results(
                helper.tasks(tmp_path, helper.draw, 1, 3), helper.store(tmp_path), ""
            )
        )
