"""From margins to gates: each product's bound on the internal test quarter, and its threshold.

Every product has its own thresholds (group-conditional testing), so the promise holds for each product and
not only on average. The rule is `safeframe.threshold_rule`; a radius that is measured is one between the even
and the odd weeks of the quarter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.production.demand.series import HOURS_PER_WEEK, UNSAFE_BELOW
from safeframe.certificates.cases import cases_needed, certify_threshold
from safeframe.informativeness import measured_radius
from safeframe.threshold_rule import Calibrated, Conservative, PlugIn, ThresholdRule
from safeframe.types import SAFE, SQRT2, UNSAFE, SafeframeError

_SEQUENCE = 200  # thresholds that a certificate walks through
_START = 1.05  # it begins where this multiple of the least number of cases is accepted,
_LEAST_START = 0.05  # and at least this share of all


def odd_weeks(hour: np.ndarray) -> np.ndarray:
    """(n,) bool, whether hours since the start lie in odd weeks."""
    return (hour // HOURS_PER_WEEK) % 2 == 1


def weekly_radius(margin: np.ndarray, label: np.ndarray, hour: np.ndarray, trim: float) -> float:
    """xi between the even and the odd weeks; margin, label, hour: (n,).

    Raises:
        SafeframeError: if a class is absent from either.
    """
    odd = odd_weeks(hour)
    gaps = [
        measured_radius(margin[~odd & (label == state)], margin[odd & (label == state)], trim).margin_shift
        for state in (SAFE, UNSAFE)
    ]
    return max(gaps) / SQRT2


def require_both_classes(
    unsafe: np.ndarray, hour: np.ndarray, names: Sequence[str], where: str, weeks: bool, measured: bool
) -> None:
    """SafeframeError, naming the product, if a class has no hour; unsafe (n, p) bool, hour (n,).

    weeks: in the even and in the odd weeks alike, as fitting risk on halves and measuring the radius need it.
    measured: whether the radius is.
    """
    odd = odd_weeks(hour)
    parts = (
        (("the even weeks of ", ~odd), ("the odd weeks of ", odd))
        if weeks
        else (("", np.ones(len(hour), bool)),)
    )
    for which, rows in parts:
        for i, name in enumerate(names):
            low, total = int(unsafe[rows, i].sum()), int(rows.sum())
            if low in (0, total):
                raise SafeframeError(
                    f"{name}: {low} of {total} hours in {which}{where} have a demand below "
                    f"{UNSAFE_BELOW:g}; safe and unsafe hours are both needed there: take other series or"
                    " more hours"
                    + (", or give evaluation.xi as a number instead of measuring it" if measured else "")
                )


def calibrate(
    margin: np.ndarray,
    label: np.ndarray,
    hour: np.ndarray,
    thresholds: Sequence[float],
    radius: float | None,
    share: float,
) -> list[Calibrated]:
    """One product's choices, one for each r_t.

    Args:
        margin: (n,) of the internal test hours.
        label: (n,) 0/1.
        hour: (n,) hours since the start.
        thresholds: ascending r_t in (0, 1].
        radius: xi, and nothing else; None = the conservative rule, with xi measured for each r_t.
        share: of r_t, the mass that a measured radius leaves out.

    Returns:
        The choices, in the order of the thresholds.
    """
    rule = Conservative(share=share) if radius is None else PlugIn(radius)
    return ThresholdRule(margin, label, rule, odd_weeks(hour)).thresholds(thresholds)


def certified_gates(
    margin: np.ndarray, test: np.ndarray, other: np.ndarray, label: np.ndarray, r_t: float, delta: float
) -> np.ndarray:
    """Products that may be made under a finite-sample certificate instead of the plug-in bound.

    Every product's threshold is chosen by fixed-sequence testing (`certify_threshold`) at confidence 1 -
    delta, for that product alone. With fewer cases than r_t needs nothing may be made. Hours are dependent,
    the certificate assumes that they are not: it is a stricter rule here, not a proof.

    Args:
        margin: (n, p) to gate.
        test: (k, p) margins of the internal test quarter for validation.
        other: (l, p) margins of the other internal test quarter, whose quantiles fix the sequence beforehand.
        label: (k, p) of the internal test quarter for validation.
        r_t: threshold on the probability, in (0, 1].
        delta: allowed probability of failure, in (0, 1).

    Returns:
        (n, p) bool.
    """
    share = _START * cases_needed(r_t, delta) / len(test)
    if share > 1:
        return np.zeros(margin.shape, dtype=bool)
    levels = np.linspace(max(share, _LEAST_START), 1.0, _SEQUENCE)
    taus = [
        certify_threshold(test[:, i], label[:, i], np.quantile(other[:, i], levels), r_t, delta).tau
        for i in range(margin.shape[1])
    ]
    return margin < np.array(taus)
