"""Types shared by the whole package: errors, statuses and small frozen results.

Convention everywhere: class 0 is safe and class 1 is unsafe in a binary problem, a larger margin
``m = f_1 - f_0`` is riskier, and a case is accepted when ``m < tau`` (strictly).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

SQRT2 = math.sqrt(2.0)
SAFE = 0
UNSAFE = 1

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]
LabelArray = NDArray[Any]  # ints or bools
Floats = float | Sequence[float] | FloatArray


class SafeframeError(ValueError):
    """An input or a state that the method cannot work with.

    The message says what was wrong, where, and what would be right.
    """


def number(value: Any, name: str) -> float:
    """What should be one number, as a float.

    Args:
        value: anything; NaN and infinite numbers are let through.
        name: what the message of an error calls it.

    Returns:
        The float.

    Raises:
        SafeframeError: on what is no real number, such as an array, a text, or an integer beyond all floats.
    """
    try:
        if isinstance(value, str | bytes) or getattr(value, "ndim", 0):
            raise TypeError("not one number")
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise SafeframeError(f"{name} is {value!r:.80}; it must be a number") from error


def numbers(values: Any, name: str) -> FloatArray:
    """What should be an array of numbers, as float64.

    Args:
        values: anything; NaN and infinite numbers are let through.
        name: what the message of an error calls it.

    Returns:
        The array.

    Raises:
        SafeframeError: on texts, complex numbers, missing values and parts of unequal length.
    """
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "biufO" or (
            array.dtype.kind == "O" and any(v is None for v in array.flat)
        ):
            raise TypeError(f"values of type {array.dtype}")
        return array.astype(np.float64, copy=False)
    except (TypeError, ValueError, OverflowError) as error:
        raise SafeframeError(f"{name} must hold numbers ({str(error)[:80]})") from error


def states(label: Any) -> LabelArray:
    """Labels as an array that can be compared with 0 and 1.

    Args:
        label: of any shape; whether they are 0 and 1 is not looked at here.

    Returns:
        The array; Python objects as float64.

    Raises:
        SafeframeError: on objects that are no numbers.
    """
    try:
        array = np.asarray(label)
    except ValueError as error:
        raise SafeframeError(f"label must hold 0 (safe) and 1 (unsafe) only ({error})") from error
    return numbers(array, "label") if array.dtype.kind == "O" else array


class Status(StrEnum):
    """How a decision came about; part of every result of the optimisation stage.

    ``optimal``: the best feasible action. ``default``: nothing was feasible for this input, so the default
    action is taken. ``infeasible``: the problem (or the threshold) admits no action for any input.
    ``inaccurate``: a solver stopped short of its tolerance, so the default action is taken and counted.
    ``error``: the input cannot be judged (a model failed or gave NaN), so the default action is taken and
    counted. ``withheld``: a guard accepts the action, but its long-run budget has no room, so the default
    action is taken.
    """

    OPTIMAL = "optimal"
    DEFAULT = "default"
    INFEASIBLE = "infeasible"
    INACCURATE = "inaccurate"
    ERROR = "error"
    WITHHELD = "withheld"


@runtime_checkable
class ArrayLike(Protocol):
    """What NumPy arrays and torch tensors have in common and the package uses."""

    @property
    def shape(self) -> Any:
        """Lengths of the axes."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


@dataclass(frozen=True)
class Threshold:
    """The outcome of calibrating one threshold r_t.

    Attributes:
        tau: accept iff margin < tau; ``-inf`` rejects everything.
        bound: the posterior bound at ``tau``; 1 if nothing is accepted.
        acceptance: share of cases accepted, in [0, 1].
        feasible: whether some tau qualifies.
        n_accepted: internal test cases with margin < tau (no radius).
        n_unsafe_accepted: unsafe ones among them.
        cases_needed: accepted cases, none of them unsafe, that would certify r_t at 95 % confidence (see
            :func:`safeframe.certificates.cases.cases_needed`).
        r_t: the threshold on the probability, in (0, 1].
    """

    tau: float
    bound: float
    acceptance: float
    feasible: bool
    n_accepted: int
    n_unsafe_accepted: int
    cases_needed: int
    r_t: float = math.nan
