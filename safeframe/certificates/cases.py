"""Finite-sample certificates, one bound per function with its source; tests count how often each fails.

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

from safeframe.chance_constraint import validate_prior, validate_threshold
from safeframe.types import UNSAFE, BoolArray, FloatArray, IntArray, LabelArray, SafeframeError, number

_INDEPENDENT = "cases are independent, drawn like those in use, and were not used for training"


@dataclass(frozen=True)
class Certificate:
    """A statement with its confidence.

    Attributes:
        event: the probability that is bounded.
        value: its upper bound.
        confidence: 1 - delta.
        random: over what the confidence is.
        assumed: what must hold.
        n: cases (or clusters) counted.
        k: unsafe ones among them.
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
    """A threshold on the margin that was chosen by testing a sequence of them.

    Attributes:
        tau: accept iff margin < tau; -inf where none is certified.
        index: place of ``tau`` in the sequence; None where none is certified.
        r_t: the threshold on the probability, in (0, 1].
        delta: allowed probability of failure, in (0, 1).
        certificate: P(unsafe | accepted) <= r_t with confidence 1 - delta, or the trivial limit 1.
        cases_needed: accepted cases, none of them unsafe, that would certify r_t.
    """

    tau: float
    index: int | None
    r_t: float
    delta: float
    certificate: Certificate
    cases_needed: int


def validate_delta(delta: float) -> float:
    """Check an allowed probability of failure.

    Args:
        delta: a number in (0, 1).

    Returns:
        ``delta`` as a float.

    Raises:
        SafeframeError: unless it lies in (0, 1).
    """
    value = number(delta, "delta")
    if not 0.0 < value < 1.0:
        raise SafeframeError(f"delta is {delta}; the allowed probability of failure must lie in (0, 1)")
    return value


def _validate_counts(k: int, n: int) -> None:
    if not 0 <= k <= n:
        raise SafeframeError(f"{k} unsafe of {n} cases: the counts must satisfy 0 <= k <= n")


def clopper_pearson_upper(k: int, n: int, delta: float) -> float:
    """Exact upper confidence limit, level 1 - delta, of a binomial proportion; 1 if n = 0.

    Source: Clopper & Pearson (1934), doi:10.1093/biomet/26.4.404.

    Args:
        k: successes, 0 <= k <= n.
        n: trials.
        delta: allowed probability of failure, in (0, 1).

    Returns:
        The limit, in [0, 1].

    Raises:
        SafeframeError: on counts that do not fit, or a delta outside (0, 1).
    """
    from scipy import stats

    _validate_counts(k, n)
    validate_delta(delta)
    return 1.0 if k == n else float(stats.beta.isf(delta, k + 1, n - k))


def clopper_pearson_lower(k: int, n: int, delta: float) -> float:
    """Exact lower confidence limit, level 1 - delta, of a binomial proportion; 0 if k = 0.

    Source: Clopper & Pearson (1934), doi:10.1093/biomet/26.4.404.

    Args:
        k: successes, 0 <= k <= n.
        n: trials.
        delta: allowed probability of failure, in (0, 1).

    Returns:
        The limit, in [0, 1].

    Raises:
        SafeframeError: on counts that do not fit, or a delta outside (0, 1).
    """
    from scipy import stats

    _validate_counts(k, n)
    validate_delta(delta)
    return 0.0 if k == 0 else float(stats.beta.ppf(delta, k, n - k + 1))


def cases_needed(r_t: float, delta: float = 0.05) -> int:
    """Accepted cases, none of them unsafe, after which P(unsafe | accepted) <= r_t is certified.

    Zero failures in n give the limit 1 - delta^(1/n); r_t = 1e-4 at delta = 0.05 needs 29,956.

    Args:
        r_t: threshold on the probability, in (0, 1].
        delta: allowed probability of failure, in (0, 1).

    Returns:
        The number of cases; 1 where r_t = 1.

    Raises:
        SafeframeError: on an r_t outside (0, 1] or a delta outside (0, 1).
    """
    r_t, delta = validate_threshold(r_t), validate_delta(delta)
    return 1 if r_t == 1.0 else math.ceil(math.log(delta) / math.log1p(-r_t))


def bonferroni(delta: float, k: int) -> float:
    """The level for each of several statements that shall all hold with probability 1 - delta.

    Source: Dunn (1961), doi:10.1080/01621459.1961.10482090.

    Args:
        delta: allowed probability that any of them fails, in (0, 1).
        k: number of statements, at least 1.

    Returns:
        delta / k.

    Raises:
        SafeframeError: on a k below 1 or a delta outside (0, 1).
    """
    if k < 1:
        raise SafeframeError(f"k is {k}; Bonferroni needs at least one statement")
    return validate_delta(delta) / k


