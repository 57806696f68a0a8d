"""How informative internal test data are: zeta, Lipschitz estimates, and the measured radius xi.

Data are zeta-informative for a state when the law of the measurement given that state and the empirical law
of the cases labelled so are within infinity-Wasserstein distance zeta; a K-Lipschitz classifier then
justifies the radius xi = K zeta (arXiv 2504.20924, Theorem 1). K is rarely known and zeta never, so the
radius can be measured instead, in logit space, where the margin is one-dimensional and W_infinity is the
largest gap of two quantile functions.

What a measured radius means. Acceptance sets are half-lines {m < tau}, so all the theorem needs of a class
is, for every tau in use, F(tau) <= F_ref(tau + s) + delta and F(tau) >= F_ref(tau - s) - delta, with F_ref
the empirical distribution of the internal test margins and F the law in use; the smallest s is the margin
shift, and xi = s / sqrt(2). With delta = 0 and no window, s is W_infinity of the two samples. Limits: it sees
only the shift between the two samples it is given (last year's shift says nothing of next year's), it grows
with the noise of the extreme quantiles in small samples, and its DKW band needs independent cases. The mass
delta is not free: pass it on as ``RiskCurve(..., slack=mass)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from safeframe.tensors import to_numpy
from safeframe.types import SAFE, SQRT2, UNSAFE, BoolArray, FloatArray, IntArray, LabelArray, SafeframeError

if TYPE_CHECKING:
    import torch

Side = Literal["both", "lower", "upper"]
_BLOCK = 1024
_SIDES: tuple[tuple[int, Side], ...] = ((SAFE, "upper"), (UNSAFE, "lower"))


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


def _lower_shift(reference: FloatArray, other: FloatArray, delta: float, low: float, high: float) -> float:
    """Smallest s >= 0 with F_other(x) <= F_reference(x + s) + delta for low < x <= high (sorted samples)."""
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
    reference, other = _sorted_sample(reference_margin, "reference"), _sorted_sample(other_margin, "other")
    shift = 0.0
    if side != "upper":
        shift = _lower_shift(reference, other, delta, low, high)
    if side != "lower":
        shift = max(shift, _lower_shift(-reference[::-1], -other[::-1], delta, -high, -low))
    band = 0.0 if confidence is None else dkw_band(len(other), confidence)
    return MeasuredRadius(
        shift, shift / SQRT2, delta, band, min(delta + band, 1.0), confidence, len(reference), len(other)
    )


def _sorted_sample(margin: FloatArray, name: str) -> FloatArray:
    sample = np.sort(np.asarray(margin, dtype=np.float64).reshape(-1))
    if len(sample) == 0:
        raise SafeframeError(f"the {name} sample is empty; a measured radius needs cases in both samples")
    if not np.isfinite(sample).all():
        raise SafeframeError(f"the {name} sample holds NaN or infinite margins; they must be finite")
    return sample


@dataclass(frozen=True)
class BlockRadius:
    """Measured shifts of every block against the other blocks.

    Attributes:
        radius: the largest shift / sqrt(2), in logit units.
        margin_shift: (blocks, 2) shifts of classes 0 and 1, in margin units; NaN where a block, or all the
            others, have no case of the class.
        blocks: ids, in the order of the rows.
        delta: trimmed mass, in [0, 1).
    """

    radius: float
    margin_shift: FloatArray
    blocks: list[Any]
    delta: float

    def quantile(self, q: float) -> float:
        """A quantile over blocks of the larger class shift, as a radius.

        Args:
            q: in [0, 1]; 1.0 gives ``radius``.

        Returns:
            xi, in logit units.
        """
        return float(np.quantile(np.nanmax(self.margin_shift, axis=1), q)) / SQRT2


def block_measured_radius(
    margin: FloatArray,
    label: LabelArray,
    block: np.ndarray,
    delta: float = 0.0,
    window: tuple[float, float] = (-math.inf, math.inf),
) -> BlockRadius:
    """Radius from blocks (weeks, months, episodes) of one sample: each against all the others, per class.

    Takes for each class the side that matters: unsafe cases of a block not lower, safe ones not higher than
    the rest by more than s. A block is far smaller than the rest, so the noise of its own extremes is in the
    figure: an upper reading.

    Args:
        margin: (n,) finite margins.
        label: (n,) 0 safe, 1 unsafe.
        block: (n,) ids; at least two.
        delta: mass in [0, 1) on which the coupling may fail.
        window: only thresholds tau between its two ends count.

    Returns:
        The shifts and the radius that covers them all.

    Raises:
        SafeframeError: on shapes that differ, with fewer than two blocks, or if no block can be compared for
            one of the classes.
    """
    values, state, ids = np.asarray(margin, dtype=np.float64), np.asarray(label), np.asarray(block)
    if values.ndim != 1 or state.shape != values.shape or ids.shape != values.shape:
        raise SafeframeError(
            f"margin {values.shape}, label {state.shape}, block {ids.shape}: expected one shape (n,)"
        )
    keys = np.unique(ids)
    if len(keys) < 2:
        raise SafeframeError("a radius measured over blocks needs at least two blocks")
    shift = np.full((len(keys), 2), np.nan)
    for row, key in enumerate(keys):
        for state_id, side in _SIDES:
            mine = values[(ids == key) & (state == state_id)]
            rest = values[(ids != key) & (state == state_id)]
            if len(mine) and len(rest):
                shift[row, state_id] = measured_radius(
                    rest, mine, delta, side=side, window=window
                ).margin_shift
    for state_id in (SAFE, UNSAFE):
        if np.isnan(shift[:, state_id]).all():
            raise SafeframeError(
                f"class {state_id} is in fewer than two blocks; its radius cannot be measured"
            )
    return BlockRadius(float(np.nanmax(shift)) / SQRT2, shift, keys.tolist(), delta)


# Largest slopes: ReLU, tanh and the like 1; sigmoid 1/4; GELU and SiLU overshoot 1 a little.
_SLOPES = {
    "ReLU": 1.0,
    "Tanh": 1.0,
    "Softplus": 1.0,
    "Identity": 1.0,
    "Flatten": 1.0,
    "Dropout": 1.0,
    "Sigmoid": 0.25,
    "SiLU": 1.0999,
    "GELU": 1.1291,
}


def lipschitz_upper(module: torch.nn.Module) -> float:
    """Upper bound K on the Euclidean Lipschitz constant: the product of the layers' constants.

    It holds in evaluation mode. Linear layers count with their spectral norm, activations with their largest
    slope.

    Args:
        module: a layer with a known constant, or a Sequential of such (also nested).

    Returns:
        K >= 0.

    Raises:
        SafeframeError: on a layer without a known constant (recurrent, normalisation, attention, subclasses
            of known ones): none is guessed.
    """
    import torch

    # Exact types: a subclass may compute anything else.
    if type(module) is torch.nn.Sequential:
        return math.prod(lipschitz_upper(layer) for layer in module)
    if type(module) is torch.nn.Linear:
        return float(torch.linalg.matrix_norm(module.weight.detach().double(), ord=2))
    if type(module) is torch.nn.LeakyReLU:
        return max(1.0, abs(module.negative_slope))
    name = type(module).__name__
    if name in _SLOPES and type(module) is getattr(torch.nn, name):
        return _SLOPES[name]
    raise SafeframeError(f"no Lipschitz constant is known for {type(module).__name__}; measure xi instead")


def lipschitz_lower(
    function: Callable[[FloatArray], Any],
    points: FloatArray,
    pairs: int = 10_000,
    step: float = 1e-3,
    seed: int = 0,
) -> float:
    """Lower bound on the Lipschitz constant: the largest |f(x) - f(x')| / |x - x'| over sampled pairs.

    Half of the pairs join two of the points, half a point and its neighbour in a random direction.

    Args:
        function: maps (k, ...) float64 arrays to (k, m) arrays or tensors.
        points: (n, ...) inputs, n >= 2.
        pairs: number of pairs.
        step: distance of a neighbour, in the unit of the points.
        seed: of the sampling.

    Returns:
        The largest ratio found; 0 where no pair is apart.

    Raises:
        SafeframeError: with fewer than two points.
    """
    x = np.asarray(points, dtype=np.float64)
    if len(x) < 2:
        raise SafeframeError(f"{len(x)} points: at least two are needed for a ratio of differences")
    rng = np.random.default_rng(seed)
    first, second = rng.integers(len(x), size=(2, pairs))
    direction = rng.normal(size=(pairs, *x.shape[1:]))
    norm = np.linalg.norm(direction.reshape(pairs, -1), axis=1).reshape(-1, *[1] * (x.ndim - 1))
    start = x[first]
    near = np.arange(pairs) % 2 == 0
    end = np.where(near.reshape(norm.shape), start + step * direction / norm, x[second])

    def value(batch: FloatArray) -> FloatArray:
        output = function(batch)
        array = to_numpy(output)
        return array.reshape(pairs, -1)

    moved = np.linalg.norm((end - start).reshape(pairs, -1), axis=1)
    changed = np.linalg.norm(value(end) - value(start), axis=1)
    apart = moved > 0.0
    return float((changed[apart] / moved[apart]).max()) if apart.any() else 0.0


def alternating_runs(n: int, runs: int) -> BoolArray:
    """Every other of some runs of consecutive cases: a half of data whose neighbours depend on each other.

    Args:
        n: cases, at least 0.
        runs: of them, as equally long as can be; at most n are made.

    Returns:
        (n,) bool, True in the second run, the fourth and so on.
    """
    return (np.arange(n) * min(runs, n) // max(n, 1)) % 2 == 1


class HalvesRadius:
    """xi between two halves of labelled cases, for thresholds within a reach.

    Takes for each class the side that counts (unsafe cases not lower, safe ones not higher than in the other
    half), in both directions. Margins are sorted once, so that asking for many reaches is cheap.

    Args:
        margin: (n,) finite margins.
        label: (n,) 0 safe, 1 unsafe.
        odd: (n,) bool, which half a case belongs to.

    Raises:
        SafeframeError: if a class is absent from a half, or a margin is NaN or infinite.
    """

    def __init__(self, margin: FloatArray, label: LabelArray, odd: BoolArray) -> None:
        values, state, half = np.asarray(margin), np.asarray(label), np.asarray(odd, bool)

        def part(mine: BoolArray, state_id: int) -> FloatArray:
            return _sorted_sample(values[mine & (state == state_id)], "reference")

        self._unsafe = part(half, UNSAFE), part(~half, UNSAFE)
        safe = part(half, SAFE), part(~half, SAFE)
        self._safe_mirrored = -safe[0][::-1], -safe[1][::-1]

    def radius(self, reach: float, delta: float) -> float:
        """xi for thresholds tau <= reach.

        Args:
            reach: the largest threshold that counts.
            delta: mass in [0, 1) that is left out.

        Returns:
            xi, in logit units.
        """
        gaps = [
            _lower_shift(reference, other, delta, *window)
            for pair, window in (
                (self._unsafe, (-np.inf, reach)),
                (self._safe_mirrored, (-reach, np.inf)),
            )
            for reference, other in (pair, pair[::-1])
        ]
        return max(gaps) / SQRT2


def radius_between(
    margin: np.ndarray, label: np.ndarray, odd: np.ndarray, reach: float, delta: float
) -> float:
    """xi between two halves of the internal test data: :class:`HalvesRadius` for one reach.

    Args:
        margin: (n,) finite margins.
        label: (n,) 0 safe, 1 unsafe.
        odd: (n,) bool, which half a case belongs to.
        reach: only thresholds tau <= reach count.
        delta: mass in [0, 1) that is left out.

    Returns:
        xi, in logit units.

    Raises:
        SafeframeError: if a class is absent from a half, or a margin is NaN or infinite.
    """
    return HalvesRadius(margin, label, odd).radius(reach, delta)
