"""Times safer at equal revenue: a baseline's violation share over ours, at the revenue the baseline earns.

Zero counts. k violations of n produced product-hours count as the share (k + 1/2) / (n + 1), for both sides,
so that the ratio exists; where ours had none at all, `ours_zero` says so, and `limit` is the ratio with ours
at its one-sided 95 % Clopper-Pearson upper limit instead (hours taken as independent; hours that several
runs share count once).

Interpolation. Ours' violation share at revenue R lies on the first segment of its curve, from the strictest
r_t on, that reaches R: linear in revenue, on the logarithm of the share. Nothing is extrapolated: if even
the strictest point earns more than R, that point counts, and only if it also violates less; if no point
earns R, there is no ratio. The column `note` says so.

Interval. Hours depend on each other, so weeks are the unit: pigeonhole bootstrap (Owen 2007,
doi:10.1214/07-AOAS122) of runs and of weeks, one fewer of each than there are (Rao & Wu 1988,
doi:10.1080/01621459.1988.10478591: no bias from few units), percentiles, the points held fixed. With few runs
percentiles are too narrow, so both distances from the ratio are stretched, on the logarithm, by the t
quantile for runs - 1 (weeks - 1 for one run) degrees of freedom over the normal one. Runs that validate on
the same hours share the draw of weeks, and so do both sides of the ratio. A draw in which ours does not reach
R counts as ratio 0, one in which R lies below ours' curve takes its strictest point: both lower the limit.
Draws in which a baseline's own curve does not span a common revenue have no ratio and are left out.
`draws_out_of_range` counts the first and the last kind. The interval always holds the ratio.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from experiments.production.records import ORACLE
from experiments.production.reporting.measured import Measured
from experiments.support.results.curves import ROUNDING, crossing, stretch
from experiments.support.results.largest import at_least, largest_ratio
from experiments.support.results.points import once
from experiments.support.results.ratios import ratio, share_interval
from safeframe.certificates.cases import clopper_pearson_upper

OURS = "ours"
USEFUL_SHARE = 0.5
"""A point is useful if it earns at least half of what the oracle earns. Every method can violate never by
producing nothing; a plant that forgoes more than half of the attainable revenue for safety would rather be
given another method, so points below are no standard for a comparison of safety."""
SHARES = (0.5, 0.6, 0.7, 0.8, 0.9)
DRAWS = 2000
COMPARED = ["method", "r_t", "knob", "revenue_share", "violation", "violations", "produced"]


def corrected(violations: np.ndarray, produced: np.ndarray) -> np.ndarray:
    """(k + 1/2) / (n + 1), elementwise; NaN where nothing was produced."""
    k, n = np.asarray(violations, dtype=float), np.asarray(produced, dtype=float)
    return np.where(n > 0, (k + 0.5) / (n + 1.0), np.nan)


def weights(measured: Measured, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Times that each week of each run counts in each draw, (draws, runs, weeks): runs drawn with replacement
    times weeks drawn with replacement within each realisation of demand, one fewer than there are of each.
    """
    rng = np.random.default_rng(seed)
    runs, _, weeks = measured.produced.shape
    of_runs = rng.multinomial(max(runs - 1, 1), np.full(runs, 1 / runs), size=draws)
    kinds = int(measured.realisation.max()) + 1
    of_weeks = rng.multinomial(max(weeks - 1, 1), np.full(weeks, 1 / weeks), size=(draws, kinds))
    return of_runs[:, :, None] * of_weeks[:, measured.realisation]


Pooled = tuple[np.ndarray, np.ndarray, np.ndarray]


def compared(measured: Measured) -> list[str]:
    """Methods that ours is compared with: not its own curves, and not the oracle."""
    return [m for m in measured.methods if m != ORACLE and m != OURS and not m.startswith(f"{OURS}_")]


def pooled(measured: Measured, weight: np.ndarray | None = None) -> Pooled:
    """Violation share (corrected), share of the oracle's revenue, and product-hours produced, each (draws,
    points); without `weight`, one row: everything once.
    """
    runs, points, weeks = measured.produced.shape
    if weight is None:
        weight = np.ones((1, runs, weeks), dtype=int)
    flat = weight.reshape(len(weight), -1).astype(float)
    flat *= runs * weeks / flat.sum(axis=1, keepdims=True)  # as many weeks as there are, for the zero rule
    sums = [
        flat @ values.transpose(0, 2, 1).reshape(runs * weeks, points)
        for values in (measured.violations, measured.produced, measured.revenue)
    ]
    return corrected(sums[0], sums[1]), sums[2] / sums[2][:, [measured.oracle]], sums[1]


