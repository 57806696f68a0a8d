"""Training what a `BoundedPathClassifier` predicts of its own error."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from experiments.safetygym.guard.classifier import BoundedPathClassifier
from experiments.safetygym.records import METRES_PER_MARGIN
from experiments.safetygym.states.geometry import departures

LEAST = 0.02
"""cm; smaller errors count as this one, as their logarithms would say nothing about clearances."""
_CHUNK = 8192


def errors(classifier: BoundedPathClassifier, inputs: Tensor, paths: Tensor) -> np.ndarray:
    """How far true paths (n, k, T, 2) leave those predicted from inputs (n, d): (n, k) float32, in cm."""
    out = np.empty(paths.shape[:2], np.float32)
    for start in range(0, len(inputs), _CHUNK):
        part = slice(start, start + _CHUNK)
        with torch.no_grad():
            predicted = classifier.paths(inputs[part]).numpy()
        departures(predicted, paths[part].numpy(), out[part])
    return out / np.float32(METRES_PER_MARGIN)


def quantile_loss(residual: Tensor, level: float) -> Tensor:
    """Mean pinball loss of residuals (observed less predicted), least where the prediction is the quantile of
    that level (Koenker and Bassett 1978, doi:10.2307/1913643)."""
    return torch.maximum(level * residual, (level - 1.0) * residual).mean()


def learn_error(
    classifier: BoundedPathClassifier,
    inputs: Tensor,
    paths: Tensor,
    batch: int,
    seed: int,
    progress: Callable[[int, float], None],
) -> None:
    """Fit the predicted quantile in place, by the pinball loss on logarithms; the paths stay what they are.

    Args:
        classifier: whose paths are learned already.
        inputs: (n, d), standardised.
        paths: true ones, (n, k, T, 2) in m.
        batch: states of an update.
        seed: of the draws.
        progress: shows the steps.
    """
    settings = classifier.error_settings
    target = torch.from_numpy(errors(classifier, inputs, paths)).clamp_min(LEAST).log()
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(classifier.error.parameters(), lr=settings.rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.rate, total_steps=max(settings.steps, 2)
    )
    for step in range(settings.steps):
        index = torch.randint(len(inputs), (min(batch, len(inputs)),), generator=generator)
        value = quantile_loss(target[index] - classifier.error(inputs[index]), settings.quantile)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 99:
            progress(step + 1, float(value.detach()))
