"""Stages as tasks: the same bytes on every engine, and only what was under way is done again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import engine_tasks as helper
import numpy as np
import pytest

from experiments.support.engine.tasks import Task
from experiments.support.engine.worker import TaskError
from experiments.support.errors import CacheError, ConfigError, EngineError, StorageError
from experiments.support.files import REPOSITORY

HELPERS = Path(helper.__file__).parent


@pytest.fixture
def engine():
    """`engine("joblib", 2)`; closed at the end."""
    made = []

    def engine_(*arguments, **more):
        made.append(helper.engine(*arguments, **more))
        return made[-1]

    yield engine_
    for one in made:
        one.close()


def content(store) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.directory.glob("*.npy")}


def test_the_same_bytes_on_every_engine_and_for_every_number_of_workers(engine, tmp_path):
    found = []
    for name, workers in (("local", 1), ("local", 2), ("joblib", 1), ("joblib", 2)):
        folder = tmp_path / f"{name}{workers}"
        folder.mkdir()
        store, todo = helper.store(folder), helper.tasks(tmp_path, helper.draw, 4, 400)
        values = list(engine(name, workers).results(todo, store, "draw"))
        found.append((content(store), [value.tobytes() for value in values]))
        assert [path.name for path in store.directory.glob("*.lock")] == []
    assert len(found[0][0]) == 4
    assert len(set(found[0][1])) == 4  # in the tasks' order, each its own
    assert all(one == found[0] for one in found[1:])
    expected = [helper.draw(tmp_path, i, 400) for i in range(4)]
    np.testing.assert_allclose(
        [np.frombuffer(value).reshape(400, 3) for value in found[0][1]], expected, rtol=1e-12
    )


def test_what_is_done_is_not_done_again_and_order_is_that_of_the_tasks(engine, tmp_path):
    store, todo = helper.store(tmp_path), helper.tasks(tmp_path, helper.draw, 5, 3)
    list(engine().results([todo[3], todo[1]], store, "draw"))
    values = list(engine().results(todo, store, "draw"))
    assert helper.calls(tmp_path) == ["3", "1", "0", "2", "4"]
    assert [value.tobytes() for value in values] == [helper.draw(tmp_path, i, 3).tobytes() for i in range(5)]


def test_workers_have_one_thread_and_this_process_gets_its_threads_back(engine, tmp_path):
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        task = [Task(helper.threads, (), {"threads": 1}, "threads")]
        (alone,) = engine("local", 1).results(task, helper.store(tmp_path / "alone"), "threads")
        assert alone[0] == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.long
@pytest.mark.parametrize("name", ["local", "joblib"])
def test_worker_processes_have_one_thread(engine, tmp_path, name, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    task = [Task(helper.threads, (), {"threads": 1}, "threads")]
    (found,) = engine(name, 2).results(task, helper.store(tmp_path), "threads")
    assert found.tolist() == [1, 1]
    assert os.environ["OMP_NUM_THREADS"] == "2"


@pytest.mark.parametrize("name", ["local", pytest.param("joblib", marks=pytest.mark.long)])
def test_the_task_of_a_killed_worker_is_done_again_and_nothing_else(engine, tmp_path, name, caplog):
    store, todo = helper.store(tmp_path), helper.tasks(tmp_path, helper.die_first, 4, 0)
    values = list(engine(name, 2).results(todo, store, "killed"))
    assert [value[0] for value in values] == [0, 1, 2, 3]
    assert sorted(helper.calls(tmp_path)) == ["0", "0", "1", "2", "3"]
    assert "task draw 0: its worker died; the task is begun again" in caplog.text


def test_a_task_that_kills_every_worker_ends_the_run_and_says_which(engine, tmp_path):
    store = helper.store(tmp_path)
    todo = [*helper.tasks(tmp_path, helper.draw, 1, 3), *helper.tasks(tmp_path, helper.die, 1)]
    with pytest.raises(EngineError, match=r"task draw 0: its worker died 2 times .*fewer engine.workers"):
        list(engine("local", 2, retries=1).results(todo, store, "killed"))
    assert store.done(todo[0])
    assert helper.calls(tmp_path) == ["0", "0", "0"]


@pytest.mark.parametrize(
    ("name", "workers"), [("local", 1), ("local", 2), pytest.param("joblib", 2, marks=pytest.mark.long)]
)
def test_an_error_names_its_task_and_results_of_others_are_kept(engine, tmp_path, name, workers):
    store, todo = helper.store(tmp_path), helper.tasks(tmp_path, helper.fail, 4, 1, False)
    with pytest.raises(TaskError, match=r"task draw 1: ZeroDivisionError: told to fail\n(?s:.*)engine_tasks"):
        list(engine(name, workers).results(todo, store, "failing"))
    assert store.done(todo[0])
    assert not store.done(todo[1])
    for_user = helper.tasks(tmp_path, helper.fail, 4, 1, True)
    with pytest.raises(ConfigError, match=r"^task draw 1: speed=3: at most 2$"):
        list(engine(name, workers).results(for_user, store, "failing"))


def test_a_task_that_cannot_be_sent_is_refused(engine, tmp_path):
    task = Task(lambda: None, (), {"x": 1}, "lambda")
    with pytest.raises(EngineError, match=r"task lambda cannot be sent to a worker .* top of a module"):
        list(engine("local", 2).results([task], helper.store(tmp_path), "x"))


@pytest.mark.parametrize(
    ("name", "workers"),
    [("local", 1), ("local", 2), pytest.param("joblib", 2, marks=pytest.mark.long)],
)
def test_a_killed_engine_goes_on_with_what_was_under_way(engine, tmp_path, name, workers):
    helper.kill_engine(tmp_path, name, workers)
    before = helper.calls(tmp_path)
    todo = helper.tasks(tmp_path, helper.wait_first, 6, 2)
    values = list(engine("local", 1).results(todo, helper.store(tmp_path), "killed"))
    assert [value[0] for value in values] == [0, 1, 2, 3, 4, 5]
    again = helper.calls(tmp_path)[len(before) :]
    assert again == (["2"] if workers == 2 else ["2", "3", "4", "5"])
    assert [path.name for path in helper.store(tmp_path).directory.glob(".*")] == []


def test_two_engines_on_one_store_share_the_work(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(HELPERS)])}
    code = (
        "import sys, pathlib, engine_tasks as h; p = pathlib.Path(sys.argv[1]);"
        "[print(v[0]) for v in h.engine().results(h.tasks(p, h.fail, 6, -1, False), h.store(p), 'shared')]"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in both:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert out.split() == ["0.0", "1.0", "2.0", "3.0", "4.0", "5.0"]
    assert sorted(helper.calls(tmp_path)) == ["0", "1", "2", "3", "4", "5"]


def test_a_damaged_result_is_refused_and_the_error_says_what_to_delete(engine, tmp_path):
    store, todo = helper.store(tmp_path), helper.tasks(tmp_path, helper.draw, 2, 3)
    list(engine().results(todo, store, "draw"))
    path, record = store.directory / f"{todo[1].id}.npy", store.record(todo[1])
    whole = path.read_bytes()
    for damaged in (whole[:-1], b"", whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(damaged)
        with pytest.raises(CacheError, match=rf"task draw 1: .* is damaged .*delete the file {record}"):
            list(engine().results(todo, store, "draw"))
    path.unlink()
    with pytest.raises(CacheError, match=r"npy is missing; delete the file"):
        list(engine().results(todo, store, "draw"))
    record.write_text("{")
    with pytest.raises(CacheError, match=r"json cannot be read .*; delete the file .* to do the task again"):
        list(engine().results(todo, store, "draw"))
    record.unlink()
    list(engine().results(todo, store, "draw"))
    assert helper.calls(tmp_path) == ["0", "1", "1"]
    assert path.read_bytes() == whole


def test_a_store_that_is_complete_is_only_read(engine, tmp_path):
    store, todo = helper.store(tmp_path), helper.tasks(tmp_path, helper.draw, 2, 3)
    list(engine().results(todo, store, "draw"))
    before = {path: path.stat().st_mtime_ns for path in store.directory.iterdir()}
    store.directory.chmod(0o500)
    try:
        assert len(list(engine("local", 2).results(todo, store, "draw"))) == 2
    finally:
        store.directory.chmod(0o700)
    assert {path: path.stat().st_mtime_ns for path in store.directory.iterdir()} == before


@pytest.mark.parametrize("workers", [1, 2])
def test_a_store_that_cannot_be_written_ends_in_one_line(engine, tmp_path, workers):
    (tmp_path / "stage").write_text("a file where a folder is needed")
    todo = helper.tasks(tmp_path, helper.draw, 2, 3)
    with pytest.raises(
        StorageError, match=r"cannot be written: .*choose another place with output"
    ) as caught:
        list(engine("local", workers).results(todo, helper.store(tmp_path), "draw"))
    assert "\n" not in str(caught.value)
    assert helper.calls(tmp_path) == []


def test_what_a_dead_worker_left_half_written_is_taken_away(engine, tmp_path):
    store, todo = helper.store(tmp_path), helper.tasks(tmp_path, helper.draw, 2, 3)
    store.directory.mkdir(parents=True)
    for name in (f"{todo[0].id}.lock", f".{todo[0].id}.abc.tmp.npy", f".{todo[1].id}.abc.tmp.npy"):
        (store.directory / name).write_text("half")
    list(engine().results(todo, store, "draw"))
    left = sorted(path.name for path in store.directory.iterdir() if path.suffix not in (".json", ".npy"))
    assert left == []
    # of the second task, whose lock is not there: its worker may be alive on a system without locks
    assert [path.name for path in store.directory.glob(".*")] == [f".{todo[1].id}.abc.tmp.npy"]


def test_an_error_of_a_task_about_a_file_is_not_taken_for_one_of_the_store(engine, tmp_path):
    task = Task(helper.read_secret, (), {"x": 1}, "secret")
    with pytest.raises(TaskError, match=r"task secret: PermissionError: .*secret.csv"):
        list(engine().results([task], helper.store(tmp_path), "x"))


def test_results_that_nobody_asks_for_end_the_workers(engine, tmp_path):
    todo = helper.tasks(tmp_path, helper.wait_first, 4, 2)
    with_engine = engine("local", 2)
    results = with_engine.results(todo, helper.store(tmp_path), "stopped")
    assert next(results)[0] == 0
    results.close()
    assert "workers" not in vars(with_engine)
