"""Calling torch modules as a guard must: in evaluation mode, without gradients, left as they were.

Two threads may call one module, or two modules with a part in common, while it is in training mode: every
part is held in evaluation mode from the first call that enters until the last one that leaves.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MethodType
from typing import Any

import numpy as np

from safeframe.tensors import as_tensor, is_tensor, to_numpy

_LOCK = threading.Lock()
_HELD: dict[int, list[int]] = {}  # id of a part -> [calls inside, whether it was in training mode]


def owner(function: Any) -> Any:
    """The torch module that a callable is, or belongs to.

    Args:
        function: any callable; also a module's bound method, or a ``functools.partial`` of either.

    Returns:
        The module, or None. Modules inside other objects are not found.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    while isinstance(function, (partial, MethodType)):
        function = function.func if isinstance(function, partial) else function.__self__
    return function if isinstance(function, torch.nn.Module) else None


def parts_of(module: Any) -> list[Any]:
    """A torch module and all modules within it, each once (``module.modules()``, several times faster).

    Args:
        module: a torch module.

    Returns:
        The modules, the outermost first.
    """
    if not module._modules:
        return [module]
    found, seen = [module], {id(module)}
    for part in found:  # grows while it is walked
        for child in part._modules.values():
            if child is not None and id(child) not in seen:
                seen.add(id(child))
                found.append(child)
    return found


def _set_mode(part: Any, training: bool) -> None:
    """Set ``part.training``, in a tenth of the time where it is a plain attribute (it is not in scripts)."""
    if "training" in part.__dict__:
        part.__dict__["training"] = training
    else:
        part.training = training


class EvaluationMode:
    """A torch module with all of its parts in evaluation mode, for the calling thread and all others.

    A context manager. Where no part is in training mode, and no thread holds any part of any module, there is
    nothing to hold: nobody will put a part back into training mode.

    Args:
        module: the module; each part gets the mode back that it had before the first thread came in.
    """

    __slots__ = ("_held", "parts")

    def __init__(self, module: Any) -> None:
        self.parts = parts_of(module)  # kept here, so their ids stay theirs
        self._held = False

    def __enter__(self) -> None:
        with _LOCK:
            if not _HELD and not any(part.training for part in self.parts):
                return
            self._held = True
            for part in self.parts:
                held = _HELD.setdefault(id(part), [0, part.training])
                held[0] += 1
                if part.training:
                    _set_mode(part, False)

    def __exit__(self, *error: object) -> None:
        if not self._held:
            return
        with _LOCK:
            for part in self.parts:
                held = _HELD[id(part)]
                held[0] -= 1
                if held[0] == 0:
                    del _HELD[id(part)]
                    if held[1]:
                        _set_mode(part, True)


def call_module(module: Any, parts: Sequence[Any], *arguments: Any) -> Any:
    """Call a torch module on measurements (and actions) of any kind.

    Args:
        module: a torch module.
        parts: it and the modules within it (:func:`parts_of`).
        *arguments: arrays and frames of numbers become tensors on the module's device; floating ones, and all
            of a frame, get the type of its parameters. A mapping is passed as ``module(**mapping)`` where the
            module's ``forward`` takes them (as those of transformers do); an action then follows as
            ``action=``. Texts and lists are passed as they are.

    Returns:
        What the module returns.
    """
    weight = _weight(parts)
    first, *rest = (_argument(argument, weight) for argument in arguments)
    if isinstance(first, Mapping):
        keywords = {**first, **({"action": rest[0]} if rest else {})}
        if _takes(module, keywords):
            return module(**keywords)
    return module(first, *rest)


def _weight(parts: Sequence[Any]) -> Any:
    """The first floating parameter of modules, else the first buffer, else None."""
    for part in parts:
        for weight in part._parameters.values():
            if weight is not None and weight.is_floating_point():
                return weight
    for part in parts:
        for buffer in part._buffers.values():
            if buffer is not None:
                return buffer
    return None


def _argument(value: Any, weight: Any) -> Any:
    """One argument as the module's tensors."""
    if isinstance(value, Mapping):
        return {key: _argument(entry, weight) for key, entry in value.items()}
    if not is_tensor(value):
        array = to_numpy(value) if hasattr(value, "shape") or _of_numbers(value) else None
        if array is None or array.dtype.kind not in "biufc":
            return value
        of_frame = hasattr(value, "to_numpy")  # whose integers are numbers, not positions in a table
        value = as_tensor(array.astype(np.float64) if of_frame and array.dtype.kind != "f" else array)
    if weight is None:
        return value
    if value.dtype == weight.dtype and value.device == weight.device:
        return value
    both = value.is_floating_point() and weight.is_floating_point()
    return value.to(weight.device, weight.dtype if both else value.dtype)


def _of_numbers(value: Any) -> bool:
    """Whether a list is one of numbers, or of equally long lists of them, as tokenizers give."""
    if not isinstance(value, (list, tuple)):
        return False
    try:
        return np.asarray(value).dtype.kind in "biuf"
    except ValueError:
        return False


def _takes(module: Any, keywords: Mapping[str, Any]) -> bool:
    """Whether a module's ``forward`` can be called with these keywords alone."""
    forward: Callable[..., Any] = getattr(module, "_orig_mod", module).forward
    try:
        inspect.signature(forward).bind(**keywords)
    except (TypeError, ValueError):
        return False
    return True
