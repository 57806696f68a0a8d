"""The exact curve from the acceptance threshold tau to the posterior bound, and its inverse.

The inverse is the paper's bias correction. Binary problems on margins m = f_1 - f_0: accept iff m < tau. With
xi the radius of conservative testing,

- U+(tau): share of the unsafe internal test cases with m - sqrt(2) xi < tau (some point of the ball is
  accepted),
- L-(tau): share of the safe cases with m + sqrt(2) xi < tau (every point of the ball is accepted),

and the bound p^xi(unsafe | accepted) follows from eq. (8) of arXiv 2504.20924 or its tight form
(:func:`safeframe.conservative_testing.posterior_bound`). All are step functions of tau, read off sorted
arrays.

The inverse is one binary search (:mod:`safeframe.step_curve`).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import cached_property

import numpy as np

from safeframe.chance_constraint import validate_threshold
from safeframe.conservative_testing import PosteriorForm, check_form
from safeframe.margins import count_below, margin_of, shifted, split_sorted
from safeframe.shards.curve import ShardedRiskCurve
from safeframe.shards.sources import Shards
from safeframe.step_curve import StepCurve, Thresholds
from safeframe.types import SQRT2, FloatArray, Floats, IntArray, LabelArray, SafeframeError, Threshold, states

__all__ = ["GroupedRiskCurve", "RiskCurve", "Thresholds", "margin_of"]

_OF_RADIUS = ("_unsafe_entry", "_safe_entry", "_certain_entry", "_safe_below")


class RiskCurve(StepCurve):
    """The exact curve tau -> p^xi(unsafe | accepted), its acceptance rate and its inverse.

    The margins keep their type (float32 halves the memory) and are compared as float64 numbers would be; what
    a radius moves is float64. So a curve of float32 margins equals that of the same numbers in float64.

    An empty conservative accepted set (U+ = L- = 0) has bound 1, never NaN and never 0. In the paper's form
    U+ > 0 over a zero denominator is +inf, eq. (8) as it stands, so that it only falls between entries.

    Args:
        margin: (n,) finite margins f_1 - f_0 of the internal test cases; larger is riskier.
        label: (n,) 0 safe, 1 unsafe (ints or bools); both occur.
        prior: P(unsafe) in [0, 1]; None takes the share in ``label``.
        radius: xi >= 0, in logit units (the margin moves by sqrt(2) xi).
        form: "tight" or "paper" (eq. (8)).
        slack: mass delta in [0, 1) that the coupling of the relaxed theorem may miss (p <= p^{+xi} + delta):
            added to U+ and taken from L-. 0 gives the paper's bound.

    Raises:
        SafeframeError: on shapes that differ, NaN or infinite margins, labels other than 0/1, a missing
            class, and on any other argument outside its range.
    """

    def __init__(
        self,
        margin: FloatArray,
        label: LabelArray,
        prior: float | None = None,
        radius: float = 0.0,
        form: PosteriorForm = "tight",
        slack: float = 0.0,
    ) -> None:
        check_form(form)
        self._safe, unsafe = split_sorted(margin, label)
        super().__init__(unsafe, len(self._safe), prior, radius, form, slack)

    @staticmethod
    def from_shards(
        shards: Shards,
        prior: float | None = None,
        radius: float = 0.0,
        form: PosteriorForm = "tight",
        slack: float = 0.0,
    ) -> ShardedRiskCurve:
        """The curve of more cases than fit in memory, from two passes over shards of them.

        Thresholds, levels and counts are those of one curve of all cases, bit for bit, in whatever order
        the shards come. Memory: one or two shards and what is kept per unsafe case (about 50 bytes).

        Args:
            shards: what can be passed over twice: a list, or any other re-iterable, of shards; a callable
                that returns an iterator over them; the path of a parquet file or of a folder of them, with
                columns ``margin`` and ``label``; a Ray Dataset with these columns. A shard is a pair
                (margin, label), a mapping with these keys, or a callable that returns either (called in a
                thread, two at a time). Empty shards are fine.
            prior: P(unsafe) in [0, 1]; None takes the share in the labels.
            radius: xi >= 0, in logit units.
            form: "tight" or "paper" (eq. (8)).
            slack: mass in [0, 1) that the coupling may miss.

        Returns:
            The curve. Its ``bound``, ``acceptance`` and ``counts`` are known at its candidates only.

        Raises:
            SafeframeError: as :class:`RiskCurve`, naming the shard; on a generator, which can be passed
                over only once; on shards that differ between the passes; on a folder without parquet files.
        """
        return ShardedRiskCurve(shards, prior, radius, form, slack)

    def adjusted(self, prior: float | None = None, radius: float = 0.0, slack: float = 0.0) -> RiskCurve:
        """The curve of the same cases with another prior, radius and slack; the margins are not sorted again.

        Args:
            prior: P(unsafe) in [0, 1]; None keeps that of this curve.
            radius: xi >= 0, in logit units.
            slack: mass in [0, 1) that the coupling may miss.

        Returns:
            A curve of its own.

        Raises:
            SafeframeError: on an argument outside its range.
        """
        other = type(self).__new__(type(self))
        other._safe = self._safe
        share = self.prior if prior is None else prior
        StepCurve.__init__(other, self._unsafe, self.n_safe, share, radius, self.form, slack)
        if other.radius == self.radius:  # what depends on the radius only is there
            other.__dict__ |= {name: self.__dict__[name] for name in _OF_RADIUS if name in self.__dict__}
        return other

    def largest_threshold(self, r_t: float) -> Threshold:
        """The most permissive tau whose bound is at most r_t.

        Where the inverse is not there yet, only entries that can qualify are looked at: L- is at most 1, so a
        bound of r_t leaves U+ at most r_t (1 - prior) / (prior (1 - r_t)).

        Args:
            r_t: threshold on the probability, in (0, 1].

        Returns:
            The threshold; as in :meth:`largest_thresholds`.

        Raises:
            SafeframeError: on an r_t outside (0, 1].
        """
        wanted, prior, n = validate_threshold(r_t), self.prior, self.n_unsafe
        if "_suffix_minimum" in self.__dict__ or self.form != "tight" or not 0.0 < prior < 1.0:
            return super().largest_threshold(wanted)
        most = wanted * (1.0 - prior) / (prior * max(1.0 - wanted, 1e-12)) - self.slack
        if most > 0.5:
            return super().largest_threshold(wanted)
        kept = self._unsafe_entry[: max(int(most * n), 0) + 3]  # three: room for rounding
        safe_share = count_below(self._safe_entry, kept) / self.n_safe
        bound = self._bound_from(np.arange(len(kept)) / n, safe_share, kept)
        within = np.flatnonzero(bound <= wanted)
        tau = float(kept[within[-1]]) if len(within) else -np.inf
        return self._at(np.array([wanted]), np.array([tau])).at(0)

    @cached_property
    def _safe_entry(self) -> FloatArray:
        """Below tau where every point of a safe case's ball is accepted."""
        return shifted(self._safe, SQRT2 * self.radius)

    @cached_property
    def _safe_below(self) -> IntArray:
        return np.append(count_below(self._safe_entry, self._unsafe_entry), self.n_safe)

    def _conservative_counts(self, query: FloatArray) -> tuple[IntArray, IntArray]:
        return count_below(self._unsafe_entry, query), count_below(self._safe_entry, query)

    def _plain_counts(self, query: FloatArray) -> tuple[IntArray, IntArray]:
        return count_below(self._unsafe, query), count_below(self._safe, query)

    def quantile(self, q: Floats) -> FloatArray:
        """Quantiles of the margins of all cases: where thresholds that accept a share q lie.

        Args:
            q: shares in [0, 1], of any shape.

        Returns:
            Margins, shaped like ``q``.
        """
        return np.quantile(np.concatenate([self._safe, self._unsafe]), q)


