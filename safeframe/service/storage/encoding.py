"""What a log writes: a guard's fingerprint, actions and groups as text, measurements as bytes."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Hashable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import numpy as np

from safeframe.guard.safety_guard import SafetyGuard
from safeframe.inputs import as_batch
from safeframe.tensors import as_tensor, is_tensor, to_numpy
from safeframe.types import SafeframeError, number

_LONGEST = 4096


class Codec(Protocol):
    """How measurements become bytes and measurements again."""

    def encode(self, measurement: Any) -> list[bytes]:
        """A batch of n measurements as n pieces of bytes.

        Args:
            measurement: n cases.

        Returns:
            One piece for each.
        """
        ...

    def decode(self, pieces: Sequence[bytes]) -> Any:
        """The batch again.

        Args:
            pieces: of the cases of one batch, in order.

        Returns:
            What a guard can act on.
        """
        ...


@dataclasses.dataclass(frozen=True)
class ArrayCodec:
    """Arrays and tensors as npy, texts as UTF-8."""

    def encode(self, measurement: Any) -> list[bytes]:
        """A batch of n measurements as n pieces of bytes.

        Args:
            measurement: an array or tensor of numbers, or a list of texts.

        Returns:
            One piece for each case; its first letter tells the kind.

        Raises:
            SafeframeError: on other kinds of measurements.
        """
        batch = as_batch(measurement)
        if isinstance(batch, list) and all(isinstance(row, str) for row in batch):
            return [b"s" + row.encode() for row in batch]
        array = batch if isinstance(batch, np.ndarray) else to_numpy(batch) if is_tensor(batch) else None
        if array is None or array.dtype.kind not in "biufc":
            raise SafeframeError(
                f"measurements of type {type(measurement).__name__} are not kept as they are, only arrays, "
                "tensors and texts; give keep_measurements an object with encode(batch) and decode(pieces)"
            )
        kind = b"t" if is_tensor(batch) else b"n"
        if not len(array):
            return []
        stream, size = io.BytesIO(), np.ascontiguousarray(array[0]).nbytes
        np.save(stream, np.ascontiguousarray(array[0]), allow_pickle=False)
        head = kind + stream.getvalue()[: stream.tell() - size]  # the same for all rows
        return [head + np.ascontiguousarray(row).tobytes() for row in array]

    def decode(self, pieces: Sequence[bytes]) -> Any:
        """The batch again.

        Args:
            pieces: of the cases of one batch, in order.

        Returns:
            An array, a tensor or a list of texts.
        """
        kind = pieces[0][:1]
        if kind == b"s":
            return [piece[1:].decode() for piece in pieces]
        first = np.load(io.BytesIO(pieces[0][1:]), allow_pickle=False)
        head = pieces[0][: len(pieces[0]) - first.nbytes]
        if all(len(piece) == len(pieces[0]) and piece.startswith(head) for piece in pieces):
            whole = b"".join(piece[len(head) :] for piece in pieces)
            array = np.frombuffer(bytearray(whole), first.dtype).reshape(len(pieces), *first.shape)
        else:
            array = np.stack([np.load(io.BytesIO(piece[1:]), allow_pickle=False) for piece in pieces])
        return as_tensor(array) if kind == b"t" else array


def action_texts(action: Any) -> list[str]:
    """Actions as JSON, one text each; where that is longer than 4,096 characters, its SHA-256.

    Args:
        action: (n, ...) actions.

    Returns:
        (n) texts.
    """
    texts = [json.dumps(row, default=repr) for row in to_numpy(action).tolist()]
    return [text if len(text) <= _LONGEST else json.dumps("sha256:" + _digest(text)) for text in texts]


def group_text(group: Hashable) -> str:
    """A group id as JSON.

    Args:
        group: a text, number or bool.

    Returns:
        The text; :func:`json.loads` gives the id again.

    Raises:
        SafeframeError: on other kinds of ids.
    """
    if not isinstance(group, str | int | float):
        raise SafeframeError(f"group {group!r} cannot be logged: group ids must be texts or numbers")
    return json.dumps(group)


def seconds(moment: float | datetime) -> float:
    """A time as seconds since 1970.

    Args:
        moment: such seconds, or a datetime with its time zone.

    Returns:
        The seconds.

    Raises:
        SafeframeError: on a datetime without a time zone, and on what is no finite number.
    """
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise SafeframeError(f"time {moment} has no time zone: datetime(..., tzinfo=timezone.utc)")
        return moment.timestamp()
    if not np.isfinite(number(moment, "time")):
        raise SafeframeError(f"time is {moment}; expected seconds since 1970, or a datetime")
    return float(moment)


def fingerprint(guard: SafetyGuard) -> str:
    """What tells one calibrated guard from another: its settings, evidence, thresholds and default action.

    Settings at their default values do not enter, so that a new setting in a later version changes nothing.
    Neither do the model and the classifier themselves: the margins of the evidence stand for the classifier.

    Args:
        guard: calibrated.

    Returns:
        64 hexadecimal digits.

    Raises:
        SafeframeError: where the guard is not calibrated.
    """
    if guard.evidence is None:
        raise SafeframeError("the guard is not calibrated: call calibrate() before it is logged")
    taus = [
        [r_t, repr(group), repr(float(one.tau))]
        for r_t, found in guard.calibrations.items()
        for group, one in found.items()
    ]
    record = {
        "settings": _record(guard.settings),
        "evidence": {
            part.name: _array_digest(getattr(guard.evidence, part.name))
            for part in dataclasses.fields(guard.evidence)
            if getattr(guard.evidence, part.name) is not None
        },
        "taus": taus,
        "default_action": _array_digest(np.asarray(guard.default_action)),
        "classify_actions": guard.callables.classify_actions,
        "unsafe_label": repr(guard.callables.unsafe_label),
    }
    return _digest(json.dumps(record, sort_keys=True))


def _record(value: Any) -> Any:
    """A setting as JSON, without what has its default value."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kept = {}
        for part in dataclasses.fields(value):
            own, default = getattr(value, part.name), part.default
            if part.default_factory is not dataclasses.MISSING:
                default = part.default_factory()
            if default is dataclasses.MISSING or isinstance(own, np.ndarray) or own != default:
                kept[part.name] = _record(own)
        return {"kind": type(value).__name__, **kept}
    if isinstance(value, Mapping):
        return sorted([repr(key), _record(one)] for key, one in value.items())
    if isinstance(value, tuple | list):
        return [_record(one) for one in value]
    if isinstance(value, np.ndarray):
        return _array_digest(value)
    if callable(value) or type(value).__repr__ is object.__repr__:  # their repr names a place in memory
        return getattr(value, "__qualname__", type(value).__qualname__)
    return repr(value)


def _array_digest(array: np.ndarray) -> str:
    if array.dtype == object:
        return _digest(repr(array.tolist()))
    whole = np.ascontiguousarray(array)
    return hashlib.sha256(f"{whole.dtype.str} {whole.shape}".encode() + whole.tobytes()).hexdigest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
