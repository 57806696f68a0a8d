"""The coverage guard where inputs leave the internal test data: what it stops, and what it cannot see.

Measurements in R^8 with falling spread; unsafe where y_1 + .5 y_2 + .6 y_3^2 plus noise exceeds a level. A
small network is trained on one sample, thresholds and coverage are calibrated on another by `SafetyGuard`,
and then the measurements change (the state does not: labels are those of the true situation):

- in distribution: nothing changes
- shifted: the situation itself moves, along a direction the network never saw vary much
- rotated: the sensor is turned in the plane of a wide and a narrow axis
- corrupted: noise on every sensor
- stuck: some sensors read one constant
- adversarial: gradient steps on the classifier's input that make it look safe, up to a length

Two feature spaces: the measurement itself, and the network's last hidden layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from experiments.theory.config import CoverageConfig
from safeframe import InternalTestData, SafetyGuard
from safeframe.coverage.coverage_guard import CoverageGuard, CoverageSettings
from safeframe.threshold_rule import PlugIn
from safeframe.training.loop import TrainingSettings, train

D = 8
SPREAD = 1.0 / np.sqrt(1.0 + np.arange(D))
LEVEL, NOISE = 1.6, 0.3
STRENGTHS = {
    "shifted": (0.25, 0.5, 1.0, 2.0),
    "rotated": (0.1, 0.2, 0.5, 1.0),
    "corrupted": (0.1, 0.3, 0.5, 1.0),
    "stuck": (1.0, 2.0, 3.0, 4.0),
    "adversarial": (0.1, 0.25, 0.5, 1.0, 2.0),
}
"""Spreads of the moved axis; radians over pi / 2; noise in units of .5; sensors stuck at 1; Euclidean
length.
"""


def draw(rng: np.random.Generator, n: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Measurements (n, 8) float32 and unsafe (n,); `shift` moves the last axis, which raises the risk too."""
    y = rng.normal(size=(n, D)) * SPREAD
    y[:, -1] += shift
    score = y[:, 0] + 0.5 * y[:, 1] + 0.6 * np.square(y[:, 2]) + 0.8 * np.maximum(np.abs(y[:, -1]) - 1.2, 0.0)
    return y.astype(np.float32), (score + NOISE * rng.normal(size=n) > LEVEL).astype(np.int64)


def network(config: CoverageConfig, rng: np.random.Generator, seed: int) -> nn.Sequential:
    """A classifier (n, 8) -> logits (n, 2), trained by cross-entropy on cases of its own."""
    y, label = draw(rng, config.cases)
    inputs, target = torch.from_numpy(y), torch.from_numpy(label)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Linear(D, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 2))

    def loss(model: nn.Module, generator: torch.Generator) -> torch.Tensor:
        batch = torch.randint(len(inputs), (256,), generator=generator)
        return nn.functional.cross_entropy(model(inputs[batch]), target[batch])

    trained = train(module, loss, TrainingSettings(config.steps, 5e-3), seed)
    assert isinstance(trained, nn.Sequential)
    return trained


def attack(module: nn.Module, y: np.ndarray, length: float, steps: int = 10) -> np.ndarray:
    """Measurements moved by at most `length` so that the margin f_1 - f_0 falls: projected normalised
    gradient steps (Madry et al. 2018), no random start.
    """
    start = torch.from_numpy(y)
    moved = start.clone()
    for _ in range(steps):
        at = moved.clone().requires_grad_()
        logits = module(at)
        (gradient,) = torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), at)
        moved = at.detach() - 2.5 * length / steps * gradient / gradient.norm(dim=1, keepdim=True).clamp_min(
            1e-12
        )
        away = moved - start
        moved = start + away * (length / away.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp(max=1.0)
    return moved.numpy()


def changed(
    kind: str, strength: float, rng: np.random.Generator, n: int, module: nn.Module
) -> tuple[np.ndarray, np.ndarray]:
    """(measurements as the guard sees them, unsafe) under a change."""
    y, label = draw(rng, n, strength * SPREAD[-1] * 4 if kind == "shifted" else 0.0)
    if kind == "rotated":
        angle = strength * np.pi / 2
        first, last = y[:, 0].copy(), y[:, -1].copy()
        y[:, 0] = np.cos(angle) * first - np.sin(angle) * last
        y[:, -1] = np.sin(angle) * first + np.cos(angle) * last
    elif kind == "corrupted":
        y += (0.5 * strength * rng.normal(size=y.shape)).astype(np.float32)
    elif kind == "stuck":
        y[:, : int(strength)] = np.float32(-1.0)
    elif kind == "adversarial":
        y = attack(module, y, strength)
    return y, label


def hidden(module: nn.Sequential) -> Callable[[Any], torch.Tensor]:
    """The last hidden layer as a feature space."""

    def features(measurement: Any) -> torch.Tensor:
        with torch.no_grad():
            return module[:-1](torch.as_tensor(measurement))

    return features


def run(config: CoverageConfig, rng: np.random.Generator, seed: int) -> pd.DataFrame:
    """Refused and unsafe shares with and without the guard, per feature space and change."""
    module = network(config, rng, seed)
    internal = InternalTestData(*draw(rng, config.cases))
    guards = {
        name: SafetyGuard(
            lambda y: y[:, 0], module, internal, config.r_t, default_action=0.0, seed=seed,
            rule=PlugIn(), coverage=CoverageSettings(config.epsilon, config.delta), **extra,
        )
        for name, extra in (("measurement", {}), ("hidden layer", {"coverage_features": hidden(module)}))
    }  # fmt: skip
    for guard in guards.values():
        guard.calibrate()
    rows: list[dict[str, Any]] = []
    for kind, strength in [("in distribution", 0.0), *((k, s) for k, v in STRENGTHS.items() for s in v)]:
        y, label = changed(kind, strength, rng, config.fresh, module)
        for name, guard in guards.items():
            acted = guard.act(y)
            plain, kept = acted.margin < acted.tau, acted.accepted
            rows.append(
                {"features": name, "kind": kind, "strength": strength, "n": len(y),
                 "refused": int((~acted.covered).sum()), "unsafe_cases": int(label.sum()),
                 "accepted": int(plain.sum()), "unsafe": int(label[plain].sum()),
                 "accepted_guarded": int(kept.sum()), "unsafe_guarded": int(label[kept].sum()),
                 "radius": guard.coverage.radius}
            )  # fmt: skip
    return pd.DataFrame(rows)


def firing(config: CoverageConfig, rng: np.random.Generator) -> pd.DataFrame:
    """The certificate itself: draws of reference and held-out cases, the share of fresh ones that fires."""
    rows: list[dict[str, Any]] = []
    settings = CoverageSettings(config.epsilon, config.delta)
    fresh = draw(rng, config.fresh)[0]
    # The tolerance limit needs log(delta) / log(1 - epsilon) held-out cases at least; here twice those.
    held_out = int(2 * np.log(config.delta) / np.log1p(-config.epsilon))
    for repeat in range(config.repeats):
        y, _ = draw(rng, 2000 + held_out)
        guard = CoverageGuard(y[:2000], y[2000:], settings)
        rows.append(
            {
                "repeat": repeat,
                "held_out": held_out,
                "epsilon": config.epsilon,
                "radius": guard.radius,
                "n": len(fresh),
                "fires": int((~guard.covers(fresh)).sum()),
            }
        )
    return pd.DataFrame(rows)
