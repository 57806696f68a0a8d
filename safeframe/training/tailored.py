"""Tailored training that never harms: the approximate loss, its report, and the choice of a checkpoint.

    tailored = tailor(classifier, problem, TailoredSettings(loss, training), seed=0, fold=fold)
    tailored.module   # the start, where no checkpoint was clearly better

A problem says what a step looks at (:class:`TailoredProblem`); the loss is
:mod:`safeframe.training.tailored_loss`; the checkpoints, evenly spaced averages of the weights and the start
among them, are compared by :mod:`safeframe.training.never_harm` on a fold that neither warm-up nor tailored
training saw. Without a fold the last averaged weights are taken, as in the paper.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Generator, Tensor, nn

from safeframe.training.gradient_noise import GradientNoise, gradient_noise
from safeframe.training.loop import TrainingSettings, generator_of, train
from safeframe.training.never_harm import NeverHarm, Selected, SelectionFold, select
from safeframe.training.tailored_loss import StepCases, TailoredLoss, anchor_of
from safeframe.types import FloatArray, SafeframeError

_NOISE_STREAM = 7_919
"""Added to the seed for the draws that noise is measured on, which are none of the training's."""


class TailoredProblem(Protocol):
    """What tailored training needs to know of an experiment."""

    def cases(self, module: nn.Module, generator: Generator) -> StepCases:
        """What one step looks at.

        Args:
            module: the classifier.
            generator: all draws come from it.

        Returns:
            Margins with their gradient, labels and actions.
        """
        ...


@dataclass(frozen=True)
class Fold:
    """Cases for the choice of a checkpoint, and how a classifier judges them.

    Attributes:
        cases: labels, groups and blocks.
        margin: module -> (n,) margins, in evaluation mode and without gradient.
    """

    cases: SelectionFold
    margin: Callable[[nn.Module], FloatArray]


@dataclass(frozen=True)
class TailoredSettings:
    """How to go on from the warm-up.

    Attributes:
        loss: of a step.
        training: steps, learning rate and the rest.
        checkpoints: that are compared with the start, evenly spaced up to the last step, > 0; used with a
            fold only.
        selection: how clear it has to be.
        noise_every: updates between measurements of the gradient's noise; 0 = none.
        noise_draws: minibatches of a measurement, at least 2.

    Raises:
        SafeframeError: on values outside these ranges.
    """

    loss: TailoredLoss
    training: TrainingSettings
    checkpoints: int = 4
    selection: NeverHarm = field(default_factory=NeverHarm)
    noise_every: int = 0
    noise_draws: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.checkpoints <= self.training.steps:
            raise SafeframeError(
                f"checkpoints is {self.checkpoints}; it must lie between 1 and the {self.training.steps} "
                "steps"
            )
        if self.noise_every < 0 or self.noise_draws < 2:
            raise SafeframeError(
                f"noise_every is {self.noise_every} and noise_draws {self.noise_draws}; they must be at "
                "least 0 and 2"
            )

    @property
    def kept(self) -> tuple[int, ...]:
        """Updates after which a checkpoint is kept."""
        n = self.checkpoints
        return tuple(sorted({round(self.training.steps * k / n) for k in range(1, n + 1)}))


@dataclass(frozen=True)
class TailoredReport:
    """What happened.

    Attributes:
        step: updates of the classifier that is returned; 0: the start.
        selected: of the comparison; None without a fold.
        kept: updates of the checkpoints that were compared.
        noise: of the approximate loss's gradient.
        anchor_noise: of the gradient of the likelihood of the same cases.
    """

    step: int
    selected: Selected | None
    kept: tuple[int, ...]
    noise: tuple[GradientNoise, ...]
    anchor_noise: tuple[GradientNoise, ...]


@dataclass(frozen=True)
class TailoredResult:
    """A classifier, and how it came about.

    Attributes:
        module: in evaluation mode.
        report: of the training.
        last: with the last weights, whichever was taken.
    """

    module: nn.Module
    report: TailoredReport
    last: nn.Module


