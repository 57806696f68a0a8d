"""The two policies: a categorical over candidate actions, and a Gaussian.

Both give, for a batch, sampled actions with their log-probabilities (rollout, NumPy) and log-probabilities
and entropy with gradients (update, torch). A categorical restricted to feasible candidates has the others'
logits at -inf in both places (Huang & Ontañón 2022, arXiv 2006.14171: invalid action masking is a valid
gradient).
"""

from __future__ import annotations

import math

import numba
import numpy as np
import torch
from torch import Tensor

from experiments.safetygym.agents.networks import Networks
from safeframe.types import BoolArray, FloatArray, IntArray

_MASKED = -1e9


@numba.njit(cache=True, error_model="numpy")
def sample_masked(
    logits: FloatArray, uniforms: FloatArray, feasible: BoolArray
) -> tuple[IntArray, FloatArray, BoolArray]:
    """Draw one candidate per row by inversion: index (n,), log-probability (n,) float32, active (n,).

    logits (n, k) float32; uniforms (n,) in [0, 1); feasible (n, k), or (0, k) for no restriction. A row
    without a feasible candidate gets index -1, log-probability 0 and active False.
    """
    n, k = logits.shape
    index = np.empty(n, np.int64)
    log_probability = np.zeros(n, np.float32)
    active = np.ones(n, np.bool_)
    weights = np.empty(k)
    free = feasible.shape[0] == 0
    for row in range(n):
        top = -np.inf
        for j in range(k):
            if (free or feasible[row, j]) and logits[row, j] > top:
                top = logits[row, j]
        if top == -np.inf:
            index[row], active[row] = -1, False
            continue
        total = 0.0
        for j in range(k):
            weights[j] = np.exp(logits[row, j] - top) if free or feasible[row, j] else 0.0
            total += weights[j]
        left, chosen = uniforms[row] * total, -1
        for j in range(k):
            if weights[j] > 0.0:
                chosen = j
                left -= weights[j]
                if left < 0.0:
                    break
        index[row] = chosen
        log_probability[row] = logits[row, chosen] - top - np.log(total)
    return index, log_probability, active


def sample_gaussian(
    mean: FloatArray, log_std: FloatArray, generator: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Actions (n, 2) float32 and their log-densities (n,) float32; mean (n, 2), log_std (2,)."""
    noise = generator.standard_normal(mean.shape)
    actions = mean + np.exp(log_std) * noise
    density = (-0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)).sum(axis=1)
    return actions.astype(np.float32), density.astype(np.float32)


def categorical_terms(
    networks: Networks, inputs: Tensor, actions: Tensor, feasible: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Log-probability (n,) of the chosen candidates and entropy (n,); feasible (n, k) restricts.

    Rows without a feasible candidate give finite values that mean nothing; the caller weighs them 0.
    """
    logits = networks.actor(inputs)
    if feasible is not None:
        logits = logits.masked_fill(~feasible, _MASKED)
    log_probabilities = torch.log_softmax(logits, dim=1)
    chosen = log_probabilities.gather(1, actions.clamp(min=0)[:, None])[:, 0]
    entropy = -(log_probabilities.exp() * log_probabilities).sum(dim=1)
    return chosen, entropy


def gaussian_terms(networks: Networks, inputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Log-density (n,) of the actions (n, 2) and entropy (n,) of the Gaussian policy."""
    mean, log_std = networks.actor(inputs), networks.log_std
    scaled = (actions - mean) * torch.exp(-log_std)
    density = (-0.5 * scaled**2 - log_std - 0.5 * math.log(2 * math.pi)).sum(dim=1)
    entropy = (log_std + 0.5 * math.log(2 * math.pi * math.e)).sum().expand(len(inputs))
    return density, entropy
