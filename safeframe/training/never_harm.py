"""Which checkpoint of a training to take: the start, unless another is clearly better.

Checkpoints, the start (the classifier after warm-up) among them, are compared on a fold of cases that
neither warm-up nor tailored training saw, by what they accept at r_t under the rule of
:mod:`safeframe.threshold_rule`.

1. Cross-fitting: the fold falls into two halves by blocks. The threshold of each half is calibrated on the
   other one, and the safe cases that it accepts are counted on its own; so no case is counted under a
   threshold that it helped to choose. The statistic D of a checkpoint is how many more, or how much more
   worth, of the fold it accepts than the start.
2. Paired test by swaps: if a checkpoint is as good as the start, the two may be exchanged within every
   block without changing the law of D. So D is computed anew under random swaps, with the thresholds
   calibrated anew each time (at a small r_t most of D's noise is that of the thresholds, which a test of the
   counts alone would not see). Margins are compared as ranks within the fold, so that what is swapped is on
   one scale. p = (1 + swaps with D* >= D) / (1 + swaps); drawing stops early where p cannot become small
   (Besag and Clifford, doi:10.1093/biomet/78.2.301).
3. Of k checkpoints the one with the largest D is tested at alpha / k (Bonferroni). What is not clearly better
   is not taken.

So the probability of taking one that is no better is at most alpha, for checkpoints that may be exchanged
with the start; checkpoints that are worse are taken less often still (counted in the tests).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import rankdata

from safeframe.chance_constraint import validate_threshold
from safeframe.threshold_rule import Conservative, Rule, ThresholdRule
from safeframe.types import SAFE, FloatArray, LabelArray, SafeframeError


@dataclass(frozen=True)
class SelectionFold:
    """Cases that no training saw.

    Attributes:
        label: (n,) 0 safe, 1 unsafe.
        group: (n,) ids of groups with thresholds of their own (products); None: one group.
        block: (n,) ids of what depends on one another (weeks, prompts, episodes); None: every case is a
            block. Blocks are swapped and halved as a whole.
        worth: (n,) >= 0, what accepting a safe case earns; None: 1.

    Raises:
        SafeframeError: on shapes that differ, labels other than 0/1, fewer than two blocks, or a negative
            worth.
    """

    label: LabelArray
    group: np.ndarray | None = None
    block: np.ndarray | None = None
    worth: FloatArray | None = None

    def __post_init__(self) -> None:
        n = len(self.label)
        for name in ("group", "block", "worth"):
            part = getattr(self, name)
            if part is not None and np.shape(part) != (n,):
                raise SafeframeError(f"{name} has shape {np.shape(part)}; expected one per case, ({n},)")
        if not np.isin(self.label, (0, 1)).all():
            raise SafeframeError("labels of the fold must be 0 (safe) or 1 (unsafe)")
        if self.worth is not None and not bool((np.asarray(self.worth) >= 0).all()):
            raise SafeframeError("worth of accepting a safe case must be >= 0")
        if len(np.unique(self.blocks)) < 2:
            raise SafeframeError("the fold has fewer than two blocks; it cannot be halved")

    @property
    def blocks(self) -> np.ndarray:
        """(n,) number of every case's block, from 0, in the order of the ids."""
        if self.block is None:
            return np.arange(len(self.label))
        return np.unique(self.block, return_inverse=True)[1].reshape(-1)

    @property
    def groups(self) -> np.ndarray:
        """(n,) number of every case's group."""
        if self.group is None:
            return np.zeros(len(self.label), np.int64)
        return np.unique(self.group, return_inverse=True)[1].reshape(-1)


@dataclass(frozen=True)
class NeverHarm:
    """How clear it has to be.

    Attributes:
        alpha: probability with which a checkpoint that is no better may be taken, in (0, 1).
        rule: from cases to a threshold. The default counts one unsafe case more than was seen, at radius 0: a
            radius measured between halves of half a fold is mostly noise, and refused everything in trials.
        swaps: random swaps at most, > 0; p is at least 1 / (swaps + 1).

    Raises:
        SafeframeError: on values outside these ranges.
    """

    alpha: float = 0.05
    rule: Rule = field(default_factory=lambda: Conservative(radius=0.0))
    swaps: int = 999

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise SafeframeError(f"alpha is {self.alpha}; it must lie between 0 and 1")
        if self.swaps < 1:
            raise SafeframeError(f"swaps is {self.swaps}; it must be > 0")


@dataclass(frozen=True)
class Selected:
    """What came out.

    Attributes:
        index: of the checkpoint to take; 0 is the start.
        best: of the one that accepts most, which is taken if ``p_value`` is small enough; 0 where none
            accepts more than the start.
        accepted: (k + 1,) accepted share of the fold's worth, safe cases only, of the start and the
            checkpoints.
        p_value: of the best one, multiplied by k; 1 where none accepts more.
        alpha: what it was compared with.
        swaps: that were drawn.
    """

    index: int
    best: int
    accepted: tuple[float, ...]
    p_value: float
    alpha: float
    swaps: int

    @property
    def gain(self) -> float:
        """Share of the fold's worth that the one taken accepts more than the start, by cross-fitting."""
        return self.accepted[self.index] - self.accepted[0]


