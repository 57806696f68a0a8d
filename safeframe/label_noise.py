"""Internal test labels that are flipped with a known probability, and the risk behind them.

With a = P(labelled unsafe | safe), b = P(labelled safe | unsafe), independent of the measurement given the
state, the labelled share q = P(labelled unsafe | A) of any event A is q = a + (1 - a - b) P(unsafe | A). So

    P(unsafe | A) = (q - a) / (1 - a - b),

increasing in q: an upper limit on q becomes one on the risk (Natarajan et al. 2013, "Learning with noisy
labels"; Rogan & Gladen 1978, doi:10.1093/oxfordjournals.aje.a112510). It falls in a and grows in b, so where
they are known to lie in intervals, the least a and the largest b keep it valid.

What it costs: a flipped label among the safe raises q to a at least, and risks far below a drown in its
noise: the limit on q shrinks only with the square root of a / n.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from safeframe.certificates.cases import Certificate, certify
from safeframe.chance_constraint import validate_radius, validate_threshold
from safeframe.margins import as_query, count_below, split_sorted
from safeframe.types import SQRT2, FloatArray, Floats, LabelArray, SafeframeError


@dataclass(frozen=True)
class LabelNoise:
    """Known probabilities that a label is flipped, independent of the measurement given the state.

    Attributes:
        safe: a = P(labelled unsafe | safe), in [0, 1).
        unsafe: b = P(labelled safe | unsafe), in [0, 1); a + b < 1.

    Raises:
        SafeframeError: for values outside these ranges.
    """

    safe: float
    unsafe: float

    def __post_init__(self) -> None:
        if not (0.0 <= self.safe < 1.0 and 0.0 <= self.unsafe < 1.0 and self.safe + self.unsafe < 1.0):
            raise SafeframeError(
                f"label noise {self.safe} and {self.unsafe}: both must lie in [0, 1) and sum to less than 1, "
                "or labels say nothing of the state"
            )

    @property
    def _left(self) -> float:
        return 1.0 - self.safe - self.unsafe

    def risk(self, labelled_share: Floats) -> FloatArray:
        """P(unsafe | A) from q = P(labelled unsafe | A), cut to [0, 1].

        Args:
            labelled_share: q, of any shape.

        Returns:
            Probabilities, shaped like ``labelled_share``.
        """
        return np.clip((np.asarray(labelled_share, np.float64) - self.safe) / self._left, 0.0, 1.0)

    def labelled_share(self, risk: Floats) -> FloatArray:
        """q = P(labelled unsafe | A) from the risk; the inverse of :meth:`risk`.

        Args:
            risk: P(unsafe | A) in [0, 1], of any shape.

        Returns:
            Probabilities, shaped like ``risk``.
        """
        return self.safe + self._left * np.asarray(risk, np.float64)

    def certify(self, n_accepted: int, n_labelled_unsafe: int, delta: float) -> Certificate:
        """Certificate on P(unsafe | accepted) from noisy labels, for one threshold fixed before.

        Clopper-Pearson on q, then :meth:`risk`; the noise enters as known exactly.

        Args:
            n_accepted: cases accepted.
            n_labelled_unsafe: cases labelled unsafe among them.
            delta: allowed probability of failure, in (0, 1).

        Returns:
            The certificate, with confidence 1 - delta.

        Raises:
            SafeframeError: on counts that do not fit, or a delta outside (0, 1).
        """
        plain = certify(n_accepted, n_labelled_unsafe, delta)
        known = f"labels flip with probability {self.safe:g} (safe) and {self.unsafe:g} (unsafe), known, "
        return Certificate(
            event=plain.event,
            value=float(self.risk(plain.value)),
            confidence=plain.confidence,
            random=plain.random,
            assumed=f"{plain.assumed}; {known}independent of the measurement given the state",
            n=plain.n,
            k=plain.k,
        )


class NoisyRiskCurve:
    """The bound on P(unsafe | margin < tau) from noisy labels, and the largest tau that keeps it below r_t.

    Both joint masses come from inverting the noise: with U, S the labelled masses below a threshold,
    P(unsafe, .) = ((1 - a) U - a S) / (1 - a - b) and P(safe, .) = ((1 - b) S - b U) / (1 - a - b), the first
    at tau + sqrt(2) xi and the second at tau - sqrt(2) xi, as in conservative testing. The prior is that of
    the data. Negative masses count as 0; where nothing is accepted the bound is 1.

    Args:
        margin: (n,) finite margins f_1 - f_0 of the internal test cases.
        label: (n,) noisy labels, 0 safe and 1 unsafe (ints or bools).
        noise: how often labels are flipped.
        radius: xi >= 0, in logit units.

    Raises:
        SafeframeError: as :class:`safeframe.risk_curve.RiskCurve`.
    """

    def __init__(self, margin: FloatArray, label: LabelArray, noise: LabelNoise, radius: float = 0.0) -> None:
        self.noise, self.radius = noise, validate_radius(radius)
        self._safe, self._unsafe = split_sorted(margin, label)
        self.n = len(self._safe) + len(self._unsafe)

    def _masses(self, tau: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Labelled (unsafe, safe) masses strictly below tau."""
        return count_below(self._unsafe, tau) / self.n, count_below(self._safe, tau) / self.n

    def bound(self, tau: Floats) -> FloatArray:
        """The bound on P(unsafe | margin < tau); 1 where nothing is accepted.

        Args:
            tau: thresholds on the margin, of any shape.

        Returns:
            Probabilities, shaped like ``tau``.

        Raises:
            SafeframeError: if a tau is NaN.
        """
        query, a, b = as_query(tau), self.noise.safe, self.noise.unsafe
        shift, left = SQRT2 * self.radius, 1.0 - self.noise.safe - self.noise.unsafe
        high_unsafe, high_safe = self._masses(query + shift)
        low_unsafe, low_safe = self._masses(query - shift)
        unsafe = np.maximum((1.0 - a) * high_unsafe - a * high_safe, 0.0) / left
        safe = np.maximum((1.0 - b) * low_safe - b * low_unsafe, 0.0) / left
        out = np.ones(query.shape)
        np.divide(unsafe, unsafe + safe, out=out, where=unsafe + safe > 0.0)
        return out.reshape(np.shape(tau))

    def largest_threshold(self, r_t: float, least: int = 1) -> float:
        """The largest tau (an observed margin, or +inf) with bound <= r_t.

        The curve is not monotone under noise, so a plug-in choice profits from chance: where little is
        accepted the bound may be 0 by luck.

        Args:
            r_t: threshold on the probability, in (0, 1].
            least: cases that must be accepted, at least.

        Returns:
            The threshold; -inf if there is none.

        Raises:
            SafeframeError: on an r_t outside (0, 1].
        """
        validate_threshold(r_t)
        edges = np.append(np.unique(np.concatenate([self._safe, self._unsafe])), np.inf)
        kept = count_below(np.sort(np.concatenate([self._safe, self._unsafe])), edges) >= least
        passed = np.flatnonzero((self.bound(edges) <= r_t) & kept)
        return float(edges[passed[-1]]) if len(passed) else -np.inf
