"""Saving a calibrated guard with checksums, and reading it back."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from safeframe.coverage.coverage_guard import CoverageSettings
from safeframe.guard.evidence import Evidence
from safeframe.guard.settings import Certified, GuardSettings, Priced
from safeframe.shrinkage import Shrinkage
from safeframe.threshold_rule import Conservative, PlugIn
from safeframe.types import SafeframeError

FORMAT = 3
_READABLE = (2, FORMAT)
"""Formats that are read; 2 has no choice in its settings, which is "gated"."""
_JSON = "guard.json"


_RULES = {rule.__name__: rule for rule in (Conservative, PlugIn, Certified, Shrinkage)}


def _interval(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write_atomically(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_guard(
    directory: str | os.PathLike[str], settings: dict[str, Any], arrays: dict[str, np.ndarray]
) -> None:
    """Write settings and arrays; a reader sees the old guard or the new one, whole.

    The arrays' file is named by its checksum, and guard.json, replaced last and atomically, points to it.

    Args:
        directory: where; made if it does not exist.
        settings: what JSON can hold.
        arrays: what an npz file can hold without pickling.

    Raises:
        SafeframeError: where the files cannot be written: no space is left, or no permission.
    """
    target = Path(directory)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    content = buffer.getvalue()
    name = f"guard-{_digest(content)[:16]}.npz"
    body = {"format": FORMAT, "arrays": name, "arrays_sha256": _digest(content), "settings": settings}
    text = json.dumps(body, sort_keys=True)
    sealed = json.dumps({"sha256": _digest(text.encode()), "guard": text}).encode()
    try:
        target.mkdir(parents=True, exist_ok=True)
        _write_atomically(target / name, content)
        _write_atomically(target / _JSON, sealed)
    except OSError as error:
        raise SafeframeError(
            f"the guard cannot be saved in {target}: {error.strerror or error}; free some space or choose "
            "another place"
        ) from error
    for old in target.glob("guard-*.npz"):
        if old.name != name:
            old.unlink(missing_ok=True)


def read_guard(directory: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what :func:`write_guard` wrote.

    Args:
        directory: where it was written.

    Returns:
        Settings and arrays by name.

    Raises:
        SafeframeError: where a file is missing, was changed or cut short, or has another format.
    """
    target = Path(directory)
    again = "calibrate and save the guard again"
    try:
        outer = json.loads((target / _JSON).read_text(encoding="utf-8"))
        text, wanted = outer["guard"], outer["sha256"]
    except FileNotFoundError as error:
        raise SafeframeError(f"no saved guard in {target}: {_JSON} is missing") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SafeframeError(f"{target / _JSON} is corrupt ({error}); {again}") from error
    if not isinstance(text, str) or _digest(text.encode()) != wanted:
        raise SafeframeError(f"{target / _JSON} is corrupt: its checksum does not match; {again}")
    body = json.loads(text)
    if body["format"] not in _READABLE:
        raise SafeframeError(
            f"{target / _JSON} has format {body['format']}, this version reads "
            f"{' and '.join(map(str, _READABLE))}; {again}"
        )
    try:
        content = (target / body["arrays"]).read_bytes()
    except FileNotFoundError as error:
        raise SafeframeError(f"{target / body['arrays']} is missing; {again}") from error
    if _digest(content) != body["arrays_sha256"]:
        raise SafeframeError(f"{target / body['arrays']} is corrupt: its checksum does not match; {again}")
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return body["settings"], {key: stored[key] for key in stored.files}


@dataclass(frozen=True)
class SavedGuard:
    """What a calibrated guard is on disk: all but its model and its classifier.

    Attributes:
        settings: of the guard.
        evidence: of its internal test cases.
        default_action: taken where an action is rejected.
        classify_actions: whether the classifier is called with the actions too.
        tau: (r_t, tau) pairs of one group, to recognise the calibration by.
        probe: a few measurements, to recognise model and classifier by; None where there are none.
        probe_is_torch: whether they were tensors.
        coverage: (n, d) features that the coverage guard was fitted on; None without one.
        coverage_radius: its radius, a distance in scaled features; None without one.
        unsafe_label: the unsafe class of the classifier.
    """

    settings: GuardSettings
    evidence: Evidence
    default_action: np.ndarray
    classify_actions: bool
    tau: list[list[float]]
    probe: np.ndarray | None = None
    probe_is_torch: bool = False
    coverage: np.ndarray | None = None
    coverage_radius: float | None = None
    unsafe_label: Any = 1


