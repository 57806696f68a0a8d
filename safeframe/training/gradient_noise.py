"""How much of a gradient is noise of the minibatch.

A step sees a draw of the cases, and at a small r_t the approximate loss of a draw rests on the few internal
test cases near tau. From k independent draws of the gradient at the same weights, with mean g and sample
covariance S, |g|^2 - tr(S) / k is an unbiased estimate of the squared norm of the expected gradient and tr(S)
of the squared noise of one draw (the "simple noise scale" tr(S) / |G|^2 of McCandlish et al.,
arXiv 1812.06162).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from safeframe.types import SafeframeError


@dataclass(frozen=True)
class GradientNoise:
    """Norm and noise of a gradient over minibatches.

    Attributes:
        step: number of the update before which it was measured.
        signal: norm of the expected gradient, estimated; 0 where noise hides it.
        noise: root of the trace of the covariance of one draw.
        draws: minibatches that were drawn.
    """

    step: int
    signal: float
    noise: float
    draws: int

    @property
    def ratio(self) -> float:
        """Signal over noise of one draw; infinite without noise, 0 without a gradient."""
        if self.noise == 0:
            return math.inf if self.signal > 0 else 0.0
        return self.signal / self.noise


def gradient_noise(
    module: nn.Module,
    loss: Callable[[nn.Module, Generator], Tensor],
    generators: list[Generator],
    step: int = 0,
) -> GradientNoise:
    """Measure it at the weights of a module, which is left as it is.

    Args:
        module: with its weights.
        loss: (module, generator) -> scalar; draws its batch from the generator.
        generators: one for each draw, two at least.
        step: number that the result carries.

    Returns:
        Signal and noise over the weights that are trained.

    Raises:
        SafeframeError: for fewer than two draws.
    """
    if len(generators) < 2:
        raise SafeframeError(f"gradient noise from {len(generators)} draws; it needs two at least")
    model = copy.deepcopy(module)  # forward passes may move buffers
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    total, squares = [torch.zeros_like(weight, dtype=torch.float64) for weight in weights], 0.0
    with torch.random.fork_rng(devices=[]):  # dropout
        for generator in generators:
            found = torch.autograd.grad(loss(model, generator), weights, allow_unused=True)
            for mean, part in zip(total, found, strict=True):
                if part is not None:
                    mean += part.double()
                    squares += float(part.double().square().sum())
    k = len(generators)
    of_mean = sum(float((part / k).square().sum()) for part in total)
    variance = max(squares - k * of_mean, 0.0) / (k - 1)
    return GradientNoise(step, math.sqrt(max(of_mean - variance / k, 0.0)), math.sqrt(variance), k)
