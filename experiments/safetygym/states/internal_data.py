"""Internal test data: (observation, candidate, label) cases in shards on disk, read through memory maps.

A directory holds `data.json` (fingerprint and progress) and per shard `observation_i.npy` (m, d) float32,
`unsafe_i.npy` (m, k) int8 (0 safe, 1 unsafe, -1 not labelled) and, for backup labels, `clearance_i.npy` (m,
k) float32 and `path_i.npy` (m, k, T, 2) float32 if asked for. A shard counts once `data.json` says so; an
interrupted collection goes on with the next shard. A case is one labelled (state, candidate) pair: n_t counts
them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.support.files import atomic_save, checksum, hash_of, write_json
from safeframe.types import SafeframeError

LABELS = ("logged", "branched", "backup")
PARTS = ("observation", "unsafe", "clearance", "path")


@dataclass(frozen=True)
class Shard:
    """Arrays of one shard; those that were not collected are None."""

    observation: np.ndarray
    unsafe: np.ndarray
    clearance: np.ndarray | None = None
    path: np.ndarray | None = None


class InternalData:
    """A collection on disk.

    Args:
        directory: where.
        fingerprint: what the cases are of (task, candidates, label kind, behaviour, seed).

    Raises:
        SafeframeError: where the directory holds cases of another fingerprint, naming what differs.
    """

    def __init__(self, directory: Path | str, fingerprint: dict[str, Any]):
        self.directory = Path(directory)
        self.fingerprint = json.loads(json.dumps(fingerprint))
        self.shards: list[dict[str, Any]] = []
        self._whole: set[Path] = set()
        record = self.directory / "data.json"
        if record.exists():
            try:
                content = json.loads(record.read_text())
                found, self.shards = dict(content["fingerprint"]), list(content["shards"])
                seal = content.get("seal")
            except (ValueError, KeyError, TypeError) as error:
                raise SafeframeError(f"{record} cannot be read ({error}); delete {self.directory}") from error
            if seal is not None and seal != hash_of([found, self.shards]):
                raise SafeframeError(f"{record} was changed since it was written; delete {self.directory}")
            for key in sorted(set(found) | set(self.fingerprint)):
                if found.get(key) != self.fingerprint.get(key):
                    raise SafeframeError(
                        f"the internal test data in {self.directory} have {key} = {found.get(key)!r}; "
                        f"{self.fingerprint.get(key)!r} is needed: collect them anew in another directory"
                    )

    @property
    def n_t(self) -> int:
        """Labelled cases."""
        return sum(shard["cases"] for shard in self.shards)

    def append(self, shard: Shard) -> None:
        """Write one shard and then count it."""
        index = len(self.shards)
        self.directory.mkdir(parents=True, exist_ok=True)
        sums = {}
        for part in PARTS:
            value = getattr(shard, part)
            if value is not None:
                path = self.directory / f"{part}_{index}.npy"
                atomic_save(path, _save, value)
                sums[part] = checksum(path)
        cases = int((shard.unsafe >= 0).sum())
        self.shards.append({"rows": len(shard.observation), "cases": cases, "sha256": sums})
        seal = hash_of([self.fingerprint, self.shards])
        content = {"fingerprint": self.fingerprint, "shards": self.shards, "seal": seal}
        write_json(self.directory / "data.json", content)

    def __iter__(self) -> Iterator[Shard]:
        for index in range(len(self.shards)):
            parts = {part: self._read(part, index) for part in PARTS}
            yield Shard(**{part: value for part, value in parts.items() if value is not None})

    def _read(self, part: str, index: int) -> np.ndarray | None:
        """One array, None for one that was not collected. Raises SafeframeError if it is damaged."""
        path, rows = self.directory / f"{part}_{index}.npy", self.shards[index]["rows"]
        sums = self.shards[index].get("sha256")  # data of older versions have none
        if (part not in sums if sums is not None else not path.exists()) and part in ("clearance", "path"):
            return None
        try:
            if sums is not None and path not in self._whole:
                if checksum(path) != sums[part]:
                    raise ValueError("its checksum does not match")
                self._whole.add(path)
            value = np.load(path, mmap_mode="r")
            if len(value) != rows:
                raise ValueError(f"it has {len(value)} rows, not {rows}")
        except (OSError, ValueError, EOFError, TypeError) as error:
            raise SafeframeError(
                f"{path} is damaged or missing ({error}); delete {self.directory}"
            ) from error
        return value

    def load(self, limit: int | None = None, parts: tuple[str, ...] = PARTS) -> Shard:
        """All cases, or the first rows with at least `limit` cases, in memory.

        Raises SafeframeError if there are fewer than `limit` cases.
        """
        if limit is not None and limit > self.n_t:
            raise SafeframeError(f"{self.directory} holds {self.n_t} cases; {limit} were asked for")
        found: dict[str, list[np.ndarray]] = {part: [] for part in parts}
        missing = limit
        for shard in self:
            rows = len(shard.observation)
            if missing is not None:
                count = np.cumsum((np.asarray(shard.unsafe) >= 0).sum(axis=1))
                rows = min(rows, int(np.searchsorted(count, missing)) + 1)
                missing -= int(count[rows - 1])
            for part in parts:
                value = getattr(shard, part)
                if value is not None:
                    found[part].append(np.asarray(value[:rows]))
            if missing is not None and missing <= 0:
                break
        arrays = {part: np.concatenate(value) for part, value in found.items() if value}
        return Shard(arrays["observation"], arrays["unsafe"], arrays.get("clearance"), arrays.get("path"))


def _save(value: np.ndarray, path: Path) -> None:
    with open(path, "wb") as file:
        np.save(file, value)


def pool(shards: list[Shard]) -> Shard:
    """All rows of several shards; a part that one of them lacks is left out."""
    if len(shards) == 1:
        return shards[0]
    parts = {part: [getattr(shard, part) for shard in shards] for part in PARTS}
    return Shard(**{k: None if any(x is None for x in v) else np.concatenate(v) for k, v in parts.items()})
