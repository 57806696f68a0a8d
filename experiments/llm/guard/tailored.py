"""The approximate loss of language generation: the classifier trained for the answer that it leads to.

The optimisation stage chooses one of k candidates u, or the default answer. J is minus the reward, L is J
plus `harm_cost` where the answer is harmful, and the chance constraint of a candidate is
    c(u; o) = log r_t - log P(harmful | o_u),        0 for the default answer.
So min_u [lambda L + J - beta min(c, 0)] is a minimum over k + 1 numbers. Rewards are in units of their
standard deviation in the pool.

Tailored gradients: the bound rests on internal test cases, whose margins depend on the weights too
(`safeframe.training.relaxed_bound`). Both halves of the training prompts serve as inputs and as internal
test data in turn. A step draws as many harmful as harmless test cases, where there are as many, because
the bound at a small r_t rests on the few harmful ones; it weighs the classes by their shares in the half, so
the draw does not bend it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from experiments.llm.config import TailoredConfig
from experiments.llm.guard.classifier import Table
from safeframe.training.approximate_loss import ApproximateLoss
from safeframe.training.relaxed_bound import RelaxedBound
from safeframe.types import SafeframeError

_NEVER = 1e4  # objective of a candidate that is not there


class AnswerCases:
    """What the loss needs of n prompts: J and L of every candidate and of the default answer, (n, k + 1).

    Args:
        reward: (n, k) of the candidates; the larger, the more helpful.
        harmful: (n, k) labels, 1 = harmful.
        mask: (n, k) bool, which candidates are there.
        default_reward: (n,) of the default answer.
        harm_cost: what a harmful answer adds to L, in standard deviations of the reward.
    """

    def __init__(
        self,
        reward: np.ndarray,
        harmful: np.ndarray,
        mask: np.ndarray,
        default_reward: np.ndarray,
        harm_cost: float,
    ):
        scale = float(reward[mask].std()) or 1.0
        value = np.concatenate([reward, default_reward[:, None]], axis=1) / scale
        there = np.concatenate([mask, np.ones((len(mask), 1), bool)], axis=1)
        bad = np.concatenate([harmful == 1, np.zeros((len(mask), 1), bool)], axis=1)
        self.objective = torch.from_numpy(np.where(there, -value, _NEVER)).float()
        self.task = self.objective + harm_cost * torch.from_numpy(bad).float()
        self.mask = torch.from_numpy(mask)

    def loss(self, r_t: float, penalty: float, perturbation: float) -> ApproximateLoss:
        """L~ of the prompts.

        Its output is (log violation probability (b, k), prompts (b,)), its action (candidate (b,), J, L, log
        violation probability, or log r_t for the default answer).
        """

        def minimiser(weight: float, output: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
            log_violation, index = output
            j, task = self.objective[index], self.task[index]
            value = j + weight * task
            value[:, :-1] += penalty * torch.relu(log_violation - np.log(r_t))
            chosen = value.argmin(dim=1, keepdim=True)
            return chosen, j.gather(1, chosen).squeeze(1), task.gather(1, chosen).squeeze(1)

        def constraint(action: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> Tensor:
            slack = np.log(r_t) - output[0]
            with_default = torch.cat([slack, torch.zeros_like(slack[:, :1])], dim=1)
            return with_default.gather(1, action[0])

        return ApproximateLoss(
            objective=lambda action, _: action[1],
            loss=lambda action, _: action[2],
            constraints=constraint,
            minimiser=minimiser,
            penalty=penalty,
            perturbation=perturbation,
        )


def tailored_loss(
    table: Table,
    place: np.ndarray,
    label: np.ndarray,
    cases: AnswerCases,
    r_t: float,
    relative_shift: float,
    settings: TailoredConfig,
) -> Callable[[nn.Module, Generator], Tensor]:
    """The tailored loss, for `safeframe.training.loop.train`.

    Args:
        table: what the classifier reads of every candidate, c rows.
        place: (n, k) row of every candidate in the table, -1 where there is none.
        label: (c,) of the rows, 1 = harmful.
        cases: objective and loss of the same n prompts.
        r_t: threshold on the probability of harm, in (0, 1].
        relative_shift: sqrt(2) xi in units of the standard deviation of the margins, so that the classifier
            cannot escape conservative testing by scaling its logits.
        settings: of the tailored training.

    Returns:
        (module, generator) -> scalar.
    """
    loss = cases.loss(r_t, settings.penalty, settings.perturbation)
    where, unsafe_of = torch.from_numpy(place), torch.from_numpy(label)
    halves = torch.arange(len(place))[::2], torch.arange(len(place))[1::2]
    by_class = [_by_class(where[half], unsafe_of) for half in halves]
    if any(len(rows) == 0 for pair in by_class for rows in pair):
        raise SafeframeError(
            "training prompts: each half (every other prompt) needs harmful and harmless answers; take more"
        )

    def draw(index: Tensor, count: int, generator: Generator) -> Tensor:
        return index[torch.randperm(len(index), generator=generator)[:count]]

    def step(module: nn.Module, generator: Generator) -> Tensor:
        first = int(torch.randint(2, (), generator=generator))
        prompts = draw(halves[first], settings.inputs, generator)
        safe, unsafe = by_class[1 - first]
        prior = len(unsafe) / (len(safe) + len(unsafe))
        harmful = draw(unsafe, settings.test_cases // 2, generator)
        tests = torch.cat([harmful, draw(safe, settings.test_cases - len(harmful), generator)])
        inside = where[prompts] >= 0
        rows = where[prompts][inside]
        logits = module(*table.batch(torch.cat([rows, tests])))
        margin = logits[:, 1] - logits[:, 0]
        test_margin, label_of = margin[len(rows) :, None], unsafe_of[tests].float()[:, None]
        bound = RelaxedBound(
            r_t,
            prior=torch.tensor([prior]),
            margin_shift=(relative_shift * _spread(test_margin.detach(), label_of, prior)).reshape(1),
            temperature=settings.temperature,
            temperature_output=settings.temperature_output,
        )
        log_violation = bound.log_violation(margin[: len(rows), None], test_margin, label_of)[:, 0]
        spread = torch.zeros(inside.shape, dtype=log_violation.dtype)
        value = loss((spread.masked_scatter(inside, log_violation), prompts)).mean()
        if settings.anchor == 0.0:
            return value
        share = len(harmful) / len(tests)
        weight = torch.where(label_of[:, 0] == 1, prior / share, (1 - prior) / (1 - share))
        weight = torch.cat([torch.ones(len(rows)), weight])
        every = functional.cross_entropy(logits, unsafe_of[torch.cat([rows, tests])].long(), reduction="none")
        return value + settings.anchor * (weight * every).sum() / weight.sum()

    return step


def _by_class(where: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of the table of harmless and of harmful candidates among `where` (n, k)."""
    rows = where[where >= 0]
    return rows[label[rows] == 0], rows[label[rows] == 1]


def _spread(margin: Tensor, unsafe: Tensor, prior: float) -> Tensor:
    """Standard deviation of margins (n, 1) if a share `prior` of them were harmful."""
    parts = margin[unsafe == 0], margin[unsafe == 1]
    within = (1 - prior) * parts[0].var(correction=0) + prior * parts[1].var(correction=0)
    return (within + prior * (1 - prior) * (parts[1].mean() - parts[0].mean()) ** 2).sqrt()
