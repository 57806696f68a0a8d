"""Internal test data: safety-labelled cases that calibrate the thresholds (arXiv 2504.20924, section 3.2)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from safeframe.chance_constraint import empirical_prior
from safeframe.inputs import as_batch, as_labels, holds_nan, length, rows
from safeframe.types import BoolArray, FloatArray, IntArray, LabelArray, SafeframeError


class InternalTestData:
    """Safety-labelled cases, with a record of which of them a classifier was trained on.

    Args:
        measurement: what the model sees, n cases without NaN: an array or tensor (n, ...), a frame or series
            of pandas or polars, a list of texts, or a mapping of these (:mod:`safeframe.inputs`); None if
            only labels are kept.
        label: (n,) states: integers in [0, n_classes), bools, whole floats, or with ``unsafe`` any values;
            or (n, c), one for each of c candidates per measurement. Every class occurs.
        group: (n,) ids (product, prompt category) for group-conditional testing, or None.
        n_classes: number of states, at least 2; where there are two, 0 is safe and 1 unsafe.
        trained_on: (n,) bool; default: none.
        block: (n,) ids of the periods or sites that the cases come from (years, weeks, hospitals), or None:
            between them laws and shares may differ.
        unsafe: the value of the labels, or several, that says unsafe, such as "unsafe".

    Raises:
        SafeframeError: on lengths that differ, labels that are no integers in range, a class without any
            case, NaN.
    """

    def __init__(
        self,
        measurement: Any,
        label: Any,
        group: np.ndarray | Sequence[Hashable] | None = None,
        n_classes: int = 2,
        trained_on: BoolArray | None = None,
        block: np.ndarray | Sequence[Hashable] | None = None,
        unsafe: Any = None,
    ) -> None:
        self.label = _checked_label(as_labels(label, unsafe), n_classes)
        self.n_classes = n_classes
        n = len(self.label)
        self.measurement = _checked_measurement(measurement, n)
        self.group = _checked_ids(group, n, "group")
        self.block = _checked_ids(block, n, "block")
        self.trained_on = np.zeros(n, bool) if trained_on is None else np.array(trained_on, dtype=bool)
        if self.trained_on.shape != (n,):
            raise SafeframeError(f"trained_on has shape {self.trained_on.shape}; expected ({n},)")

    def __len__(self) -> int:
        return len(self.label)

    @property
    def n_t(self) -> int:
        """Number of internal test cases."""
        return len(self.label)

    @property
    def prior(self) -> FloatArray:
        """Shares of the classes: (n_classes,)."""
        return empirical_prior(self.label, self.n_classes)

    def mark_trained_on(self, index: Any = None) -> None:
        """Record, in place, that cases were used for training.

        Args:
            index: any NumPy index into the n cases; None: all of them.
        """
        self.trained_on[slice(None) if index is None else index] = True

    def subset(self, index: np.ndarray, where: str = "the subset") -> InternalTestData:
        """Some of the cases, as new data.

        Args:
            index: (k,) positions, or (n,) bool.
            where: what the message of an error calls the part.

        Returns:
            The chosen cases with their groups and records of training.

        Raises:
            SafeframeError: where a class is then absent.
        """
        chosen = np.asarray(index)
        chosen = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen.astype(np.int64)
        try:
            return InternalTestData(
                None if self.measurement is None else rows(self.measurement, chosen),
                self.label[chosen],
                None if self.group is None else self.group[chosen],
                self.n_classes,
                self.trained_on[chosen],
                None if self.block is None else self.block[chosen],
            )
        except SafeframeError as error:
            raise SafeframeError(f"{where}: {error}") from error

    @property
    def held_out(self) -> InternalTestData:
        """The cases that were not trained on.

        Raises:
            SafeframeError: where there is none, or a class is absent among them.
        """
        if self.trained_on.all():
            raise SafeframeError("all internal test cases were trained on; held-out cases are needed here")
        return self.subset(~self.trained_on, "held-out internal test data")

    def by_group(self) -> dict[Hashable, InternalTestData]:
        """The cases of every group.

        Returns:
            One set of internal test data per group id.

        Raises:
            SafeframeError: where there are no groups; or a group lacks a class, naming it.
        """
        if self.group is None:
            raise SafeframeError("these internal test data have no groups; pass group=... when making them")
        keys = np.unique(self.group).tolist()
        return {key: self.subset(self.group == key, f"group {key!r}") for key in keys}

    def split(
        self, fractions: Sequence[float], seed: int | None = 0, block: int | None = None
    ) -> list[InternalTestData]:
        """Disjoint parts holding the given fractions of the cases.

        Args:
            fractions: positive, with a sum of at most 1; what remains is left out.
            seed: of the random assignment; None keeps the order (first cases to the first part).
            block: assign runs of so many consecutive cases as a whole, for data that depend on their
                neighbours; None: single cases.

        Returns:
            One set of internal test data per fraction, cases in their old order.

        Raises:
            SafeframeError: on bad fractions, a block below 1 or so large that a part is empty, or a part that
                lacks a class.
        """
        shares = np.asarray(fractions, dtype=np.float64)
        if shares.ndim != 1 or len(shares) == 0 or not (shares > 0).all() or shares.sum() > 1.0 + 1e-9:
            raise SafeframeError(
                f"fractions are {list(fractions)}; expected positive numbers with a sum of at most 1"
            )
        size = 1 if block is None else int(block)
        if size < 1:
            raise SafeframeError(f"block is {block}; expected a positive number of consecutive cases")
        units = -(-len(self) // size)
        order = np.arange(units) if seed is None else np.random.default_rng(seed).permutation(units)
        edges = np.round(np.concatenate([[0.0], np.cumsum(shares)]) * units).astype(np.int64)
        parts = []
        for number, (start, stop) in enumerate(pairwise(edges.tolist())):
            starts = np.sort(order[start:stop]) * size
            index = (starts[:, None] + np.arange(size)).reshape(-1)
            parts.append(self.subset(index[index < len(self)], f"part {number} of the split"))
        return parts


def _checked_ids(ids: Any, n: int, name: str) -> np.ndarray | None:
    if ids is None:
        return None
    array = np.asarray(ids)
    if array.shape != (n,):
        raise SafeframeError(f"{name} has shape {array.shape}; expected ({n},), one id per case")
    return array


def _checked_label(label: LabelArray, n_classes: int) -> IntArray:
    array = np.asarray(label)
    if n_classes < 2:
        raise SafeframeError(f"n_classes is {n_classes}; at least two states are needed")
    if array.ndim not in (1, 2) or array.size == 0:
        raise SafeframeError(f"label has shape {array.shape}; expected (n,) or (n, candidates), not empty")
    if array.dtype == np.bool_:
        array = array.astype(np.int64)
    if not np.issubdtype(array.dtype, np.integer):
        raise SafeframeError(f"label has dtype {array.dtype}; expected integers in 0..{n_classes - 1}")
    if array.min() < 0 or array.max() >= n_classes:
        raise SafeframeError(
            f"label has values in [{array.min()}, {array.max()}]; expected 0..{n_classes - 1}"
        )
    count = np.bincount(array.reshape(-1), minlength=n_classes)
    for missing in np.flatnonzero(count == 0).tolist():
        name = {0: " (safe)", 1: " (unsafe)"}.get(missing, "") if n_classes == 2 else ""
        raise SafeframeError(
            f"no internal test case of class {missing}{name}: collect some, or the bound is undefined"
        )
    return array


def _checked_measurement(measurement: Any, n: int) -> Any:
    if measurement is None:
        return None
    batch = as_batch(measurement)
    if length(batch) != n:
        shape = tuple(getattr(batch, "shape", (length(batch),)))
        raise SafeframeError(f"measurement has shape {shape}, but there are {n} labels: expected ({n}, ...)")
    if holds_nan(batch):
        raise SafeframeError("measurement holds NaN: drop or impute such cases before they are used")
    return batch