def save_guard(directory: str | os.PathLike[str], saved: SavedGuard) -> None:
    """Write a guard, atomically.

    Args:
        directory: where; made if it does not exist.
        saved: the guard.

    Raises:
        SafeframeError: where groups, default action or measurements are Python objects, or the files cannot
            be written.
    """
    evidence, settings = saved.evidence, saved.settings
    arrays = {
        "margin": evidence.margin,
        "label": evidence.label,
        "score": evidence.score,
        "group": evidence.group,
        "trained_on": evidence.trained_on,
        "block": evidence.block,
        "default_action": saved.default_action,
        "probe": saved.probe,
        "coverage": saved.coverage,
    }
    for name in ("group", "block", "default_action", "probe"):
        array = arrays[name]
        if array is not None and array.dtype == object:
            raise SafeframeError(
                f"{name} holds Python objects, which cannot be saved; use numbers or strings"
            )
    given = None if isinstance(settings.scale, str) else "logistic"  # a scale of the user's is not saved
    plain = dataclasses.replace(settings, scale=given or settings.scale, choice="gated")
    stored: dict[str, Any] = dataclasses.asdict(plain)
    stored["scale"] = None if given else settings.scale
    if isinstance(settings.choice, Priced):
        own = not isinstance(settings.choice.scale, str)
        stored["choice"] = {**vars(settings.choice), "scale": None if own else settings.choice.scale}
    stored["rule"] = {"kind": type(settings.rule).__name__, **vars(settings.rule)}
    if isinstance(settings.prior, Mapping):
        stored["prior"] = [[key, value] for key, value in settings.prior.items()]
    body = {
        "settings": stored,
        "classify_actions": saved.classify_actions,
        "probe_is_torch": saved.probe_is_torch,
        "taus": saved.tau,
        "coverage_radius": saved.coverage_radius,
        "unsafe_label": saved.unsafe_label,
    }
    write_guard(directory, body, {name: array for name, array in arrays.items() if array is not None})


def load_guard(directory: str | os.PathLike[str], scale: Any = None) -> SavedGuard:
    """Read what :func:`save_guard` wrote.

    Args:
        directory: where it was written.
        scale: of risk, where the guard had one of the user's, for groups or for prices.

    Returns:
        The guard, all but its model and its classifier.

    Raises:
        SafeframeError: where a file is missing, was changed or cut short, or has another format; where the
            guard had a scale of the user's and none is given, or the other way round.
    """
    body, arrays = read_guard(directory)
    stored = dict(body["settings"])
    stored["threshold"] = tuple(stored["threshold"])
    if stored.pop("group_conditional", False):  # of version 0.3
        stored["constraint"] = "per_group"
    for_groups, for_prices = stored.get("scale", "") is None, _own_prices(stored)
    if (for_groups or for_prices) and scale is None:
        raise SafeframeError(
            f"the guard in {os.fspath(directory)} has a scale of risk of its own, which is not saved: "
            "load(..., scale=...) needs it"
        )
    if scale is not None and not (for_groups or for_prices):
        raise SafeframeError("scale is given, but the guard was saved without a scale of your own")
    if for_groups:
        stored["scale"] = scale
    if isinstance(stored["prior"], list):
        pairs = stored["prior"]
        mapped = pairs and isinstance(pairs[0], list)
        stored["prior"] = {key: _interval(value) for key, value in pairs} if mapped else tuple(pairs)
    kind = stored["rule"].pop("kind")
    stored["rule"] = _RULES[kind](**stored["rule"])
    if stored.get("coverage") is not None:
        stored["coverage"] = CoverageSettings(**stored["coverage"])
    if isinstance(stored.get("choice"), dict):
        stored["choice"] = Priced(**(stored["choice"] | ({"scale": scale} if for_prices else {})))
    evidence = Evidence(
        arrays["margin"], arrays["label"], arrays.get("score"), arrays.get("group"), arrays["trained_on"],
        arrays.get("block"),
    )  # fmt: skip
    return SavedGuard(
        GuardSettings(**stored), evidence, arrays["default_action"], body["classify_actions"], body["taus"],
        arrays.get("probe"), body["probe_is_torch"], arrays.get("coverage"), body["coverage_radius"],
        body["unsafe_label"],
    )  # fmt: skip


def _own_prices(stored: Mapping[str, Any]) -> bool:
    """Whether risk was priced on a scale of the user's."""
    choice = stored.get("choice")
    return isinstance(choice, dict) and choice["scale"] is None
