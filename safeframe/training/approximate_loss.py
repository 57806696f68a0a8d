"""The approximate loss and its gradient.

    L~(o) = ( min_u [lambda L(u) + J(u, o) - beta' min(c(u, o), 0)]
              - min_u [J(u, o) - beta' min(c(u, o), 0)] ) / lambda

(arXiv 2504.20924, eq. (9)), with J the objective of the optimisation stage, L the loss of the action taken,
c >= 0 the constraints and o what the networks put out. As beta grows and lambda falls, L~ tends to L at the
action that the optimisation stage takes (Theorem 2), but it is continuous in o where that one jumps.

Gradient (Danskin's theorem, doi:10.1007/978-3-642-46156-1): the derivative of a minimum is the derivative at
the minimiser. The minimisers u1 (with the loss) and u2 (without) are found without gradients and held fixed;
autograd then differentiates the bracket in o. Nothing is differentiated through a solver, so the minimiser
may be an enumeration, a convex solver or a search. Wherever the minimisers are unique and no constraint is
exactly zero at them this is the gradient. A continuous minimiser likes to sit exactly at c = 0, the kink of
min(c, 0); there the derivative is that of -mu' c with the solver's multipliers 0 <= mu <= beta, which
`multipliers` passes on (without them, rounding decides between 0 and beta).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from safeframe.types import SafeframeError

Term = Callable[[Any, Any], Tensor]
"""(action, output) -> (b,) or (b, k), one row per input."""


@dataclass(frozen=True)
class ApproximateLoss:
    """L~ for a user's own objective, loss, constraints and minimiser; b inputs, k constraints.

    What an action and an output are is up to the user (tensors, indices, tuples).

    Attributes:
        objective: (action, output) -> (b,) J, minimised.
        loss: (action, output) -> (b,) L; it must not depend on the weights.
        constraints: (action, output) -> (b, k) c, satisfied where >= 0; logarithms of probabilities do well
            here.
        minimiser: (weight, output) -> action that minimises weight L + J - beta' min(c, 0); called without
            gradients, with weight lambda and 0.
        penalty: beta >= 0, a number or (k,).
        perturbation: lambda > 0, finite.
        multipliers: (weight, action, output) -> (b, k) mu in [0, beta], 0 where c > 0, beta where c < 0; for
            minimisers that can sit at c = 0, not needed for finite sets of actions.

    Raises:
        SafeframeError: for lambda <= 0 or infinite, or beta < 0.
    """

    objective: Term
    loss: Term
    constraints: Term
    minimiser: Callable[[float, Any], Any]
    penalty: float | Tensor
    perturbation: float
    multipliers: Callable[[float, Any, Any], Tensor] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.perturbation < math.inf:
            raise SafeframeError(f"perturbation (lambda) is {self.perturbation}; it must be finite and > 0")
        if not bool((torch.as_tensor(self.penalty) >= 0).all()):
            raise SafeframeError(f"penalty (beta) is {self.penalty}; it must be >= 0")

    def penalised(self, weight: float, action: Any, output: Any) -> Tensor:
        """weight L + J - beta' min(c, 0) at an action, differentiable in the output.

        Args:
            weight: of the loss L; 0 leaves it out.
            action: one action per input.
            output: what the networks put out for the b inputs.

        Returns:
            (b,) values.
        """
        slack = self.constraints(action, output)
        penalty = -(torch.clamp(slack, max=0.0) * torch.as_tensor(self.penalty)).sum(-1)
        if self.multipliers is not None:
            with torch.no_grad():
                multiplier = self.multipliers(weight, action, output)
            linear = -(multiplier * slack).sum(-1)
            penalty = penalty.detach() + (linear - linear.detach())  # its value, the derivative of -mu' c
        value = self.objective(action, output) + penalty
        return value + weight * self.loss(action, output) if weight else value

    def __call__(self, output: Any) -> Tensor:
        """L~ of every input; its gradient in ``output`` is the envelope gradient.

        Args:
            output: what the networks put out for the b inputs.

        Returns:
            (b,) values, in the unit of L.

        Raises:
            SafeframeError: where a value is not finite: some term or multiplier is not.
        """
        with torch.no_grad():
            with_loss = self.minimiser(self.perturbation, output)
            without = self.minimiser(0.0, output)
        value = self.penalised(self.perturbation, with_loss, output) - self.penalised(0.0, without, output)
        if not bool(torch.isfinite(value).all()):
            bad = int((~torch.isfinite(value)).sum())
            raise SafeframeError(
                f"the approximate loss is not finite for {bad} of {len(value)} inputs; check its terms"
            )
        return value / self.perturbation
