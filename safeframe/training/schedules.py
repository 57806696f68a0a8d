"""How a number changes over a training: lambda, beta and the temperatures of the approximate loss.

Theorem 2 (arXiv 2504.20924): L~ tends to the loss of the action taken as beta grows and lambda falls. A
training may start where the loss is smooth and end nearer to that limit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from safeframe.types import SafeframeError

Kind = Literal["constant", "geometric", "linear"]


@dataclass(frozen=True)
class Schedule:
    """From ``start`` at the first step to ``end`` at the last.

    Attributes:
        start: value at the first step, finite.
        end: value at the last step, finite.
        kind: "constant" (both are equal), "geometric" (equal ratios; both > 0) or "linear" (equal
            differences).

    Raises:
        SafeframeError: on values that are not finite, an unknown kind, a constant with two values, or a
            geometric schedule with a value that is not > 0.
    """

    start: float
    end: float
    kind: Kind

    def __post_init__(self) -> None:
        if self.kind not in ("constant", "geometric", "linear"):
            raise SafeframeError(
                f"the schedule's kind is {self.kind!r}; it must be constant, geometric or linear"
            )
        if not (math.isfinite(self.start) and math.isfinite(self.end)):
            raise SafeframeError(f"a schedule from {self.start} to {self.end}: both must be finite")
        if self.kind == "constant" and self.start != self.end:
            raise SafeframeError(
                f"a constant schedule from {self.start} to {self.end}: both must be the same"
            )
        if self.kind == "geometric" and not (self.start > 0 and self.end > 0):
            raise SafeframeError(f"a geometric schedule from {self.start} to {self.end}: both must be > 0")

    def at(self, step: int, steps: int) -> float:
        """Its value at one step.

        Args:
            step: number of the update, 0 to steps - 1.
            steps: updates of the training, > 0.

        Returns:
            The value; a training of one step has the first one.

        Raises:
            SafeframeError: on a step outside the training.
        """
        if not 0 <= step < steps:
            raise SafeframeError(f"step {step} of a training of {steps} steps; steps count from 0")
        if self.kind == "constant" or step == 0:
            return self.start
        if step == steps - 1:
            return self.end
        done = step / (steps - 1)
        if self.kind == "linear":
            return self.start + done * (self.end - self.start)
        return self.start * (self.end / self.start) ** done


def constant(value: float) -> Schedule:
    """A number that does not change.

    Args:
        value: the number, finite.

    Returns:
        Its schedule.

    Raises:
        SafeframeError: on a value that is not finite.
    """
    return Schedule(value, value, "constant")


def geometric(start: float, end: float) -> Schedule:
    """Equal ratios from step to step.

    Args:
        start: value at the first step, > 0.
        end: value at the last step, > 0.

    Returns:
        The schedule.

    Raises:
        SafeframeError: on a value that is not finite and > 0.
    """
    return Schedule(start, end, "geometric")


def linear(start: float, end: float) -> Schedule:
    """Equal differences from step to step.

    Args:
        start: value at the first step, finite.
        end: value at the last step, finite.

    Returns:
        The schedule.

    Raises:
        SafeframeError: on a value that is not finite.
    """
    return Schedule(start, end, "linear")


def as_schedule(value: float | Schedule) -> Schedule:
    """A schedule from what a setting holds.

    Args:
        value: a number, which does not change, or a schedule.

    Returns:
        The schedule.

    Raises:
        SafeframeError: on a number that is not finite.
    """
    return value if isinstance(value, Schedule) else constant(float(value))
