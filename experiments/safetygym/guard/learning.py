"""Training a safety classification model: paths or cross-entropy first, then the approximate loss.

The approximate loss (arXiv 2504.20924, eq. (9)) of one case: the actions are to accept its candidate or to
take the default action. J(accept) = -1, J(default) = 0; L adds a cost for what is unsafe; the constraint is
that the relaxed violation probability (`safeframe.training.relaxed_bound`) is at most r_t. Gradients reach
the network through the case's own margin and through the internal test cases of the same batch, which are
other states.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Generator, Tensor, nn

from experiments.safetygym.guard.classifier import Classifier, PathClassifier
from experiments.safetygym.learning_settings import LearningSettings
from experiments.safetygym.states.internal_data import Shard
from safeframe.training.approximate_loss import ApproximateLoss
from safeframe.training.relaxed_bound import RelaxedBound
from safeframe.types import SafeframeError

Progress = Callable[[int, float], None]
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
    another one by cross-entropy on its logits."""
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


def accept_or_not(unsafe: Tensor, settings: LearningSettings, r_t: float) -> ApproximateLoss:
    """L~ of cases with labels `unsafe` (b,) 0/1.

    Its output is the log violation probability (b, 1), its action accept (b,) 0/1.
    """
    task = -1.0 + settings.violation_cost * unsafe

    def minimiser(weight: float, output: Tensor) -> Tensor:
        penalty = settings.penalty * torch.relu(output[:, 0] - np.log(r_t))
        return (weight * task - 1.0 + penalty < 0).float()

    return ApproximateLoss(
        objective=lambda action, _: -action,
        loss=lambda action, _: action * task,
        constraints=lambda action, output: (np.log(r_t) - output) * action[:, None],
        minimiser=minimiser,
        penalty=torch.tensor([settings.penalty]),
        perturbation=settings.perturbation,
    )


def tailor(
    classifier: Classifier,
    data: Shard,
    r_t: float,
    radius: float,
    settings: LearningSettings,
    seed: int,
    progress: Progress,
) -> None:
    """Go on training in place with the approximate loss at r_t. The weights end as their running average.

    Args:
        classifier: that is trained.
        data: states with every candidate labelled.
        r_t: threshold on the probability, in (0, 1].
        radius: of conservative testing, in logits.
        settings: of the tailored training.
        seed: of the batches.
        progress: shows the steps.

    Raises:
        SafeframeError: if a class is absent.
    """
    unsafe = torch.from_numpy(data.unsafe.astype(np.float32))
    if (unsafe < 0).any() or not (unsafe == 1).any() or not (unsafe == 0).any():
        raise SafeframeError("the approximate loss needs every candidate labelled, and safe and unsafe ones")
    features = classifier.features(data.observation)
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(classifier.parameters(), lr=settings.tailored_rate)
    average = torch.optim.swa_utils.AveragedModel(
        classifier, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(settings.average)
    )
    prior = unsafe.mean().view(1)
    shift = torch.tensor([2**0.5 * radius], dtype=torch.float32)
    for step in range(settings.tailored_steps):
        value = _tailored_step(classifier, features, unsafe, prior, shift, r_t, settings, generator)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        average.update_parameters(classifier)
        progress(step + 1, float(value.detach()))
    if settings.tailored_steps:
        classifier.load_state_dict(average.module.state_dict())


def _tailored_step(
    classifier: Classifier,
    features: tuple[Tensor, ...],
    unsafe: Tensor,
    prior: Tensor,
    shift: Tensor,
    r_t: float,
    settings: LearningSettings,
    generator: Generator,
) -> Tensor:
    order = torch.randperm(len(unsafe), generator=generator)[: settings.test_states + settings.inputs]
    states = min(settings.test_states, len(order) // 2)
    margin = classifier(*(part[order] for part in features))
    test, label = margin[:states].reshape(-1, 1), unsafe[order[:states]].reshape(-1, 1)
    if not (label == 1).any():
        raise SafeframeError(f"no unsafe case among {states} states of a step; raise test_states")
    pick = torch.randint(margin.shape[1], (len(order) - states, 1), generator=generator)
    bound = RelaxedBound(r_t, prior, shift, settings.temperature, settings.temperature_output)
    log_violation = bound.log_violation(margin[states:].gather(1, pick), test, label)
    cases = unsafe[order[states:]].gather(1, pick)[:, 0]
    return accept_or_not(cases, settings, r_t)(log_violation).mean()
