"""Times safer at equal return.

A baseline's cost (steps inside a hazard) per 1,000 steps over ours, at the return that the baseline earns;
the same of entries.

Zero counts. A count below half counts as half: no cost in N steps is 500 / N per 1,000 steps. `limit` is
the ratio with ours at its one-sided 95 % upper limit instead (`rates`), and what can be claimed.

Interpolation. Ours' cost at return R lies on the first segment of its curve, from r_t = 1e-4 (`BEGINS`) on,
that reaches R: linear in return, on the logarithm of the cost. Nothing is extrapolated: if even the
strictest point earns more than R, that point counts, and only if its cost is lower; if no point earns R,
there is no ratio. The column `note` says so.

Which point of a baseline. Every one has a row; `claimed` marks the one of least cost among those that earn at
least half of what PPO earns (a robot that stands still is safe too).

Interval. Bootstrap of runs and, within them, of episodes (in blocks), one fewer of each than there are (Rao
and Wu 1988, doi:10.1080/01621459.1988.10478591), each method with runs of its own and each point with
episodes of its own; percentiles, stretched on the logarithm by the t quantile for runs - 1 (blocks - 1 for
one run) degrees of freedom over the normal one. A draw in which ours does not reach R counts as ratio 0.
The lower end is also at most the ratio with ours at its exact 97.5 % limit, which is what few or no counts
leave.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from experiments.safetygym.records import OURS, PER
from experiments.safetygym.reporting.measured import Measured
from experiments.safetygym.reporting.rates import exact, floored
from experiments.support.results.curves import ROUNDING, crossing, stretch
from experiments.support.results.largest import at_least, largest_ratio
from experiments.support.results.points import once

PPO = "ppo"
BASELINES = ("ppo", "ppo_gaussian", "ppo_lag", "ppo_lag_long", "ppo_barrier", "saute")
USEFUL_SHARE = 0.5
BEGINS = 1e-4
"""r_t at which ours' curve begins: what is trained for, and run longest; stricter ones may be refused."""
DRAWS = 2000
COUNTS = ("cost", "entries")
SAFER_COLUMNS = [
    "method",
    "knob",
    "by",
    "claimed",
    "return",
    "rate",
    "count",
    "steps",
    "ours_r_t",
    "ours_rate",
    "ours_count",
    "ours_steps",
    "ratio",
    "low",
    "high",
    "limit",
    "runs",
    "note",
]