def strictest_useful(measured: Measured, method: str, useful: float = USEFUL_SHARE) -> int | None:
    """The point of `method` with the least violation share among those that earn at least `useful` of the
    oracle's revenue (of equals, the one that earns more); None if there is none.
    """
    violation, share, _ = (row[0] for row in pooled(measured))
    places = [i for i in measured.where(method) if share[i] >= useful and np.isfinite(violation[i])]
    return min(places, key=lambda i: (violation[i], -share[i]), default=None)


@once
def times_safer(
    measured: Measured, useful: float = USEFUL_SHARE, draws: int = DRAWS, seed: int = 0
) -> pd.DataFrame:
    """Every baseline at its strictest useful point beside ours at the same revenue, one row each (see the
    module's text); `ratio`, `low`, `high`: the baseline's violation share over ours.
    """
    drawn = pooled(measured, weights(measured, draws, seed))
    rows = []
    for method in compared(measured):
        at = strictest_useful(measured, method, useful)
        row = {"method": method, "useful_share": useful}
        if at is None:
            rows.append(row | {"note": f"no point earns {useful:.0%} of the oracle's revenue"})
            continue
        row |= _point(measured, at) | _against(measured, drawn, [at], None)
        rows.append(row)
    columns = ["useful_share", *COMPARED, *_OURS_COLUMNS]
    return pd.DataFrame(rows).reindex(columns=columns)[["method", *[c for c in columns if c != "method"]]]


@once
def times_safer_at(
    measured: Measured, shares: tuple[float, ...] = SHARES, draws: int = DRAWS, seed: int = 0
) -> pd.DataFrame:
    """Every baseline beside ours at common revenues (shares of the oracle's), both interpolated.

    No ratio where the baseline's curve does not span the revenue.
    """
    drawn = pooled(measured, weights(measured, draws, seed))
    rows = []
    for method in compared(measured):
        for share in shares:
            row = {"method": method, "revenue_share": share}
            rows.append(row | _against(measured, drawn, measured.where(method), share))
    return pd.DataFrame(rows).reindex(columns=["method", "revenue_share", "violation", *_OURS_COLUMNS])


_OURS_COLUMNS = [
    "ours_violation",
    "ours_violations",
    "ours_produced",
    "ratio",
    "low",
    "high",
    "ours_zero",
    "limit",
    "draws_out_of_range",
    "runs",
    "weeks",
    "draws",
    "note",
]


def _point(measured: Measured, at: int) -> dict:
    violation, share, _ = (row[0] for row in pooled(measured))
    point = measured.points.iloc[at]
    k, n = int(measured.violations[:, at].sum()), int(measured.produced[:, at].sum())
    return {
        "r_t": point["r_t"],
        "knob": point["knob"],
        "revenue_share": share[at],
        "violation": violation[at],
        "violations": k,
        "produced": n,
    }


def _against(measured: Measured, draws: Pooled, theirs, share: float | None) -> dict:
    """Ours against points `theirs`: the one point's revenue where `share` is None, else at that revenue."""
    row = {"runs": len(measured.runs), "weeks": measured.produced.shape[2], "draws": len(draws[0])}
    base = sides(measured, pooled(measured), theirs, share)
    row |= {"violation": base["theirs"][0]}
    if len(measured.where(OURS)) == 0:
        return row | {"note": "ours was not run"}
    if np.isnan(base["theirs"][0]):
        return row | {"note": "the baseline's curve does not span this revenue"}
    index, way = int(base["index"][0]), float(base["way"][0])
    if index < 0:
        return row | {"note": f"ours earns at most {np.nanmax(base['revenue']):.1%} of the oracle's"}
    places = measured.where(OURS)
    used = [int(places[index])] if way == 1.0 else [int(places[index - 1]), int(places[index])]
    k = measured.violations[:, used].sum(axis=(0, 2))
    n = measured.produced[:, used].sum(axis=(0, 2))
    row |= {"ours_violations": int(k.sum()), "ours_produced": int(n.sum()), "ours_zero": bool(k.sum() == 0)}
    row |= {"ours_violation": base["ours"][0]}
    earned = base["revenue"][0, index]
    above = bool(way == 1.0 and earned > base["target"][0] + ROUNDING)
    if above and base["ours"][0] >= base["theirs"][0]:
        return row | {"note": f"ours begins at {earned:.1%} of the oracle's, and violates no less there"}
    drawn = sides(measured, draws, theirs, share)
    ratios = np.where(drawn["index"] < 0, 0.0, drawn["theirs"] / drawn["ours"])
    value = float(base["theirs"][0] / base["ours"][0])
    low, high = np.nanpercentile(ratios, [2.5, 97.5])
    low, high = min(float(low), value), max(float(high), value)
    widen = stretch(row["runs"], row["weeks"])
    row |= {"ratio": value, "low": value * (low / value) ** widen, "high": value * (high / value) ** widen}
    row |= {"draws_out_of_range": int(np.sum((drawn["index"] < 0) | np.isnan(ratios)))}
    if row["ours_zero"]:
        worst = [clopper_pearson_upper(0, max(int(cases / measured.shared), 1), 0.05) for cases in n]
        upper = np.exp(np.log(worst[0]) + (way * np.log(worst[-1] / worst[0]) if len(worst) > 1 else 0.0))
        row |= {"limit": float(base["theirs"][0] / upper)}
    notes = [f"ours earns more ({earned:.1%}) at its strictest point, taken as it is"] * above
    if row["ours_zero"]:
        notes.append(f"ours without a violation: at least {at_least(row['limit'])} times")
    return row | {"note": "; ".join(notes)}