def certify(n_accepted: int, n_unsafe: int, delta: float, event: str = "P(unsafe | accepted)") -> Certificate:
    """Clopper-Pearson certificate on P(unsafe | accepted) for ONE rule fixed before these cases were seen.

    Args:
        n_accepted: cases accepted.
        n_unsafe: unsafe ones among them.
        delta: allowed probability of failure, in (0, 1).
        event: the probability that is bounded, in words.

    Returns:
        The certificate, with confidence 1 - delta.

    Raises:
        SafeframeError: on counts that do not fit, or a delta outside (0, 1).
    """
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
    """Certificate on P(unsafe | accepted), one fixed rule, where the prior is not the share in the data.

    Clopper-Pearson on p(accepted | unsafe) from above and on p(accepted | safe) from below, delta/2 each, put
    together by Bayes' rule (the tight form of ``posterior_bound``, increasing in the first and decreasing in
    the second).

    Args:
        accepted_unsafe: unsafe cases accepted.
        n_unsafe: unsafe cases.
        accepted_safe: safe cases accepted.
        n_safe: safe cases.
        prior: P(unsafe), in [0, 1].
        delta: allowed probability of failure, in (0, 1).

    Returns:
        The certificate, with confidence 1 - delta.

    Raises:
        SafeframeError: on counts that do not fit, a prior outside [0, 1] or a delta outside (0, 1).
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
    """Index of the last threshold certified by fixed-sequence testing.

    Hypothesis i: P(unsafe | accepted at tau_i) > r_t, tested by the binomial p-value P(Bin(n_i, r_t) <= k_i).
    Tests run in the given order and stop at the first that is not rejected; the family-wise error is at most
    delta.

    Source: Learn then Test, Angelopoulos et al. (2021), arXiv 2110.01052, section 3; Holm (1979) for fixed
    sequences.

    Args:
        n_accepted: (t,) cases accepted at thresholds fixed, with their order, before these cases were seen.
        n_unsafe: (t,) unsafe ones among them.
        r_t: threshold on the probability, in (0, 1].
        delta: allowed probability of failure, in (0, 1).

    Returns:
        The index in 0..t-1, or None where not even the first test rejects.

    Raises:
        SafeframeError: on counts that do not fit, an r_t outside (0, 1] or a delta outside (0, 1).
    """
    length = first_failure(_p_values(n_accepted, n_unsafe, r_t) <= validate_delta(delta))
    return length - 1 if length else None


def bonferroni_search(n_accepted: IntArray, n_unsafe: IntArray, r_t: float, delta: float) -> int | None:
    """Index of the last threshold certified by Bonferroni over all of them.

    The tests of :func:`fixed_sequence`, each at delta / t: no order and no good start is needed, and
    thresholds behind a failure may pass; in exchange every test is stricter. The family-wise error is at most
    delta.

    Source: Learn then Test, Angelopoulos et al. (2021), arXiv 2110.01052, section 3.

    Args:
        n_accepted: (t,) cases accepted at thresholds fixed before these cases were seen, strict ones first.
        n_unsafe: (t,) unsafe ones among them.
        r_t: threshold on the probability, in (0, 1].
        delta: allowed probability of failure, in (0, 1).

    Returns:
        The index in 0..t-1, or None where no test rejects.

    Raises:
        SafeframeError: on counts that do not fit, an r_t outside (0, 1] or a delta outside (0, 1).
    """
    p = _p_values(n_accepted, n_unsafe, r_t)
    passed = np.flatnonzero(p <= bonferroni(delta, max(len(p), 1)))
    return int(passed[-1]) if len(passed) else None


def _p_values(n_accepted: IntArray, n_unsafe: IntArray, r_t: float) -> FloatArray:
    """(t,) exact p-values of "P(unsafe | accepted) > r_t", checked; 1 where nothing is accepted."""
    from scipy import stats

    validate_threshold(r_t)
    n, k = np.atleast_1d(np.asarray(n_accepted)), np.atleast_1d(np.asarray(n_unsafe))
    if n.shape != k.shape or n.ndim != 1:
        raise SafeframeError(f"n_accepted {n.shape} and n_unsafe {k.shape}: expected the same shape (t,)")
    if ((k < 0) | (k > n)).any():
        raise SafeframeError("the counts must satisfy 0 <= n_unsafe <= n_accepted at every threshold")
    return stats.binom.cdf(k, n, r_t)


def first_failure(passed: BoolArray) -> int:
    """How many tests pass before the first that does not: the length of a fixed sequence.

    Args:
        passed: (t,) bool, in the order of testing.

    Returns:
        A number in 0..t.
    """
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
    """The most permissive tau certified on cases, by :func:`fixed_sequence` or :func:`bonferroni_search`.

    Args:
        margin: (n,) finite margins of cases.
        label: (n,) 0 safe, 1 unsafe (ints or bools).
        taus: (t,) thresholds fixed before these cases were seen (from other data), strict ones first; begin
            where about ``cases_needed(r_t, delta)`` cases are accepted, or the first test cannot pass.
        r_t: threshold on the probability, in (0, 1].
        delta: allowed probability of failure, in (0, 1).
        search: "fixed-sequence" or "bonferroni".

    Returns:
        The threshold with its certificate; tau is -inf where none is certified.

    Raises:
        SafeframeError: on shapes that differ, values that are NaN (or infinite margins), no taus, or another
            argument that is not as above.
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
    """As :func:`certify_threshold`, from counts: also for the risk of the selected action.

    Args:
        n_accepted: (t,) cases accepted at each threshold.
        n_unsafe: (t,) unsafe ones among them.
        taus: (t,) thresholds fixed before these cases were seen, strict ones first.
        r_t: threshold on the probability, in (0, 1].
        delta: allowed probability of failure, in (0, 1).
        event: the probability that is bounded, in words.
        search: "fixed-sequence" or "bonferroni".

    Returns:
        The threshold with its certificate; tau is -inf where none is certified.

    Raises:
        SafeframeError: on an unknown search, counts that do not fit, an r_t outside (0, 1] or a delta outside
            (0, 1).
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