def tailor(
    module: nn.Module,
    problem: TailoredProblem,
    settings: TailoredSettings,
    seed: int = 0,
    fold: Fold | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[range], Iterable[int]] = iter,
) -> TailoredResult:
    """Go on from a classifier with the approximate loss.

    Args:
        module: the classifier after warm-up; left as it is.
        problem: what a step looks at.
        settings: loss, steps and selection.
        seed: of the batches and swaps.
        fold: cases that neither warm-up nor ``problem`` saw; None: the last weights are taken, however good.
        checkpoint: file to resume from, as of :func:`safeframe.training.loop.train`.
        progress: wraps the range of steps (tqdm).

    Returns:
        The classifier and the report. The same seed gives the same numbers, interrupted or not.

    Raises:
        SafeframeError: as :func:`safeframe.training.loop.train` and
            :func:`safeframe.training.never_harm.select`.
    """
    watcher = _Watcher(problem, settings, seed, keep=fold is not None)

    def loss(model: nn.Module, generator: Generator) -> Tensor:
        return settings.loss(problem.cases(model, generator), watcher.step, settings.training.steps)

    last = train(module, loss, settings.training, seed, checkpoint, progress, watcher)
    noise = tuple(watcher.noise), tuple(watcher.anchor_noise)
    if fold is None:
        return TailoredResult(last, TailoredReport(settings.training.steps, None, (), *noise), last)
    modules = [copy.deepcopy(module).eval(), *(watcher.module_of(last, step) for step in settings.kept)]
    with torch.no_grad():
        margins = [fold.margin(one) for one in modules]
    selected = select(margins, fold.cases, settings.loss.r_t, settings.selection, seed)
    step = (0, *settings.kept)[selected.index]
    report = TailoredReport(step, selected, settings.kept, *noise)
    return TailoredResult(modules[selected.index], report, last)


class _Watcher:
    """Knows the step, keeps checkpoints and measures noise."""

    def __init__(self, problem: TailoredProblem, settings: TailoredSettings, seed: int, keep: bool):
        self.problem, self.settings, self.seed = problem, settings, seed
        self.step = 0
        self.weights: dict[str, dict[str, Tensor]] = {}
        self.noise: list[GradientNoise] = []
        self.anchor_noise: list[GradientNoise] = []
        self._kept = settings.kept if keep else ()

    def before(self, step: int, module: nn.Module) -> None:
        """Measures noise where it is time."""
        self.step = step
        every = self.settings.noise_every
        if not every or step % every:
            return
        steps, loss = self.settings.training.steps, self.settings.loss
        for found, of in (
            (self.noise, lambda cases: loss.approximate(cases, step, steps)),
            (self.anchor_noise, anchor_of),
        ):
            generators = [
                generator_of(self.seed + _NOISE_STREAM, step * self.settings.noise_draws + draw)
                for draw in range(self.settings.noise_draws)
            ]
            found.append(
                gradient_noise(
                    module, lambda model, draw, of=of: of(self.problem.cases(model, draw)), generators, step
                )
            )

    def after(self, step: int, averaged: nn.Module) -> None:
        """Keeps the weights that are trained, and buffers, where it is time."""
        if step + 1 in self._kept:
            self.weights[str(step + 1)] = _moving(averaged)

    def module_of(self, like: nn.Module, step: int) -> nn.Module:
        """A module with the weights of a checkpoint."""
        found = copy.deepcopy(like)
        found.load_state_dict(self.weights[str(step)], strict=False)
        return found.eval()

    def state_dict(self) -> dict[str, Any]:
        """What was kept and measured."""
        rows = {
            name: [[float(n.step), n.signal, n.noise, float(n.draws)] for n in found]
            for name, found in (("noise", self.noise), ("anchor_noise", self.anchor_noise))
        }
        return {"weights": self.weights, **rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from it."""
        self.weights = dict(state["weights"])
        self.noise, self.anchor_noise = (
            [GradientNoise(int(a), b, c, int(d)) for a, b, c, d in state[name]]
            for name in ("noise", "anchor_noise")
        )


def _moving(module: nn.Module) -> dict[str, Tensor]:
    """Copies of what training moves: weights with a gradient, and buffers."""
    fixed = {name for name, weight in module.named_parameters() if not weight.requires_grad}
    return {name: value.clone() for name, value in module.state_dict().items() if name not in fixed}
