"""Bounds on the Lipschitz constant of a classifier."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from safeframe.tensors import to_numpy
from safeframe.types import FloatArray, SafeframeError

if TYPE_CHECKING:
    import torch


# Largest slopes: ReLU, tanh and the like 1; sigmoid 1/4; GELU and SiLU overshoot 1 a little.
_SLOPES = {
    "ReLU": 1.0,
    "Tanh": 1.0,
    "Softplus": 1.0,
    "Identity": 1.0,
    "Flatten": 1.0,
    "Dropout": 1.0,
    "Sigmoid": 0.25,
    "SiLU": 1.0999,
    "GELU": 1.1291,
}


def lipschitz_upper(module: torch.nn.Module) -> float:
    """Upper bound K on the Euclidean Lipschitz constant: the product of the layers' constants.

    It holds in evaluation mode. Linear layers count with their spectral norm, activations with their largest
    slope.

    Args:
        module: a layer with a known constant, or a Sequential of such (also nested).

    Returns:
        K >= 0.

    Raises:
        SafeframeError: on a layer without a known constant (recurrent, normalisation, attention, subclasses
            of known ones): none is guessed.
    """
    import torch

    # Exact types: a subclass may compute anything else.
    if type(module) is torch.nn.Sequential:
        return math.prod(lipschitz_upper(layer) for layer in module)
    if type(module) is torch.nn.Linear:
        return float(torch.linalg.matrix_norm(module.weight.detach().double(), ord=2))
    if type(module) is torch.nn.LeakyReLU:
        return max(1.0, abs(module.negative_slope))
    name = type(module).__name__
    if name in _SLOPES and type(module) is getattr(torch.nn, name):
        return _SLOPES[name]
    raise SafeframeError(f"no Lipschitz constant is known for {type(module).__name__}; measure xi instead")


def lipschitz_lower(
    function: Callable[[FloatArray], Any],
    points: FloatArray,
    pairs: int = 10_000,
    step: float = 1e-3,
    seed: int = 0,
) -> float:
    """Lower bound on the Lipschitz constant: the largest |f(x) - f(x')| / |x - x'| over sampled pairs.

    Half of the pairs join two of the points, half a point and its neighbour in a random direction.

    Args:
        function: maps (k, ...) float64 arrays to (k, m) arrays or tensors.
        points: (n, ...) inputs, n >= 2.
        pairs: number of pairs.
        step: distance of a neighbour, in the unit of the points.
        seed: of the sampling.

    Returns:
        The largest ratio found; 0 where no pair is apart.

    Raises:
        SafeframeError: with fewer than two points.
    """
    x = np.asarray(points, dtype=np.float64)
    if len(x) < 2:
        raise SafeframeError(f"{len(x)} points: at least two are needed for a ratio of differences")
    rng = np.random.default_rng(seed)
    first, second = rng.integers(len(x), size=(2, pairs))
    direction = rng.normal(size=(pairs, *x.shape[1:]))
    norm = np.linalg.norm(direction.reshape(pairs, -1), axis=1).reshape(-1, *[1] * (x.ndim - 1))
    start = x[first]
    near = np.arange(pairs) % 2 == 0
    end = np.where(near.reshape(norm.shape), start + step * direction / norm, x[second])

    def value(batch: FloatArray) -> FloatArray:
        output = function(batch)
        array = to_numpy(output)
        return array.reshape(pairs, -1)

    moved = np.linalg.norm((end - start).reshape(pairs, -1), axis=1)
    changed = np.linalg.norm(value(end) - value(start), axis=1)
    apart = moved > 0.0
    return float((changed[apart] / moved[apart]).max()) if apart.any() else 0.0
