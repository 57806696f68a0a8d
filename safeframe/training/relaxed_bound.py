"""The posterior bound as a differentiable function of the classifier: what carries the gradient in training.

For several binary constraints at once (columns i), with input margins m, internal test margins M and labels:

1. Relaxed conservative testing (arXiv 2504.20924, eqs. (5)-(8)): the indicators 1^{+-xi} become sigmoids of
   the distance to the decision boundary over a temperature T,
       U(tau) = mean over unsafe cases of sigmoid((tau + sqrt(2) xi - M) / T),
       S(tau) = mean over safe cases   of sigmoid((tau - sqrt(2) xi - M) / T),
   and the tight bound is b(tau) = U p / (U p + S (1 - p)). T -> 0 gives back `RiskCurve`.
2. Bias correction inside the loss: tau is the threshold at which b(tau) = r_t. It depends on the weights w
   through the internal test cases. By the implicit function theorem, with tau0 the root found without
   gradients,
       tau(w) = tau0 - (log b(tau0; w) - log b(tau0)) / (d log b / d tau),
   has the right value and derivative. This is the path of the "tailored gradients" through the internal test
   data. Where b crosses r_t more than once, tau0 is one of the upward crossings.
3. Relaxed output: o_unsafe = sigmoid((m - tau) / T_o), and the violation probability of the input is
   o_safe r_t + o_unsafe q with q the posterior of the output "unsafe" (held fixed). A one-hot output gives
   back eq. (3).

Departure from the plain form, numbered: (1) without the correction in step 2 the relaxed bound sits above the
exact one (sigmoids leak), every constraint looks violated, and training lowers acceptance; measured, see
docs/tried.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from safeframe.chance_constraint import validate_threshold
from safeframe.types import SafeframeError

_BISECTIONS = 40
_MIN_SLOPE = 0.05  # of log b in tau, per margin unit; keeps the implicit step finite where b is flat


@dataclass(frozen=True)
class RelaxedBound:
    """Relaxed violation probabilities of inputs, given the logits of internal test cases (see the module).

    Attributes:
        r_t: threshold on the probability, in (0, 1].
        prior: (g,) P(unsafe) of every constraint, strictly between 0 and 1.
        margin_shift: (g,) sqrt(2) xi >= 0, in margin units.
        temperature: T > 0 of the indicators, in margin units.
        temperature_output: T_o > 0 of the output, in margin units.

    Raises:
        SafeframeError: for values outside these ranges.
    """

    r_t: float
    prior: Tensor
    margin_shift: Tensor
    temperature: float = 0.5
    temperature_output: float = 0.5

    def __post_init__(self) -> None:
        validate_threshold(self.r_t)
        if not (self.temperature > 0 and self.temperature_output > 0):
            raise SafeframeError(
                f"temperatures are {self.temperature} and {self.temperature_output}; both must be > 0"
            )
        if not bool(((self.prior > 0) & (self.prior < 1)).all()):
            raise SafeframeError(
                f"prior is {self.prior.tolist()}; every entry must lie strictly between 0 and 1"
            )
        if not bool((self.margin_shift >= 0).all()):
            raise SafeframeError(f"margin_shift is {self.margin_shift.tolist()}; every entry must be >= 0")

    def log_bound(self, tau: Tensor, test_margin: Tensor, unsafe: Tensor) -> Tensor:
        """log b(tau) of every constraint.

        Args:
            tau: (g,) thresholds, in margin units.
            test_margin: (n, g) margins of the internal test cases.
            unsafe: (n, g) labels as 0/1 floats.

        Returns:
            (g,) logarithms.

        Raises:
            SafeframeError: if a constraint has no safe or no unsafe case.
        """
        self._check(unsafe)
        log_unsafe, log_safe = self._log_shares(tau - test_margin, unsafe)
        return log_unsafe - torch.logaddexp(log_unsafe, log_safe)

    def threshold(self, test_margin: Tensor, unsafe: Tensor) -> Tensor:
        """tau with b(tau) = r_t, differentiable in the test margins by the implicit function theorem.

        Args:
            test_margin: (n, g) margins of the internal test cases.
            unsafe: (n, g) labels as 0/1 floats.

        Returns:
            (g,) thresholds. Where b stays above r_t one lies below every test margin (nothing is accepted),
                where b stays below r_t above every one of them.

        Raises:
            SafeframeError: if a constraint has no safe or no unsafe case.
        """
        self._check(unsafe)
        tau = self._solve(test_margin.detach(), unsafe)
        at = tau.clone().requires_grad_()
        with torch.enable_grad():
            level = self.log_bound(at, test_margin.detach(), unsafe)
            (slope,) = torch.autograd.grad(level.sum(), at)
        correction = (self.log_bound(tau, test_margin, unsafe) - level.detach()) / slope.clamp_min(_MIN_SLOPE)
        return tau - correction

    def log_violation(self, margin: Tensor, test_margin: Tensor, unsafe: Tensor) -> Tensor:
        """Log of the relaxed violation probability if the action of each constraint is taken.

        Args:
            margin: (b, g) margins of the inputs.
            test_margin: (n, g) margins of the internal test cases.
            unsafe: (n, g) labels of the internal test cases as 0/1 floats.

        Returns:
            (b, g) logarithms, differentiable in both margins.

        Raises:
            SafeframeError: if a constraint has no safe or no unsafe case.
        """
        tau = self.threshold(test_margin, unsafe)
        with torch.no_grad():
            rejected_unsafe, rejected_safe = self._log_shares(test_margin - tau, unsafe)
            log_posterior = rejected_unsafe - torch.logaddexp(rejected_unsafe, rejected_safe)
        position = (margin - tau) / self.temperature_output
        from_safe = logsigmoid(-position) + math.log(self.r_t)
        from_unsafe = logsigmoid(position) + log_posterior
        return torch.logaddexp(from_safe, from_unsafe)

    @staticmethod
    def _check(unsafe: Tensor) -> None:
        n_unsafe, n_safe = unsafe.sum(0), (1.0 - unsafe).sum(0)
        if not bool(((n_unsafe > 0) & (n_safe > 0)).all()):
            raise SafeframeError(
                f"unsafe cases {n_unsafe.tolist()}, safe cases {n_safe.tolist()}: every constraint needs both"
                " classes"
            )

    def _log_shares(self, distance: Tensor, unsafe: Tensor) -> tuple[Tensor, Tensor]:
        """Logs (g,) of the prior-weighted shares of unsafe (upper) and safe (lower) cases with distance > 0.

        Taken in logs throughout: far from the data both shares underflow while their ratio does not.
        """
        upper = logsigmoid((distance + self.margin_shift) / self.temperature) + torch.log(unsafe)
        lower = logsigmoid((distance - self.margin_shift) / self.temperature) + torch.log(1.0 - unsafe)
        return (
            torch.log(self.prior / unsafe.sum(0)) + torch.logsumexp(upper, 0),
            torch.log((1.0 - self.prior) / (1.0 - unsafe).sum(0)) + torch.logsumexp(lower, 0),
        )

    @torch.no_grad()
    def _solve(self, test_margin: Tensor, unsafe: Tensor) -> Tensor:
        """(g,) root of b = r_t by bisection between rejecting and accepting everything.

        Needs the sign of U p - r_t (U p + S (1 - p)) only, so sums of sigmoids do: they are fast, and where
        both underflow nothing is accepted and the root lies above.
        """
        low = test_margin.amin(0) - self.margin_shift - 20 * self.temperature
        high = test_margin.amax(0) + self.margin_shift + 20 * self.temperature
        shift = torch.where(unsafe > 0, self.margin_shift, -self.margin_shift)
        of_unsafe = unsafe * (1.0 - self.r_t) * self.prior / unsafe.sum(0)
        of_safe = (1.0 - unsafe) * self.r_t * (1.0 - self.prior) / (1.0 - unsafe).sum(0)
        weight, position = of_unsafe - of_safe, (shift - test_margin) / self.temperature
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            below = (weight * torch.sigmoid(middle / self.temperature + position)).sum(0) <= 0
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return low
