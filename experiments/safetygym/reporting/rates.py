"""Rates of every point, with intervals: return, cost and entries per 1,000 steps, and shares.

Steps of an episode depend on each other; runs are the units of an interval, or the episodes of a single
run. Rare counts come together too (a visit to a hazard lasts several steps), so the interval of a count is
at least as wide as the exact one (Clopper-Pearson) of the share of episodes that have any, times the mean
count of such an episode. Where nothing was counted that leaves an upper limit alone, with the mean count of
the same method's strictest points that have some. Where a logarithm is needed, a count below half counts as
half.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from experiments.safetygym.records import PER
from experiments.safetygym.reporting.measured import HALF_STEP, Measured
from experiments.support.results.points import once
from safeframe.certificates.cases import clopper_pearson_lower, clopper_pearson_upper

SEEN = 30
"""Episodes with a count that tell how much one has."""


@dataclass(frozen=True)
class Rate:
    """What is summed, over what, times what; `hit`: episodes that have any, for rare counts."""

    top: str
    bottom: str
    scale: float = 1.0
    hit: str | None = None

    @property
    def is_share(self) -> bool:
        """Whether it lies between 0 and 1."""
        return self.scale != PER


RATES = {
    "return": Rate("return", "steps", PER),
    "cost": Rate("cost", "steps", PER, "hit"),
    "entries": Rate("entries", "steps", PER, "hit"),
    "violation": Rate("hit", "episodes", hit="hit"),
    "unsafe": Rate("unsafe", "judged", hit="unsafe_hit"),
    "default_share": Rate("defaults", "steps"),
}
"""violation: share of episodes with cost. unsafe: share of truly unsafe among accepted actions."""
CLAIMED = (("return", "return", 1.0), ("cost", "cost", 1.0), ("entries", "entries_per_1e7", 1e7 / PER))
"""Rates per 1,000 steps, what claims of them are called, and times what."""


def floored(count: np.ndarray | float, steps: np.ndarray | float) -> np.ndarray:
    """Count per 1,000 steps, elementwise, with the rule for zero counts."""
    return PER * np.maximum(count, HALF_STEP) / steps


def severity(measured: Measured, rate: Rate, method: str) -> float:
    """Mean count of an episode that has any: over the method's points from the strictest on until SEEN such
    episodes, all of them if there are fewer; without one, over all methods; else an episode's whole length.
    """
    assert rate.hit is not None
    places = measured.where(method)
    hit, count = (measured.sums[name][:, places].sum(axis=(0, 2)).cumsum() for name in (rate.hit, rate.top))
    if hit[-1] > 0:
        enough = int(np.argmax(hit >= min(SEEN, hit[-1])))
        return float(count[enough] / hit[enough])
    hit, count, bottom, n = (
        measured.sums[name].sum() for name in (rate.hit, rate.top, rate.bottom, "episodes")
    )
    return float(count / hit if hit > 0 else bottom / n)


def exact(measured: Measured, name: str, at: int, delta: float = 0.025) -> tuple[float, float]:
    """Limits, each of level 1 - delta, from the exact ones of the share of episodes that have any."""
    rate = RATES[name]
    assert rate.hit is not None
    hit, n = round(measured.total(rate.hit, at)), round(measured.total("episodes", at))
    method = str(measured.points["method"].iloc[at])
    each = measured.total(rate.top, at) / hit if hit > 0 else severity(measured, rate, method)
    scale = rate.scale * each * n / measured.total(rate.bottom, at)
    return scale * clopper_pearson_lower(hit, n, delta), scale * clopper_pearson_upper(hit, n, delta)


def over_units(measured: Measured, name: str, at: int) -> tuple[float, float]:
    """95 % t interval over runs, or over blocks of episodes of a single run.

    Linearised ratio estimator (Cochran, Sampling Techniques, 1977, section 6.3); NaN for a single unit.
    """
    rate, here = RATES[name], measured.having(at)
    top, bottom = (measured.sums[key][here, at] for key in (rate.top, rate.bottom))
    top, bottom = (x.sum(axis=1) if len(here) > 1 else x[0] for x in (top, bottom))
    n, value = len(top), top.sum() / bottom.sum()
    if n < 2:
        return np.nan, np.nan
    error = np.sqrt(n / (n - 1) * np.sum((top - value * bottom) ** 2)) / bottom.sum()
    half = stats.t.ppf(0.975, n - 1) * error
    return float(rate.scale * (value - half)), float(rate.scale * (value + half))


def with_interval(measured: Measured, name: str, at: int) -> dict[str, float]:
    """A rate of a point: name, name_low, name_high and, for rare counts, name_limit (one-sided 95 % upper
    limit, NaN unless the count is zero); all NaN where there is nothing to count over.
    """
    rate, limit = RATES[name], {} if RATES[name].hit is None else {f"{name}_limit": np.nan}
    if measured.total(rate.bottom, at) == 0:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"), np.nan) | limit
    value = rate.scale * measured.total(rate.top, at) / measured.total(rate.bottom, at)
    low, high = over_units(measured, name, at)
    if rate.hit is not None:
        ends = exact(measured, name, at)
        low, high = max(np.fmin(low, ends[0]), 0.0), np.fmax(high, ends[1])
        if value == 0:
            limit = {f"{name}_limit": exact(measured, name, at, 0.05)[1]}
    if rate.is_share:
        low, high = np.clip([low, high], 0.0, 1.0)
    return {name: float(value), f"{name}_low": float(low), f"{name}_high": float(high)} | limit


@once
def curves(measured: Measured) -> pd.DataFrame:
    """One row per point: method, r_t, knob, runs, every rate of `RATES` with low, high (95 %) and limit,
    score = return - 10 log10(cost), and the counts: steps, episodes, episodes_with_cost, cost_total,
    entries_total, judged.
    """
    rows = []
    counts = {"steps": "steps", "episodes": "episodes", "hit": "episodes_with_cost", "cost": "cost_total",
              "entries": "entries_total", "judged": "judged"}  # fmt: skip
    for at, point in measured.points.iterrows():
        row = point.to_dict() | {"runs": len(measured.having(at))}
        for name in RATES:
            row |= with_interval(measured, name, at)
        row["score"] = row["return"] - 10 * np.log10(
            floored(measured.total("cost", at), measured.total("steps", at))
        )
        rows.append(row | {shown: round(measured.total(name, at)) for name, shown in counts.items()})
    return pd.DataFrame(rows)


def over_threshold(rows: pd.DataFrame) -> pd.DataFrame:
    """`curves` with the share of unsafe accepted actions over r_t: unsafe_over_r_t, _low and _high."""
    return rows.assign(
        **{f"unsafe_over_r_t{end}": rows[f"unsafe{end}"] / rows["r_t"] for end in ("", "_low", "_high")}
    )
