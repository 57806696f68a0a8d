"""Step functions of the threshold tau: what every curve of the posterior bound shares, and its inverse.

With U+(tau) the share of the unsafe and L-(tau) that of the safe cases that count as accepted (see
:mod:`safeframe.risk_curve`), the bound only falls between two entries u_k of unsafe cases. So it is least at
tau = u_k itself (strict acceptance leaves that case out), and the largest tau with bound <= r_t is one of the
u_k or +inf. A suffix minimum over k turns every query into one binary search.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

from safeframe.certificates.cases import cases_needed
from safeframe.chance_constraint import validate_prior, validate_radius, validate_threshold
from safeframe.conservative_testing import PosteriorForm, check_form
from safeframe.margins import as_query, count_at_most, count_below, shifted
from safeframe.types import SQRT2, UNSAFE, FloatArray, Floats, IntArray, SafeframeError, Threshold, number


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


class StepCurve:
    """Bound, acceptance and inverse from counts of cases below thresholds; subclasses give the counts.

    A subclass gives :meth:`_conservative_counts`, :meth:`_plain_counts` and ``_safe_below``.

    Args:
        unsafe: (n_unsafe,) sorted margins of the unsafe cases.
        n_safe: number of safe cases.
        prior: P(unsafe) in [0, 1]; None takes the share of the unsafe cases.
        radius: xi >= 0, in logit units.
        form: "tight" or "paper" (eq. (8)).
        slack: mass in [0, 1) that the coupling may miss.

    Raises:
        SafeframeError: on an argument outside its range.
    """

    def __init__(
        self,
        unsafe: FloatArray,
        n_safe: int,
        prior: float | None,
        radius: float,
        form: PosteriorForm,
        slack: float,
    ) -> None:
        self.form: PosteriorForm = check_form(form)
        self.radius = validate_radius(radius)
        self.slack = number(slack, "slack")
        if not 0.0 <= self.slack < 1.0:
            raise SafeframeError(f"slack is {slack}; the missed mass must lie in [0, 1)")
        self._unsafe, self.n_safe, self.n_unsafe = unsafe, n_safe, len(unsafe)
        share = self.n_unsafe / (self.n_safe + self.n_unsafe)
        self.prior = share if prior is None else float(validate_prior(prior, 2)[UNSAFE])

    def _conservative_counts(self, query: FloatArray) -> tuple[IntArray, IntArray]:
        """Unsafe cases of which some point of the ball, safe cases of which every point, is accepted."""
        raise NotImplementedError

    def _plain_counts(self, query: FloatArray) -> tuple[IntArray, IntArray]:
        """Unsafe and safe cases with margin < tau."""
        raise NotImplementedError

    @property
    def n(self) -> int:
        """Number of internal test cases."""
        return self.n_safe + self.n_unsafe

    @cached_property
    def _unsafe_entry(self) -> FloatArray:
        """Below tau where some point of an unsafe case's ball is accepted: the u_k."""
        return shifted(self._unsafe, -SQRT2 * self.radius)

    @property
    def edges(self) -> FloatArray:
        """(n_unsafe + 1,) ascending thresholds up to each of which the bound only falls, +inf last."""
        return np.append(self._unsafe_entry, np.inf).astype(np.float64)

    @cached_property
    def _safe_below(self) -> IntArray:
        """(n_unsafe + 1,) safe cases that the bound counts below u_0, u_1, ..., +inf."""
        raise NotImplementedError

    @cached_property
    def _certain_entry(self) -> FloatArray:
        """Where all of an unsafe case's ball is accepted; only eq. (8) needs it."""
        return shifted(self._unsafe, SQRT2 * self.radius)

    def _bound_from(self, unsafe_share: FloatArray, safe_share: FloatArray, tau: FloatArray) -> FloatArray:
        """Bound from U+ and L- at ``tau``; works in place on its float arguments."""
        unsafe_share += self.slack
        np.minimum(unsafe_share, 1.0, out=unsafe_share)
        safe_share -= self.slack
        np.maximum(safe_share, 0.0, out=safe_share)
        unsafe_share *= self.prior
        safe_share *= 1.0 - self.prior
        if self.form == "paper":
            kept = count_below(self._certain_entry, tau) / self.n_unsafe - self.slack
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
        unsafe, safe = self._conservative_counts(query)
        return self._bound_from(unsafe / self.n_unsafe, safe / self.n_safe, query).reshape(np.shape(tau))

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
        unsafe, safe = self._plain_counts(query)
        share = self.prior * (unsafe / self.n_unsafe) + (1.0 - self.prior) * (safe / self.n_safe)
        return share.reshape(np.shape(tau))

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
        unsafe, safe = self._plain_counts(query)
        return (unsafe + safe).reshape(np.shape(tau)), unsafe.reshape(np.shape(tau))

    @cached_property
    def _suffix_minimum(self) -> FloatArray:
        """Least bound at the candidates u_k, u_{k+1}, ..., +inf: (n_unsafe + 1,), ascending."""
        n = self.n_unsafe
        safe_share = self._safe_below / self.n_safe
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
        first = count_at_most(self._unsafe_entry, query)
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
        return self._at(wanted, np.where(feasible, tau, -np.inf).astype(np.float64))

    def _at(self, r_t: FloatArray, tau: FloatArray) -> Thresholds:
        """What thresholds (t,) that were found for r_t (t,) bound and accept; -inf: none was found."""
        feasible = tau > -np.inf
        accepted, unsafe = self.counts(tau)
        bound = np.where(feasible, self.bound(tau), 1.0)
        return Thresholds(r_t, tau, bound, self.acceptance(tau), feasible, accepted, unsafe)

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
