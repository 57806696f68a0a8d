"""Results in a shared store beside those of this machine's folder: fetched where they are missing, published
where they were made.

Locally, <name>.json is a result's record and names its file and checksum (`engine/store.py`). In the store
the file's object has a part of the checksum in its name, and the record, created last and only if there is
none, decides: whatever else was written, half or twice, is not looked at.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.support.errors import CacheError
from experiments.support.files import atomic_path, checksum, write_json
from experiments.support.storage.leases import lease
from experiments.support.storage.objects import Objects

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shared:
    """A part of a shared store.

    Attributes:
        objects: the store.
        prefix: of the part's objects.
    """

    objects: Objects
    prefix: str = ""

    def under(self, name: str) -> Shared:
        """A part of this part."""
        return Shared(self.objects, f"{self.prefix}/{name}".lstrip("/"))

    def has(self, name: str) -> bool:
        """Whether a result is there."""
        return self.objects.read_json(self._named(f"{name}.json")) is not None

    def present(self) -> set[str]:
        """Names of the results that are there."""
        found = self.objects.names(self.prefix)
        return {name.removesuffix(".json") for name in found if name.endswith(".json") and "/" not in name}

    def fetch(self, name: str, directory: Path) -> bool:
        """Copy a result from the store to a folder, file first and then the record; False if there is none.

        Args:
            name: of the result.
            directory: the folder.

        Raises:
            CacheError: for a record or a file that is damaged or missing; it says what to delete.
            StoreError: where the store cannot be read.
            StorageError: where the folder cannot be written.
        """
        content = self.objects.read_json(self._named(f"{name}.json"))
        if content is None:
            return False
        where = self.objects.at(self._named(f"{name}.json"))
        advice = f"delete {where} to make the result again"
        try:
            path, expected = directory / Path(content["file"]).name, str(content["sha256"])
            source = self._named(str(content["object"]))
        except (KeyError, TypeError) as error:
            raise CacheError(f"{where} is damaged ({error!r} is missing); {advice}") from error
        with atomic_path(path) as temporary:
            try:
                self.objects.download(source, temporary)
            except FileNotFoundError as error:
                raise CacheError(f"{self.objects.at(source)} is missing; {advice}") from error
            found = checksum(temporary)
            if found != expected:
                raise CacheError(
                    f"{self.objects.at(source)} is half-written or damaged (SHA-256 {found[:12]}…, "
                    f"{expected[:12]}… was written); {advice}"
                )
        own = {key: value for key, value in content.items() if key != "object"}
        write_json(directory / f"{name}.json", own)
        return True

    def publish(self, name: str, directory: Path) -> bool:
        """Put a result of a folder into the store unless one is there.

        If another one is there, of a machine that rounds differently for instance, it takes the place of the
        folder's: a stage has one value.

        Returns:
            Whether the folder's was replaced.

        Raises:
            CacheError: for a record of the store that is damaged.
            StoreError: where the store cannot be written.
        """
        content = json.loads((directory / f"{name}.json").read_text(encoding="utf-8"))
        there = self.objects.read_json(self._named(f"{name}.json"))
        if there is None:
            path = directory / content["file"]
            content["object"] = f"{path.name.split('.')[0]}.{content['sha256'][:16]}{_suffixes(path)}"
            self.objects.upload(path, self._named(content["object"]))
            record = (json.dumps(content, indent=2) + "\n").encode()
            if self.objects.create(self._named(f"{name}.json"), record):
                return False
            there = self.objects.read_json(self._named(f"{name}.json")) or content
        if there.get("sha256") != content["sha256"]:
            log.warning(
                "%s holds another result, made elsewhere; it is used, not this machine's",
                self.objects.at(self._named(f"{name}.json")),
            )
            return self.fetch(name, directory)
        return False

    def fetch_folder(self, name: str, folder: Path) -> bool:
        """Copy a folder of files from the store; False if it is not there. Raises what `fetch` does."""
        content = self.objects.read_json(self._named(f"{name}.json"))
        if content is None:
            return False
        where = self.objects.at(self._named(f"{name}.json"))
        advice = f"delete {where} to make the result again"
        try:
            files = {str(Path(file).name): str(digest) for file, digest in dict(content["files"]).items()}
            last = Path(content["last"]).name
        except (KeyError, TypeError, ValueError) as error:
            raise CacheError(f"{where} is damaged ({error!r}); {advice}") from error
        for file in sorted(
            files, key=lambda one: (one == last, one)
        ):  # what says that it is whole comes last
            source = self._named(f"{name}/{file}.{files[file][:16]}")
            with atomic_path(folder / file) as temporary:
                try:
                    self.objects.download(source, temporary)
                except FileNotFoundError as error:
                    raise CacheError(f"{self.objects.at(source)} is missing; {advice}") from error
                if checksum(temporary) != files[file]:
                    raise CacheError(f"{self.objects.at(source)} is half-written or damaged; {advice}")
        return True

    def publish_folder(self, name: str, folder: Path, last: str) -> None:
        """Put the files of a folder into the store unless they are there.

        Args:
            name: of the result.
            folder: without folders in it; hidden files do not count.
            last: the file that says that the folder is whole.

        Raises:
            StoreError: where the store cannot be written.
        """
        if self.has(name):
            return
        files: dict[str, Any] = {
            path.name: checksum(path) for path in sorted(folder.iterdir()) if not path.name.startswith(".")
        }
        for file, digest in files.items():
            self.objects.upload(folder / file, self._named(f"{name}/{file}.{digest[:16]}"))
        record = json.dumps({"files": files, "last": last}, indent=2) + "\n"
        self.objects.create(self._named(f"{name}.json"), record.encode())

    def clear(self) -> None:
        """Take all objects of this part away."""
        self.objects.clear(self.prefix)

    @contextlib.contextmanager
    def claim(self, name: str, what: str, wait: bool) -> Iterator[bool]:
        """Hold the lease on a result; yields whether it is held (`leases.lease`)."""
        with lease(self.objects, self._named(f"{name}.claim"), what, wait) as held:
            yield held

    def _named(self, name: str) -> str:
        return f"{self.prefix}/{name}".lstrip("/")


def _suffixes(path: Path) -> str:
    """All endings of a file's name (".tables.zip")."""
    return path.name[len(path.name.split(".")[0]) :]
