"""The radius between two samples of one class: the largest gap of their quantile functions, in a window."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from safeframe.types import SAFE, SQRT2, UNSAFE, FloatArray, IntArray, SafeframeError

if TYPE_CHECKING:
    pass


Side = Literal["both", "lower", "upper"]
_BLOCK = 1024
SIDES: tuple[tuple[int, Side], ...] = ((SAFE, "upper"), (UNSAFE, "lower"))
"""Which side of a shift counts for each class."""


@dataclass(frozen=True)
class MeasuredRadius:
    """A measured radius and what it rests on.

    Attributes:
        margin_shift: s, in margin units.
        radius: xi = s / sqrt(2), in logit units.
        delta: trimmed mass, in [0, 1).
        band: half-width of the DKW band of the other sample; 0 without a confidence.
        mass: delta + band (at most 1), the mass on which the coupling may fail.
        confidence: of the statement about ``mass``; None where there is no such statement.
        n_reference: cases of the reference sample.
        n_other: cases of the other sample.
    """

    margin_shift: float
    radius: float
    delta: float
    band: float
    mass: float
    confidence: float | None
    n_reference: int
    n_other: int


def dkw_band(n: int, confidence: float) -> float:
    """Half-width sqrt(log(2 / (1 - confidence)) / (2 n)) of the band around an empirical distribution.

    Source: Dvoretzky, Kiefer & Wolfowitz (1956), constant by Massart (1990), doi:10.1214/aop/1176990746.

    Args:
        n: independent cases, at least 1.
        confidence: that the band holds everywhere, in (0, 1).

    Returns:
        The half-width, a probability.

    Raises:
        SafeframeError: on an n or a confidence outside these ranges.
    """
    if n < 1 or not 0.0 < confidence < 1.0:
        raise SafeframeError(f"n = {n}, confidence = {confidence}: need n >= 1 and a confidence in (0, 1)")
    return math.sqrt(math.log(2.0 / (1.0 - confidence)) / (2.0 * n))


def lower_shift(reference: FloatArray, other: FloatArray, delta: float, low: float, high: float) -> float:
    """The smallest s >= 0 with F_other(x) <= F_reference(x + s) + delta for low < x <= high.

    Args:
        reference: (n,) ascending margins.
        other: (k,) ascending margins.
        delta: mass in [0, 1) that is left out.
        low: lower end of the window.
        high: upper end of the window.

    Returns:
        s, in margin units.
    """
    n, m = len(other), len(reference)
    # Only entries of the window count, and the last one below it, for which x = low stands.
    first = max(int(np.searchsorted(other, low, side="right")) - 1, 0)
    last = int(np.searchsorted(other, high, side="left"))

    def needed(index: IntArray) -> IntArray:
        # Just above other[i-1] lie i cases: ceil(m (i/n - delta)) of the reference must lie below x + s.
        return np.ceil(m * ((index + 1) / n - delta) - 1e-9).astype(np.int64)

    def gap(index: IntArray) -> float:
        count = needed(index)
        used = count > 0
        if not used.any():
            return 0.0
        return float((reference[count[used] - 1] - np.maximum(other[index[used]], low)).max())

    if last - first <= 2 * _BLOCK:
        return max(gap(np.arange(first, last)), 0.0)
    # Both samples ascend: no gap of a block exceeds that from its first entry to the reference of its last.
    starts = np.arange(first, last, _BLOCK)
    ends = np.minimum(starts + _BLOCK, last)
    count = needed(ends - 1)
    limit = np.where(count > 0, reference[np.maximum(count, 1) - 1] - np.maximum(other[starts], low), 0.0)
    best = max(gap(starts), 0.0)
    for block in np.argsort(-limit).tolist():
        if limit[block] <= best:
            break
        best = max(best, gap(np.arange(int(starts[block]), int(ends[block]))))
    return best


def measured_radius(
    reference_margin: FloatArray,
    other_margin: FloatArray,
    delta: float = 0.0,
    confidence: float | None = None,
    side: Side = "both",
    window: tuple[float, float] = (-math.inf, math.inf),
) -> MeasuredRadius:
    """The margin shift (and xi) between two samples of one class.

    Args:
        reference_margin: (n,) finite margins of the internal test cases of one class.
        other_margin: (k,) finite margins of the same class from a sample that stands for use.
        delta: mass in [0, 1) on which the coupling may fail.
        confidence: in (0, 1); adds the DKW band of the other sample to the mass. Without it nothing is said
            about new cases.
        side: "lower": the other sample is not lower by more than s (what the unsafe class needs); "upper":
            not higher (the safe class); "both": the larger of the two.
        window: only thresholds tau between its two ends count; the default is the whole line.

    Returns:
        The shift, with the mass that it leaves out.

    Raises:
        SafeframeError: on an empty sample, NaN or infinite margins, and any argument outside its range.
    """
    if not 0.0 <= delta < 1.0:
        raise SafeframeError(f"delta is {delta}; the trimmed mass must lie in [0, 1)")
    if side not in ("both", "lower", "upper"):
        raise SafeframeError(f"side is {side!r}; it must be 'both', 'lower' or 'upper'")
    low, high = window
    if not low < high:
        raise SafeframeError(f"window is {window}; its lower end must be below its upper end")
    reference, other = sorted_sample(reference_margin, "reference"), sorted_sample(other_margin, "other")
    shift = 0.0
    if side != "upper":
        shift = lower_shift(reference, other, delta, low, high)
    if side != "lower":
        shift = max(shift, lower_shift(-reference[::-1], -other[::-1], delta, -high, -low))
    band = 0.0 if confidence is None else dkw_band(len(other), confidence)
    return MeasuredRadius(
        shift, shift / SQRT2, delta, band, min(delta + band, 1.0), confidence, len(reference), len(other)
    )


def sorted_sample(margin: FloatArray, name: str) -> FloatArray:
    """A sample in ascending order.

    Args:
        margin: margins, of any shape.
        name: of the sample, for errors.

    Returns:
        (n,) float64.

    Raises:
        SafeframeError: on an empty sample, NaN or infinite margins.
    """
    sample = np.sort(np.asarray(margin, dtype=np.float64).reshape(-1))
    if len(sample) == 0:
        raise SafeframeError(f"the {name} sample is empty; a measured radius needs cases in both samples")
    if not np.isfinite(sample).all():
        raise SafeframeError(f"the {name} sample holds NaN or infinite margins; they must be finite")
    return sample