class GroupedRiskCurve:
    """One :class:`RiskCurve` per group, so that the bound holds in every group and not only on average.

    Args:
        margin: (n,) finite margins f_1 - f_0 of the internal test cases.
        label: (n,) 0 safe, 1 unsafe (ints or bools); both occur in every group.
        group: (n,) ids.
        prior: P(unsafe), one for all groups, or a mapping group -> P(unsafe) or None; None takes the group's
            own share.
        radius: xi >= 0, in logit units.
        form: "tight" or "paper".
        slack: mass in [0, 1) that the coupling may miss.

    Raises:
        SafeframeError: as :class:`RiskCurve`, naming the group.
    """

    def __init__(
        self,
        margin: FloatArray,
        label: LabelArray,
        group: np.ndarray,
        prior: float | Mapping[Hashable, float | None] | None = None,
        radius: float = 0.0,
        form: PosteriorForm = "tight",
        slack: float = 0.0,
    ) -> None:
        values, state, groups = np.asarray(margin), states(label), np.asarray(group)
        if values.ndim != 1 or groups.shape != values.shape or state.shape != values.shape:
            raise SafeframeError(
                f"margin {values.shape}, label {state.shape}, group {groups.shape}: expected one shape (n,)"
            )
        self.curves: dict[Hashable, RiskCurve] = {}
        try:
            keys = np.unique(groups).tolist()
        except (TypeError, ValueError) as error:
            raise SafeframeError(f"group ids must be all numbers or all texts ({error})") from error
        for key in keys:
            chosen = groups == key
            if isinstance(prior, Mapping) and key not in prior:
                raise SafeframeError(f"prior has no entry for group {key!r}; it has {list(prior)}")
            own = prior[key] if isinstance(prior, Mapping) else prior
            try:
                self.curves[key] = RiskCurve(values[chosen], state[chosen], own, radius, form, slack)
            except SafeframeError as error:
                raise SafeframeError(f"group {key!r}: {error}") from error

    def largest_threshold(self, r_t: float) -> dict[Hashable, Threshold]:
        """The largest tau with bound <= r_t, for every group.

        Args:
            r_t: threshold on the probability, in (0, 1].

        Returns:
            One threshold per group id.

        Raises:
            SafeframeError: on an r_t outside (0, 1].
        """
        return {key: curve.largest_threshold(r_t) for key, curve in self.curves.items()}

    def tau_of(self, group: np.ndarray, r_t: float) -> FloatArray:
        """The threshold of each case's own group.

        Args:
            group: ids of cases, of any shape.
            r_t: threshold on the probability, in (0, 1].

        Returns:
            Thresholds on the margin, shaped like ``group``.

        Raises:
            SafeframeError: on a group without internal test data, or an r_t outside (0, 1].
        """
        groups = np.asarray(group)
        keys, inverse = np.unique(groups, return_inverse=True)
        unknown = [key for key in keys.tolist() if key not in self.curves]
        if unknown:
            raise SafeframeError(
                f"group {unknown[0]!r} has no internal test data; known: {list(self.curves)}"
            )
        found = self.largest_threshold(r_t)
        return np.array([found[key].tau for key in keys.tolist()])[inverse].reshape(groups.shape)
