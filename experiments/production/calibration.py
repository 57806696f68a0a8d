"""From margins to gates: the bound of every product on the internal test quarter for validation, and its
threshold.

Every product has its own risk curve (group-conditional testing), so the promise holds for each product and
not only on average. The radius is configured, or measured on the same quarter as the largest gap, in either
direction and for either class, between the margins of its even and its odd weeks
(`safeframe.informativeness`): how much a law moves from one set of weeks to another. The mass `trim` left out
of that comparison is not added to the bound (it would exceed it); the figure says what is kept in practice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.production.demand import UNSAFE_BELOW
from safeframe.certificates import cases_needed, certify_threshold
from safeframe.informativeness import measured_radius
from safeframe.risk_curve import RiskCurve
from safeframe.types import SAFE, SQRT2, UNSAFE, SafeframeError, Threshold

HOURS_PER_WEEK = 168
_SEQUENCE = 200  # thresholds that a certificate walks through
_START = 1.05  # it begins where this multiple of the least number of cases is accepted


@dataclass(frozen=True)
class Calibration:
    """One product's curve with the radius used and the one measured."""

    curve: RiskCurve
    radius: float
    measured: float

    def threshold(self, r_t: float) -> Threshold:
        """The most permissive threshold whose bound is at most r_t."""
        return self.curve.largest_threshold(r_t)


def weekly_radius(margin: np.ndarray, label: np.ndarray, hour: np.ndarray, trim: float) -> float:
    """xi between the even and the odd weeks; margin, label, hour: (n,). SafeframeError if a class is absent
    from either.
    """
    odd = (hour // HOURS_PER_WEEK) % 2 == 1
    gaps = [
        measured_radius(margin[~odd & (label == state)], margin[odd & (label == state)], trim).margin_shift
        for state in (SAFE, UNSAFE)
    ]
    return max(gaps) / SQRT2


def require_both_classes(
    unsafe: np.ndarray, hour: np.ndarray, names: Sequence[str], where: str, weeks: bool
) -> None:
    """SafeframeError, naming the product, if a class has no hour; unsafe (n, p) bool, hour (n,).

    weeks: in the even and in the odd weeks alike, as measuring the radius needs it.
    """
    odd = (hour // HOURS_PER_WEEK) % 2 == 1
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
                    + (", or give evaluation.xi as a number instead of measuring it" if weeks else "")
                )


def calibrate(
    margin: np.ndarray, label: np.ndarray, hour: np.ndarray, radius: float | None, trim: float
) -> list[Calibration]:
    """One calibration per product; margin (n, p), label (n, p) 0/1, hour (n,); radius None = the measured
    one.
    """
    found = []
    for i in range(margin.shape[1]):
        measured = weekly_radius(margin[:, i], label[:, i], hour, trim)
        used = measured if radius is None else radius
        found.append(Calibration(RiskCurve(margin[:, i], label[:, i], radius=used), used, measured))
    return found


def gates(
    calibrations: list[Calibration], margin: np.ndarray, r_t: float
) -> tuple[np.ndarray, list[Threshold]]:
    """(n, p) bool, products that may be made, and the thresholds behind them."""
    thresholds = [calibration.threshold(r_t) for calibration in calibrations]
    return margin < np.array([threshold.tau for threshold in thresholds]), thresholds


def certified_gates(
    margin: np.ndarray, test: np.ndarray, other: np.ndarray, label: np.ndarray, r_t: float, delta: float
) -> np.ndarray:
    """(n, p) bool, products that may be made under a finite-sample certificate instead of the plug-in bound.

    Every product's threshold is chosen by fixed-sequence testing (`certify_threshold`) at confidence
    1 - delta, for that product alone. margin: (n, p) to gate. test, label: (k, p) of the internal test
    quarter for validation. other: (l, p) margins of the other internal test quarter, whose quantiles fix the
    sequence beforehand. With fewer cases than r_t needs nothing may be made. Hours are dependent, the
    certificate assumes that they are not: it is a stricter rule here, not a proof.
    """
    share = _START * cases_needed(r_t, delta) / len(test)
    if share > 1:
        return np.zeros(margin.shape, dtype=bool)
    levels = np.linspace(share, 1.0, _SEQUENCE)
    taus = [
        certify_threshold(test[:, i], label[:, i], np.quantile(other[:, i], levels), r_t, delta).tau
        for i in range(margin.shape[1])
    ]
    return margin < np.array(taus)
