"""Times safer at equal revenue: known answers, and a bootstrap done week by week."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import production_fake as fake
import pytest

from experiments.production.records import WEEKLY_COLUMNS
from experiments.production.reporting import comparison
from experiments.production.reporting.across import of_every_curve, over_range
from experiments.production.reporting.comparison import (
    corrected,
    crossing,
    curves,
    stretch,
    strictest_useful,
    times_safer,
    times_safer_at,
    weights,
)
from experiments.production.reporting.measured import gather
from experiments.support.errors import ResultsError
from experiments.support.results.largest import at_least
from experiments.support.results.ratios import ratio
from safeframe.certificates.cases import clopper_pearson_upper

NAN = float("nan")
OURS = {("ours", 1e-3, NAN): (0.4, 40), ("ours", 1e-2, NAN): (0.8, 640)}
THEIRS = {("two_stage", NAN, 2.0): (0.3, 10), ("two_stage", NAN, 1.0): (0.6, 3200)}


def run(points: dict, seed: int = 0, weeks: int = 4, produced: int = 10_000, shift: float = 0.0) -> dict:
    """A run whose points have a revenue share and a number of violations, spread over equal weeks."""
    points = points | {("oracle", NAN, NAN): (1.0, 0)}
    rows = [
        (*point, week, 168, produced // weeks, bad // weeks, share * (100.0 + week + shift))
        for point, (share, bad) in points.items()
        for week in range(weeks)
    ]
    return {
        "run": f"run{seed}",
        "seed": seed,
        "order": (0, 1, 2, 3),
        "weekly": pd.DataFrame(rows, columns=list(WEEKLY_COLUMNS)),
    }


def one(table: pd.DataFrame, method: str = "two_stage") -> pd.Series:
    return table.set_index("method").loc[method]


def test_known_ratio():
    row = one(times_safer(gather([run(OURS | THEIRS)]), draws=50))
    ours = np.sqrt(40.5 / 10_001 * (640.5 / 10_001))  # half-way in revenue, so half-way in the logarithm
    assert row["knob"] == 1.0  # the other one earns too little
    assert row["revenue_share"] == pytest.approx(0.6)
    assert row["ours_violation"] == pytest.approx(ours)
    assert row["ratio"] == pytest.approx(3200.5 / 10_001 / ours)
    assert (row["low"], row["high"]) == (pytest.approx(row["ratio"], rel=1e-3),) * 2  # weeks are alike
    assert (row["ours_violations"], row["ours_produced"], row["ours_zero"]) == (680, 20_000, False)
    assert row["note"] == ""


def test_strictest_useful_is_the_safest_that_earns_enough():
    both = gather(
        [run(OURS | THEIRS | {("two_stage", NAN, 0.5): (0.7, 3000), ("two_stage", NAN, 0.0): (0.9, 5000)})]
    )
    assert both.points.iloc[strictest_useful(both, "two_stage")]["knob"] == 0.5
    assert both.points.iloc[strictest_useful(both, "two_stage", 0.8)]["knob"] == 0.0
    assert both.points.iloc[strictest_useful(both, "two_stage", 0.1)]["knob"] == 2.0
    assert strictest_useful(both, "two_stage", 0.95) is None
    row = one(times_safer(both, useful=0.95, draws=10))
    assert np.isnan(row["ratio"])
    assert "no point earns 95%" in row["note"]


def test_revenue_beyond_ours_gives_no_ratio():
    row = one(times_safer(gather([run(OURS | {("two_stage", NAN, 1.0): (0.81, 9000)})]), draws=10))
    assert np.isnan(row["ratio"])
    assert "ours earns at most 80.0%" in row["note"]


def test_end_of_ours_counts_only_where_it_dominates():
    strict = {("ours", 1e-3, NAN): (0.7, 40), ("ours", 1e-2, NAN): (0.8, 640)}
    row = one(times_safer(gather([run(strict | {("two_stage", NAN, 1.0): (0.6, 400)})]), draws=10))
    assert row["ratio"] == pytest.approx(400.5 / 40.5)  # the end itself, not a point beyond it
    assert "taken as it is" in row["note"]
    row = one(times_safer(gather([run(strict | {("two_stage", NAN, 1.0): (0.6, 20)})]), draws=10))
    assert np.isnan(row["ratio"])
    assert "violates no less" in row["note"]


def test_zero_counts_by_the_rule_with_the_one_sided_limit():
    clean = {("ours", 1e-3, NAN): (0.4, 0), ("ours", 1e-2, NAN): (0.8, 0)}
    row = one(times_safer(gather([run(clean | THEIRS)]), draws=10))
    assert row["ours_zero"]
    assert row["ratio"] == pytest.approx(3200.5 / 0.5)
    assert row["limit"] == pytest.approx(3200.5 / 10_001 / clopper_pearson_upper(0, 10_000, 0.05))
    assert f"at least {at_least(row['limit'])} times" in row["note"]
    five = gather(
        [run(clean | THEIRS, seed) for seed in range(5)]
    )  # the same hours five times: no more cases
    assert one(times_safer(five, draws=10))["limit"] == pytest.approx(row["limit"], rel=1e-4)
    other = gather([run(clean | THEIRS, seed, shift=10.0 * seed) for seed in range(5)])
    assert one(times_safer(other, draws=10))["limit"] == pytest.approx(5 * row["limit"], rel=1e-2)


def test_common_revenues_never_extrapolate():
    table = times_safer_at(gather([run(OURS | THEIRS)]), shares=(0.2, 0.45, 0.6, 0.7), draws=10)
    assert table["ratio"].notna().tolist() == [False, True, True, False]
    theirs = np.exp(np.interp(0.45, [0.3, 0.6], np.log([10.5 - 2, 3200.5]))) / 10_001  # 10 // 4 * 4 = 8
    ours = np.exp(np.interp(0.45, [0.4, 0.8], np.log([40.5, 640.5]))) / 10_001
    assert table["ratio"].iloc[1] == pytest.approx(theirs / ours)
    assert set(table.loc[table["ratio"].isna(), "note"]) == {
        "the baseline's curve does not span this revenue"
    }


def test_crossing_takes_the_first_segment_that_reaches():
    revenue = np.array([[0.2, 0.6, 0.4, 0.9]])
    value = np.array([[1.0, 3.0, 7.0, 8.0]])
    for target, expected in ((0.4, 2.0), (0.6, 3.0), (0.75, 7.7), (0.1, 1.0), (0.95, NAN)):
        found, index, way = crossing(revenue, value, np.array([target]))
        assert found[0] == pytest.approx(expected, nan_ok=True)
        assert (index[0] == -1) == np.isnan(expected)
        assert 0 < way[0] <= 1
    found, index, way = crossing(revenue, np.array([[NAN, 3.0, 7.0, 8.0]]), np.array([0.4]))
    assert (found[0], index[0], way[0]) == (
        3.0,
        1,
        1.0,
    )  # what produced nothing is no end to interpolate from


def test_corrected_share():
    assert corrected(np.array([0, 3, 0]), np.array([99, 9, 0])).tolist()[:2] == [0.005, 0.35]
    assert np.isnan(corrected(np.array([0]), np.array([0]))[0])


def test_weights_share_weeks_where_runs_share_hours():
    same = gather([run(OURS | THEIRS, seed) for seed in range(3)])
    assert same.realisation.tolist() == [0, 0, 0]
    drawn = weights(same, 4000)
    assert drawn.shape == (4000, 3, 4)
    assert set(drawn.sum(axis=(1, 2)).tolist()) == {2 * 3}  # one run and one week fewer than there are
    assert np.allclose(drawn.mean(axis=0), 2 * 3 / 12, atol=0.05)
    profile = drawn / np.maximum(drawn.sum(axis=2, keepdims=True), 1)
    both = (drawn[:, 0].sum(axis=1) > 0) & (drawn[:, 1].sum(axis=1) > 0)
    assert both.any()
    assert np.allclose(profile[both, 0], profile[both, 1])
    apart = gather([run(OURS | THEIRS, seed, shift=10.0 * seed) for seed in range(3)])
    assert apart.realisation.tolist() == [0, 1, 2]
    drawn = weights(apart, 4000)
    profile = drawn / np.maximum(drawn.sum(axis=2, keepdims=True), 1)
    both = (drawn[:, 0].sum(axis=1) > 0) & (drawn[:, 1].sum(axis=1) > 0)
    assert not np.allclose(profile[both, 0], profile[both, 1])
    assert np.array_equal(weights(same, 10, 3), weights(same, 10, 3))
    assert not np.array_equal(weights(same, 10, 3), weights(same, 10, 4))


def test_bootstrap_agrees_with_one_done_week_by_week():
    parts = [
        {"run": f"{s}", "seed": s, "order": (), "weekly": fake.weekly(s, weeks=6, year=s // 2)}
        for s in range(3)
    ]
    pooled = gather(parts)
    assert pooled.realisation.tolist() == [0, 0, 1]
    draws = 150
    row = one(times_safer(pooled, draws=draws, seed=5), "two_stage_margin")
    at = strictest_useful(pooled, "two_stage_margin")
    ours = pooled.where("ours")
    ratios = []
    for weight in weights(pooled, draws, 5):
        weeks = [(r, w) for r in range(3) for w in range(6) for _ in range(weight[r, w])]  # weeks, repeated
        total = {
            i: [
                sum(x[r, i, w] for r, w in weeks)
                for x in (pooled.violations, pooled.produced, pooled.revenue)
            ]
            for i in [at, pooled.oracle, *ours]
        }
        scale = 18 / len(weeks)
        total = {i: [scale * x for x in sums] for i, sums in total.items()}
        target = total[at][2] / total[pooled.oracle][2]
        theirs = (total[at][0] + 0.5) / (total[at][1] + 1)
        curve = [
            (total[i][2] / total[pooled.oracle][2], (total[i][0] + 0.5) / (total[i][1] + 1))
            for i in ours
            if total[i][1]
        ]
        for (r0, v0), (r1, v1) in itertools.pairwise(curve):
            if r0 < target <= r1:
                ratios.append(theirs / np.exp(np.interp(target, [r0, r1], np.log([v0, v1]))))
                break
    assert len(ratios) == draws
    low, high = np.percentile(ratios, [2.5, 97.5])
    assert row["low"] == pytest.approx(row["ratio"] * (low / row["ratio"]) ** stretch(3, 6))
    assert row["high"] == pytest.approx(row["ratio"] * (high / row["ratio"]) ** stretch(3, 6))
    assert row["low"] < row["ratio"] < row["high"]


def test_ratio_is_the_t_interval_where_denominators_are_equal():
    from scipy import stats

    x = np.array([0.2, 0.5, 0.35, 0.4])
    value, low, high = ratio(x * 7, np.full(4, 7.0))
    expected = stats.t.interval(0.95, 3, x.mean(), stats.sem(x))
    assert value == pytest.approx(x.mean())
    assert (low, high) == pytest.approx(expected)
    assert np.isnan(ratio(x[:1], np.ones(1))[1])
    assert np.isnan(ratio(np.zeros(2), np.zeros(2))[0])


def test_curves_pool_runs():
    parts = [run(OURS | THEIRS, 0, shift=1.0), run(OURS | {p: (s, 2 * k) for p, (s, k) in THEIRS.items()}, 1)]
    table = curves(gather(parts)).set_index(["method", "r_t", "knob"])
    row = table.iloc[list(table.index.get_level_values("knob")).index(1.0)]
    assert (row["violations"], row["produced"], row["runs"]) == (9600, 20_000, 2)
    assert row["violation"] == pytest.approx(0.48)
    assert row["revenue_share"] == pytest.approx(0.6)
    assert row["interval"] == "t over runs 95%"
    none = {("ours", 1e-4, NAN): (0.0, 0)}
    part = run(none)
    part["weekly"].loc[part["weekly"]["method"] == "ours", "produced"] = 0
    row = curves(gather([part])).iloc[0]
    assert np.isnan(row["violation"])
    assert row["interval"] == ""


def test_pooling_refuses_what_does_not_fit():
    good = run(OURS)
    with pytest.raises(ResultsError, match="no runs"):
        gather([])
    with pytest.raises(ResultsError, match="missing columns \\['revenue'\\]"):
        gather([good | {"weekly": good["weekly"].drop(columns="revenue")}])
    with pytest.raises(ResultsError, match="0 <= violations <= produced"):
        gather([good | {"weekly": good["weekly"].assign(violations=1e9)}])
    with pytest.raises(ResultsError, match="weeks differ"):
        gather([good, run(OURS, 1, weeks=5)])
    with pytest.raises(ResultsError, match="twice"):
        gather([good | {"weekly": pd.concat([good["weekly"]] * 2)}])
    with pytest.raises(ResultsError, match="0 points of 'oracle'"):
        gather([good | {"weekly": good["weekly"][good["weekly"]["method"] != "oracle"]}])


def test_points_that_a_run_lacks_are_left_out_and_named():
    pooled = gather([run(OURS | THEIRS), run(OURS, 1)])
    assert pooled.methods == ["ours", "oracle"]
    assert "two_stage" in pooled.notes[0]
    assert pooled.points["r_t"].tolist()[:2] == [1e-3, 1e-2]


def test_rule_of_use_is_a_half():
    assert comparison.USEFUL_SHARE == 0.5


def test_the_mean_over_a_range_is_that_of_single_revenues():
    parts = [{"run": f"{s}", "seed": s, "order": (), "weekly": fake.weekly(s, weeks=12)} for s in range(3)]
    measured = gather(parts)
    single = times_safer_at(measured, draws=50)
    over = over_range(measured, draws=50).set_index("method")
    for method, rows in single.groupby("method"):
        ratios = rows["ratio"].dropna()
        if len(ratios) < 2 or rows["note"].fillna("").str.contains("begins|strictest").any():
            continue
        assert over.loc[method, "shares"] == f"{len(ratios)} of 5"
        assert over.loc[method, "mean"] == pytest.approx(np.exp(np.log(ratios).mean()))
        assert over.loc[method, "least"] == pytest.approx(ratios.min())
        assert over.loc[method, "mean_low"] < over.loc[method, "mean"] < over.loc[method, "mean_high"]
    assert "ours_pooled_weekly" not in over.index  # ours is not compared with its own curves
    every = of_every_curve(measured, draws=10)
    assert set(every["curve"]) == {"ours", "ours_pooled_weekly"}
    own = every[every["curve"] == "ours"].set_index("method")["mean"]
    assert own.to_dict() == pytest.approx(over["mean"].to_dict(), nan_ok=True)
    other = every[every["curve"] == "ours_pooled_weekly"].set_index("method")["mean"]
    assert (other < own).all()  # the fake one violates 1.6 times as often at the same revenue
