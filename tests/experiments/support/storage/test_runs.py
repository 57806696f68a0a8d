"""Runs and engines on a shared store: what one machine has done no other does again."""

from __future__ import annotations

import json
from pathlib import Path

import engine_tasks as helper
import pytest
from hydra import compose, initialize_config_dir

from experiments.support import registry
from experiments.support.config import cache_of, identity, run_id, to_object
from experiments.support.errors import CacheError, ConfigError, StoreError
from experiments.support.files import REPOSITORY
from experiments.support.runs import running
from experiments.support.storage.objects import Objects
from experiments.support.storage.shared import Shared


@pytest.fixture
def run(toy, tmp_path, monkeypatch):
    """`run("first", store)`: a run of the toy experiment on a machine of that name: results, what it did."""

    def run_(machine: str, store: str, *overrides: str):
        log = tmp_path / f"{machine}.log"
        monkeypatch.setenv("TOY_LOG", str(log))
        config = toy(f"output={tmp_path / machine}", f"store={store}", *overrides)
        directory = running.perform(registry.get("toy"), config)
        did = log.read_text().splitlines() if log.exists() else []
        return (directory / "results.csv").read_bytes(), did

    return run_


def test_a_second_machine_computes_nothing_again(run, objects):
    first, did = run("first", objects.url)
    assert [name for name in did if name.startswith("epoch")] == [f"epoch {i}" for i in range(4)]
    second, did = run("second", objects.url)
    assert not [name for name in did if name.startswith("epoch")]
    assert second == first
    assert not [name for name in objects.names("") if name.endswith((".claim", ".tmp"))]
    alone, did = run("alone", "null")
    assert alone == first
    assert len(did) > 4


def test_a_folder_is_the_cache_itself(run, toy, tmp_path):
    store = tmp_path / "shared"
    first, _ = run("first", str(store))
    assert {path.name for path in store.iterdir()} == {"toy-data", "toy-train"}
    assert not (tmp_path / "first" / "cache").exists()
    second, did = run("second", f"file://{store}")
    assert second == first
    assert not [name for name in did if name.startswith("epoch")]


def test_what_a_machine_had_before_is_published_when_it_is_used(run, objects, tmp_path):
    run("first", "null")
    directory = next((tmp_path / "first" / "toy").glob("[0-9a-f]*"))
    (directory / "DONE").unlink()
    run("first", objects.url)
    assert sum(name.endswith("stage.json") for name in objects.names("")) == 2


def test_a_damaged_stage_of_the_store_is_refused(run, objects):
    run("first", objects.url)
    name = next(name for name in objects.names("") if name.startswith("toy-train") and "value" in name)
    objects.replace(name, b"0.")
    with pytest.raises(
        CacheError, match=rf"{objects.url}/{name} is half-written or damaged .*delete .*stage.json"
    ):
        run("second", objects.url)
    objects.delete(str(Path(name).parent / "stage.json"))
    _, did = run("second", objects.url)
    assert len([name for name in did if name.startswith("epoch")]) == 4


def test_a_store_that_cannot_be_used_ends_the_run_before_it_has_begun(run, renaming, tmp_path):
    with pytest.raises(StoreError, match="permission is missing"):
        run("first", renaming("write").url)
    assert not (tmp_path / "first.log").exists()
    with pytest.raises(ConfigError, match=r"store='s4://x/y': no protocol 's4' is known"):
        run("second", "s4://x/y")
    assert not (tmp_path / "second").exists()


def test_a_store_is_no_part_of_a_run(toy, tmp_path):
    plain, other = toy(), toy("store=memory://x")
    assert run_id(plain) == run_id(other)
    assert "store" not in identity(other)
    assert cache_of(plain) == cache_of(other) == tmp_path / "cache"


