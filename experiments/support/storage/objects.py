"""Objects behind a URL, by fsspec: read whole, written whole, or created unless they are there.

Object stores write an object whole and take a condition; on other file systems an object is written beside
its place and renamed. Every error is one `StoreError` that says what, where, and what to do.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.support.errors import CacheError, ConfigError, StoreError

CONDITIONAL = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")
"""Protocols whose objects are written whole and can be created on condition that there is none."""
OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"use_listings_cache": False, "config_kwargs": {"retries": {"total_max_attempts": 2}}}
}
"""What a file system is opened with; addresses and credentials come from the environment and from fsspec's
own configuration.
"""
OPTIONS["s3a"] = OPTIONS["s3"]
PRECONDITION = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
"""Codes of S3 for an object that is there, or that somebody else is writing."""


def is_folder(place: str) -> bool:
    """Whether a store is a folder of this machine: a path, or file://."""
    return "://" not in place or place.split("://")[0] in ("file", "local")


def folder_of(place: str) -> Path:
    """The path of a store that is a folder."""
    return Path(place.split("://", 1)[-1]).expanduser()


def require_known(place: str) -> None:
    """ConfigError for a URL whose protocol fsspec does not know, or whose package is missing."""
    if is_folder(place):
        return
    import fsspec

    protocol = place.split("://")[0]
    try:
        fsspec.get_filesystem_class(protocol)
    except ValueError as error:
        raise ConfigError(
            f"store={place!r}: no protocol {protocol!r} is known; give a folder, or a URL of fsspec such as "
            "s3://bucket/folder"
        ) from error
    except ImportError as error:
        needed = "pip install s3fs==2026.9.0 (the extra `store`)" if protocol in ("s3", "s3a") else error
        raise ConfigError(f"store={place!r}: the package for {protocol}:// is missing: {needed}") from error


