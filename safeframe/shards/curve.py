"""The risk curve of more cases than fit in memory, from two passes over shards of them.

At the thresholds that the rule can choose, the unsafe entries u_k and +inf, the curve needs the unsafe
margins and, for every u_k, the number of safe cases below it. The first pass collects the unsafe margins
(few); the second sorts the safe margins of a piece of a shard at a time and counts those below each u_k.
Counts are integers and add up in any order, so the result is that of one curve of all cases, bit for bit.
Memory grows with the number of unsafe cases: 10^10 cases with 1e-4 unsafe have 10^6 entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from safeframe.conservative_testing import PosteriorForm, check_form
from safeframe.margins import check_cases, count_at_most, count_below, shifted
from safeframe.shards.sources import Shard, Shards, for_each, opener
from safeframe.step_curve import StepCurve
from safeframe.types import SQRT2, FloatArray, Floats, IntArray, SafeframeError

__all__ = ["ShardedRiskCurve", "Shards"]

_PIECE = 1 << 21
"""Cases of a shard that are copied and sorted at a time."""
_MASK = (1 << 64) - 1


class _Seen(NamedTuple):
    """What is compared between the passes: cases and the sums of the bits of their margins (mod 2^64)."""

    n: int
    n_unsafe: int
    bits: int
    unsafe_bits: int

    def __str__(self) -> str:
        return f"{self.n} cases, {self.n_unsafe} unsafe"


def _bits(values: FloatArray) -> int:
    return int(values.view(f"u{values.dtype.itemsize}").sum(dtype=np.uint64))


def _load(shard: Shard) -> tuple[FloatArray, np.ndarray]:
    """Margins and which cases are unsafe; errors name the shard."""
    cases: Any = shard.cases() if callable(shard.cases) else shard.cases
    try:
        if isinstance(cases, Mapping):
            margin, label = cases["margin"], cases["label"]
        else:
            margin, label = cases
    except (TypeError, ValueError, KeyError) as error:
        raise SafeframeError(
            f"{shard.name} is {type(cases).__name__}; expected a pair (margin, label) or a mapping with"
            " these keys"
        ) from error
    try:
        return check_cases(margin, label)
    except SafeframeError as error:
        raise SafeframeError(f"{shard.name}: {error}") from error


class _Collect:
    """First pass: the unsafe margins."""

    def __init__(self) -> None:
        self.unsafe: list[FloatArray] = []

    def __call__(self, shard: Shard) -> _Seen:
        values, unsafe = _load(shard)
        chosen = values[unsafe]
        bits = 0
        for start in range(0, len(values), _PIECE):
            piece = values[start : start + _PIECE]
            if not np.isfinite(piece).all():
                raise SafeframeError(
                    f"{shard.name}: margins hold NaN or infinite values; they must be finite"
                )
            bits += _bits(piece)
        self.unsafe.append(chosen.astype(np.float64, copy=False))
        return _Seen(len(values), len(chosen), bits & _MASK, _bits(chosen))


class _CountBelow:
    """Safe cases below ascending entries, piece by piece."""

    def __init__(self, entry: FloatArray) -> None:
        self.entry = entry
        self._below = np.zeros(len(entry), dtype=np.int64)
        self._gap = np.zeros(len(entry) + 1, dtype=np.int64)  # cases in the gaps between the entries
        self._lock = Lock()

    def add(self, ascending: FloatArray) -> None:
        """Count a sorted piece: the shorter of the two arrays is searched for in the other."""
        if len(ascending) > len(self.entry):
            below = count_below(ascending, self.entry)
            with self._lock:
                self._below += below
        else:
            gap = count_at_most(self.entry, ascending.astype(np.float64, copy=False))
            with self._lock:
                np.add.at(self._gap, gap, 1)

    def total(self, n: int) -> IntArray:
        """(n_entries + 1,) counts below every entry and, last, all n."""
        return np.append(self._below + np.cumsum(self._gap[:-1]), n)


class _Count:
    """Second pass: safe cases below the unsafe entries, as they are and moved by the radius."""

    def __init__(self, entry: FloatArray, shift: float) -> None:
        self.shift = shift
        self.plain = _CountBelow(entry)
        self.moved = _CountBelow(entry) if shift else self.plain

    def __call__(self, shard: Shard) -> _Seen:
        values, unsafe = _load(shard)
        bits = 0
        for start in range(0, len(values), _PIECE):
            piece = values[start : start + _PIECE]
            bits += _bits(piece)
            safe = piece[~unsafe[start : start + _PIECE]]
            safe.sort()
            self.plain.add(safe)
            if self.shift:
                self.moved.add(shifted(safe, self.shift))
        chosen = values[unsafe]
        return _Seen(len(values), len(chosen), bits & _MASK, _bits(chosen))


def _total(seen: list[_Seen]) -> tuple[int, int, int, int]:
    n, n_unsafe, bits, unsafe_bits = (sum(part) for part in zip(*seen, strict=True)) if seen else (0, 0, 0, 0)
    return n, n_unsafe, bits & _MASK, unsafe_bits & _MASK


def _require_same(names: list[str], first: list[_Seen], second: list[_Seen]) -> None:
    """The passes saw the same cases, in whatever order and cut into whatever shards."""
    if _total(first) == _total(second):
        return
    advice = "the shards must hold the same cases every time they are passed over (seed what is random)"
    for name, before, after in zip(names, first, second, strict=False):
        if before != after:
            detail = "other margins" if str(before) == str(after) else f"first {before}; then {after}"
            raise SafeframeError(f"{name} changed between the two passes ({detail}); {advice}")
    raise SafeframeError(
        f"the first pass saw {len(first)} shards, the second {len(second)}, so shard"
        f" {min(len(first), len(second))} is in one of them only; {advice}"
    )


class ShardedRiskCurve(StepCurve):
    """The :class:`~safeframe.risk_curve.RiskCurve` of all cases of the shards, at the thresholds that count.

    ``largest_threshold``, ``largest_thresholds`` and ``level`` (of any margin) are those of the one curve of
    all cases, bit for bit. ``bound``, ``acceptance`` and ``counts`` are too at ``-inf`` and at the candidates
    (the unsafe entries u_k = margin - sqrt(2) xi and ``+inf``), where every threshold that the rule can
    choose lies. At any other tau they would need the safe cases between two entries, which are not kept: they
    raise. ``candidates`` lists where they are known.

    Args:
        shards: see :meth:`safeframe.risk_curve.RiskCurve.from_shards`.
        prior: P(unsafe) in [0, 1]; None takes the share in the labels.
        radius: xi >= 0, in logit units.
        form: "tight" or "paper" (eq. (8)).
        slack: mass in [0, 1) that the coupling may miss.

    Raises:
        SafeframeError: see :meth:`safeframe.risk_curve.RiskCurve.from_shards`.
    """

    def __init__(
        self,
        shards: Shards,
        prior: float | None = None,
        radius: float = 0.0,
        form: PosteriorForm = "tight",
        slack: float = 0.0,
    ) -> None:
        StepCurve(np.zeros(1), 1, prior, radius, check_form(form), slack)  # refuses before the long passes
        opened = opener(shards)
        collect = _Collect()
        names, first = for_each(opened(), collect)
        n, n_unsafe, _, _ = _total(first)
        for name, count in (("safe", n - n_unsafe), ("unsafe", n_unsafe)):
            if count == 0:
                raise SafeframeError(
                    f"no {name} internal test case in the {len(first)} shards ({n} cases): the bound needs"
                    " at least one case of each class"
                )
        unsafe = np.concatenate(collect.unsafe)
        del collect
        unsafe.sort()
        super().__init__(unsafe, n - n_unsafe, prior, radius, form, slack)
        count = _Count(self._unsafe_entry, SQRT2 * self.radius)
        _require_same(names, first, for_each(opened(), count)[1])
        self._safe_plain = count.plain.total(self.n_safe)
        self._safe_below = count.moved.total(self.n_safe) if count.shift else self._safe_plain

    @property
    def candidates(self) -> FloatArray:
        """(k,) ascending thresholds at which the bound is known: the distinct unsafe entries and +inf."""
        return np.append(np.unique(self._unsafe_entry), np.inf)

    def adjusted(
        self, prior: float | None = None, radius: float = 0.0, slack: float = 0.0
    ) -> ShardedRiskCurve:
        """The curve of the same cases with another prior and slack; nothing is passed over again.

        Args:
            prior: P(unsafe) in [0, 1]; None keeps that of this curve.
            radius: xi of this curve: another one moves the entries between which safe cases were counted.
            slack: mass in [0, 1) that the coupling may miss.

        Returns:
            A curve of its own.

        Raises:
            SafeframeError: on another radius, or an argument outside its range.
        """
        if radius != self.radius:
            raise SafeframeError(
                f"radius {radius} differs from that of this curve, {self.radius}: safe cases were counted for"
                " that one only; pass over the shards again with RiskCurve.from_shards(shards, radius=...)"
            )
        other = type(self).__new__(type(self))
        other._safe_plain, other._safe_below = self._safe_plain, self._safe_below
        share = self.prior if prior is None else prior
        StepCurve.__init__(other, self._unsafe, self.n_safe, share, radius, self.form, slack)
        return other

    def quantile(self, q: Floats) -> FloatArray:
        """Not known: the margins of the safe cases are not kept.

        Args:
            q: shares in [0, 1].

        Returns:
            Never.

        Raises:
            SafeframeError: always.
        """
        raise SafeframeError(
            f"quantile({q!r}): a curve from shards does not keep the margins of the safe cases; use its"
            " candidates, or a RiskCurve of a sample"
        )

    def _index(self, query: FloatArray) -> IntArray:
        """Positions of thresholds among the entries (n_unsafe for +inf); -inf has 0."""
        index = count_below(self._unsafe_entry, query)
        known = self._unsafe_entry[np.minimum(index, self.n_unsafe - 1)] == query
        known |= np.isinf(query)
        if not known.all():
            raise SafeframeError(
                f"tau = {float(query[~known][0])!r} is no candidate of this curve from shards: the safe cases"
                " between two unsafe entries are not kept; ask at a threshold that largest_threshold returns,"
                " or at one of its candidates"
            )
        return index

    def _conservative_counts(self, query: FloatArray) -> tuple[IntArray, IntArray]:
        index = self._index(query)
        return index, np.where(np.isneginf(query), 0, self._safe_below[index])

    def _plain_counts(self, query: FloatArray) -> tuple[IntArray, IntArray]:
        index = self._index(query)
        return count_below(self._unsafe, query), np.where(np.isneginf(query), 0, self._safe_plain[index])