@pytest.mark.long
def test_a_real_run_on_workers_leaves_a_second_machine_nothing_to_compute(s3, tmp_path):
    registry.register_schemas()
    experiment, found = registry.get("production"), []
    for machine, engine in (("first", ["engine=joblib", "engine.workers=2"]), ("second", ["engine=local"])):
        with initialize_config_dir(str(REPOSITORY / "configs"), version_base="1.3"):
            arguments = ["experiment=production", "preset=smoke", "threads=1", "progress=false", *engine]
            arguments += [f"output={tmp_path / machine}", f"store={s3.url}"]
            config = to_object(compose("config", overrides=arguments), experiment.schema)
        directory = running.perform(experiment, config)
        stages = json.loads((directory / "manifest.json").read_text())["stages"]
        reused = {
            name: about["reused"] for name, about in stages.items() if about["hash"] and name != "guard"
        }
        results = {path.name: path.read_bytes() for path in directory.glob("*.parquet")}
        found.append((results, {name for name, value in reused.items() if value}))
    assert found[0][0] == found[1][0]
    assert found[0][1] == set()
    assert found[1][1] >= {"demand", "cross_entropy", "tailored", "tailored_xi_0", "safety", "gaussian"}
    assert not [name for name in s3.names("") if name.endswith(".claim") or name.startswith("parts")]


# -- tasks


def content(objects: Objects) -> dict[str, bytes | None]:
    """The results in a store, without the times in their records."""
    return {name: objects.read(name) for name in objects.names("tasks") if not name.endswith(".json")}


def done(folder: Path, url: str | None, name: str = "local", workers: int = 1, call=helper.draw, more=(30,)):
    """All values of eight tasks."""
    folder.mkdir(exist_ok=True)
    engine = helper.engine(name, workers)
    try:
        todo = helper.tasks(folder, call, 8, *more)
        return [value.tobytes() for value in engine.results(todo, helper.store(folder, url), "draw")]
    finally:
        engine.close()


def test_tasks_are_shared_between_machines_byte_for_byte(objects, tmp_path):
    first = done(tmp_path / "first", objects.url)
    second = done(tmp_path / "second", objects.url)
    assert helper.calls(tmp_path / "second") == []
    assert second == first == done(tmp_path / "alone", None)


@pytest.mark.long
@pytest.mark.parametrize("name", ["local", "joblib"])
def test_workers_publish_what_they_do(s3, tmp_path, name):
    first = done(tmp_path / "first", s3.url, name, workers=2)
    assert first == done(tmp_path / "alone", None)
    assert len(Shared(s3, "tasks").present()) == 8
    done(tmp_path / "second", s3.url)
    assert helper.calls(tmp_path / "second") == []


@pytest.mark.long
def test_two_machines_at_once_share_the_work(s3, tmp_path):
    code = (
        "import sys, pathlib, engine_tasks as h; p = pathlib.Path(sys.argv[1]);"
        "[print(v[0]) for v in h.engine().results("
        "h.tasks(pathlib.Path(sys.argv[2]), h.fail, 6, -1, False), h.store(p, sys.argv[3]), 'shared')]"
    )
    outputs = helper.programs(
        code, [[str(tmp_path / name), str(tmp_path), s3.url] for name in ("one", "two")]
    )
    assert [out.split() for out in outputs] == [["0.0", "1.0", "2.0", "3.0", "4.0", "5.0"]] * 2
    assert sorted(helper.calls(tmp_path)) == ["0", "1", "2", "3", "4", "5"]


def test_a_killed_engine_goes_on_elsewhere_with_what_was_under_way(s3, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    helper.kill_engine(here, "local", 1, s3.url)
    before = helper.calls(here)
    there = helper.store(tmp_path / "there", s3.url)
    todo = helper.tasks(here, helper.wait_first, 6, 2)
    values = list(helper.engine().results(todo, there, "killed"))
    assert [value[0] for value in values] == [0, 1, 2, 3, 4, 5]
    assert helper.calls(here)[len(before) :] == ["2", "3", "4", "5"]
    assert not [name for name in s3.names("") if name.endswith(".claim")]


def test_the_task_of_a_killed_worker_is_done_again_and_nothing_else(s3, tmp_path):
    values = done(tmp_path, s3.url, workers=2, call=helper.die_first, more=(0,))
    assert len(values) == 8
    assert sorted(helper.calls(tmp_path)) == ["0", "0", *"1234567"]
    assert len(Shared(s3, "tasks").present()) == 8


def test_a_store_that_fails_while_tasks_run_names_the_task(renaming, tmp_path):
    url = renaming("write").url
    with pytest.raises(
        StoreError, match=r"^task draw 0: renaming://\S+ cannot be written: permission is miss"
    ):
        done(tmp_path, url)
    assert helper.calls(tmp_path) == []