class _Fold:
    """Accepted worth of margins on a fold, by cross-fitting."""

    def __init__(self, fold: SelectionFold, r_t: float, rule: Rule):
        self.label = np.asarray(fold.label).astype(np.int64)
        self.block, self.r_t, self.rule = fold.blocks, r_t, rule
        worth = np.ones(len(self.label)) if fold.worth is None else np.asarray(fold.worth, dtype=float)
        self.worth = np.where(self.label == SAFE, worth, 0.0) / max(float(worth.sum()), 1e-300)
        odd = self.block % 2 == 1
        self.groups = [np.flatnonzero(fold.groups == g) for g in range(int(fold.groups.max()) + 1)]
        halves = [[rows[odd[rows] == half] for half in (False, True)] for rows in self.groups]
        self.pairs = [(a, b) for first, second in halves for a, b in ((first, second), (second, first))]
        self.odd = [(self.block[a] // 2) % 2 == 1 for a, _ in self.pairs]

    def ranked(self, margin: FloatArray) -> FloatArray:
        """Ranks within each group over its number of cases."""
        ranks = np.empty(len(margin))
        for rows in self.groups:
            ranks[rows] = rankdata(margin[rows]) / max(len(rows), 1)
        return ranks

    def accepted(self, margin: FloatArray) -> float:
        """Share of the worth that is safe and accepted under the other half's threshold."""
        total = 0.0
        for (own, other), odd in zip(self.pairs, self.odd, strict=True):
            if len(own) == 0 or len(other) == 0:
                continue
            rule = ThresholdRule(margin[own], self.label[own], self.rule, odd, few=True)
            tau = rule.calibrate(self.r_t).tau
            total += float(self.worth[other][margin[other] < tau].sum())
        return total


def select(
    margins: Sequence[FloatArray],
    fold: SelectionFold,
    r_t: float,
    settings: NeverHarm | None = None,
    seed: int = 0,
) -> Selected:
    """The start or a checkpoint that is clearly better.

    Args:
        margins: of the start and of k >= 1 checkpoints, (n,) each, larger is riskier.
        fold: the cases.
        r_t: threshold on the probability, in (0, 1].
        settings: alpha, rule and swaps; None: the defaults.
        seed: of the swaps.

    Returns:
        Which one, and why.

    Raises:
        SafeframeError: on margins that do not fit the fold or are not finite, or an r_t outside (0, 1].
    """
    settings = NeverHarm() if settings is None else settings
    validate_threshold(r_t)
    n, found = len(fold.label), []
    if len(margins) < 2:
        raise SafeframeError(f"{len(margins)} checkpoints to compare; give the start and one at least")
    counting = _Fold(fold, r_t, settings.rule)
    for index, margin in enumerate(margins):
        values = np.asarray(margin, dtype=float)
        if values.shape != (n,) or not np.isfinite(values).all():
            raise SafeframeError(
                f"margins of checkpoint {index} have shape {values.shape} or are not finite; expected ({n},)"
            )
        found.append(counting.ranked(values))
    accepted = [counting.accepted(margin) for margin in found]
    best = int(np.argmax(accepted))
    if accepted[best] <= accepted[0]:
        return Selected(0, 0, tuple(accepted), 1.0, settings.alpha, 0)
    checkpoints = len(margins) - 1
    p, drawn = _swap_test(counting, found[0], found[best], checkpoints, settings, seed)
    p = min(1.0, p * checkpoints)
    return Selected(best if p <= settings.alpha else 0, best, tuple(accepted), p, settings.alpha, drawn)


def _swap_test(
    counting: _Fold, start: FloatArray, other: FloatArray, tests: int, settings: NeverHarm, seed: int
) -> tuple[float, int]:
    """p of D, and how many swaps were drawn; more are not drawn once p is too large for good."""
    rng, blocks = np.random.default_rng(seed), int(counting.block.max()) + 1
    difference = counting.accepted(other) - counting.accepted(start)
    enough = settings.alpha / tests * (settings.swaps + 1)  # exceedances with which p is above alpha / tests
    exceeding = 0
    for drawn in range(1, settings.swaps + 1):
        swap = (rng.random(blocks) < 0.5)[counting.block]
        first, second = np.where(swap, other, start), np.where(swap, start, other)
        exceeding += counting.accepted(second) - counting.accepted(first) >= difference - 1e-12
        if 1 + exceeding > enough:
            return (1 + exceeding) / (1 + drawn), drawn  # not below 1 / (1 + swaps) times what was counted
    return (1 + exceeding) / (1 + settings.swaps), settings.swaps
