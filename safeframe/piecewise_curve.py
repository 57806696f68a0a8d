"""Bounds that are constant between thresholds and may rise or fall at any of them: level and inverse.

Unlike :mod:`safeframe.step_curve` nothing is known of where such a bound is least, so all pieces are looked
at once, and a suffix minimum turns every query into one binary search.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from safeframe.certificates.cases import cases_needed
from safeframe.chance_constraint import validate_threshold
from safeframe.margins import as_query
from safeframe.types import FloatArray, Floats, IntArray, Threshold


class PiecewiseCurve:
    """Level and inverse of a bound that is constant between entries, and may rise or fall at any of them.

    A subclass gives :meth:`bound`, :meth:`counts`, :meth:`acceptance` and ``_entries``.
    """

    def __init__(self) -> None:
        """Nothing is set here: levels and edges are computed when they are first asked for."""

    @property
    def _entries(self) -> FloatArray:
        """Thresholds strictly above which the bound changes, in any order."""
        raise NotImplementedError

    def bound(self, tau: Floats) -> FloatArray:
        """The bound on the risk of what is accepted.

        Args:
            tau: thresholds, of any shape.

        Returns:
            Bounds, shaped like ``tau``.
        """
        raise NotImplementedError

    def counts(self, tau: Floats) -> tuple[IntArray, IntArray]:
        """What is accepted, and what of it is unsafe.

        Args:
            tau: thresholds, of any shape.

        Returns:
            Two integer arrays shaped like ``tau``.
        """
        raise NotImplementedError

    def acceptance(self, tau: Floats) -> FloatArray:
        """Share that is accepted.

        Args:
            tau: thresholds, of any shape.

        Returns:
            Shares in [0, 1], shaped like ``tau``.
        """
        raise NotImplementedError

    @property
    def edges(self) -> FloatArray:
        """(e,) ascending thresholds, one for each piece of the curve (its upper end, +inf last)."""
        return self._edges[0]

    @cached_property
    def _edges(self) -> tuple[FloatArray, FloatArray]:
        """Upper ends of the curve's pieces, and the least bound from each upwards."""
        edge = np.append(np.unique(self._entries), np.inf).astype(np.float64)
        bound = self.bound(edge)
        return edge, np.minimum.accumulate(bound[::-1])[::-1]

    def level(self, margin: Floats) -> FloatArray:
        """The smallest r_t at which a case of this margin would be accepted.

        Args:
            margin: margins of any cases, of any shape.

        Returns:
            Levels, shaped like ``margin``.

        Raises:
            SafeframeError: if a margin is NaN.
        """
        edge, least = self._edges
        return least[np.searchsorted(edge, as_query(margin), side="right")].reshape(np.shape(margin))

    def largest_threshold(self, r_t: float) -> Threshold:
        """The largest tau whose bound is at most r_t.

        Args:
            r_t: threshold on the probability, in (0, 1].

        Returns:
            The threshold; tau is -inf (accept nothing, bound 1) where none qualifies.

        Raises:
            SafeframeError: on an r_t outside (0, 1].
        """
        edge, least = self._edges
        last = int(np.searchsorted(least, validate_threshold(r_t), side="right")) - 1
        tau = float(edge[last]) if last >= 0 else -np.inf
        n, k = self.counts(tau)
        return Threshold(
            tau=tau,
            bound=float(self.bound(tau)) if last >= 0 else 1.0,
            acceptance=float(self.acceptance(tau)),
            feasible=last >= 0,
            n_accepted=int(n),
            n_unsafe_accepted=int(k),
            cases_needed=cases_needed(r_t, 0.05),
            r_t=float(r_t),
        )