def drawn(
    measured: Measured, places: Sequence[int] | np.ndarray, by: str, draws: int, seed: int | list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap of points of one method: return and rate per 1,000 steps, each (draws, points)."""
    rng = np.random.default_rng(seed)
    here = measured.having(int(places[0]))
    runs, blocks = len(here), measured.sums["steps"].shape[2]
    of_runs = rng.multinomial(max(runs - 1, 1), np.full(runs, 1 / runs), size=draws) / max(runs - 1, 1) * runs
    shown = []
    for at in places:
        of_blocks = rng.multinomial(max(blocks - 1, 1), np.full(blocks, 1 / blocks), size=(draws, runs))
        weight = of_runs[:, :, None] * of_blocks * blocks / max(blocks - 1, 1)
        shown.append([np.einsum("drb,rb->d", weight, measured.sums[k][here, at])
                      for k in ("return", by, "steps")])  # fmt: skip
    earned, count, steps = (np.stack(column, axis=1) for column in zip(*shown, strict=True))
    return PER * earned / steps, floored(count, steps)


def useful(measured: Measured, method: str, by: str = "cost", share: float = USEFUL_SHARE) -> int | None:
    """The point of least cost among those that earn at least `share` of what PPO earns (of equals, the one
    that earns more), None if there is none; without PPO, of what the best baseline point earns.
    """
    counts = {name: measured.sums[name].sum(axis=(0, 2)) for name in ("return", by, "steps")}
    earned, rates = counts["return"] / counts["steps"], floored(counts[by], counts["steps"])
    standard = measured.where(PPO) if PPO in measured.methods else measured.where(method)
    places = [i for i in measured.where(method) if earned[i] >= share * earned[standard].max()]
    return min(places, key=lambda i: (rates[i], -earned[i]), default=None)


@once
def times_safer(measured: Measured, ours: str = OURS, draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """Every point of every baseline beside `ours` at the same return, by cost and by entries; see the
    module's text. `rate`, `ours_rate`: per 1,000 steps. `ratio`, `low`, `high`: rate over ours_rate.
    `limit`: the ratio with ours at its one-sided 95 % upper limit, where ours has no count.
    """
    rows = []
    for by in COUNTS:
        mine = measured.where(ours)
        begins = measured.points["r_t"].to_numpy()[mine] >= BEGINS * (1 - 1e-6)
        mine = mine[begins] if begins.any() else mine
        resampled = drawn(measured, mine, by, draws, [seed, 0]) if len(mine) else None
        for number, method in enumerate(BASELINES):
            claimed = useful(measured, method, by) if len(measured.where(method)) else None
            for at in measured.where(method):
                row = {"method": method, "knob": measured.points["knob"].iloc[at], "by": by}
                row |= _against(measured, int(at), mine, by, resampled, draws, [seed, 1 + number])
                rows.append(row | {"claimed": at == claimed})
    return pd.DataFrame(rows).reindex(columns=SAFER_COLUMNS)


def _against(
    measured: Measured,
    at: int,
    mine: np.ndarray,
    by: str,
    resampled: tuple[np.ndarray, np.ndarray] | None,
    draws: int,
    seed: list[int],
) -> dict:
    steps = measured.total("steps", at)
    earned = PER * measured.total("return", at) / steps
    theirs = float(floored(measured.total(by, at), steps))
    row = {"return": earned, "rate": theirs, "count": round(measured.total(by, at)), "steps": round(steps)}
    if resampled is None:
        return row | {"note": "ours was not run"}
    total = {k: np.array([[measured.total(k, i) for i in mine]]) for k in ("return", by, "steps")}
    returns, rates = PER * total["return"] / total["steps"], floored(total[by], total["steps"])
    value, index, way = (x[0] for x in crossing(returns, np.log(rates), np.array([earned])))
    if index < 0:
        return row | {"note": f"ours earns at most {returns.max():.1f}"}
    used = mine[[index]] if way == 1.0 else mine[[index - 1, index]]
    count = sum(measured.total(by, i) for i in used)
    runs = len(measured.having(int(mine[0])))
    row |= {"ours_r_t": measured.points["r_t"].iloc[mine[index]], "ours_rate": float(np.exp(value))}
    row |= {"ours_count": round(count), "ours_steps": round(sum(measured.total("steps", i) for i in used))}
    row |= {"runs": runs}
    above = bool(way == 1.0 and returns[0, index] > earned + ROUNDING)
    if above and row["ours_rate"] >= theirs:
        return row | {"note": f"ours begins at {returns[0, index]:.1f}, and its {by} is no lower there"}
    target, baseline = (x[:, 0] for x in drawn(measured, [at], by, draws, seed))
    logs, reached, _ = crossing(resampled[0], np.log(resampled[1]), target)
    ratios = np.where(reached < 0, 0.0, baseline / np.exp(logs))
    ratio = theirs / row["ours_rate"]
    low, high = (float(x) for x in np.percentile(ratios, [2.5, 97.5]))
    widen = stretch(min(runs, len(measured.having(at))), measured.sums["steps"].shape[2])
    low = ratio * (min(low, ratio) / ratio) ** widen
    row |= {"ratio": ratio, "high": ratio * (max(high, ratio) / ratio) ** widen}
    ends = {delta: [exact(measured, by, i, delta)[1] for i in used] for delta in (0.025, 0.05)}
    between = {d: x[0] if len(x) == 1 else x[0] ** (1 - way) * x[1] ** way for d, x in ends.items()}
    row["low"] = min(low, theirs / between[0.025])
    notes = [f"ours earns more ({returns[0, index]:.1f}) at its strictest point, taken as it is"] * above
    if count == 0:
        row["limit"] = theirs / between[0.05]
        notes.append(f"no {by} of ours: at least {at_least(row['limit'])} times")
    return row | {"note": "; ".join(notes)}


def worst(measured: Measured, method: str = OURS) -> tuple[float, float, float, int]:
    """The largest share of unsafe accepted actions over r_t among a method's thresholds, as `largest_ratio`
    gives it, over the runs that have the method: others in the pool are no units of it.
    """
    at = measured.where(method)
    here = np.flatnonzero(measured.sums["episodes"][:, at].sum(axis=(1, 2)) > 0)
    r_t = measured.points["r_t"].to_numpy(dtype=float)[at]
    unsafe, judged = (measured.sums[name][np.ix_(here, at)] for name in ("unsafe", "judged"))
    return largest_ratio(unsafe, judged, r_t)