def sides(
    measured: Measured, draws: Pooled, theirs, share: float | None, own: str = OURS
) -> dict[str, np.ndarray]:
    """Per draw: both violation shares at the revenue compared at, and where on our curve `own` that is."""
    violation, earned, _ = draws
    theirs, ours = np.asarray(theirs), measured.where(own)
    if share is None:
        target, baseline = earned[:, theirs[0]], violation[:, theirs[0]]
    else:
        target = np.full(len(earned), share)
        logs, index, way = crossing(earned[:, theirs], np.log(violation[:, theirs]), target)
        begins = (way == 1.0) & (earned[np.arange(len(earned)), theirs[index]] > target + ROUNDING)
        baseline = np.where((index < 0) | begins, np.nan, np.exp(logs))
    if len(ours) == 0:
        return {"theirs": baseline}
    logs, index, way = crossing(earned[:, ours], np.log(violation[:, ours]), target)
    return {
        "theirs": baseline,
        "ours": np.exp(logs),
        "index": index,
        "way": way,
        "target": target,
        "revenue": earned[:, ours],
    }


@once
def curves(measured: Measured) -> pd.DataFrame:
    """One row per point: pooled violation share, revenue (per hour, and as a share of the oracle's) and
    acceptance over runs, each with low and high, and the counts behind them.

    Violation: NaN where nothing was produced; `interval` names its interval. Revenue and acceptance: t over
    runs, missing for one run.
    """
    rows = []
    hours = measured.hours.sum(axis=1)
    oracle = measured.revenue[:, measured.oracle].sum(axis=1)
    accepted, nothing = _accepted(measured), (np.zeros(len(measured.runs)),) * 2
    for at, point in measured.points.iterrows():
        k, n = (values[:, at].sum(axis=1) for values in (measured.violations, measured.produced))
        earned = measured.revenue[:, at].sum(axis=1)
        row = point.to_dict() | {"runs": len(measured.runs), "hours": int(hours.sum())}
        row |= {"produced": int(n.sum()), "violations": int(k.sum())}
        names = ("violation", "violation_low", "violation_high", "interval")
        row |= dict(zip(names, share_interval(k, n, measured.shared), strict=True))
        for name, (top, bottom) in {
            "revenue": (earned, hours),
            "revenue_share": (earned, oracle),
            "acceptance": accepted.get(_key(point["method"], point["r_t"], point["knob"]), nothing),
        }.items():
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), ratio(top, bottom), strict=True))
        rows.append(row)
    return pd.DataFrame(rows)


def _accepted(measured: Measured) -> dict[tuple, tuple[np.ndarray, np.ndarray]]:
    """Product-hours produced and product-hours, per run, by the tidy metric and by point; a point that some
    run lacks is missing.
    """
    if measured.frame is None:
        return {}
    rows = measured.frame[measured.frame["metric"] == "acceptance"]
    keys = [_key(*point) for point in zip(rows["method"], rows["r_t"], rows["knob"], strict=True)]
    wide = rows.assign(key=keys).pivot(index="run", columns="key", values=["value", "n"])
    wide = wide.reindex(measured.runs["run"]).astype(float)
    shares, cases = wide["value"].dropna(axis=1), wide["n"]
    return {key: ((shares[key] * cases[key]).to_numpy(), cases[key].to_numpy()) for key in shares}


def _key(method: str, r_t: float, knob: float) -> str:
    """A point as text, so that NaN equals NaN and rounding does not matter."""
    return f"{method}|{float(r_t):.6g}|{float(knob):.6g}"


def worst(measured: Measured, method: str = OURS) -> tuple[float, float, float, int]:
    """The largest pooled violation share over r_t among a method's thresholds, by `largest_ratio`."""
    at = measured.where(method)
    r_t = measured.points["r_t"].to_numpy(dtype=float)[at]
    return largest_ratio(measured.violations[:, at], measured.produced[:, at], r_t, measured.realisation)
