"""Calling models and classifiers on NumPy or torch data, and saving a calibrated guard with checksums."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from safeframe.coverage.coverage_guard import CoverageSettings, Features, fit_coverage, flat_features
from safeframe.guard.calibration import Evidence
from safeframe.internal_test import InternalTestData
from safeframe.types import SafeframeError

if TYPE_CHECKING:
    from safeframe.guard.safety_guard import SafetyGuard

FORMAT = 1
_JSON = "guard.json"


def to_numpy(value: Any) -> np.ndarray:
    """A NumPy view or copy of an array, tensor or sequence."""
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def like(value: np.ndarray, measurement: Any) -> Any:
    """``value`` as a tensor on the measurement's device where that is a tensor, else unchanged."""
    return torch.from_numpy(value).to(measurement.device) if isinstance(measurement, torch.Tensor) else value


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a model without gradients; torch modules run in evaluation mode on tensors of their own type and
    device.
    """
    with torch.no_grad():
        if not isinstance(function, torch.nn.Module):
            return function(*arguments)
        training = {module for module in function.modules() if module.training}
        function.eval()
        try:
            return function(*(_for_module(function, argument) for argument in arguments))
        finally:
            for module in training:
                module.training = True


def _for_module(module: torch.nn.Module, value: Any) -> torch.Tensor:
    tensor = value if isinstance(value, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(value))
    weight = next(module.parameters(), None)
    if weight is None:
        return tensor
    return tensor.to(weight.device, weight.dtype if tensor.is_floating_point() else tensor.dtype)


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
    """Write settings (JSON) and arrays (npz) to ``directory``; a reader sees the old guard or the new one,
    whole.

    The arrays' file is named by its checksum, and guard.json, replaced last and atomically, points to it.
    """
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    content = buffer.getvalue()
    name = f"guard-{_digest(content)[:16]}.npz"
    body = {"format": FORMAT, "arrays": name, "arrays_sha256": _digest(content), "settings": settings}
    text = json.dumps(body, sort_keys=True)
    _write_atomically(target / name, content)
    _write_atomically(target / _JSON, json.dumps({"sha256": _digest(text.encode()), "guard": text}).encode())
    for old in target.glob("guard-*.npz"):
        if old.name != name:
            old.unlink(missing_ok=True)


def read_guard(directory: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what :func:`write_guard` wrote.

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
    if body["format"] != FORMAT:
        raise SafeframeError(
            f"{target / _JSON} has format {body['format']}, this version reads {FORMAT}; {again}"
        )
    try:
        content = (target / body["arrays"]).read_bytes()
    except FileNotFoundError as error:
        raise SafeframeError(f"{target / body['arrays']} is missing; {again}") from error
    if _digest(content) != body["arrays_sha256"]:
        raise SafeframeError(f"{target / body['arrays']} is corrupt: its checksum does not match; {again}")
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return body["settings"], {key: stored[key] for key in stored.files}


def save_guard(directory: str | os.PathLike[str], guard: SafetyGuard) -> None:
    """Save a calibrated guard; see SafetyGuard.save."""
    evidence, settings = guard.evidence, guard.settings
    assert evidence is not None
    probe = guard.probe
    arrays = {
        "margin": evidence.margin,
        "label": evidence.label,
        "score": evidence.score,
        "group": evidence.group,
        "trained_on": evidence.trained_on,
        "default_action": guard.default_action,
        "probe": None if probe is None else to_numpy(probe),
        "coverage": None if guard.coverage is None else guard.coverage.rows,
    }
    for name in ("group", "default_action", "probe"):
        array = arrays[name]
        if array is not None and array.dtype == object:
            raise SafeframeError(
                f"{name} holds Python objects, which cannot be saved; use numbers or strings"
            )
    stored: dict[str, Any] = dataclasses.asdict(settings)
    if isinstance(settings.prior, Mapping):
        stored["prior"] = [[key, value] for key, value in settings.prior.items()]
    taus = [[r, next(iter(found.values())).tau] for r, found in guard.calibrations.items()]
    body = {
        "settings": stored,
        "classify_actions": guard.classify_actions,
        "probe_is_torch": isinstance(probe, torch.Tensor),
        "taus": taus,
        "coverage_radius": None if guard.coverage is None else guard.coverage.radius,
    }
    write_guard(directory, body, {name: array for name, array in arrays.items() if array is not None})


def load_guard(
    cls: type[SafetyGuard],
    directory: str | os.PathLike[str],
    model: Callable[..., Any],
    classifier: Callable[..., Any],
    check: bool,
    coverage_features: Features,
) -> SafetyGuard:
    """Load a guard; see SafetyGuard.load."""
    body, arrays = read_guard(directory)
    stored = dict(body["settings"])
    if isinstance(stored["prior"], list):
        stored["prior"] = dict(stored["prior"])
    if stored.get("coverage") is not None:
        stored["coverage"] = CoverageSettings(**stored["coverage"])
    group, trained_on = arrays.get("group"), arrays["trained_on"]
    data = InternalTestData(None, arrays["label"], group, trained_on=trained_on)
    guard = cls(
        model,
        classifier,
        data,
        default_action=arrays["default_action"],
        classify_actions=body["classify_actions"],
        coverage_features=coverage_features,
        **stored,
    )
    guard.adopt(Evidence(arrays["margin"], arrays["label"], arrays.get("score"), group, trained_on))
    taus = [[r, next(iter(found.values())).tau] for r, found in guard.calibrations.items()]
    if taus != body["taus"]:
        raise SafeframeError(
            f"the guard in {directory} gives other thresholds than when saved; calibrate it again"
        )
    if "coverage" in arrays:
        settings = guard.settings
        assert settings.coverage is not None
        guard.coverage = fit_coverage(arrays["coverage"], trained_on, settings.coverage, settings.seed)
        if not np.isclose(guard.coverage.radius, body["coverage_radius"], rtol=1e-4, atol=1e-6):
            raise SafeframeError(
                f"the guard in {directory} gives another coverage radius than when saved; calibrate it again"
            )
    if "probe" in arrays:
        probe = torch.from_numpy(arrays["probe"]) if body["probe_is_torch"] else arrays["probe"]
        guard.probe = probe
        if check:
            seen = guard.margins(probe)
            saved = arrays["margin"][: len(seen)]
            if seen.shape != saved.shape or not np.allclose(seen, saved, rtol=1e-3, atol=1e-4):
                raise SafeframeError(
                    "the classifier gives other margins than the calibrated one: calibrate again, or "
                    "pass the classifier that was saved with the guard"
                )
            if guard.coverage is not None:
                same = flat_features(coverage_features(probe))
                kept = arrays["coverage"][: len(same)]
                if same.shape != kept.shape or not np.allclose(same, kept, rtol=1e-3, atol=1e-4):
                    raise SafeframeError(
                        "coverage_features gives other features than those calibrated: pass the function "
                        "that the guard was made with"
                    )
    return guard
