"""The exact curve from the acceptance threshold tau to the posterior bound, and its inverse.

The inverse is the paper's bias correction. Binary problems on margins m = f_1 - f_0: accept iff m < tau. With
xi the radius of conservative testing,

- U+(tau): share of the unsafe internal test cases with m - sqrt(2) xi < tau (some point of the ball is
  accepted),
- L-(tau): share of the safe cases with m + sqrt(2) xi < tau (every point of the ball is accepted),

and the bound p^xi(unsafe | accepted) follows from eq. (8) of arXiv 2504.20924 or its tight form
(:func:`safeframe.conservative_testing.posterior_bound`). All are step functions of tau, read off sorted
arrays.

Inverse: between two entries u_k of unsafe cases U+ is constant and the rest only makes the bound fall, so the
bound is least at tau = u_k itself (strict acceptance leaves that case out), and the largest tau with bound <=
r_t is one of the u_k or +inf. A suffix minimum over k turns every query into one binary search.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np

from safeframe.certificates.cases import cases_needed
from safeframe.chance_constraint import validate_prior, validate_radius, validate_threshold
from safeframe.conservative_testing import PosteriorForm, check_form
from safeframe.margins import as_query, count_below, margin_of, split_sorted
from safeframe.types import SQRT2, UNSAFE, FloatArray, Floats, IntArray, LabelArray, SafeframeError, Threshold

__all__ = ["GroupedRiskCurve", "RiskCurve", "Thresholds", "margin_of"]


class Thresholds(NamedTuple):
    """Several r_t calibrated at once: one entry per r_t in every array.

    Attributes:
        r_t: (t,) thresholds on the probability, in (0, 1].
        tau: (t,) accept iff margin < tau; -inf rejects everything, +inf accepts everything.
        bound: (t,) the posterior bound at ``tau``; 1 if nothing is accepted.
        acceptance: (t,) shares of cases accepted.
        feasible: (t,) bool, whether some tau qualifies.
        n_accepted: (t,) internal test cases with margin < tau (no radius).
        n_unsafe_accepted: (t,) unsafe ones among them.
    """

    r_t: FloatArray
    tau: FloatArray
    bound: FloatArray
    acceptance: FloatArray
    feasible: np.ndarray
    n_accepted: IntArray
    n_unsafe_accepted: IntArray

    def at(self, index: int) -> Threshold:
        """One of the thresholds.

        Args:
            index: position of its r_t.

        Returns:
            The threshold, with the cases that would certify it at 95 % confidence.
        """
        r_t = float(self.r_t[index])
        return Threshold(
            tau=float(self.tau[index]),
            bound=float(self.bound[index]),
            acceptance=float(self.acceptance[index]),
            feasible=bool(self.feasible[index]),
            n_accepted=int(self.n_accepted[index]),
            n_unsafe_accepted=int(self.n_unsafe_accepted[index]),
            cases_needed=cases_needed(r_t, 0.05),
            r_t=r_t,
        )


class RiskCurve:
    """The exact curve tau -> p^xi(unsafe | accepted), its acceptance rate and its inverse.

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
        self.form = check_form(form)
        self._safe, self._unsafe = split_sorted(margin, label)
        self._adopt(prior, radius, slack)

    def _adopt(self, prior: float | None, radius: float, slack: float) -> None:
        """Set what the bound is computed with; ``_safe`` and ``_unsafe`` are there."""
        self.radius = validate_radius(radius)
        if not 0.0 <= slack < 1.0:
            raise SafeframeError(f"slack is {slack}; the missed mass must lie in [0, 1)")
        self.slack = float(slack)
        self.n_safe, self.n_unsafe = len(self._safe), len(self._unsafe)
        share = self.n_unsafe / (self.n_safe + self.n_unsafe)
        self.prior = share if prior is None else float(validate_prior(prior, 2)[UNSAFE])
        shift = SQRT2 * self.radius
        self._safe_entry = self._safe + shift if shift else self._safe
        self._unsafe_entry = self._unsafe - shift if shift else self._unsafe

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
        other._safe, other._unsafe, other.form = self._safe, self._unsafe, self.form
        other._adopt(self.prior if prior is None else prior, radius, slack)
        return other

    @property
    def n(self) -> int:
        """Number of internal test cases."""
        return self.n_safe + self.n_unsafe

    def _bound_from(self, unsafe_share: FloatArray, safe_share: FloatArray, tau: FloatArray) -> FloatArray:
        """Bound from U+ and L- at ``tau``; works in place on its float arguments."""
        unsafe_share += self.slack
        np.minimum(unsafe_share, 1.0, out=unsafe_share)
        safe_share -= self.slack
        np.maximum(safe_share, 0.0, out=safe_share)
        unsafe_share *= self.prior
        safe_share *= 1.0 - self.prior
        if self.form == "paper":
            certain = self._unsafe + SQRT2 * self.radius if self.radius else self._unsafe
            kept = count_below(certain, tau) / self.n_unsafe - self.slack
            safe_share += self.prior * np.maximum(kept, 0.0)
        else:
            safe_share += unsafe_share
        empty = safe_share <= 0.0
        np.divide(unsafe_share, safe_share, out=unsafe_share, where=~empty)
        unsafe_share[empty] = np.where(unsafe_share[empty] > 0.0, np.inf, 1.0)  # x/0: in eq. (8) only
        return unsafe_share

    def bound(self, tau: Floats) -> FloatArray:
        """The posterior bound on P(unsafe | margin < tau); 1 where nothing is accepted.

        Args:
            tau: thresholds on the margin, of any shape.

        Returns:
            Bounds, shaped like ``tau``; in the paper's form they can exceed 1.

        Raises:
            SafeframeError: if a tau is NaN.
        """
        query = as_query(tau)
        unsafe_share = count_below(self._unsafe_entry, query) / self.n_unsafe
        safe_share = count_below(self._safe_entry, query) / self.n_safe
        return self._bound_from(unsafe_share, safe_share, query).reshape(np.shape(tau))

    def acceptance(self, tau: Floats) -> FloatArray:
        """Share of all cases with margin < tau, by the prior (no radius: what the rule in use accepts).

        Args:
            tau: thresholds on the margin, of any shape.

        Returns:
            Shares in [0, 1], shaped like ``tau``.

        Raises:
            SafeframeError: if a tau is NaN.
        """
        query = as_query(tau)
        unsafe_share = count_below(self._unsafe, query) / self.n_unsafe
        safe_share = count_below(self._safe, query) / self.n_safe
        return (self.prior * unsafe_share + (1.0 - self.prior) * safe_share).reshape(np.shape(tau))

    def counts(self, tau: Floats) -> tuple[IntArray, IntArray]:
        """How many internal test cases have a margin below tau (no radius).

        Args:
            tau: thresholds on the margin, of any shape.

        Returns:
            Two integer arrays shaped like ``tau``, the cases accepted and the unsafe ones among them.

        Raises:
            SafeframeError: if a tau is NaN.
        """
        query = as_query(tau)
        unsafe = count_below(self._unsafe, query)
        accepted = unsafe + count_below(self._safe, query)
        return accepted.reshape(np.shape(tau)), unsafe.reshape(np.shape(tau))

    def quantile(self, q: Floats) -> FloatArray:
        """Quantiles of the margins of all cases: where thresholds that accept a share q lie.

        Args:
            q: shares in [0, 1], of any shape.

        Returns:
            Margins, shaped like ``q``.
        """
        return np.quantile(np.concatenate([self._safe, self._unsafe]), q)

    @cached_property
    def _suffix_minimum(self) -> FloatArray:
        """Least bound at the candidates u_k, u_{k+1}, ..., +inf: (n_unsafe + 1,), ascending."""
        n = self.n_unsafe
        safe_share = np.empty(n + 1)
        safe_share[:n] = count_below(self._safe_entry, self._unsafe_entry)
        safe_share[n] = self.n_safe
        safe_share /= self.n_safe
        # Strictly below u_k: k cases. Where entries tie this is exact for the first of them, too much for the
        # others, which changes no minimum from the first on, and only the first is ever looked up.
        unsafe_share = np.arange(n + 1, dtype=np.float64)
        unsafe_share /= n
        candidates = np.append(self._unsafe_entry, np.inf) if self.form == "paper" else safe_share
        bound = self._bound_from(unsafe_share, safe_share, candidates)
        return np.minimum.accumulate(bound[::-1], out=bound[::-1])[::-1]

    def level(self, margin: Floats) -> FloatArray:
        """The smallest r_t at which a case of this margin would be accepted.

        ``level(m) <= r_t`` exactly where ``m < largest_threshold(r_t).tau``.

        Args:
            margin: margins of any cases, of any shape.

        Returns:
            Levels, shaped like ``margin``.

        Raises:
            SafeframeError: if a margin is NaN.
        """
        query = as_query(margin)
        first = np.searchsorted(self._unsafe_entry, query, side="right")
        return self._suffix_minimum[first].reshape(np.shape(margin))

    def largest_thresholds(self, r_t: Floats) -> Thresholds:
        """The largest tau with bound <= r_t, for every r_t.

        Args:
            r_t: thresholds on the probability in (0, 1], of any shape; flattened to (t,).

        Returns:
            One entry per r_t. ``tau`` is ``-inf`` (accept nothing, bound 1, infeasible) where no threshold
                qualifies, and ``+inf`` where accepting everything does.

        Raises:
            SafeframeError: on an r_t outside (0, 1].
        """
        wanted = as_query(r_t)
        if not ((wanted > 0.0) & (wanted <= 1.0)).all():
            bad = wanted[~((wanted > 0.0) & (wanted <= 1.0))]
            validate_threshold(float(bad[0]))
        last = np.searchsorted(self._suffix_minimum, wanted, side="right") - 1
        feasible = last >= 0
        inner = np.clip(last, 0, self.n_unsafe - 1)
        tau = np.where(last == self.n_unsafe, np.inf, self._unsafe_entry[inner])
        tau = np.where(feasible, tau, -np.inf).astype(np.float64)
        accepted, unsafe = self.counts(tau)
        bound = np.where(feasible, self.bound(tau), 1.0)
        return Thresholds(wanted, tau, bound, self.acceptance(tau), feasible, accepted, unsafe)

    def largest_threshold(self, r_t: float) -> Threshold:
        """The most permissive tau whose bound is at most r_t.

        Source: arXiv 2504.20924, the bias correction after training; there b = -tau.

        Args:
            r_t: threshold on the probability, in (0, 1].

        Returns:
            The threshold; as in :meth:`largest_thresholds`.

        Raises:
            SafeframeError: on an r_t outside (0, 1].
        """
        return self.largest_thresholds(np.array([validate_threshold(r_t)])).at(0)


class GroupedRiskCurve:
    """One :class:`RiskCurve` per group, so that the bound holds in every group and not only on average.

    Args:
        margin: (n,) finite margins f_1 - f_0 of the internal test cases.
        label: (n,) 0 safe, 1 unsafe (ints or bools); both occur in every group.
        group: (n,) ids.
        prior: P(unsafe), one for all groups, or a mapping group -> P(unsafe); None, and a group that the
            mapping leaves out, take the group's own share.
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
        prior: float | Mapping[Hashable, float] | None = None,
        radius: float = 0.0,
        form: PosteriorForm = "tight",
        slack: float = 0.0,
    ) -> None:
        values, state, groups = np.asarray(margin), np.asarray(label), np.asarray(group)
        if groups.shape != values.shape:
            raise SafeframeError(
                f"group {groups.shape} and margin {values.shape}: expected the same shape (n,)"
            )
        self.curves: dict[Hashable, RiskCurve] = {}
        for key in np.unique(groups).tolist():
            chosen = groups == key
            own = prior.get(key) if isinstance(prior, Mapping) else prior
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
