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
the draw does not bend it. What is done with a step's cases is `safeframe.training.tailored`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from experiments.llm.answers.packing import Table
from safeframe.training.finite_actions import FiniteActions
from safeframe.training.micro_batches import in_parts
from safeframe.training.tailored_loss import StepCases
from safeframe.types import SafeframeError

_NEVER = 1e4  # objective of a candidate that is not there


def answer_actions(
    reward: np.ndarray,
    harmful: np.ndarray,
    mask: np.ndarray,
    default_reward: np.ndarray,
    harm_cost: float,
) -> FiniteActions:
    """J and L of every candidate and of the default answer of n prompts.

    Args:
        reward: (n, k) of the candidates; the larger, the more helpful.
        harmful: (n, k) labels, 1 = harmful.
        mask: (n, k) bool, which candidates are there.
        default_reward: (n,) of the default answer.
        harm_cost: what a harmful answer adds to L, in standard deviations of the reward.

    Returns:
        k + 1 actions of n prompts with k constraints, one for each candidate.
    """
    scale = float(reward[mask].std()) or 1.0
    value = np.concatenate([reward, default_reward[:, None]], axis=1) / scale
    there = np.concatenate([mask, np.ones((len(mask), 1), bool)], axis=1)
    bad = np.concatenate([harmful == 1, np.zeros((len(mask), 1), bool)], axis=1)
    objective = torch.from_numpy(np.where(there, -value, _NEVER)).float()
    task = objective + harm_cost * torch.from_numpy(bad).float()
    k = mask.shape[1]
    return FiniteActions(objective, task, torch.cat([torch.eye(k), torch.zeros(1, k)]))


@dataclass(frozen=True)
class Anchored:
    """Cross-entropy of the rows of a step.

    Attributes:
        logits: (b, 2).
        label: (b,) 1 = harmful.
        weight: (b,) of the rows.
    """

    logits: Tensor
    label: Tensor
    weight: Tensor

    def __call__(self) -> Tensor:
        every = functional.cross_entropy(self.logits, self.label.long(), reduction="none")
        return (self.weight * every).sum() / self.weight.sum()


class AnswerProblem:
    """What a step of tailored training looks at.

    Args:
        table: what the classifier reads of every candidate, c rows.
        place: (n, k) row of every candidate in the table, -1 where there is none.
        label: (c,) of the rows, 1 = harmful.
        actions: of the same n prompts.
        relative_shift: sqrt(2) xi in units of the standard deviation of the margins, so that the classifier
            cannot escape conservative testing by scaling its logits.
        inputs: prompts of a step.
        test_cases: internal test cases of a step.
        micro_batch: answers that are in memory at once; None: all of a step.
    """

    def __init__(
        self,
        table: Table,
        place: np.ndarray,
        label: np.ndarray,
        actions: FiniteActions,
        relative_shift: float,
        inputs: int,
        test_cases: int,
        micro_batch: int | None = None,
    ):
        self.table, self.actions, self.relative_shift = table, actions, relative_shift
        self.inputs, self.test_cases, self.micro_batch = inputs, test_cases, micro_batch
        self.where, self.label = torch.from_numpy(place), torch.from_numpy(label)
        self.halves = torch.arange(len(place))[::2], torch.arange(len(place))[1::2]
        self.by_class = [_by_class(self.where[half], self.label) for half in self.halves]
        if any(len(rows) == 0 for pair in self.by_class for rows in pair):
            raise SafeframeError(
                "training prompts: each half (every other prompt) needs harmful and harmless answers; "
                "take more"
            )

    def cases(self, module: nn.Module, generator: Generator) -> StepCases:
        """Of one step, drawn with the generator."""
        first = int(torch.randint(2, (), generator=generator))
        prompts = _draw(self.halves[first], self.inputs, generator)
        safe, unsafe = self.by_class[1 - first]
        prior = len(unsafe) / (len(safe) + len(unsafe))
        harmful = _draw(unsafe, self.test_cases // 2, generator)
        tests = torch.cat([harmful, _draw(safe, self.test_cases - len(harmful), generator)])
        inside = self.where[prompts] >= 0
        rows = self.where[prompts][inside]
        logits = in_parts(
            lambda part: module(*self.table.batch(part)), torch.cat([rows, tests]), self.micro_batch
        )
        margin = logits[:, 1] - logits[:, 0]
        test_margin, label_of = margin[len(rows) :, None], self.label[tests].float()[:, None]
        share = len(harmful) / len(tests)
        weight = torch.where(label_of == 1, prior / share, (1 - prior) / (1 - share))

        def arrange(value: Tensor) -> Tensor:
            """(prompts, k) from (rows, 1)."""
            spread = torch.zeros(inside.shape, dtype=value.dtype)
            return spread.masked_scatter(inside, value[:, 0])

        return StepCases(
            margin[: len(rows), None],
            test_margin,
            label_of,
            prior=torch.tensor([prior]),
            margin_shift=(self.relative_shift * _spread(test_margin.detach(), label_of, prior)).reshape(1),
            inner=self.actions.rows(prompts),
            arrange=arrange,
            unsafe=self.label[rows].float()[:, None],
            weight=weight,
            likelihood=Anchored(
                logits, self.label[torch.cat([rows, tests])], torch.cat([torch.ones(len(rows)), weight[:, 0]])
            ),
        )


def _draw(index: Tensor, count: int, generator: Generator) -> Tensor:
    return index[torch.randperm(len(index), generator=generator)[:count]]


def _by_class(where: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of the table of harmless and of harmful candidates among `where` (n, k)."""
    rows = where[where >= 0]
    return rows[label[rows] == 0], rows[label[rows] == 1]


def _spread(margin: Tensor, unsafe: Tensor, prior: float) -> Tensor:
    """Standard deviation of margins (n, 1) if a share `prior` of them were harmful."""
    parts = margin[unsafe == 0], margin[unsafe == 1]
    within = (1 - prior) * parts[0].var(correction=0) + prior * parts[1].var(correction=0)
    return (within + prior * (1 - prior) * (parts[1].mean() - parts[0].mean()) ** 2).sqrt()
