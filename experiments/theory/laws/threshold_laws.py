"""Laws of which the risk of every threshold on the margin is known, for guards whose promises are counted.

All are made of the README's: a case has y_0 ~ N(0, 1), is unsafe iff y_0 + noise * eps > 1 with
eps ~ N(0, 1), and its margin is y_0 - 1. A :class:`ThresholdLaw` holds P(unsafe, accepted) and
P(safe, accepted) at ascending thresholds, by quadrature; accepted means margin < tau.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

EDGE = 1.0
"""Of y_0, between safe and unsafe cases."""
NOISE = 0.3
SPREAD = 0.5
"""Standard deviation of what a candidate's score adds to its y_0."""
_FINE = np.linspace(-9.0, 9.0, 18_001)
_COARSE = np.linspace(-8.0, 8.0, 1601)
_SCORES = np.linspace(-10.0, 10.0, 801)


@dataclass(frozen=True)
class ThresholdLaw:
    """Masses below thresholds.

    Attributes:
        tau: (k,) ascending thresholds on the margin.
        unsafe: (k,) P(unsafe, accepted), or of the selected candidate.
        safe: (k,) P(safe, accepted).
    """

    tau: np.ndarray
    unsafe: np.ndarray
    safe: np.ndarray

    def masses(self, tau: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(unsafe, safe) at thresholds of any shape, in between by interpolation; 0 at -inf."""
        at = np.clip(tau, self.tau[0], self.tau[-1])
        return np.interp(at, self.tau, self.unsafe), np.interp(at, self.tau, self.safe)

    def risk(self, tau: np.ndarray) -> np.ndarray:
        """P(unsafe | accepted); 0 where nothing is accepted, at -inf."""
        unsafe, safe = self.masses(tau)
        return np.where(np.asarray(tau) == -np.inf, 0.0, unsafe / np.maximum(unsafe + safe, 1e-300))

    def acceptance(self, tau: np.ndarray) -> np.ndarray:
        """P(accepted)."""
        unsafe, safe = self.masses(tau)
        return np.where(np.asarray(tau) == -np.inf, 0.0, unsafe + safe)

    def best(self, r_t: float) -> float:
        """The largest P(accepted) of thresholds whose risk is at most r_t; 0 if there are none."""
        accepted = self.unsafe + self.safe
        fits = self.unsafe <= r_t * accepted
        return float(accepted[fits].max(initial=0.0))

    @property
    def prior(self) -> float:
        """P(unsafe)."""
        return float(self.unsafe[-1] / (self.unsafe[-1] + self.safe[-1]))

    def with_prior(self, prior: float) -> ThresholdLaw:
        """The law with the same classes in other shares."""
        return ThresholdLaw(
            self.tau,
            self.unsafe / self.unsafe[-1] * prior,
            self.safe / self.safe[-1] * (1.0 - prior),
        )

    def sample(self, rng: np.random.Generator, unsafe: np.ndarray) -> np.ndarray:
        """Margins of cases (n,) whose class is given."""
        drawn = rng.random(len(unsafe))
        return np.where(
            unsafe,
            np.interp(drawn, self.unsafe / self.unsafe[-1], self.tau),
            np.interp(drawn, self.safe / self.safe[-1], self.tau),
        )


def unsafe_probability(y: np.ndarray, noise: float = NOISE) -> np.ndarray:
    """P(unsafe | y_0)."""
    return stats.norm.cdf((y - EDGE) / noise)


def draw(
    rng: np.random.Generator, shape: int | tuple[int, ...], noise: float = NOISE
) -> tuple[np.ndarray, np.ndarray]:
    """(y_0, label) of cases of any shape."""
    y = rng.normal(size=shape)
    return y, (y + noise * rng.normal(size=y.shape) > EDGE).astype(np.int64)


def plain(noise: float = NOISE) -> ThresholdLaw:
    """The law of single cases."""
    return of_risk(lambda y: unsafe_probability(y, noise))


def of_risk(unsafe_at: Callable[[np.ndarray], np.ndarray]) -> ThresholdLaw:
    """The law of single cases with y_0 ~ N(0, 1) and P(unsafe | y_0) given."""
    middle = (_FINE[:-1] + _FINE[1:]) / 2
    weight, risk = np.diff(stats.norm.cdf(_FINE)), unsafe_at(middle)
    unsafe = np.concatenate([[0.0], np.cumsum(weight * risk)])
    safe = np.concatenate([[0.0], np.cumsum(weight * (1.0 - risk))])
    return ThresholdLaw(_FINE - EDGE, unsafe, safe)


def selected(candidates: int) -> ThresholdLaw:
    """The law of the selected candidate: of several alike, the accepted one with the highest score
    y_0 + SPREAD z, so that riskier ones score higher.

    One candidate is selected if it is accepted and each other one is rejected or scores lower:
    c times the integral over its score s of density(s, accepted) * (1 - P(accepted) + P(accepted, score <
    s))^(c - 1).
    """
    middle = (_COARSE[:-1] + _COARSE[1:]) / 2
    weight = np.diff(stats.norm.cdf(_COARSE))[:, None]
    away = (_SCORES - middle[:, None]) / SPREAD
    density = weight * stats.norm.pdf(away) / SPREAD * (_SCORES[1] - _SCORES[0])
    risk = unsafe_probability(middle)[:, None]
    accepted = np.cumsum(weight)[:, None]
    lower = 1.0 - accepted + np.cumsum(weight * stats.norm.cdf(away), axis=0)
    others = candidates * np.maximum(lower, 0.0) ** (candidates - 1)
    masses = [
        np.append(0.0, (np.cumsum(density * part, axis=0) * others).sum(axis=1))
        for part in (risk, 1.0 - risk)
    ]
    return ThresholdLaw(_COARSE - EDGE, masses[0], masses[1])


def draw_candidates(
    rng: np.random.Generator, n: int, candidates: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(margin, score, label), (n, candidates) each, of measurements of :func:`selected`."""
    y, label = draw(rng, (n, candidates))
    return y - EDGE, y + SPREAD * rng.normal(size=y.shape), label
