"""Objects of a shared store: whole or absent, created once, and one clear error for whatever goes wrong."""

from __future__ import annotations

import threading
from urllib.request import Request, urlopen

import pytest

from experiments.support.errors import CacheError, ConfigError, StoreError
from experiments.support.storage.objects import Objects, folder_of, is_folder, require_known


def test_objects_are_written_read_listed_and_taken_away(objects, tmp_path):
    objects.require_open()
    assert objects.names("") == []
    assert objects.read("a/one") is None
    assert objects.create("a/one", b"1")
    assert not objects.create("a/one", b"2")
    assert objects.read("a/one") == b"1"
    objects.replace("a/one", b"3")
    assert objects.read("a/one") == b"3"
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(bytes(range(256)) * 100)
    objects.upload(source, "a/b/two")
    objects.upload(source, "a/b/two")
    objects.download("a/b/two", copy)
    assert copy.read_bytes() == source.read_bytes()
    assert objects.names("a") == ["b/two", "one"]
    with pytest.raises(FileNotFoundError):
        objects.download("a/b/three", copy)
    objects.delete("a/one")
    objects.delete("a/one")
    objects.clear("a")
    assert objects.names("a") == []


def test_of_many_who_create_an_object_at_once_one_does(s3):
    ready, won = threading.Barrier(8), []

    def create(number: int) -> None:
        ready.wait()
        if s3.create("once", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert s3.read("once") == str(won[0]).encode()


def test_json_that_is_half_written_is_told_from_what_is_missing(objects):
    assert objects.read_json("record.json") is None
    objects.replace("record.json", b'{"file": "val')
    with pytest.raises(
        CacheError, match=rf"{objects.url}/record.json is half-written or damaged .* delete it"
    ):
        objects.read_json("record.json")
    objects.replace("record.json", b"3")
    with pytest.raises(CacheError, match="half-written or damaged"):
        objects.read_json("record.json")


def test_what_is_cut_off_while_it_is_written_leaves_nothing(renaming, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"0123456789")
    store = renaming("upload")
    with pytest.raises(
        StoreError, match=r"value cannot be written: .*ConnectionResetError: the line went dead"
    ):
        store.upload(source, "value")
    assert list((tmp_path / "renaming").iterdir()) == []
    renaming().upload(source, "value")
    assert store.read("value") == b"0123456789"


def one_line(caught) -> str:
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_bucket_that_is_not_there(s3_server):
    with pytest.raises(
        StoreError, match=r"s3://nowhere/x/probe-\w+ cannot be written: there is no such bucket"
    ):
        Objects("s3://nowhere/x").require_open()


def calls_without_keys(server: str, number: str) -> None:
    """How many calls the S3 server takes before it asks for keys that it knows."""
    kind = {"Content-Type": "text/plain"}
    urlopen(Request(f"{server}/moto-api/reset-auth", number.encode(), kind, method="POST")).close()


def test_a_store_without_permission(s3, s3_server, renaming):
    calls_without_keys(s3_server, "0")
    try:
        with pytest.raises(
            StoreError, match=r"cannot be written: permission is missing .*credentials"
        ) as caught:
            s3.require_open()
        with pytest.raises(StoreError, match=r"one cannot be read: permission is missing"):
            s3.read("one")
    finally:
        calls_without_keys(s3_server, "inf")
    assert one_line(caught).startswith(s3.url)
    with pytest.raises(StoreError, match="permission is missing"):
        renaming("write").require_open()


def test_a_store_that_cannot_be_reached(s3_server, monkeypatch):
    from s3fs import S3FileSystem

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    S3FileSystem.clear_instance_cache()  # they keep the address that they were opened with
    try:
        with pytest.raises(
            StoreError, match=r"cannot be reached .*EndpointConnectionError.*its address"
        ) as it:
            Objects("s3://runs/elsewhere").require_open()
    finally:
        S3FileSystem.clear_instance_cache()
    one_line(it)


def test_a_store_that_is_only_read(renaming):
    with pytest.raises(
        StoreError, match=r"probe-\w+ cannot be written: renaming:// does not do that; choose"
    ):
        renaming("all writing").require_open()


def test_unknown_protocols_and_missing_packages_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match=r"store='s4://b/x': no protocol 's4' is known; give a folder, or"):
        require_known("s4://b/x")

    def missing(protocol: str):
        raise ImportError(f"Install {protocol}fs to access it")

    monkeypatch.setattr("fsspec.get_filesystem_class", missing)
    with pytest.raises(
        ConfigError, match=r"package for s3:// is missing: pip install s3fs==\S+ \(the extra `st"
    ):
        require_known("s3://b/x")
    with pytest.raises(ConfigError, match=r"package for sftp:// is missing: Install sftpfs"):
        require_known("sftp://b/x")


def test_folders_are_told_from_urls(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert is_folder("results/store")
    assert is_folder("file:///data/store")
    assert not is_folder("s3://bucket/x")
    assert str(folder_of("file:///data/store")) == "/data/store"
    assert folder_of("~/store") == tmp_path / "store"
    require_known("~/store")
