"""A chance constraint P(s in unsafe classes) <= r_t, with its prior (arXiv 2504.20924, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from safeframe.types import UNSAFE, FloatArray, LabelArray, SafeframeError, number, numbers


def validate_threshold(r_t: float, where: str = "r_t") -> float:
    """Check a probability threshold.

    Args:
        r_t: a number in (0, 1].
        where: what the message of an error calls it.

    Returns:
        ``r_t`` as a float.

    Raises:
        SafeframeError: if it is not a number, is NaN, or is outside (0, 1].
    """
    try:
        value = float(r_t) if isinstance(r_t, str) else number(r_t, where)
    except ValueError as error:
        raise SafeframeError(f"{where} is {r_t!r:.80}; it must be a number in (0, 1]") from error
    if not 0.0 < value <= 1.0:
        raise SafeframeError(
            f"{where} is {value}; a probability threshold must lie in (0, 1], for example 1e-3"
        )
    return value


def validate_radius(radius: float, where: str = "radius") -> float:
    """Check a radius of conservative testing.

    Args:
        radius: xi, in logit units; finite and >= 0.
        where: what the message of an error calls it.

    Returns:
        ``radius`` as a float.

    Raises:
        SafeframeError: if it is not a number, is negative, NaN or infinite.
    """
    value = number(radius, where)
    if not 0.0 <= value < np.inf:
        raise SafeframeError(f"{where} is {value}; the radius xi must be finite and >= 0")
    return value


def validate_prior(prior: float | Sequence[float] | FloatArray, n_classes: int = 2) -> FloatArray:
    """Check the prior probabilities of the classes.

    Args:
        prior: (n_classes,) probabilities that sum to 1 within 1e-6; or one number, P(unsafe), where there are
            two classes.
        n_classes: number of classes.

    Returns:
        (n_classes,) float64 probabilities, divided by their sum.

    Raises:
        SafeframeError: on a wrong length, values outside [0, 1], or another sum.
    """
    vector = numbers(prior, "prior")
    if vector.ndim == 0:
        if n_classes != 2:
            raise SafeframeError(
                f"prior is one number, but there are {n_classes} classes: give one per class"
            )
        vector = np.array([1.0 - vector, vector])
    if vector.shape != (n_classes,):
        raise SafeframeError(
            f"prior has shape {vector.shape}; expected ({n_classes},), one probability per class"
        )
    if not np.all((vector >= 0.0) & (vector <= 1.0)):
        raise SafeframeError(f"prior is {vector.tolist()}; every probability must lie in [0, 1]")
    if abs(float(vector.sum()) - 1.0) > 1e-6:
        raise SafeframeError(f"prior {vector.tolist()} sums to {float(vector.sum()):.6g}; it must sum to 1")
    return vector / vector.sum()


def empirical_prior(label: LabelArray, n_classes: int = 2) -> FloatArray:
    """Shares of the classes among labels.

    Args:
        label: integers in 0..n_classes-1 or bools, of any shape.
        n_classes: number of classes.

    Returns:
        (n_classes,) shares that sum to 1.

    Raises:
        SafeframeError: if there is no case, or a label outside 0..n_classes-1.
    """
    flat = np.asarray(label).reshape(-1)
    if flat.size == 0:
        raise SafeframeError("label is empty; the empirical prior needs at least one case")
    if flat.min() < 0 or flat.max() >= n_classes:
        raise SafeframeError(f"label has values in [{flat.min()}, {flat.max()}]; expected 0..{n_classes - 1}")
    return np.bincount(flat.astype(np.int64), minlength=n_classes) / flat.size


@dataclass(frozen=True)
class ChanceConstraint:
    """P(s in ``unsafe_classes``) <= ``threshold``, given the classifier's output.

    Attributes:
        threshold: r_t in (0, 1].
        prior: P(unsafe) for a binary problem, or the whole prior p(s), one probability per class; None takes
            the shares in the internal test data.
        unsafe_classes: the classes that violate the constraint; at least one, each once, none negative.
        name: used in messages and reports.

    Raises:
        SafeframeError: on a threshold outside (0, 1] and on classes that are not as above.
    """

    threshold: float
    prior: float | Sequence[float] | None = None
    unsafe_classes: tuple[int, ...] = (UNSAFE,)
    name: str = "unsafe"

    def __post_init__(self) -> None:
        validate_threshold(self.threshold, f"threshold of constraint {self.name!r}")
        if not self.unsafe_classes or len(set(self.unsafe_classes)) != len(self.unsafe_classes):
            raise SafeframeError(
                f"constraint {self.name!r}: unsafe_classes must name at least one class, each once"
            )
        if min(self.unsafe_classes) < 0:
            raise SafeframeError(f"constraint {self.name!r}: unsafe_classes must not be negative")

    def prior_vector(self, label: LabelArray, n_classes: int = 2) -> FloatArray:
        """The prior of all classes: the given one, or the shares in the labels where none was given.

        Args:
            label: integer states of the internal test cases, of any shape; read only where no prior was
                given.
            n_classes: number of classes.

        Returns:
            (n_classes,) probabilities that sum to 1.

        Raises:
            SafeframeError: if an unsafe class is not among the classes, or the prior or the labels do not fit
                them.
        """
        if max(self.unsafe_classes) >= n_classes:
            raise SafeframeError(
                f"constraint {self.name!r}: no class {max(self.unsafe_classes)} among {n_classes} classes"
            )
        if self.prior is None:
            return empirical_prior(label, n_classes)
        return validate_prior(self.prior, n_classes)

    def violation_probability(self, posterior: FloatArray) -> FloatArray:
        """Sum a posterior bound over the unsafe states and cap it at 1.

        Args:
            posterior: (s, m) bounds on p(state | classifier output).

        Returns:
            (m,) one probability per classifier output.
        """
        return np.minimum(np.asarray(posterior)[list(self.unsafe_classes)].sum(axis=0), 1.0)
