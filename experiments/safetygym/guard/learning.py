"""Training a safety classification model: paths or cross-entropy first, then the approximate loss.

The approximate loss (arXiv 2504.20924, eq. (9)) of one case: the actions are to accept its candidate or to
take the default action. J(accept) = -1, J(default) = 0; L adds a cost for what is unsafe; the constraint is
that the relaxed violation probability (`safeframe.training.relaxed_bound`) is at most r_t. Gradients reach
the network through the case's own margin and through the internal test cases of the same batch, which are
other states.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Generator, Tensor, nn

from experiments.safetygym.guard.classifier import BoundedPathClassifier, Classifier, PathClassifier
from experiments.safetygym.guard.path_error import learn_error
from experiments.safetygym.learning_settings import LearningSettings
from experiments.safetygym.states.internal_data import Shard
from experiments.support.tailoring_settings import AnchoredTailoringSettings
from safeframe.training.finite_actions import FiniteActions
from safeframe.training.loop import TrainingSettings
from safeframe.training.never_harm import SelectionFold
from safeframe.training.tailored import Fold, TailoredReport
from safeframe.training.tailored import tailor as train_on
from safeframe.training.tailored_loss import StepCases
from safeframe.types import SafeframeError

Progress = Callable[[int, float], None]
DRAWS = 1000
"""Of the states of a step, at most, until one has an unsafe case."""
BLOCKS = 200
"""Of neighbouring states, to choose among checkpoints by."""
Paths = tuple[np.ndarray, np.ndarray]
"""Velocities (n, inputs) and paths (n, k, T, 2) from them."""


def warm_up(
    classifier: Classifier,
    data: Shard,
    settings: LearningSettings,
    seed: int,
    progress: Progress,
    extra: Paths | None = None,
) -> None:
    """Fit the classifier in place: a PathClassifier by least squares on recorded braking paths (m, k, T, 2),
    after it the error of a BoundedPathClassifier; another one by cross-entropy on its logits."""
    classifier.standardise(data.observation)  # type: ignore[operator]
    n = len(data.observation)
    if isinstance(classifier, PathClassifier):
        if data.path is None:
            raise SafeframeError("a path classifier learns from recorded paths; collect the data with_paths")
        inputs = classifier.velocity(data.observation)
        target = torch.from_numpy(np.ascontiguousarray(data.path))
        if extra is not None:  # velocities all over what is reachable, as rare ones matter to the tail
            inputs = torch.cat([inputs, torch.from_numpy(extra[0]) / classifier.scale])
            target = torch.cat([target, torch.from_numpy(extra[1])])
        n = len(inputs)

        def loss(index: Tensor) -> Tensor:
            return (100.0 * (classifier.paths(inputs[index]) - target[index])).square().mean()  # cm^2

        _descend(classifier, loss, n, settings, seed, progress)
        if isinstance(classifier, BoundedPathClassifier):
            learn_error(classifier, inputs, target, settings.batch, seed, lambda *_: None)
    else:
        (features,) = classifier.features(data.observation)
        unsafe = torch.from_numpy(data.unsafe.astype(np.float32))
        known = (unsafe >= 0).float()

        def loss(index: Tensor) -> Tensor:
            each = nn.functional.binary_cross_entropy_with_logits(
                classifier(features[index]), unsafe[index].clamp_min(0), reduction="none"
            )
            return (each * known[index]).sum() / known[index].sum().clamp_min(1.0)

        _descend(classifier, loss, n, settings, seed, progress)


def _descend(
    classifier: Classifier,
    loss: Callable[[Tensor], Tensor],
    n: int,
    settings: LearningSettings,
    seed: int,
    progress: Progress,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(classifier.parameters(), lr=settings.rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.rate, total_steps=max(settings.steps, 2)
    )
    for step in range(settings.steps):
        value = loss(torch.randint(n, (min(settings.batch, n),), generator=generator))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 99:
            progress(step + 1, float(value.detach()))


def accept_or_not(unsafe: Tensor, settings: LearningSettings) -> FiniteActions:
    """The default action, or accepting the candidate, of cases with labels `unsafe` (b,) 0/1."""
    nothing = torch.zeros_like(unsafe)
    return FiniteActions(
        torch.stack([nothing, nothing - 1.0], 1),
        torch.stack([nothing, -1.0 + settings.violation_cost * unsafe], 1),
        torch.tensor([[0.0], [1.0]], dtype=unsafe.dtype),
    )


class AcceptProblem:
    """What a step of tailored training looks at.

    Args:
        classifier: whose features of the states are computed once.
        data: states with every candidate labelled.
        radius: of conservative testing, in logits.
        settings: of the tailored training.
        seed: of the draws. They follow one stream, as they did when published results were made.

    Raises:
        SafeframeError: if a class is absent.
    """

    def __init__(
        self, classifier: Classifier, data: Shard, radius: float, settings: LearningSettings, seed: int
    ):
        self.unsafe = torch.from_numpy(data.unsafe.astype(np.float32))
        if (self.unsafe < 0).any() or not (self.unsafe == 1).any() or not (self.unsafe == 0).any():
            raise SafeframeError(
                "the approximate loss needs every candidate labelled, and safe and unsafe ones"
            )
        self.features, self.settings = classifier.features(data.observation), settings
        self.prior = self.unsafe.mean().view(1)
        self.shift = torch.tensor([2**0.5 * radius], dtype=torch.float32)
        self.stream = torch.Generator().manual_seed(seed)

    def cases(self, module: nn.Module, generator: Generator) -> StepCases:
        """Of one step: all candidates of some states as internal test data, one candidate each of others."""
        generator, settings, unsafe = self.stream, self.settings, self.unsafe
        for _ in range(DRAWS):
            order = torch.randperm(len(unsafe), generator=generator)[: settings.test_states + settings.inputs]
            states = min(settings.test_states, len(order) // 2)
            if (unsafe[order[:states]] == 1).any():
                break
        else:
            raise SafeframeError(
                f"no unsafe case among {states} states of a step, drawn {DRAWS} times; raise test_states"
            )
        margin = module(*(part[order] for part in self.features))
        test, label = margin[:states].reshape(-1, 1), unsafe[order[:states]].reshape(-1, 1)
        pick = torch.randint(margin.shape[1], (len(order) - states, 1), generator=generator)
        own = unsafe[order[states:]].gather(1, pick)
        return StepCases(
            margin[states:].gather(1, pick), test, label, self.prior, self.shift,
            accept_or_not(own[:, 0], settings), unsafe=own,
        )  # fmt: skip


def tailor(
    classifier: Classifier,
    data: Shard,
    r_t: float,
    radius: float,
    settings: LearningSettings,
    seed: int,
    progress: Progress,
    more: AnchoredTailoringSettings | None = None,
    held_out: Shard | None = None,
) -> TailoredReport | None:
    """Go on training in place with the approximate loss at r_t. The weights end as their running average.

    Args:
        classifier: that is trained.
        data: states with every candidate labelled.
        r_t: threshold on the probability, in (0, 1].
        radius: of conservative testing, in logits.
        settings: of the tailored training.
        seed: of the batches.
        progress: shows the steps.
        more: parts beyond the paper's loss; None: none.
        held_out: states that no training saw, to choose among checkpoints; None: the last weights are taken.

    Returns:
        What happened; None without a step.

    Raises:
        SafeframeError: if a class is absent.
    """
    problem = AcceptProblem(classifier, data, radius, settings, seed)
    if not settings.tailored_steps:
        return None
    training = TrainingSettings(
        settings.tailored_steps,
        settings.tailored_rate,
        one_cycle=False,
        average=settings.average,
        clip=math.inf,
        average_after_first=True,
    )
    more = AnchoredTailoringSettings() if more is None else more
    chosen = more.of(
        r_t, training, settings.penalty, settings.perturbation, settings.temperature,
        settings.temperature_output, more.anchor,
    )  # fmt: skip

    def shown(steps: range) -> Iterator[int]:
        for step in steps:
            yield step
            progress(step + 1, math.nan)

    fold = None if held_out is None else _fold(held_out)
    found = train_on(classifier, problem, chosen, seed, fold, progress=shown)
    classifier.load_state_dict(found.module.state_dict())
    return found.report


def _fold(held_out: Shard) -> Fold:
    """Candidates of held-out states; neighbouring states, which may be of one episode, are one block."""
    states, candidates = held_out.unsafe.shape
    blocks = np.repeat(np.arange(states) * min(BLOCKS, states) // states, candidates)
    cases = SelectionFold(held_out.unsafe.astype(np.int64).ravel(), block=blocks)
    return Fold(cases, lambda module: module.margin(held_out.observation).astype(float).ravel())  # type: ignore[operator]


def split_states(data: Shard, settings: AnchoredTailoringSettings) -> tuple[Shard, Shard | None]:
    """States to train on, and those that no training sees, whole blocks of neighbouring ones; None where
    `selection_share` is 0.
    """
    n = len(data.observation)
    out = settings.held_out(np.arange(n) * min(2 * BLOCKS, n) // n)
    return (rows(data, ~out), rows(data, out)) if out.any() else (data, None)


def rows(data: Shard, kept: np.ndarray) -> Shard:
    """Some of the states; kept: (n,) bool."""
    parts = {name: part for name, part in vars(data).items() if part is not None}
    return Shard(**{name: part[kept] for name, part in parts.items()})
