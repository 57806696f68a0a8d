"""Running standardisation of observations.

The mean and variance of all observations so far, merged batch by batch (Chan et al. 1979, as VecNormalize
in OpenAI baselines), then clipped: the accelerometer's spread is 4 and its spikes 20, most lidar bins are
below 1.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from safeframe.types import FloatArray, SafeframeError

_SMALLEST_STD = 1e-2


class Normaliser:
    """clip((x - mean) / std), float32; std at least .01 so that constant inputs stay near 0."""

    def __init__(self, size: int, clip: float) -> None:
        self.count, self.clip = 0.0, float(clip)
        self.mean = np.zeros(size)
        self.variance = np.ones(size)
        self._refresh()

    def _refresh(self) -> None:
        std = np.maximum(np.sqrt(self.variance), _SMALLEST_STD)
        self._scale = torch.from_numpy((1.0 / std).astype(np.float32))
        self._shift = torch.from_numpy((-self.mean / std).astype(np.float32))

    def __call__(self, observations: FloatArray) -> Tensor:
        """Standardised observations, float32 (..., d)."""
        values = torch.from_numpy(np.ascontiguousarray(observations, dtype=np.float32))
        return torch.addcmul(self._shift, values, self._scale).clamp_(-self.clip, self.clip)

    def update(self, observations: FloatArray) -> None:
        """Merge a batch (n, d) into mean and variance; SafeframeError if it is not finite."""
        mean = observations.mean(axis=0, dtype=np.float64)
        variance = observations.var(axis=0, dtype=np.float64)
        if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
            raise SafeframeError("observations are not finite; the simulator or its state is at fault")
        batch, total = len(observations), self.count + len(observations)
        change = mean - self.mean
        self.variance = (
            self.variance * self.count + variance * batch + change**2 * self.count * batch / total
        ) / total
        self.mean = self.mean + change * batch / total
        self.count = float(total)
        self._refresh()

    def state_dict(self) -> dict[str, Tensor | float]:
        """Tensors and numbers that `load_state_dict` takes."""
        return {
            "count": self.count,
            "clip": self.clip,
            "mean": torch.from_numpy(self.mean.copy()),
            "variance": torch.from_numpy(self.variance.copy()),
        }

    def load_state_dict(self, state: dict[str, Tensor | float]) -> None:
        """Take over a saved state; SafeframeError if it is of another observation size."""
        mean, variance = np.asarray(state["mean"], np.float64), np.asarray(state["variance"], np.float64)
        if mean.shape != self.mean.shape or variance.shape != self.mean.shape:
            raise SafeframeError(f"normalisation of {mean.size} inputs; this agent has {self.mean.size}")
        self.count, self.clip = float(state["count"]), float(state["clip"])
        self.mean, self.variance = mean.copy(), variance.copy()
        self._refresh()
