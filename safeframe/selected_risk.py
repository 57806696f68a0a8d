"""The risk of the action that is selected, not of an accepted one drawn at random.

Choosing the best-scored of several accepted candidates is not drawing one: P(unsafe | selected) can exceed
P(unsafe | accepted) many times. So the internal test data come in groups (all candidates of one measurement,
with labels), and for every tau the curve takes the candidate that the rule itself would select in each group:
the highest score among margin < tau, the lowest index among equals. One sweep over the sorted margins finds
every change of selection; the curve is exact and piecewise constant, and it is NOT monotone in tau.

Conservative testing carries over. Every candidate's margin may move by sqrt(2) xi on its own, and the worst
case lowers all unsafe margins and raises all safe ones: then the selected candidate is unsafe exactly where
some perturbation makes it so, and where none can, a group counts as selected only if every perturbation
selects.

The event is per selected action; groups are assumed drawn like the measurements in use (no prior enters: the
share of unsafe candidates is that of the groups). A rule that samples from probabilities p restricted to the
accepted candidates is covered by the score log p + Gumbel noise, whose maximum is such a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from safeframe.certificates.cases import CertifiedThreshold, certify_counts
from safeframe.chance_constraint import validate_radius
from safeframe.margins import as_query, check_candidates
from safeframe.piecewise_curve import PiecewiseCurve
from safeframe.types import (
    SQRT2,
    BoolArray,
    FloatArray,
    Floats,
    IntArray,
    LabelArray,
    SafeframeError,
    Threshold,
    number,
)


@dataclass(frozen=True)
class Sweep:
    """What is selected after the entries strictly below a threshold.

    Attributes:
        entry: (e,) ascending margins at which the selection of some group changes.
        selected: (e + 1,) groups with a selected candidate, after the first k entries.
        sums: (e + 1,) arrays, what the selected candidates come to, for each value that was given.
    """

    entry: FloatArray
    selected: IntArray
    sums: tuple[np.ndarray, ...]

    def at(self, tau: FloatArray) -> tuple[np.ndarray, ...]:
        """Groups selected, and the sums, at thresholds.

        Args:
            tau: thresholds on the margin, of any shape.

        Returns:
            Arrays shaped like ``tau``, the number selected first.
        """
        index = np.searchsorted(self.entry, tau, side="left")
        return self.selected[index], *(one[index] for one in self.sums)


def ranked_within(score: FloatArray, present: BoolArray) -> IntArray:
    """Which candidate a group prefers to which.

    Args:
        score: (g, c), the higher the better.
        present: (g, c) bool; candidates that are absent come last.

    Returns:
        (g, c) ranks, 0 for the one preferred; of equals the first.
    """
    preference = np.argsort(np.where(present, -score, np.inf), axis=1, kind="stable")
    rank = np.empty_like(preference)
    np.put_along_axis(rank, preference, np.arange(score.shape[1])[None, :], axis=1)
    return rank


def sweep(margin: FloatArray, rank: IntArray, *values: np.ndarray) -> Sweep:
    """Every change of what is selected, as the threshold on the margin grows.

    Args:
        margin: (g, c), inf where absent.
        rank: (g, c), 0 for the candidate preferred in its group.
        *values: (g, c) each, bools (counted) or numbers, summed over the selected candidates.

    Returns:
        Counts and sums after each change.
    """
    order = np.argsort(margin, axis=1, kind="stable")
    entry = np.take_along_axis(margin, order, axis=1)
    entering = np.take_along_axis(rank, order, axis=1)
    record = (entering == np.minimum.accumulate(entering, axis=1)) & np.isfinite(entry)
    row, column = np.nonzero(record)
    first = np.ones(len(row), dtype=bool)
    first[1:] = row[1:] != row[:-1]
    when = entry[row, column]
    by_margin = np.argsort(when, kind="stable")

    def cumulative(step: np.ndarray) -> np.ndarray:
        return np.append(np.zeros(1, step.dtype), np.cumsum(step[by_margin]))

    sums = []
    for value in values:
        new = np.take_along_axis(value, order, axis=1)[row, column]
        new = new.astype(np.float64 if new.dtype.kind == "f" else np.int64)
        old = np.zeros_like(new)
        old[1:] = np.where(first[1:], 0, new[:-1])
        sums.append(cumulative(new - old))
    return Sweep(when[by_margin], cumulative(first.astype(np.int64)), tuple(sums))


class SelectedRiskCurve(PiecewiseCurve):
    """The exact curve tau -> bound on P(unsafe | selected) of the rule "highest score among margin < tau".

    Where no group selects anything the bound is 1.

    Args:
        margin: (g, c) margins f_1 - f_0 of every candidate of every group, finite where present.
        score: (g, c), the higher the better, finite where present; -inf marks an absent candidate.
        label: (g, c) 0 safe, 1 unsafe; both occur.
        radius: xi >= 0, in logit units.
        mask: (g, c) bool, False where absent; None: all that have a score are there.
        slack: mass in [0, 1) that the bound adds to the share.
        one_more: count one unsafe selected candidate more than was seen.
        odds: factor > 0 on the odds of an unsafe selected candidate, for a prior that is not that of the
            groups (the classes' laws among the selected are taken to stay).

    Raises:
        SafeframeError: on shapes that differ, NaN, labels other than 0/1, no group, no candidate of one
            class, or another argument outside its range.
    """

    def __init__(
        self,
        margin: FloatArray,
        score: FloatArray,
        label: LabelArray,
        radius: float = 0.0,
        mask: BoolArray | None = None,
        slack: float = 0.0,
        one_more: bool = False,
        odds: float = 1.0,
    ) -> None:
        self.radius = validate_radius(radius)
        check_corrections(slack, odds)
        self.slack, self.one_more, self.odds = float(slack), bool(one_more), float(odds)
        values, scores, unsafe, present = check_candidates(margin, score, label, mask)
        self._rank = ranked_within(scores, present)
        self._unsafe = unsafe
        self._margin = np.where(present, values, np.inf)
        self.n_groups = len(values)
        shift = SQRT2 * self.radius
        shifted = np.where(unsafe, self._margin - shift, self._margin + shift)
        self._worst = sweep(shifted, self._rank, unsafe)

    @cached_property
    def _actual(self) -> Sweep:
        return self._worst if self.radius == 0.0 else sweep(self._margin, self._rank, self._unsafe)

    def bound(self, tau: Floats) -> FloatArray:
        """Share of unsafe among the selected candidates, worst case over the balls; 1 if none is selected.

        With ``one_more`` or ``slack`` it is at least what these add; it can then exceed 1.

        Args:
            tau: thresholds on the margin, of any shape.

        Returns:
            Probabilities, shaped like ``tau``.

        Raises:
            SafeframeError: if a tau is NaN.
        """
        selected, unsafe = self._worst.at(as_query(tau))
        share = share_of_unsafe(selected, unsafe, self.one_more, self.odds)
        return (share + self.slack).reshape(np.shape(tau))

    def counts(self, tau: Floats) -> tuple[IntArray, IntArray]:
        """How many groups select a candidate (no radius).

        Args:
            tau: thresholds on the margin, of any shape.

        Returns:
            Two integer arrays shaped like ``tau``, the groups with a selected candidate and those among them
                whose candidate is unsafe.

        Raises:
            SafeframeError: if a tau is NaN.
        """
        selected, unsafe = self._actual.at(as_query(tau))
        return selected.reshape(np.shape(tau)), unsafe.reshape(np.shape(tau))

    def selection_rate(self, tau: Floats) -> FloatArray:
        """Share of groups that accept some candidate (no radius); the others take the default action.

        Args:
            tau: thresholds on the margin, of any shape.

        Returns:
            Shares in [0, 1], shaped like ``tau``.

        Raises:
            SafeframeError: if a tau is NaN.
        """
        return self.counts(tau)[0] / self.n_groups

    acceptance = selection_rate

    @property
    def _entries(self) -> FloatArray:
        return self._worst.entry

    def largest_threshold(self, r_t: float) -> Threshold:
        """The largest tau whose bound is at most r_t.

        The curve is not monotone, so smaller tau may have larger bounds: a threshold found here is a plug-in
        choice among many and profits from chance more than that of a RiskCurve. Pair it with
        :meth:`fixed_sequence`.

        Args:
            r_t: threshold on the probability, in (0, 1].

        Returns:
            The threshold; its ``acceptance`` is the selection rate, its counts are groups.

        Raises:
            SafeframeError: on an r_t outside (0, 1].
        """
        found = super().largest_threshold(r_t)
        return found if found.feasible else replace(found, bound=float(self.bound(-np.inf)))

    def fixed_sequence(
        self, taus: FloatArray | Sequence[float], r_t: float, delta: float
    ) -> CertifiedThreshold:
        """The most permissive tau certified for the selected action (Learn then Test; unit: the group).

        Args:
            taus: (t,) thresholds fixed before these groups were seen, strict ones first; see
                :func:`safeframe.certificates.cases.certify_threshold`.
            r_t: threshold on the probability, in (0, 1].
            delta: allowed probability of failure, in (0, 1).

        Returns:
            The threshold with its certificate on P(unsafe | selected); tau is -inf where none is certified.

        Raises:
            SafeframeError: on a tau that is NaN, an r_t outside (0, 1] or a delta outside (0, 1).
        """
        sequence = as_query(np.asarray(taus))
        selected, unsafe = self.counts(sequence)
        return certify_counts(selected, unsafe, sequence, r_t, delta, event="P(unsafe | selected)")


def check_corrections(slack: float, odds: float) -> None:
    """Whether what is added to a bound lies in its range.

    Args:
        slack: mass that is added.
        odds: factor on the odds.

    Raises:
        SafeframeError: on a slack outside [0, 1) or odds that are not positive and finite.
    """
    if not 0.0 <= number(slack, "slack") < 1.0 or not 0.0 < number(odds, "odds") < np.inf:
        raise SafeframeError(f"slack {slack} must lie in [0, 1) and odds {odds} in (0, inf)")


def share_of_unsafe(selected: IntArray, unsafe: IntArray, one_more: bool, odds: float) -> FloatArray:
    """Share of unsafe among what is selected; 1 where nothing is.

    Args:
        selected: counts of any shape.
        unsafe: of these, the unsafe ones.
        one_more: count one unsafe one more than was seen.
        odds: factor > 0 on the odds of an unsafe one.

    Returns:
        Shares in [0, 1], of the same shape.
    """
    if one_more:
        unsafe, selected = unsafe + 1, selected + 1
    share = np.ones(np.shape(selected))
    with np.errstate(over="ignore"):
        bad = unsafe * odds
    np.divide(bad, bad + (selected - unsafe), out=share, where=(selected > 0) & (bad < np.inf))
    return share  # 1 where the odds are beyond all numbers
