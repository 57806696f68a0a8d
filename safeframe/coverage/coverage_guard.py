"""Is this input like the internal test data? A radius around them that new cases of the same kind keep to.

The bounds speak of inputs that are drawn like the internal test data. For any other input they are not
trusted: where the distance to the nearest internal test case exceeds a radius, the default action is taken.

The radius is calibrated on cases held out from the reference: with d_(1) <= ... <= d_(m) their distances to
it, P(distance > d_(k)) has a Beta(m - k + 1, k) law or a smaller one where distances tie, whatever the law of
the cases. So d_(k) with k the smallest for which the (1 - delta)-quantile of that Beta is at most epsilon
holds with confidence 1 - delta over the draw of the held-out cases: the tolerance limit of Wilks (1941),
doi:10.1214/aoms/1177731788. It takes log(delta) / log(1 - epsilon) cases, or nothing is certified.

What it does not do. A distance knows only the features it is given: an input that moves within the data (a
small adversarial step, another rule behind the same measurements) is not noticed. And refusing a share
epsilon of the cases changes what the guarantee conditions on; see :func:`conditional_inflation`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from safeframe.certificates.cases import Certificate, cases_needed, clopper_pearson_upper
from safeframe.coverage.nearest import KINDS, Kind, Nearest, build
from safeframe.tensors import to_numpy
from safeframe.types import BoolArray, FloatArray, IntArray, SafeframeError, number

Features = Callable[[Any], Any]


@dataclass(frozen=True)
class CoverageSettings:
    """How many cases like the internal test data may be refused, and how their region is found.

    Attributes:
        epsilon: share of in-distribution cases that may be refused, in (0, 1).
        delta: 1 - confidence of that, in (0, 1).
        held_out: share of the internal test cases that calibrate the radius, in (0, 1); the others are the
            reference.
        block: runs of so many consecutive cases are held out as a whole, for data that depend on their
            neighbours; at least 1.
        index: "auto", "kdtree", "matrix" or "faiss"; see :mod:`safeframe.coverage.nearest`.
        scale: divide every feature by its standard deviation over the reference.

    Raises:
        SafeframeError: for values outside these ranges.
    """

    epsilon: float
    delta: float = 0.05
    held_out: float = 0.3
    block: int = 1
    index: Kind = "auto"
    scale: bool = True

    def __post_init__(self) -> None:
        for name in ("epsilon", "delta", "held_out"):
            if not 0.0 < number(getattr(self, name), f"coverage: {name}") < 1.0:
                raise SafeframeError(f"coverage: {name} is {getattr(self, name)}; it must lie in (0, 1)")
        if number(self.block, "coverage: block") < 1:
            raise SafeframeError(f"coverage: block is {self.block}; expected a positive number of cases")
        if not isinstance(self.index, str) or self.index not in KINDS:
            raise SafeframeError(f"coverage: index is {self.index!r}; it must be one of {', '.join(KINDS)}")


def tolerance_rank(n: int, epsilon: float, delta: float) -> int | None:
    """The smallest k for which P(new > k-th smallest of n) <= epsilon with confidence 1 - delta.

    Source: Wilks (1941), doi:10.1214/aoms/1177731788.

    Args:
        n: independent cases.
        epsilon: probability in (0, 1).
        delta: 1 - confidence, in (0, 1).

    Returns:
        k in 1..n, or None where n cases are too few.
    """
    from scipy import stats

    rank = np.arange(1, n + 1)
    # P(Beta(n - k + 1, k) > epsilon) is P(fewer than k of n lie below the (1 - epsilon)-quantile).
    passed = stats.binom.sf(rank - 1, n, 1.0 - epsilon) <= delta
    return int(rank[passed][0]) if passed.any() else None


def conditional_inflation(acceptance: float, epsilon: float) -> float:
    """By what P(unsafe | accepted and covered) may exceed P(unsafe | accepted), as a factor.

    P(unsafe, accepted, covered) <= P(unsafe, accepted) and P(accepted, covered) >= P(accepted) - epsilon, so
    it is acceptance / (acceptance - epsilon).

    Args:
        acceptance: P(accepted), in [0, 1].
        epsilon: share refused at most, in [0, 1].

    Returns:
        The factor >= 1; infinite where epsilon takes all that is accepted.

    Raises:
        SafeframeError: for values outside [0, 1].
    """
    if not (0.0 <= acceptance <= 1.0 and 0.0 <= epsilon <= 1.0):
        raise SafeframeError(f"acceptance {acceptance} and epsilon {epsilon} must lie in [0, 1]")
    return acceptance / (acceptance - epsilon) if acceptance > epsilon else float("inf")


def flat_features(measurement: Any) -> FloatArray:
    """The default feature space: the measurement itself, flattened.

    Args:
        measurement: (n, ...) numbers, an array or a tensor.

    Returns:
        (n, d) features, in the type of the measurement.

    Raises:
        SafeframeError: on anything that is not numbers with a first axis.
    """
    return _as_rows(measurement)


def _as_rows(features: Any) -> FloatArray:
    array = to_numpy(features)
    if array.ndim < 1 or array.dtype.kind not in "biuf":
        raise SafeframeError(
            f"features have shape {array.shape} and type {array.dtype}: expected numbers (n, ...)"
        )
    return array.reshape(len(array), -1) if array.ndim > 1 else array.reshape(-1, 1)


class CoverageGuard:
    """The reference, its index and the calibrated radius.

    Args:
        reference: (n, ...) finite features of internal test cases.
        held_out: (m, ...) features of others, drawn like the cases in use and not part of the reference.
        settings: epsilon and the rest.

    Raises:
        SafeframeError: on reference features that are not finite or features of different shapes, and where m
            is too small to certify epsilon, saying how many it takes.
    """

    def __init__(self, reference: Any, held_out: Any, settings: CoverageSettings) -> None:
        rows, fresh = _as_rows(reference), _as_rows(held_out)
        if len(rows) == 0 or rows.shape[1] != fresh.shape[1]:
            raise SafeframeError(
                f"coverage: reference {rows.shape} and held-out {fresh.shape} features do not fit together"
            )
        rank = tolerance_rank(len(fresh), settings.epsilon, settings.delta)
        if rank is None:
            raise SafeframeError(
                f"coverage: {len(fresh)} held-out cases cannot certify epsilon = {settings.epsilon:g} at "
                f"confidence {1 - settings.delta:g}; {cases_needed(settings.epsilon, settings.delta):,} are "
                "needed: give more internal test cases, a larger share held_out, or a larger epsilon"
            )
        self.settings = settings
        self.rows: FloatArray = rows  # what it was made from; all cases after fit_coverage
        self.mean, self.scale = self._scales(rows)
        self.n_reference, self.n_held_out = len(rows), len(fresh)
        self._index: Nearest = build(self._scaled(rows), settings.index)
        self.held_out_distance = np.sort(self.distance(fresh))
        self.radius = float(self.held_out_distance[rank - 1])

    def _scales(self, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        if not np.isfinite(rows).all():
            raise SafeframeError("coverage: the reference features hold NaN or infinite values")
        mean = rows.mean(axis=0, dtype=np.float64)
        spread = rows.std(axis=0, dtype=np.float64)
        if not self.settings.scale:
            return np.zeros_like(mean), np.ones_like(mean)
        return mean, np.where(spread > 0.0, spread, 1.0)

    def _scaled(self, rows: FloatArray) -> FloatArray:
        return np.ascontiguousarray((rows - self.mean) / self.scale, dtype=np.float32)

    def distance(self, features: Any) -> FloatArray:
        """Distance to the nearest reference case, in scaled features.

        Args:
            features: (n, ...) features of any cases.

        Returns:
            (n,) Euclidean distances; +inf where a feature is NaN or infinite.

        Raises:
            SafeframeError: on features of another width than the reference.
        """
        rows = _as_rows(features)
        if rows.shape[1] != len(self.mean):
            raise SafeframeError(
                f"coverage: features have {rows.shape[1]} columns; the reference has {len(self.mean)}"
            )
        scaled = self._scaled(rows)
        good = np.isfinite(scaled).all(axis=1)
        found = np.full(len(rows), np.inf)
        if good.any():
            found[good] = self._index.distance(scaled[good])
        return found

    def covers(self, features: Any) -> BoolArray:
        """Whether the distance is at most the radius.

        Args:
            features: (n, ...) features of any cases.

        Returns:
            (n,) bool.

        Raises:
            SafeframeError: on features of another width than the reference.
        """
        return self.distance(features) <= self.radius

    @property
    def certificate(self) -> Certificate:
        """P(refused) of in-distribution cases, with the confidence over the held-out draw."""
        return Certificate(
            event="P(distance > radius)",
            value=self.settings.epsilon,
            confidence=1.0 - self.settings.delta,
            random="the draw of the held-out cases",
            assumed="held-out cases are independent and drawn like those in use; the reference is fixed",
            n=self.n_held_out,
            k=int((self.held_out_distance > self.radius).sum()),
        )

    def firing_rate(self, features: Any) -> tuple[float, float]:
        """How often other cases are refused.

        Args:
            features: (n, ...) features of those cases, n >= 1.

        Returns:
            Two numbers, the share refused and its one-sided upper limit at the settings' confidence.

        Raises:
            SafeframeError: on features of another width than the reference.
        """
        refused = ~self.covers(features)
        return float(refused.mean()), clopper_pearson_upper(
            int(refused.sum()), len(refused), self.settings.delta
        )


def fit_coverage(
    features: Any, trained_on: BoolArray, settings: CoverageSettings, seed: int
) -> CoverageGuard:
    """A coverage guard on internal test cases, part of them held out at random.

    Args:
        features: (n, ...) finite features of all the cases.
        trained_on: (n,) bool; such cases serve as reference only.
        settings: epsilon and the rest.
        seed: of the choice of held-out cases.

    Returns:
        The calibrated guard; its ``rows`` are the features of all cases.

    Raises:
        SafeframeError: on lengths that differ, too few cases, or features that are not finite.
    """
    rows = _as_rows(features)
    if len(rows) != len(trained_on):
        raise SafeframeError(
            f"coverage: {len(rows)} rows of features for {len(trained_on)} internal test cases"
        )
    reference, held_out = split_reference(len(rows), settings, ~trained_on, seed)
    found = CoverageGuard(rows[reference], rows[held_out], settings)
    found.rows = rows
    return found


def split_reference(
    n: int, settings: CoverageSettings, allowed: BoolArray, seed: int
) -> tuple[IntArray, IntArray]:
    """Which cases are the reference and which are held out: random blocks.

    Cases that a classifier (and so perhaps the features) were trained on may serve as reference only.

    Args:
        n: number of cases.
        settings: block and share of held-out cases.
        allowed: (n,) bool, which cases may be held out; a block is only if all of its cases are allowed.
        seed: of the choice.

    Returns:
        Two ascending integer arrays, the positions of the reference and of the held-out cases.

    Raises:
        SafeframeError: where either would be empty.
    """
    units = -(-n // settings.block)
    of_unit = np.arange(n) // settings.block
    free = np.array([bool(part.all()) for part in np.split(allowed, np.arange(1, units) * settings.block)])
    order = np.random.default_rng(seed).permutation(np.flatnonzero(free))
    chosen = order[: max(1, round(settings.held_out * units))]
    mask = np.isin(of_unit, chosen)
    if mask.all() or not mask.any():
        raise SafeframeError(
            f"coverage: {n} cases in blocks of {settings.block}, {int(allowed.sum())} of them not trained on:"
            " too few to be both reference and held out"
        )
    return np.flatnonzero(~mask), np.flatnonzero(mask)