@dataclass(frozen=True)
class Objects:
    """The objects of a store.

    Attributes:
        url: of the store, such as s3://bucket/folder; names of objects count from there.
    """

    url: str

    @property
    def conditional(self) -> bool:
        """Whether the store takes conditions."""
        return self.url.split("://")[0] in CONDITIONAL

    def at(self, name: str) -> str:
        """An object's URL."""
        return f"{self.url.rstrip('/')}/{name}"

    def require_open(self) -> None:
        """Write an object, read it and take it away again; StoreError where any of it cannot be done."""
        name, content = f"probe-{uuid.uuid4().hex}", b"safeframe"
        self.create(name, content)
        found = self.read(name)
        self.delete(name)
        if found != content:
            raise StoreError(f"store {self.url}: an object that was written is not read back; choose another")

    def read(self, name: str) -> bytes | None:
        """An object's content, None where there is none."""
        with contextlib.suppress(FileNotFoundError), self._told(name, "read"):
            filesystem, path = self._open(name)
            return filesystem.cat_file(path)
        return None

    def read_json(self, name: str) -> dict[str, Any] | None:
        """The content of an object that is a JSON mapping; CacheError for one that is not."""
        content = self.read(name)
        if content is None:
            return None
        try:
            return dict(json.loads(content))
        except (ValueError, TypeError) as error:
            raise CacheError(
                f"{self.at(name)} is half-written or damaged ({error}); delete it to make its result again"
            ) from error

    def download(self, name: str, path: Path) -> None:
        """Copy an object to a file; FileNotFoundError where there is none."""
        with self._told(name, "read"):
            filesystem, place = self._open(name)
            filesystem.get_file(place, str(path))

    def upload(self, path: Path, name: str) -> None:
        """Copy a file to an object, which is whole or absent; one that is there is replaced."""
        with self._told(name, "written", missing=True):
            filesystem, place = self._open(name)
            with self._renamed(filesystem, place) as beside:
                filesystem.put_file(str(path), beside)

    def replace(self, name: str, content: bytes) -> None:
        """Write an object, whether there is one or not."""
        with self._told(name, "written", missing=True):
            filesystem, place = self._open(name)
            with self._renamed(filesystem, place) as beside:
                filesystem.pipe_file(beside, content)

    def create(self, name: str, content: bytes) -> bool:
        """Write an object unless there is one; whether it was written."""
        with self._told(name, "written", missing=True):
            filesystem, place = self._open(name)
            if self.conditional:
                return _create(filesystem, place, content)
            if filesystem.exists(place):
                return False
            with self._renamed(filesystem, place) as beside:
                filesystem.pipe_file(beside, content)
            return True

    def delete(self, name: str) -> None:
        """Take an object away; nothing happens where there is none."""
        with contextlib.suppress(FileNotFoundError), self._told(name, "deleted"):
            filesystem, place = self._open(name)
            filesystem.rm_file(place)

    def names(self, prefix: str) -> list[str]:
        """Names of the objects below a prefix, without it, in alphabetical order."""
        with contextlib.suppress(FileNotFoundError), self._told(prefix, "listed"):
            filesystem, place = self._open(prefix)
            filesystem.invalidate_cache()
            return sorted(str(found)[len(place.rstrip("/")) + 1 :] for found in filesystem.find(place))
        return []

    def clear(self, prefix: str) -> None:
        """Take all objects below a prefix away."""
        for name in self.names(prefix):
            self.delete(f"{prefix}/{name}")

    def _open(self, name: str) -> tuple[Any, str]:
        """(file system, path of an object in it)."""
        import fsspec

        return fsspec.core.url_to_fs(self.at(name), **OPTIONS.get(self.url.split("://")[0], {}))

    @contextlib.contextmanager
    def _renamed(self, filesystem: Any, place: str) -> Iterator[str]:
        """Where to write, if what is written must appear at `place` whole."""
        if self.conditional:
            yield place
            return
        folder, _, last = place.rpartition("/")
        filesystem.makedirs(folder, exist_ok=True)
        beside = f"{folder}/.{last}.{uuid.uuid4().hex[:8]}.tmp"
        try:
            yield beside
            filesystem.mv(beside, place)
        except BaseException:
            with contextlib.suppress(Exception):
                filesystem.rm_file(beside)
            raise

    @contextlib.contextmanager
    def _told(self, name: str, doing: str, missing: bool = False) -> Iterator[None]:
        """Errors of the store as StoreError; what is missing stays FileNotFoundError unless `missing`."""
        where = self.at(name)
        try:
            yield
        except (StoreError, CacheError):
            raise
        except FileNotFoundError as error:
            if not missing:
                raise
            raise StoreError(
                f"{where} cannot be {doing}: there is no such bucket or folder ({error}); make it, or choose "
                "another place with store=..."
            ) from error
        except PermissionError as error:
            raise StoreError(
                f"{where} cannot be {doing}: permission is missing ({error}); check the credentials, or "
                "choose another place with store=..."
            ) from error
        except NotImplementedError as error:
            raise StoreError(
                f"{where} cannot be {doing}: {where.split('://')[0]}:// does not do that; choose another "
                "place with store=..."
            ) from error
        except Exception as error:
            if type(error).__name__ == "NoCredentialsError":
                raise StoreError(
                    f"{where} cannot be {doing}: there are no credentials ({error}); set AWS_ACCESS_KEY_ID "
                    "and AWS_SECRET_ACCESS_KEY, or choose another place with store=..."
                ) from error
            if isinstance(error, MemoryError):
                raise
            raise StoreError(
                f"{where} cannot be {doing}: the store cannot be reached or refuses "
                f"({type(error).__name__}: {error}); check its address and the network, or run without store="
            ) from error


def _create(filesystem: Any, place: str, content: bytes) -> bool:
    try:
        filesystem.pipe_file(place, content, mode="create")
    except FileExistsError:
        return False
    except OSError as error:
        response = getattr(error.__cause__, "response", None) or {}
        if response.get("Error", {}).get("Code") in PRECONDITION:
            return False
        raise
    return True


def this_process() -> dict[str, Any]:
    """Host and process id."""
    import socket

    return {"host": socket.gethostname(), "pid": os.getpid()}
