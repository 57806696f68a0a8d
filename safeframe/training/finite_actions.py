"""The inner minimisation of the approximate loss over finitely many actions, gated or priced.

Each of b inputs has a actions and g constraints; an action uses some of the constraints (makes a product,
gives an answer). Two forms of the inner problem:

- gated (arXiv 2504.20924, eq. (9)): min_u [weight L(u) + J(u) - beta' min(c(u), 0)] with
  c_i(u) = log r_t - log P_i for every constraint that u uses.
- priced: min_u [weight L(u) + J(u) + mu' (P(u) - r_t)], the Lagrangian of "the risk of what is done is at
  most r_t". It has no kink, and what is far above r_t costs in proportion.

In both the derivative is that of the minimisers held fixed (:mod:`safeframe.training.approximate_loss`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from safeframe.chance_constraint import validate_threshold
from safeframe.training.approximate_loss import ApproximateLoss
from safeframe.types import SafeframeError

Chosen = tuple[Tensor, Tensor, Tensor]
"""Index of the action (b,), its J (b,) and L (b,)."""


@dataclass(frozen=True)
class FiniteActions:
    """J and L of the actions of b inputs.

    Attributes:
        objective: (b, a) J, minimised.
        loss: (b, a) L of the action taken.
        uses: (a, g) 0/1, which constraints an action uses.
        objective_with_loss: (b, a) J of the actions for the minimisation with the loss, where the best
            action of a kind depends on it; None: the same.
        loss_with_loss: (b, a) L of those; None: the same.
        unit: (g,) or a number, in which beta and the price of each constraint are counted.

    Raises:
        SafeframeError: on shapes that do not fit.
    """

    objective: Tensor
    loss: Tensor
    uses: Tensor
    objective_with_loss: Tensor | None = None
    loss_with_loss: Tensor | None = None
    unit: Tensor | float = 1.0

    def __post_init__(self) -> None:
        shape = self.objective.shape
        others = (self.loss, self.objective_with_loss, self.loss_with_loss)
        if len(shape) != 2 or any(other is not None and other.shape != shape for other in others):
            shapes = [tuple(part.shape) for part in (self.objective, *others) if part is not None]
            raise SafeframeError(f"J and L have shapes {shapes}; all must be (inputs, actions)")
        if self.uses.ndim != 2 or len(self.uses) != shape[1]:
            raise SafeframeError(
                f"uses has shape {tuple(self.uses.shape)}; expected ({shape[1]}, constraints)"
            )

    def rows(self, index: Tensor) -> FiniteActions:
        """Some of the inputs.

        Args:
            index: (k,) of the inputs.

        Returns:
            Their actions.
        """
        parts = (self.objective, self.loss, self.objective_with_loss, self.loss_with_loss)
        j, task, j_loss, task_loss = (None if part is None else part[index] for part in parts)
        assert j is not None
        assert task is not None
        return FiniteActions(j, task, self.uses, j_loss, task_loss, self.unit)

    def gated(self, r_t: float, penalty: float, perturbation: float) -> ApproximateLoss:
        """L~ with penalised constraints; its output is the log violation probability (b, g).

        Args:
            r_t: threshold on the probability, in (0, 1].
            penalty: beta >= 0, in ``unit``.
            perturbation: lambda > 0.

        Returns:
            The loss.

        Raises:
            SafeframeError: on values outside these ranges.
        """
        validate_threshold(r_t)
        level, beta = math.log(r_t), penalty * self.unit

        def constraints(action: Chosen, log_violation: Tensor) -> Tensor:
            return (level - log_violation) * self.uses[action[0]]

        return ApproximateLoss(
            objective=lambda action, _: action[1],
            loss=lambda action, _: action[2],
            constraints=constraints,
            minimiser=lambda weight, log_violation: self._least(
                weight, (torch.relu(log_violation - level) * beta) @ self.uses.T
            ),
            penalty=beta,
            perturbation=perturbation,
        )

    def priced(self, r_t: float, price: float | Tensor, perturbation: float) -> ApproximateLoss:
        """L~ with a price on risk; its output is the violation probability (b, g).

        Args:
            r_t: threshold on the probability, in (0, 1]; what is at it costs nothing.
            price: mu >= 0 of a probability of 1, in ``unit``; a number or (g,).
            perturbation: lambda > 0.

        Returns:
            The loss.

        Raises:
            SafeframeError: on values outside these ranges.
        """
        validate_threshold(r_t)
        if not bool((torch.as_tensor(price) >= 0).all()):
            raise SafeframeError(f"the price is {price}; it must be >= 0")
        mu = price * self.unit

        def objective(action: Chosen, probability: Tensor) -> Tensor:
            return action[1] + ((probability - r_t) * mu * self.uses[action[0]]).sum(1)

        return ApproximateLoss(
            objective=objective,
            loss=lambda action, _: action[2],
            constraints=lambda action, _: torch.zeros(len(action[1]), 1),
            minimiser=lambda weight, probability: self._least(
                weight, ((probability - r_t) * mu) @ self.uses.T
            ),
            penalty=0.0,
            perturbation=perturbation,
        )

    def _least(self, weight: float, added: Tensor) -> Chosen:
        j, task = self.objective, self.loss
        if weight:
            j = j if self.objective_with_loss is None else self.objective_with_loss
            task = task if self.loss_with_loss is None else self.loss_with_loss
        chosen = (j + weight * task + added).argmin(dim=1, keepdim=True)
        return chosen.squeeze(1), j.gather(1, chosen).squeeze(1), task.gather(1, chosen).squeeze(1)
