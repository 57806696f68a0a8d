"""Results that machines share: published once, fetched whole, damage told, and leases that end."""

from __future__ import annotations

import json
import subprocess
import threading
import time

import numpy as np
import pytest

from experiments.support.errors import CacheError
from experiments.support.files import checksum, write_json
from experiments.support.storage import leases
from experiments.support.storage.leases import lease
from experiments.support.storage.objects import Objects
from experiments.support.storage.shared import Shared


@pytest.fixture
def shared(objects) -> Shared:
    return Shared(objects).under("stage").under("hash")


def result(folder, value: float = 1.0):
    """A result and its record in a folder."""
    folder.mkdir(exist_ok=True)
    np.save(folder / "value.npy", np.full(50, value))
    content = {"file": "value.npy", "sha256": checksum(folder / "value.npy"), "seconds": 0.5}
    write_json(folder / "stage.json", content)
    return folder


def content(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def value_of(shared: Shared) -> str:
    """Name of the object that holds the value."""
    return shared.prefix + "/" + next(x for x in shared.objects.names(shared.prefix) if x.endswith(".npy"))


def test_what_one_machine_publishes_another_fetches_byte_for_byte(shared, tmp_path):
    here, there = result(tmp_path / "here"), tmp_path / "there"
    assert not shared.fetch("stage", there)
    assert not shared.has("stage")
    assert not shared.publish("stage", here)
    assert shared.has("stage")
    assert shared.present() == {"stage"}
    assert shared.fetch("stage", there)
    assert content(there) == content(here)
    shared.clear()
    assert not shared.has("stage")


def test_the_first_result_stays_and_is_what_all_use(shared, tmp_path, caplog):
    first, second = result(tmp_path / "first", 1.0), result(tmp_path / "second", 2.0)
    shared.publish("stage", first)
    assert shared.publish("stage", second)
    assert "holds another result, made elsewhere" in caplog.text
    assert content(second) == content(first)
    assert not shared.publish("stage", second)


def test_a_value_without_its_record_is_no_result(shared, tmp_path):
    here = result(tmp_path / "here")
    shared.publish("stage", here)
    shared.objects.delete(f"{shared.prefix}/stage.json")
    shared.objects.replace(value_of(shared), b"half")  # cut off before the record was written
    assert not shared.fetch("stage", tmp_path / "there")
    shared.publish("stage", here)
    assert shared.fetch("stage", tmp_path / "there")
    assert content(tmp_path / "there") == content(here)


def test_damage_is_told_and_never_used(shared, tmp_path):
    here, there = result(tmp_path / "here"), tmp_path / "there"
    shared.publish("stage", here)
    name = value_of(shared)
    whole = shared.objects.read(name)
    for damaged in (whole[:-1], b"", whole[:-1] + bytes([whole[-1] ^ 1])):
        shared.objects.replace(name, damaged)
        with pytest.raises(
            CacheError, match=r"is half-written or damaged .*delete .*stage/hash/stage.json to"
        ):
            shared.fetch("stage", there)
        assert content(there) == {}
    shared.objects.delete(name)
    with pytest.raises(CacheError, match=r"\.npy is missing; delete .*stage.json"):
        shared.fetch("stage", there)
    shared.objects.replace(f"{shared.prefix}/stage.json", json.dumps({"file": "value.npy"}).encode())
    with pytest.raises(CacheError, match=r"stage.json is damaged \(.*'sha256'.* is missing\)"):
        shared.fetch("stage", there)
    shared.objects.replace(f"{shared.prefix}/stage.json", b"{")
    with pytest.raises(CacheError, match=r"stage.json is half-written or damaged"):
        shared.publish("stage", here)


def test_a_record_cannot_write_outside_its_folder(shared, tmp_path):
    here = result(tmp_path / "here")
    shared.publish("stage", here)
    name = f"{shared.prefix}/stage.json"
    record = json.loads(shared.objects.read(name)) | {"file": "../outside.npy"}
    shared.objects.replace(name, json.dumps(record).encode())
    shared.fetch("stage", tmp_path / "there")
    assert not (tmp_path / "outside.npy").exists()
    assert (tmp_path / "there" / "outside.npy").exists()


def test_folders(shared, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    for name in ("data.json", "unsafe_0.npy", ".half.tmp"):
        (here / name).write_text(name)
    assert not shared.fetch_folder("data", there)
    shared.publish_folder("data", here, "data.json")
    shared.publish_folder("data", here, "data.json")
    assert shared.fetch_folder("data", there)
    assert content(there) == {name: name.encode() for name in ("data.json", "unsafe_0.npy")}
    name = next(x for x in shared.objects.names(shared.prefix) if "unsafe" in x)
    (there / "data.json").unlink()
    shared.objects.replace(f"{shared.prefix}/{name}", b"half")
    with pytest.raises(CacheError, match=r"unsafe_0.npy\S+ is half-written or damaged; delete .*data.json"):
        shared.fetch_folder("data", there)
    assert not (there / "data.json").exists()  # what says that the folder is whole comes last
    shared.objects.delete(f"{shared.prefix}/{name}")
    with pytest.raises(CacheError, match=r"is missing; delete"):
        shared.fetch_folder("data", there)
    shared.objects.replace(f"{shared.prefix}/data.json", b'{"files": 3}')
    with pytest.raises(CacheError, match=r"data.json is damaged"):
        shared.fetch_folder("data", there)


# -- leases


@pytest.fixture
def quick(monkeypatch):
    """Leases whose holders show life, and are given up, within a second."""
    monkeypatch.setattr(leases, "BEAT", 0.05)
    monkeypatch.setattr(leases, "PATIENCE", 0.4)
    monkeypatch.setattr(leases, "POLL", 0.02)


def held_by(objects: Objects, **holder) -> None:
    """A lease that somebody left."""
    objects.replace("x.claim", json.dumps({"token": "other", "beat": 0, **holder}).encode())


def test_one_holds_a_lease_and_leaves_nothing_behind(objects, quick):
    with lease(objects, "x.claim", "x", wait=False) as held:
        assert held
        with lease(objects, "x.claim", "x", wait=False) as again:
            assert not again
        time.sleep(0.2)
        assert json.loads(objects.read("x.claim"))["beat"] > 0
    assert objects.read("x.claim") is None


def test_who_waits_gets_the_lease_when_its_holder_ends(quick):
    objects, order = Objects("memory://leases"), []

    def hold() -> None:
        with lease(objects, "x.claim", "x", wait=False):
            order.append("first")
            time.sleep(1.0)  # longer than a holder is given that shows no life
            order.append("first ends")

    thread = threading.Thread(target=hold)
    thread.start()
    while objects.read("x.claim") is None:
        time.sleep(0.01)
    with lease(objects, "x.claim", "x", wait=True) as held:
        assert held
        order.append("second")
    thread.join()
    assert order == ["first", "first ends", "second"]


def test_a_lease_of_a_process_that_has_ended_is_taken_over_at_once(objects):
    ended = subprocess.Popen(["true"])
    ended.wait()
    held_by(objects, **leases.this_process() | {"pid": ended.pid})
    with lease(objects, "x.claim", "x", wait=False) as held:
        assert held


@pytest.mark.parametrize("left", [b"{", b"[]", b"{}"])
def test_a_lease_that_was_half_written_is_taken_over(objects, left):
    objects.replace("x.claim", left)
    with lease(objects, "x.claim", "x", wait=False) as held:
        assert held


def test_a_silent_holder_elsewhere_is_given_up(objects, quick):
    held_by(objects, host="elsewhere", pid=1)
    with lease(objects, "x.claim", "x", wait=False) as held:
        assert not held
    started = time.monotonic()
    with lease(objects, "x.claim", "x", wait=True) as held:
        assert held
    assert time.monotonic() - started >= 0.4
