"""What the models said about the internal test cases: all that a guard's calibration rests on."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from safeframe.guard.report import EVERYTHING
from safeframe.guard.settings import GuardSettings
from safeframe.informativeness import alternating_runs
from safeframe.types import BoolArray, FloatArray, IntArray, LabelArray, SafeframeError


@dataclass(frozen=True)
class Evidence:
    """What the models said about the n internal test cases.

    Attributes:
        margin: (n,) margins f_1 - f_0, or (n, c) with candidates.
        label: (n,) or (n, c) 0 safe, 1 unsafe.
        score: (n, c) with candidates, -inf where absent; else None.
        group: (n,) ids, or None.
        trained_on: (n,) bool, whether the classifier was trained on the case.
        block: (n,) ids of periods or sites, or None.
        covered: (n,) bool, whether coverage accepts the case; None without coverage.
        risk: shaped like ``margin``, calibrated probabilities; None without a scale of risk.
    """

    margin: FloatArray
    label: LabelArray
    score: FloatArray | None
    group: np.ndarray | None
    trained_on: BoolArray
    block: np.ndarray | None = None
    covered: BoolArray | None = None
    risk: FloatArray | None = None

    def subset(self, index: np.ndarray) -> Evidence:
        """Some of the rows.

        Args:
            index: (k,) positions.

        Returns:
            The evidence of those rows.
        """
        values: list[Any] = [getattr(self, one.name) for one in fields(self)]
        rows: list[Any] = [None if value is None else value[index] for value in values]
        return Evidence(*rows)

    @property
    def flat(self) -> tuple[FloatArray, IntArray, IntArray]:
        """(margin, label, row) of every case that is present, one-dimensional."""
        present = np.ones(self.margin.shape, bool) if self.score is None else self.score != -np.inf
        rows = np.broadcast_to(
            np.arange(len(self.margin)).reshape(-1, *[1] * (self.margin.ndim - 1)), self.margin.shape
        )
        return self.margin[present], self.label[present], rows[present]


def split_for_certificate(evidence: Evidence, seed: int) -> tuple[IntArray, IntArray]:
    """A random half of the held-out rows certifies, all the rest chooses.

    Args:
        evidence: of the cases that may calibrate.
        seed: of the random half.

    Returns:
        Two ascending integer arrays, the rows that choose and the rows that certify.

    Raises:
        SafeframeError: with fewer than two held-out cases.
    """
    held_out = np.flatnonzero(~evidence.trained_on)
    if len(held_out) < 2:
        raise SafeframeError("a certificate needs held-out internal test cases; all of them were trained on")
    certifying = np.sort(np.random.default_rng(seed).permutation(held_out)[: len(held_out) // 2])
    choosing = np.setdiff1d(np.arange(len(evidence.margin)), certifying)
    return choosing, certifying


def split_for_scale(evidence: Evidence, settings: GuardSettings) -> tuple[IntArray, IntArray]:
    """Some of the held-out rows fit the scale of risk, all the rest is counted.

    The same share of every group and class (with candidates: of rows with an unsafe one) is drawn, rounded
    down, so that a class of few cases is counted.

    Args:
        evidence: of the cases that choose.
        settings: of the guard.

    Returns:
        Two ascending integer arrays, the rows that fit and the rows that are counted.
    """
    unsafe = (evidence.label == 1) & (
        np.ones(1, bool) if evidence.score is None else evidence.score != -np.inf
    )
    unsafe = unsafe.reshape(len(unsafe), -1).any(axis=1)
    free = np.flatnonzero(~evidence.trained_on)
    free = free if len(np.unique(unsafe[free])) == 2 else np.arange(len(unsafe))
    _, kind = (
        np.unique(evidence.group, return_inverse=True) if evidence.group is not None else (0, 0 * unsafe)
    )
    kind = 2 * np.asarray(kind, np.int64) + unsafe
    rng = np.random.default_rng([settings.seed, 1])
    drawn = [rng.permutation(free[kind[free] == one]) for one in np.unique(kind[free])]
    fitting = np.sort(np.concatenate([rows[: int(settings.scale_share * len(rows))] for rows in drawn]))
    return fitting, np.setdiff1d(np.arange(len(unsafe)), fitting)


def split_for_price(evidence: Evidence, share: float, seed: int) -> tuple[IntArray, IntArray]:
    """A random share of the rows, or of the whole blocks, fits a risk scale; the rest is for the curve.

    Args:
        evidence: of the cases that may calibrate.
        share: of the rows or blocks that fit, in (0, 1).
        seed: of the random choice.

    Returns:
        Two ascending integer arrays, the rows that fit and the rows that the curve counts.

    Raises:
        SafeframeError: with fewer than two rows, or where there are blocks with fewer than three of them.
    """
    n, block = len(evidence.margin), evidence.block
    unit = np.arange(n) if block is None else np.unique(block, return_inverse=True)[1]
    count = int(unit.max()) + 1 if n else 0
    least = 2 if block is None else 3
    if count < least:
        what = "cases" if block is None else "blocks"
        raise SafeframeError(
            f"{count} {what}: a part fits the risk scale and the rest is for the curve, which takes {least}"
        )
    fitting = int(np.clip(round(share * count), 1, count - (least - 1)))
    drawn = np.random.default_rng([seed, 1]).permutation(count)[:fitting]
    fits = np.isin(unit, drawn)
    return np.flatnonzero(fits), np.flatnonzero(~fits)


def split_groups(evidence: Evidence, settings: GuardSettings) -> dict[Hashable, Evidence]:
    """The evidence per group.

    Args:
        evidence: of any cases.
        settings: with the constraint over groups.

    Returns:
        One part per group id; or all under the one key ``EVERYTHING`` where groups do not count or are
            pooled.

    Raises:
        SafeframeError: where there is a constraint over groups and the evidence has none.
    """
    if settings.constraint is not None and evidence.group is None:
        raise SafeframeError("a constraint over groups is set, but the internal test data have no groups")
    if settings.constraint in (None, "pooled") or evidence.group is None:
        return {EVERYTHING: evidence}
    keys = np.unique(evidence.group).tolist()
    return {key: evidence.subset(np.flatnonzero(evidence.group == key)) for key in keys}


def halves(evidence: Evidence, blocks: int) -> np.ndarray:
    """The halves of the rows between which a radius is measured.

    Args:
        evidence: of n cases.
        blocks: runs of consecutive rows, where the rows have no block ids.

    Returns:
        (n,) bool: every other block, by the order in which blocks arise.
    """
    n = len(evidence.margin)
    if evidence.block is None:
        return alternating_runs(n, blocks)
    _, first, inverse = np.unique(evidence.block, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    return order[inverse] % 2 == 1
