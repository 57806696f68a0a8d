"""Tasks on a Ray started here (make test-cluster); skipped where the package ray is not installed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import engine_tasks as helper
import pytest

from experiments.support.engine import on_ray
from experiments.support.engine.worker import TaskError
from experiments.support.errors import ConfigError, EngineError

HAS_RAY = pytest.mark.skipif(
    __import__("importlib.util").util.find_spec("ray") is None,
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
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": variables})
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


@HAS_RAY
@pytest.mark.long
def test_a_run_on_a_ray_of_its_own_and_on_the_one_of_ray_address(command, tmp_path):
    """The whole command; a cluster is started, found by its address, used, and left running."""
    import subprocess

    place = Path(sys.executable).parent / "ray"
    subprocess.run(
        [place, "start", "--head", "--port=6399", "--num-cpus=1", "--include-dashboard=false"],
        check=True, capture_output=True, env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"},
    )  # fmt: skip
    try:
        done = command("engine=ray", "progress=false", RAY_ADDRESS="127.0.0.1:6399")
        assert done.returncode == 0, done.stderr
    finally:
        subprocess.run([place, "stop", "--force"], check=False, capture_output=True)


def test_without_the_package_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"pip install ray==2.60.0 \(the extra `cluster`\).*engine=joblib"):
        list(helper.engine("ray", 1).results(helper.tasks(tmp_path, helper.draw, 1, 3), helper.store(tmp_path), ""))


@HAS_RAY
@pytest.mark.long
def test_a_cluster_that_is_not_there_is_named(tmp_path):
    code = (
        "import pathlib, engine_tasks as h; p = pathlib.Path('.');"
        "list(h.engine('ray', 1, address='127.0.0.1:1').results(h.tasks(p, h.draw, 1, 3), h.store(p), ''))"
    )
    import subprocess

    path = os.pathsep.join([str(on_ray.REPOSITORY), str(Path(helper.__file__).parent)])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        env=os.environ | {"PYTHONPATH": path, "RAY_gcs_rpc_server_connect_timeout_s": "2"},
    )  # fmt: skip
    assert "EngineError: engine=ray: no cluster at '127.0.0.1:1'" in done.stderr
