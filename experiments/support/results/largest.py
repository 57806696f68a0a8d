"""The largest ratio of a share to its threshold, over all thresholds, with an interval of the maximum itself.

An interval at the place where the largest ratio was found says too little: had other cases been drawn,
another threshold might have been the worst. So the maximum is drawn anew: bootstrap of runs and of blocks
(the units that depend on one another: weeks, prompts, episodes), one fewer of each than there are (Rao and Wu
1988, doi:10.1080/01621459.1988.10478591), the largest ratio taken in every draw, percentiles, and both
distances stretched by the t quantile for runs - 1 degrees of freedom over the normal one, since percentiles
of few runs are too narrow. Thresholds at which nothing was counted are passed over. The interval always holds
the value. A bootstrap of a maximum leans upwards, which is the safe side of "at most 1".
"""

from __future__ import annotations

import numpy as np

from experiments.support.results.curves import stretch
from safeframe.certificates.cases import clopper_pearson_upper

DRAWS = 2000


def largest_ratio(
    bad: np.ndarray,
    n: np.ndarray,
    r_t: np.ndarray,
    group: np.ndarray | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float, float, int]:
    """The largest of sum(bad) / sum(n) / r_t over thresholds, with a 95 % interval.

    Args:
        bad: (runs, thresholds, blocks) counts, bad <= n.
        n: (runs, thresholds, blocks) counts; a run without a threshold has zeros there.
        r_t: (thresholds,) in (0, 1].
        group: (runs,) runs with the same number were counted on the same blocks and share their draw; None:
            no two were.
        draws: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        Value, both limits, and its n; NaN and n = 0 where nothing was counted at any threshold. Where none
            was bad at all: 0, 0 and the largest one-sided 95 % Clopper-Pearson limit over its threshold
            (cases as independent).
    """
    bad, n = np.asarray(bad, dtype=float), np.asarray(n, dtype=float)
    runs, _, blocks = n.shape
    totals = n.sum(axis=(0, 2))
    used = np.flatnonzero(totals > 0)
    if not used.size:
        return np.nan, np.nan, np.nan, 0
    bad, n, r_t, totals = bad[:, used], n[:, used], np.asarray(r_t, dtype=float)[used], totals[used]
    ratios = bad.sum(axis=(0, 2)) / totals / r_t
    at = int(ratios.argmax())
    value, count = float(ratios[at]), int(totals[at])
    if value == 0:
        limits = [clopper_pearson_upper(0, int(cases), 0.05) for cases in totals]
        return 0.0, 0.0, float(np.max(np.asarray(limits) / r_t)), int(totals.max())
    drawn = _weights(runs, blocks, np.arange(runs) if group is None else np.asarray(group), draws, seed)
    flat = drawn.reshape(draws, -1)
    k, of = (flat @ counts.transpose(0, 2, 1).reshape(runs * blocks, -1) for counts in (bad, n))
    worst = np.max(np.divide(k, of, out=np.zeros_like(k), where=of > 0) / r_t, axis=1)
    low, high = np.percentile(worst, [2.5, 97.5])
    widen = stretch(runs, blocks)
    low = value - widen * max(value - float(low), 0.0)
    return value, max(low, 0.0), value + widen * max(float(high) - value, 0.0), count


def _weights(runs: int, blocks: int, group: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """(draws, runs, blocks): times that every block of every run counts."""
    rng = np.random.default_rng(seed)
    kinds, of_kind = np.unique(group, return_inverse=True)
    of_runs = rng.multinomial(max(runs - 1, 1), np.full(runs, 1 / runs), size=draws)
    shape = (draws, len(kinds))
    of_blocks = rng.multinomial(max(blocks - 1, 1), np.full(blocks, 1 / blocks), size=shape)
    return (of_runs[:, :, None] * of_blocks[:, of_kind]).astype(float)


def verdict(value: float, low: float, high: float) -> str:
    """What may be said of a share that is promised to be at most 1 (times its threshold).

    Args:
        value: the largest ratio of a share to its threshold.
        low: lower end of its interval; NaN without one.
        high: upper end.

    Returns:
        "kept" only where the upper limit is at most 1.
    """
    if np.isnan(high):
        return "below 1" if value <= 1 else "above 1"
    if high <= 1:
        return "kept"
    if value <= 1:
        return "not seen to break"
    return "exceeded, the interval holds 1" if low <= 1 else "broken"


def floored(value: float, digits: int = 2) -> float:
    """A ratio behind "at least", rounded down to so many significant digits: 346.9 -> 340, 9.87 -> 9.8."""
    if not np.isfinite(value) or value <= 0:
        return value
    unit = 10.0 ** (np.floor(np.log10(value)) - digits + 1)
    return float(np.floor(value / unit * (1 + 1e-12)) * unit)


def at_least(value: float) -> str:
    """A ratio behind "at least" as text: rounded down to three significant digits ("962", "1,980", "8.2")."""
    return f"{floored(value, 3):,g}"


def sentence(what: str, found: tuple[float, float, float, int], units: str) -> str:
    """The largest ratio of a promise and what it says of it, for a caption.

    Args:
        what: the share ("violation share of ours").
        found: as :func:`largest_ratio` gives it.
        units: what the bootstrap draws ("runs and weeks").

    Returns:
        A sentence; "" where nothing was counted.
    """
    value, low, high, n = found
    if not n:
        return ""
    return (
        f"Largest {what} over r_t, of all thresholds: {value:.2g} [{low:.2g}, {high:.2g}] (95 % bootstrap of "
        f"that maximum over {units}): {verdict(value, low, high)}."
    )
