"""Calling models and classifiers on NumPy or torch data."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from safeframe.conservative_testing import check_logits
from safeframe.margins import margin_of
from safeframe.tensors import as_tensor, is_tensor, to_numpy
from safeframe.types import SafeframeError

if TYPE_CHECKING:
    import torch


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a model without gradients.

    Args:
        function: any callable; a torch module runs in evaluation mode (and is then left in its own) on
            tensors of its type and device.
        *arguments: arrays or tensors.

    Returns:
        What ``function`` returns.
    """
    torch: Any = sys.modules.get("torch")
    if torch is None:  # nothing here can be a module or a tensor of it
        return function(*arguments)
    with torch.no_grad():
        if not isinstance(function, torch.nn.Module):
            return function(*arguments)
        network: Any = function
        training = {module for module in network.modules() if module.training}
        network.eval()
        try:
            return network(*(_for_module(network, argument) for argument in arguments))
        finally:
            for module in training:
                module.training = True


def _for_module(module: torch.nn.Module, value: Any) -> torch.Tensor:
    tensor = value if is_tensor(value) else as_tensor(np.ascontiguousarray(value))
    weight = next(module.parameters(), None)
    if weight is None:
        return tensor
    return tensor.to(weight.device, weight.dtype if tensor.is_floating_point() else tensor.dtype)


def look(
    model: Callable[..., Any], classifier: Callable[..., Any], measurement: Any, classify_actions: bool
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """What model and classifier say of a batch of n measurements, checked.

    Args:
        model: measurement -> actions (n, ...), or (candidates (n, c, ...), score (n, c)).
        classifier: measurement -> logits (n, 2), or (n, c, 2) with candidates.
        measurement: (n, ...) array, tensor or sequence.
        classify_actions: call the classifier with the model's actions (or candidates) too.

    Returns:
        Actions (n, ...), None and margins (n,); or candidates (n, c, ...), scores (n, c) and margins (n, c).

    Raises:
        SafeframeError: on outputs of other shapes, on NaN, and on scores that are +inf.
    """
    seen = measurement if hasattr(measurement, "shape") else np.asarray(measurement)
    output = call(model, seen)
    pair = isinstance(output, tuple)
    if pair and len(output) != 2:
        raise SafeframeError(
            f"the model returned {len(output)} values; expected actions, or (candidates, score)"
        )
    raw = output[0] if pair else output
    action, score = to_numpy(raw), np.asarray(to_numpy(output[1]), np.float64) if pair else None
    logits = check_logits(
        to_numpy(call(classifier, *((seen, raw) if classify_actions else (seen,)))),
        "the classifier's logits",
    )
    wanted = (len(seen),) if score is None else (len(seen), *action.shape[1:2])
    if logits.shape != (*wanted, 2):
        raise SafeframeError(f"the classifier's logits have shape {logits.shape}; expected {(*wanted, 2)}")
    if action.shape[: len(wanted)] != wanted or (score is not None and score.shape != wanted):
        raise SafeframeError(
            f"the model's actions have shape {action.shape}"
            + ("" if score is None else f" and its scores {score.shape}")
            + f"; expected them to begin with {wanted}"
        )
    if np.issubdtype(action.dtype, np.floating) and np.isnan(action).any():
        raise SafeframeError("the model's actions hold NaN")
    if score is not None and (np.isnan(score).any() or (score == np.inf).any()):
        raise SafeframeError("the model's scores hold NaN or +inf; -inf marks an absent candidate")
    return action, score, margin_of(logits)


def with_default(
    default_action: np.ndarray, action: np.ndarray, score: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Actions and the default action in one type.

    Args:
        default_action: broadcast to one action.
        action: (n, ...) actions, or (n, c, ...) candidates where there are scores.
        score: (n, c), or None.

    Returns:
        Two arrays, the actions and the default action (...).

    Raises:
        SafeframeError: where the default is no such action, by its shape or its type.
    """
    shape = action.shape[1:] if score is None else action.shape[2:]
    try:
        default = np.broadcast_to(default_action, shape)
    except ValueError as error:
        raise SafeframeError(
            f"default_action has shape {default_action.shape}; one action has shape {shape}"
        ) from error
    if action.dtype.kind in "UO":
        kind = np.result_type(action, default)
        return action.astype(kind), default.astype(kind)
    if default.dtype.kind not in "biuf" or not (default.astype(action.dtype) == default).all():
        exact = default.dtype.kind in "biuf" and action.dtype.kind == "f"
        if not exact:
            raise SafeframeError(
                f"default_action {default!r} is no value of the actions' type {action.dtype}"
            )
    return action, default.astype(action.dtype)
