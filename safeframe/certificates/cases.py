"""Finite-sample certificates: one bound per function, each with its source; tests count how often each one
fails.

The posterior bounds elsewhere are plug-in estimates. These hold with confidence 1 - delta over the draw of
data that was never used for training. A unit is one independent case: for episodes of a controlled system it
is the episode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from safeframe.chance_constraint import validate_prior, validate_threshold
from safeframe.types import UNSAFE, BoolArray, FloatArray, IntArray, LabelArray, SafeframeError

_INDEPENDENT = "cases are independent, drawn like those in use, and were not used for training"


@dataclass(frozen=True)
class Certificate:
    """A statement with its confidence.

    ``event``: the probability that is bounded. ``value``: its upper bound. ``confidence``: 1 - delta.
    ``random``: over what the confidence is. ``assumed``: what must hold. ``n``, ``k``: cases counted, and
    unsafe ones among them.
    """

    event: str
    value: float
    confidence: float
    random: str
    assumed: str
    n: int
    k: int

    def __str__(self) -> str:
        return (
            f"{self.event} <= {self.value:.4g} with confidence {self.confidence:.4g} over {self.random} "
            f"({self.k} unsafe of {self.n}); assumes: {self.assumed}"
        )


@dataclass(frozen=True)
class CertifiedThreshold:
    """A threshold chosen by fixed-sequence testing; ``tau`` is -inf (and ``index`` None) where none is
    certified.
    """

    tau: float
    index: int | None
    r_t: float
    delta: float
    certificate: Certificate
    cases_needed: int


def validate_delta(delta: float) -> float:
    """delta as a float; SafeframeError unless it lies in (0, 1)."""
    if not 0.0 < float(delta) < 1.0:
        raise SafeframeError(f"delta is {delta}; the allowed probability of failure must lie in (0, 1)")
    return float(delta)


def _validate_counts(k: int, n: int) -> None:
    if not 0 <= k <= n:
        raise SafeframeError(f"{k} unsafe of {n} cases: the counts must satisfy 0 <= k <= n")


def clopper_pearson_upper(k: int, n: int, delta: float) -> float:
    """Exact upper confidence limit, level 1 - delta, of a binomial proportion with k successes of n; 1 if n =
    0.

    Source: Clopper & Pearson (1934), doi:10.1093/biomet/26.4.404.
    """
    _validate_counts(k, n)
    validate_delta(delta)
    return 1.0 if k == n else float(stats.beta.isf(delta, k + 1, n - k))


def clopper_pearson_lower(k: int, n: int, delta: float) -> float:
    """Exact lower confidence limit, level 1 - delta, of a binomial proportion; 0 if k = 0.

    Source: Clopper & Pearson (1934), doi:10.1093/biomet/26.4.404.
    """
    _validate_counts(k, n)
    validate_delta(delta)
    return 0.0 if k == 0 else float(stats.beta.ppf(delta, k, n - k + 1))


def cases_needed(r_t: float, delta: float = 0.05) -> int:
    """Accepted cases, none of them unsafe, after which P(unsafe | accepted) <= r_t is certified at 1 - delta.

    Zero failures in n give the limit 1 - delta^(1/n); r_t = 1e-4 at delta = 0.05 needs 29,956. 1 where r_t =
    1.
    """
    r_t, delta = validate_threshold(r_t), validate_delta(delta)
    return 1 if r_t == 1.0 else math.ceil(math.log(delta) / math.log1p(-r_t))


def bonferroni(delta: float, k: int) -> float:
    """The level delta / k for each of k statements that shall all hold with probability 1 - delta.

    Source: Dunn (1961), doi:10.1080/01621459.1961.10482090.
    """
    if k < 1:
        raise SafeframeError(f"k is {k}; Bonferroni needs at least one statement")
    return validate_delta(delta) / k


def certify(n_accepted: int, n_unsafe: int, delta: float, event: str = "P(unsafe | accepted)") -> Certificate:
    """Clopper-Pearson certificate on P(unsafe | accepted) for ONE rule fixed before these cases were seen."""
    return Certificate(
        event=event,
        value=clopper_pearson_upper(n_unsafe, n_accepted, delta),
        confidence=1.0 - delta,
        random="the draw of the test cases",
        assumed=f"the threshold was fixed before; {_INDEPENDENT}",
        n=n_accepted,
        k=n_unsafe,
    )


def certify_posterior(
    accepted_unsafe: int, n_unsafe: int, accepted_safe: int, n_safe: int, prior: float, delta: float
) -> Certificate:
    """Certificate on P(unsafe | accepted) where the prior differs from the shares in the data, for one fixed
    rule.

    Clopper-Pearson on p(accepted | unsafe) from above and on p(accepted | safe) from below, delta/2 each, put
    together by Bayes' rule with the given prior P(unsafe) (the tight form of ``posterior_bound``, increasing
    in the first and decreasing in the second).
    """
    half = bonferroni(delta, 2)
    p = float(validate_prior(prior, 2)[UNSAFE])
    above = p * clopper_pearson_upper(accepted_unsafe, n_unsafe, half)
    below = (1.0 - p) * clopper_pearson_lower(accepted_safe, n_safe, half)
    return Certificate(
        event="P(unsafe | accepted)",
        value=above / (above + below) if above + below > 0.0 else 1.0,
        confidence=1.0 - delta,
        random="the draw of the test cases of each class",
        assumed=f"the threshold was fixed before and P(unsafe) = {p:.4g}; within each class {_INDEPENDENT}",
        n=accepted_unsafe + accepted_safe,
        k=accepted_unsafe,
    )


def fixed_sequence(n_accepted: IntArray, n_unsafe: IntArray, r_t: float, delta: float) -> int | None:
    """Index of the last threshold certified by fixed-sequence testing, or None.

    Hypothesis i: P(unsafe | accepted at tau_i) > r_t, tested by the binomial p-value P(Bin(n_i, r_t) <= k_i).
    Tests run in the given order and stop at the first that is not rejected; the family-wise error is at most
    delta.
    Source: Learn then Test, Angelopoulos et al. (2021), arXiv 2110.01052, section 3; Holm (1979) for fixed
    sequences.

    Args:
        n_accepted, n_unsafe: (t,) counts at thresholds (and in an order) fixed before these cases were seen.
    """
    length = first_failure(_p_values(n_accepted, n_unsafe, r_t) <= validate_delta(delta))
    return length - 1 if length else None


def bonferroni_search(n_accepted: IntArray, n_unsafe: IntArray, r_t: float, delta: float) -> int | None:
    """Index of the last threshold certified by Bonferroni over all of them, or None.

    The tests of :func:`fixed_sequence`, each at delta / t: no order and no good start is needed, and
    thresholds behind a failure may pass; in exchange every test is stricter. The family-wise error is at most
    delta.
    Source: Learn then Test, Angelopoulos et al. (2021), arXiv 2110.01052, section 3.

    Args:
        n_accepted, n_unsafe: (t,) counts at thresholds fixed before these cases were seen, strict ones first.
    """
    p = _p_values(n_accepted, n_unsafe, r_t)
    passed = np.flatnonzero(p <= bonferroni(delta, max(len(p), 1)))
    return int(passed[-1]) if len(passed) else None


def _p_values(n_accepted: IntArray, n_unsafe: IntArray, r_t: float) -> FloatArray:
    """(t,) exact p-values of "P(unsafe | accepted) > r_t", checked; 1 where nothing is accepted."""
    validate_threshold(r_t)
    n, k = np.atleast_1d(np.asarray(n_accepted)), np.atleast_1d(np.asarray(n_unsafe))
    if n.shape != k.shape or n.ndim != 1:
        raise SafeframeError(f"n_accepted {n.shape} and n_unsafe {k.shape}: expected the same shape (t,)")
    if ((k < 0) | (k > n)).any():
        raise SafeframeError("the counts must satisfy 0 <= n_unsafe <= n_accepted at every threshold")
    return stats.binom.cdf(k, n, r_t)


def first_failure(passed: BoolArray) -> int:
    """How many tests (t,) pass before the first that does not: the length of a fixed sequence."""
    return len(passed) if passed.all() else int(np.argmin(passed))


Search = Literal["fixed-sequence", "bonferroni"]
_SEARCHES = {"fixed-sequence": fixed_sequence, "bonferroni": bonferroni_search}


def certify_threshold(
    margin: FloatArray,
    label: LabelArray,
    taus: FloatArray | Sequence[float],
    r_t: float,
    delta: float,
    search: Search = "fixed-sequence",
) -> CertifiedThreshold:
    """The most permissive tau certified by :func:`fixed_sequence` on cases (n,), walking ``taus`` in the
    given order, or by :func:`bonferroni_search`.

    ``taus`` must be fixed before these cases were seen (from other data), strict ones first; begin where
    about ``cases_needed(r_t, delta)`` cases are accepted, or the first test cannot pass.
    """
    values, unsafe = np.asarray(margin), np.asarray(label).astype(bool)
    sequence = np.asarray(taus, dtype=np.float64).reshape(-1)
    if values.ndim != 1 or unsafe.shape != values.shape or not np.isfinite(values).all():
        raise SafeframeError(
            f"margin {values.shape} and label {unsafe.shape}: expected finite values of one shape (n,)"
        )
    if len(sequence) == 0 or np.isnan(sequence).any():
        raise SafeframeError("taus must hold at least one threshold and no NaN")
    n = np.searchsorted(np.sort(values), sequence, side="left")
    k = np.searchsorted(np.sort(values[unsafe]), sequence, side="left")
    return certify_counts(n, k, sequence, r_t, delta, search=search)


def certify_counts(
    n_accepted: IntArray,
    n_unsafe: IntArray,
    taus: FloatArray,
    r_t: float,
    delta: float,
    event: str = "P(unsafe | accepted)",
    search: Search = "fixed-sequence",
) -> CertifiedThreshold:
    """As :func:`certify_threshold`, from counts (t,) at ``taus`` (t,): also for the risk of the selected
    action.
    """
    if search not in _SEARCHES:
        raise SafeframeError(f"search is {search!r}; it must be one of {', '.join(_SEARCHES)}")
    index = _SEARCHES[search](n_accepted, n_unsafe, r_t, delta)
    found = index is not None
    n, k = (int(n_accepted[index]), int(n_unsafe[index])) if found else (0, 0)
    certificate = Certificate(
        event=event,
        value=r_t if found else 1.0,
        confidence=1.0 - delta,
        random="the draw of the test cases",
        assumed=f"the sequence of thresholds was fixed before; {_INDEPENDENT}",
        n=n,
        k=k,
    )
    tau = float(np.asarray(taus)[index]) if found else -math.inf
    return CertifiedThreshold(tau, index, r_t, delta, certificate, cases_needed(r_t, delta))
