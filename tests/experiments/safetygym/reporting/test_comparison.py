"""Rates and times safer at equal return: known answers, coverage of intervals, zero counts, bad input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import safetygym_fake as fake

from experiments.safetygym import records
from experiments.safetygym.reporting import rates
from experiments.safetygym.reporting.comparison import stretch, times_safer, useful
from experiments.safetygym.reporting.measured import gather
from experiments.support.errors import ResultsError
from experiments.support.results.largest import at_least
from safeframe.certificates.cases import clopper_pearson_upper

NAN = float("nan")


def part(points: dict, n: int = 200, seed: int = 0, noise: float = 0.0) -> dict:
    """A run whose points (method, r_t, knob) have (return, steps with cost, episodes that have them)."""
    rng, tables = np.random.default_rng(seed), []
    for (method, r_t, knob), (mean, cost, hit) in points.items():
        spread = np.zeros(n, int)
        if hit:
            spread[np.linspace(0, n, hit, endpoint=False).astype(int)] = cost // hit
        table = pd.DataFrame({"return": mean + noise * rng.normal(size=n), "cost": spread})
        table["entries"] = (table["cost"] > 0).astype(int)
        table[["defaults", "judged", "unsafe"]] = 0
        tables.append(records.episodes(table, method, r_t, knob))
    return {"run": f"run{seed}", "seed": seed, "episodes": pd.concat(tables, ignore_index=True)}


BASE = {("ppo", NAN, NAN): (26.0, 10_000, 200), ("ppo_lag", NAN, 25.0): (16.0, 800, 100)}
OURS = {("ours", 1e-4, NAN): (14.0, 10, 5), ("ours", 1e-2, NAN): (18.0, 40, 20)}


def row(table: pd.DataFrame, method: str = "ppo_lag", by: str = "cost") -> pd.Series:
    return table[(table["method"] == method) & (table["by"] == by) & table["claimed"]].iloc[0]


def test_known_ratio_half_way_in_return_is_half_way_in_the_logarithm():
    found = times_safer(gather([part(OURS | BASE)]), draws=200)
    lag = row(found)
    assert lag["rate"] == pytest.approx(1000 * 800 / 200_000)
    assert lag["ours_rate"] == pytest.approx(1000 * np.sqrt(10 * 40) / 200_000)
    assert lag["ratio"] == pytest.approx(800 / 20)
    assert 1 < lag["low"] < lag["ratio"] < lag["high"]
    assert row(found, by="entries")["ratio"] == pytest.approx(100 / 10)
    assert row(found, "ppo")["note"] == "ours earns at most 18.0"
    assert np.isnan(row(found, "ppo")["ratio"])


def test_strictest_point_counts_where_it_earns_more_and_costs_less():
    above = {("ours", 1e-4, NAN): (17.0, 10, 5), ("ours", 1e-2, NAN): (18.0, 40, 20)}
    lag = row(times_safer(gather([part(above | BASE)]), draws=50))
    assert lag["ratio"] == pytest.approx(80)
    assert "taken as it is" in lag["note"]
    worse = {("ours", 1e-4, NAN): (17.0, 900, 5)}
    lag = row(times_safer(gather([part(worse | BASE)]), draws=50))
    assert np.isnan(lag["ratio"])
    assert "no lower there" in lag["note"]


def test_zero_counts_give_a_limit_from_episodes():
    none = {("ours", 1e-4, NAN): (17.0, 0, 0), ("ours", 1e-2, NAN): (18.0, 40, 20)}
    both = gather([part(none | BASE)])
    lag = row(times_safer(both, draws=50))
    assert lag["ratio"] == pytest.approx(800 / 0.5)  # half a step in all steps
    most = 200 * clopper_pearson_upper(0, 200, 0.05) * 2  # episodes with cost, two steps each as at 1e-2
    assert lag["limit"] == pytest.approx(800 / most)
    assert lag["low"] == pytest.approx(800 / (200 * clopper_pearson_upper(0, 200, 0.025) * 2))
    assert f"at least {at_least(lag['limit'])} times" in lag["note"]
    at = both.at("ours", 1e-4)
    table = rates.curves(both)
    assert table.at[at, "cost_limit"] == pytest.approx(1000 * most / 200_000)
    assert np.isnan(table.at[at + 1, "cost_limit"])
    assert table.at[at, "score"] == pytest.approx(17 - 10 * np.log10(500 / 200_000))


def test_points_stricter_than_what_is_trained_for_are_left_out():
    above = {("ours", 1e-4, NAN): (17.0, 10, 5), ("ours", 1e-2, NAN): (18.0, 40, 20)}
    refused = {("ours", 1e-5, NAN): (0.0, 0, 0)}
    with_it, without = (
        row(times_safer(gather([part(more | BASE)]), draws=50)) for more in (above | refused, above)
    )
    assert with_it["ratio"] == without["ratio"] == pytest.approx(80)


def test_useful_point_is_the_safest_that_earns_half_of_ppo():
    more = {("ppo_lag", NAN, 0.0): (5.0, 10, 5), ("ppo_lag", NAN, 1.0): (13.0, 100, 50)}
    both = gather([part(OURS | BASE | more)])
    assert both.points.iloc[useful(both, "ppo_lag")]["knob"] == 1.0
    assert both.points.iloc[useful(both, "ppo_lag", share=0.1)]["knob"] == 0.0
    assert useful(gather([part(BASE | {("saute", NAN, 1.0): (5.0, 10, 5)})]), "saute") is None
    found = times_safer(both, draws=20)
    assert len(found[found["method"] == "ppo_lag"]) == 6  # every point has a row, by cost and by entries


def test_points_of_a_method_share_their_runs_and_few_runs_widen():
    runs = [part(OURS | BASE, seed=seed, noise=3.0) for seed in range(3)]
    lag, one = row(times_safer(gather(runs), draws=300)), row(times_safer(gather(runs[:1]), draws=300))
    assert lag["runs"] == 3
    assert lag["ratio"] == pytest.approx(40, rel=0.15)
    assert one["runs"] == 1
    assert stretch(3, 100) == pytest.approx(4.3027 / 1.95996, rel=1e-4)
    assert stretch(1, 100) == pytest.approx(1.0124, rel=1e-3)
    again = row(times_safer(gather(runs), draws=300))
    assert (again["low"], again["high"]) == (lag["low"], lag["high"])


def test_interval_of_rare_costs_covers():
    """Episodes hit with probability 0.003, about four steps each: the interval must hold the truth."""
    rng, covered, trials = np.random.default_rng(0), 0, 300
    for _ in range(trials):
        table = fake.point(rng, "ours", 1e-4, NAN, 20.0, 0.003, 4.0, 1000)
        got = rates.with_interval(gather([{"run": "r", "seed": 0, "episodes": table}]), "violation", 0)
        high = got["violation_high"]
        covered += got["violation_low"] <= 0.003 <= high
    assert covered >= 0.95 * trials - 3 * np.sqrt(0.05 * 0.95 * trials)


def test_rates_of_several_runs_are_over_runs():
    runs = [part({("ours", 1e-4, NAN): (mean, 10, 5)}, seed=i) for i, mean in enumerate((10.0, 12.0, 17.0))]
    table = rates.curves(gather(runs)).iloc[0]
    from scipy import stats

    low, high = stats.t.interval(0.95, 2, 13.0, stats.sem([10.0, 12.0, 17.0]))
    assert (table["return"], table["return_low"], table["return_high"]) == pytest.approx((13.0, low, high))
    assert (table["runs"], table["cost_total"], table["entries_total"]) == (3, 30, 15)


def test_interval_of_a_share_stays_between_0_and_1():
    runs = [part({("ours", 1e-4, NAN): (10.0, 0, 0)}, seed=i) for i in range(3)]
    for run, defaults in zip(runs, (0, 1000, 1000), strict=True):
        run["episodes"] = run["episodes"].assign(defaults=defaults)
    row = rates.curves(gather(runs)).iloc[0]
    assert row["default_share"] == pytest.approx(2 / 3)
    assert (row["default_share_low"], row["default_share_high"]) == (0, 1)


def test_blocks_of_episodes_keep_sums_and_interval():
    rng = np.random.default_rng(0)
    table = fake.point(rng, "ppo", NAN, NAN, 20.0, 0.5, 10.0, 5000)
    got = rates.curves(gather([{"run": "r", "seed": 0, "episodes": table}])).iloc[0]
    assert got["return"] == pytest.approx(table["return"].mean())
    assert got["cost_total"] == table["cost"].sum()
    half = 1.96 * table["return"].std() / np.sqrt(5000)
    assert got["return_high"] - got["return"] == pytest.approx(half, rel=0.25)


def test_pooling_refuses_what_does_not_fit():
    good = part(OURS | BASE)
    table = good["episodes"]
    with pytest.raises(ResultsError, match="no runs"):
        gather([])
    with pytest.raises(ResultsError, match="missing columns \\['entries'\\]"):
        gather([good | {"episodes": table.drop(columns="entries")}])
    with pytest.raises(ResultsError, match="entries <= cost"):
        gather([good | {"episodes": table.assign(entries=10_000)}])
    with pytest.raises(ResultsError, match="twice"):
        gather([good | {"episodes": pd.concat([table, table])}])
    with pytest.raises(ResultsError, match="there are none"):
        gather([good | {"episodes": table.iloc[:0]}])


def test_points_that_a_run_of_the_method_lacks_are_left_out_and_named():
    short = part({("ours", 1e-4, NAN): (14.0, 10, 5)}, seed=1)
    both = gather([part(OURS | BASE), short])
    assert both.points["r_t"].dropna().tolist() == [1e-4]
    assert both.methods == ["ours", "ppo", "ppo_lag"]  # baselines need not be in every run
    assert len(both.having(both.at("ours", 1e-4))) == 2
    assert len(both.having(int(both.where("ppo")[0]))) == 1
    assert "ours at 0.01" in both.notes[0]
