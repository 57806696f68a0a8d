"""One step of tailored training: from margins to a scalar, with the parts that may be switched on.

The plain form is arXiv 2504.20924, eq. (9), on the relaxed bound (:mod:`safeframe.training.relaxed_bound`):
log violation probabilities of the inputs, with a gradient through their own margins and through the internal
test cases, into the approximate loss of their actions. What may be added:

1. An anchor: the likelihood (cross-entropy) of the same cases, times a weight. The bound at a small r_t rests
   on few cases, which a network soon knows by heart; the likelihood of all of them holds it.
2. Schedules of beta, lambda and the temperatures (:mod:`safeframe.training.schedules`).
3. Open cases only: the gradient of inputs and internal test cases that are further than a width from tau, in
   units of their temperature, is cut. A decision that is settled leaves the classifier alone; the
   values of the bound and of the loss stay as they are. (An input of which both minimisers are the same has
   no gradient in any case: the penalties cancel.)
4. The priced inner problem (:meth:`safeframe.training.finite_actions.FiniteActions.priced`) in place of the
   gated one. p^ is a logistic of the margin, fitted on the internal test cases of the step, of the margin's
   distance from tau: so the gradient through the internal test data is the same as in the gated form. Where
   no price is given, it is the one at which an action worth ``unit`` is taken up to tau:
   mu = 1 / (p^(tau) - r_t).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from safeframe.training.approximate_loss import ApproximateLoss
from safeframe.training.relaxed_bound import RelaxedBound
from safeframe.training.schedules import Schedule, as_schedule
from safeframe.types import SafeframeError

Form = Literal["gated", "priced"]
_NEWTON = 25
_LEAST_EXCESS = 0.1  # of p^(tau) over r_t, in units of r_t: keeps the price finite


class InnerProblem(Protocol):
    """What min_u is over; :class:`safeframe.training.finite_actions.FiniteActions` is one."""

    def gated(self, r_t: float, penalty: float, perturbation: float) -> ApproximateLoss:
        """L~ of log violation probabilities.

        Args:
            r_t: threshold on the probability.
            penalty: beta.
            perturbation: lambda.

        Returns:
            The loss.
        """
        ...

    def priced(self, r_t: float, price: float | Tensor, perturbation: float) -> ApproximateLoss:
        """L~ of violation probabilities.

        Args:
            r_t: threshold on the probability.
            price: mu.
            perturbation: lambda.

        Returns:
            The loss.
        """
        ...


@dataclass(frozen=True)
class StepCases:
    """What one step looks at; g constraints.

    Attributes:
        margin: (b, g) of the inputs that are decided on, with their gradient.
        test_margin: (n, g) of the internal test cases that carry the bound, with their gradient.
        test_unsafe: (n, g) their labels as 0/1 floats.
        prior: (g,) P(unsafe) of every constraint, strictly between 0 and 1.
        margin_shift: (g,) sqrt(2) xi >= 0, in margin units.
        inner: actions of the inputs.
        arrange: from (b, g) probabilities to what ``inner`` takes; None: as they are.
        unsafe: (b, g) labels of the inputs, for the anchor; None: the internal test cases are enough.
        weight: (n, g) of the internal test cases, for anchor and p^, where a draw is not by their shares;
            None: 1.
        likelihood: mean negative log-likelihood of the cases where it is not the binary cross-entropy of
            these margins (several classes); None: it is.
    """

    margin: Tensor
    test_margin: Tensor
    test_unsafe: Tensor
    prior: Tensor
    margin_shift: Tensor
    inner: InnerProblem
    arrange: Callable[[Tensor], Tensor] | None = None
    unsafe: Tensor | None = None
    weight: Tensor | None = None
    likelihood: Callable[[], Tensor] | None = None


@dataclass(frozen=True)
class TailoredLoss:
    """The loss of a step.

    Attributes:
        r_t: threshold on the probability, in (0, 1].
        penalty: beta >= 0, or its schedule.
        perturbation: lambda > 0, or its schedule.
        temperature: T > 0 of the internal test cases' indicators, or its schedule.
        temperature_output: T_o > 0 of the inputs' indicator, or its schedule.
        anchor: weight >= 0 of the cases' mean negative log-likelihood.
        form: "gated" or "priced".
        price: mu >= 0; None: the price that acts up to tau (priced form only).
        open_width: temperatures from tau within which a case is open, > 0; None: all cases are.
        relative: temperatures are in units of the standard deviation of the internal test margins, so that
            they mean the same for classifiers of any scale.

    Raises:
        SafeframeError: for values outside these ranges, or an unknown form.
    """

    r_t: float
    penalty: float | Schedule
    perturbation: float | Schedule
    temperature: float | Schedule = 1.0
    temperature_output: float | Schedule = 1.0
    anchor: float = 0.0
    form: Form = "gated"
    price: float | None = None
    open_width: float | None = None
    relative: bool = False

    def __post_init__(self) -> None:
        if self.form not in ("gated", "priced"):
            raise SafeframeError(f"form is {self.form!r}; it must be gated or priced")
        if not self.anchor >= 0:
            raise SafeframeError(f"anchor is {self.anchor}; the weight of the likelihood must be >= 0")
        if self.price is not None and not self.price >= 0:
            raise SafeframeError(f"price is {self.price}; it must be >= 0")
        if self.open_width is not None and not self.open_width > 0:
            raise SafeframeError(f"open_width is {self.open_width}; it must be > 0")
        for name in ("perturbation", "temperature", "temperature_output", "penalty"):
            schedule = as_schedule(getattr(self, name))
            least = min(schedule.start, schedule.end)
            if least < 0 or (least == 0 and name != "penalty"):
                wanted = ">= 0" if name == "penalty" else "> 0"
                raise SafeframeError(f"{name} is {getattr(self, name)}; it must be {wanted}")

    def __call__(self, cases: StepCases, step: int = 0, steps: int = 1) -> Tensor:
        """The loss at one step.

        Args:
            cases: of the step.
            step: number of the update, 0 to steps - 1.
            steps: updates of the training, > 0.

        Returns:
            A scalar.

        Raises:
            SafeframeError: as :class:`RelaxedBound` and the inner problem.
        """
        value = self.approximate(cases, step, steps)
        return value + self.anchor * anchor_of(cases) if self.anchor else value

    def approximate(self, cases: StepCases, step: int = 0, steps: int = 1) -> Tensor:
        """The approximate loss alone, without the anchor.

        Args:
            cases: of the step.
            step: number of the update, 0 to steps - 1.
            steps: updates of the training, > 0.

        Returns:
            A scalar.

        Raises:
            SafeframeError: as :class:`RelaxedBound` and the inner problem.
        """
        now = {
            name: as_schedule(getattr(self, name)).at(step, steps)
            for name in ("penalty", "perturbation", "temperature", "temperature_output")
        }
        scale = float(cases.test_margin.detach().std()) if self.relative else 1.0
        bound = RelaxedBound(
            self.r_t,
            cases.prior,
            cases.margin_shift,
            now["temperature"] * scale,
            now["temperature_output"] * scale,
        )
        margin, test_margin = cases.margin, cases.test_margin
        if self.open_width is not None:
            margin, test_margin = self._only_open(bound, cases)
        if self.form == "gated":
            log_violation = bound.log_violation(margin, test_margin, cases.test_unsafe)
            inner = cases.inner.gated(self.r_t, now["penalty"], now["perturbation"])
            return inner(_arranged(cases, log_violation)).mean()
        probability, price = self._probability(bound, margin, test_margin, cases)
        inner = cases.inner.priced(self.r_t, price, now["perturbation"])
        return inner(_arranged(cases, probability)).mean()

    def _only_open(self, bound: RelaxedBound, cases: StepCases) -> tuple[Tensor, Tensor]:
        """The same margins, with a gradient only where they are near tau."""
        assert self.open_width is not None
        unsafe = cases.test_unsafe
        with torch.no_grad():
            tau = bound.threshold(cases.test_margin, unsafe)
            shift = torch.where(unsafe > 0, bound.margin_shift, -bound.margin_shift)
            near = (cases.margin - tau).abs() <= self.open_width * bound.temperature_output
            close = (cases.test_margin - tau - shift).abs() <= self.open_width * bound.temperature
        return (
            torch.where(near, cases.margin, cases.margin.detach()),
            torch.where(close, cases.test_margin, cases.test_margin.detach()),
        )

    def _probability(
        self, bound: RelaxedBound, margin: Tensor, test_margin: Tensor, cases: StepCases
    ) -> tuple[Tensor, float | Tensor]:
        """p^ (b, g) of the inputs and the price, (g,) or a number."""
        tau = bound.threshold(test_margin, cases.test_unsafe)
        with torch.no_grad():
            offset, slope = logistic(test_margin.detach(), cases.test_unsafe, cases.weight)
            at = torch.sigmoid(offset + slope * tau)
            price = 1.0 / (at - self.r_t).clamp_min(_LEAST_EXCESS * self.r_t)
        probability = torch.sigmoid(offset + slope * (margin - tau + tau.detach()))
        return probability, price if self.price is None else self.price


def _arranged(cases: StepCases, value: Tensor) -> Tensor:
    return value if cases.arrange is None else cases.arrange(value)


def anchor_of(cases: StepCases) -> Tensor:
    """The mean negative log-likelihood of a step's cases.

    Args:
        cases: inputs, where their labels are known, and internal test cases.

    Returns:
        A scalar, with its gradient.
    """
    if cases.likelihood is not None:
        return cases.likelihood()
    each = binary_cross_entropy_with_logits(cases.test_margin, cases.test_unsafe, reduction="none")
    weight = torch.ones_like(each) if cases.weight is None else cases.weight
    if cases.unsafe is not None:
        own = binary_cross_entropy_with_logits(cases.margin, cases.unsafe, reduction="none")
        each, weight = torch.cat([own, each]), torch.cat([torch.ones_like(own), weight])
    return (weight * each).sum() / weight.sum()


@torch.no_grad()
def logistic(margin: Tensor, unsafe: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Logistic regression of labels on margins, by Newton steps with half a case of each class added.

    Args:
        margin: (n, g) margins.
        unsafe: (n, g) labels as 0/1 floats.
        weight: (n, g) of the cases; None: 1.

    Returns:
        (g,) offsets and (g,) slopes; p^ = sigmoid(offset + slope * margin).
    """
    m, y = margin.double(), unsafe.double()
    w = torch.ones_like(m) if weight is None else weight.double()
    counts = (w * (1 - y)).sum(0), (w * y).sum(0)
    y = y * (counts[1] + 0.5) / (counts[1] + 1.0) + (1 - y) * 0.5 / (counts[0] + 1.0)  # Platt's targets
    centre, spread = m.mean(0), m.std(0, correction=0).clamp_min(1e-12)
    z = (m - centre) / spread
    share = ((w * y).sum(0) / w.sum(0)).clamp(1e-9, 1 - 1e-9)
    a, b = torch.logit(share), torch.ones_like(share)
    for _ in range(_NEWTON):
        p = torch.sigmoid(a + b * z)
        h, r = w * p * (1 - p), w * (p - y)
        h0, h1, h2 = h.sum(0) + 1e-9, (h * z).sum(0), (h * z * z).sum(0) + 1e-9
        g0, g1 = r.sum(0), (r * z).sum(0) + 1e-9 * b
        determinant = (h0 * h2 - h1 * h1).clamp_min(1e-18)
        step_a, step_b = (h2 * g0 - h1 * g1) / determinant, (h0 * g1 - h1 * g0) / determinant
        a, b = a - step_a.clamp(-2.0, 2.0), b - step_b.clamp(-2.0, 2.0)
    slope = b / spread
    return (a - slope * centre).to(margin.dtype), slope.to(margin.dtype)
