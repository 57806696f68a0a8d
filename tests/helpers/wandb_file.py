"""Reading back what an offline W&B run wrote: its .wandb file (LevelDB's log format, one record each)."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32_768, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class Written:
    """What the file says of its run."""

    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    steps: dict[str, str] = field(default_factory=dict)
    artifacts: list[tuple[str, str]] = field(default_factory=list)
    run: Any = None

    @property
    def keys(self) -> set[str]:
        """Every key that was logged, in the history or the summary."""
        return {key for row in self.history for key in row} | set(self.summary)


def records(path: Path) -> list[bytes]:
    """The records of a file, in order; ValueError if it is damaged."""
    data, found, part, at = path.read_bytes(), [], b"", HEADER
    if data[:4] != b":W&B":
        raise ValueError(f"{path} is no .wandb file")
    while at + HEADER <= len(data):
        left = BLOCK - at % BLOCK
        if left < HEADER:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        if kind == 0:
            at += left
            continue
        piece = data[at + HEADER : at + HEADER + length]
        if len(piece) != length or kind not in (FULL, FIRST, MIDDLE, LAST):
            raise ValueError(f"{path} is damaged at byte {at}")
        part = piece if kind in (FULL, FIRST) else part + piece
        if kind in (FULL, LAST):
            found.append(part)
        at += HEADER + length
    return found


def read(directory: Path) -> Written:
    """What the one .wandb file under a folder holds."""
    from wandb.proto import wandb_internal_pb2 as proto

    (path,) = directory.glob("**/*.wandb")
    written = Written()
    for content in records(path):
        record = proto.Record()
        record.ParseFromString(content)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            written.run = record.run
            written.config |= _items(record.run.config.update)
        elif kind == "history":
            written.history.append(_items(record.history.item))
        elif kind == "summary":
            written.summary |= _items(record.summary.update)
        elif kind == "metric":
            written.steps[record.metric.name or record.metric.glob_name] = record.metric.step_metric
        elif kind == "artifact":
            written.artifacts.append((record.artifact.name, record.artifact.type))
        elif kind == "request" and record.request.WhichOneof("request_type") == "log_artifact":
            artifact = record.request.log_artifact.artifact
            written.artifacts.append((artifact.name, artifact.type))
    return written


def _items(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
