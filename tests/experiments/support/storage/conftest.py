"""Shared stores for tests: memory://, an S3 server of this machine (moto), and folders behind a protocol that
renames.
"""

from __future__ import annotations

import os
import uuid
from urllib.request import Request, urlopen

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from experiments.support.storage.objects import Objects

S3_NEEDED = "needs s3fs and moto (requirements-dev.txt)"


class Renaming(LocalFileSystem):
    """A file system without conditions: objects are written beside their place and renamed."""

    protocol = "renaming"
    root_marker = "/"
    fails: str = ""
    """What of it fails: "upload" in the middle, "write" for want of permission, or "all writing"."""

    @classmethod
    def _strip_protocol(cls, path):
        return LocalFileSystem._strip_protocol(str(path).removeprefix("renaming://"))

    def put_file(self, lpath, rpath, **more):
        if self.fails == "upload":
            with open(lpath, "rb") as file, open(rpath, "wb") as half:
                half.write(file.read()[:3])
            raise ConnectionResetError("the line went dead")
        super().put_file(lpath, rpath, **more)

    def pipe_file(self, path, value, **more):
        if self.fails == "write":
            raise PermissionError(13, "Permission denied", path)
        if self.fails == "all writing":
            raise NotImplementedError
        super().pipe_file(path, value, **more)


fsspec.register_implementation("renaming", Renaming, clobber=True)


@pytest.fixture
def renaming(tmp_path, monkeypatch):
    """`renaming("upload")`: a store of which that fails."""

    def renaming_(fails: str = "") -> Objects:
        monkeypatch.setattr(Renaming, "fails", fails)
        return Objects(f"renaming://{tmp_path / 'renaming'}")

    return renaming_


@pytest.fixture(scope="session")
def s3_server():
    """The address of an S3 server on this machine, with an empty bucket `runs`."""
    pytest.importorskip("s3fs", reason=S3_NEEDED)
    server_module = pytest.importorskip("moto.server", reason=S3_NEEDED)
    server = server_module.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    own = {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {key: os.environ.get(key) for key in own}
    os.environ.update(own)  # workers in other processes read it
    urlopen(Request(f"{address}/runs", method="PUT")).close()
    yield address
    for key, value in before.items():
        os.environ.pop(key, None) if value is None else os.environ.__setitem__(key, value)
    server.stop()


@pytest.fixture(params=["memory", "s3", "renaming"])
def objects(request, renaming) -> Objects:
    """An empty store of each kind."""
    name = uuid.uuid4().hex
    if request.param == "renaming":
        return renaming()
    if request.param == "s3":
        request.getfixturevalue("s3_server")
        return Objects(f"s3://runs/{name}")
    return Objects(f"memory://{name}")


@pytest.fixture
def s3(s3_server) -> Objects:
    """An empty part of the S3 server's bucket."""
    return Objects(f"s3://runs/{uuid.uuid4().hex}")
