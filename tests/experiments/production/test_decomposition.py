"""Where thresholds of one year fail in another: the counts, the four factors, and their table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from experiments.production.decomposition import likelihoods
from experiments.production.demand.sources import Quarter, synthetic
from experiments.production.records import LIKELIHOODS, LIKELIHOODS_COLUMNS
from experiments.production.reporting import decomposition
from experiments.support.errors import ResultsError
from experiments.support.results.publish import Target
from experiments.support.results.saved import Saved

ORDER = (0, 1, 3, 2)


@pytest.fixture(scope="module")
def data():
    return synthetic(1, hours_per_quarter=400, order=ORDER)


def test_counts_are_those_of_a_loop(data):
    rng = np.random.default_rng(0)
    scale = rng.normal(size=data.unsafe.shape)
    tau = np.array([[-np.inf] * 4, [0.0, 0.5, -0.5, np.inf]])
    found = likelihoods(scale, tau, [0.01, 0.1], data)
    assert tuple(found.columns) == LIKELIHOODS_COLUMNS
    assert len(found) == 4 * 4 * 2 * 3  # years, products, thresholds, weeks (two and a part)
    assert found.groupby("period")["role"].first().tolist() == list(ORDER)
    assert not found[found["r_t"] == 0.01][["accepted_safe", "accepted_unsafe"]].to_numpy().any()
    for row in found[found["r_t"] == 0.1].itertuples():
        i = data.names.index(row.product)
        first = data.target_hour[data.period == row.period][0]
        mine = (data.period == row.period) & ((data.target_hour - first) // 168 == row.week)
        bad, kept = data.unsafe[mine, i], scale[mine, i] < tau[1, i]
        assert (row.safe, row.unsafe) == ((~bad).sum(), bad.sum())
        assert (row.accepted_safe, row.accepted_unsafe) == ((kept & ~bad).sum(), (kept & bad).sum())


def test_of_the_year_calibrated_on_only_what_was_calibrated_on_counts(data):
    some = data.where(Quarter.INTERNAL_TEST_VALIDATION)[::3]
    found = likelihoods(np.zeros(data.unsafe.shape), np.ones((1, 4)), [0.1], data, some)
    sums = (
        found[found["product"] == data.names[0]].groupby("role")[["accepted_safe", "accepted_unsafe"]].sum()
    )
    assert sums.sum(axis=1).to_dict() == {0: 400, 1: 400, 2: 400, 3: len(some)}


def test_factors_by_hand():
    """r_t = 1/11, odds .1. Calibrated: 900 safe, 99 unsafe, 450 and 19 accepted; U+ = 19/99 + 1/100."""
    calibrated, used = np.array([900.0, 99, 450, 19]), np.array([800.0, 200, 320, 60])
    found = decomposition.factors(calibrated, used, 1 / 11)
    more = 19 / 99 + 0.01
    assert found["excess"] == pytest.approx(60 / 320 / 0.1)
    assert found["cases"] == pytest.approx(more / 0.5 * (99 / 900) / 0.1)
    assert found["U"] == pytest.approx(0.3 / more)
    assert found["L"] == pytest.approx(0.5 / 0.4)
    assert found["prior"] == pytest.approx(0.25 / (99 / 900))


def test_the_factors_multiply_to_the_excess_whatever_the_counts():
    rng = np.random.default_rng(0)
    safe, unsafe = rng.integers(50, 9000, (2, 500)), rng.integers(5, 900, (2, 500))
    counts = np.stack([safe, unsafe, rng.binomial(safe, 0.5), rng.binomial(unsafe, 0.01)], axis=1).astype(
        float
    )
    r_t = rng.uniform(1e-4, 0.9, 500)
    found = decomposition.factors(counts[0], counts[1], r_t, runs=5)
    product = np.prod([found[name] for name in decomposition.FACTORS], axis=0)
    np.testing.assert_allclose(product, found["excess"], rtol=1e-10)
    assert (counts[0, 3] == 0).any()  # without an unsafe case seen `cases` says what one would weigh
    assert np.isfinite(found["cases"]).all()
    nothing = decomposition.factors(np.array([9.0, 9, 0, 0]), np.array([9.0, 9, 0, 0]), 0.1)
    assert all(np.isnan(value) for value in nothing.values())


def test_only_what_moved_is_blamed():
    """Each of the three movements alone, and a year that is the same but for the one case more."""
    base = np.array([1000.0, 1000, 500, 10])
    same = decomposition.factors(base, base, 0.02)
    assert (same["L"], same["prior"]) == (1, 1)
    assert same["U"] == pytest.approx(0.01 / (0.01 + 1 / 1001))
    prior = decomposition.factors(base, base * [1, 2, 1, 2], 0.02)
    assert (prior["L"], prior["prior"]) == (1, 2)
    assert prior["U"] == same["U"]
    riskier = decomposition.factors(base, base * [1, 1, 1, 3], 0.02)
    assert riskier["U"] == pytest.approx(3 * same["U"])
    fewer = decomposition.factors(base, base * [1, 1, 0.5, 1], 0.02)
    assert (fewer["L"], fewer["U"], fewer["prior"]) == (2, same["U"], 1)


def made(run: str, seed: int, shift: float = 0.0, year: int | None = None, hours: int = 8760) -> Saved:
    """A run whose odds of an unsafe hour in the year in use are exp(shift) times as large."""
    data = synthetic(seed if year is None else year, hours_per_quarter=hours, order=ORDER)
    rng = np.random.default_rng(seed)
    logit = rng.normal(-3, 2, data.unsafe.shape)
    moved = logit + shift * (data.quarter == Quarter.VALIDATION)[:, None]
    data.unsafe[:] = np.random.default_rng(7).random(logit.shape) < 1 / (1 + np.exp(-moved))
    tau = np.array([[-4.0] * 4, [-1.5] * 4, [np.inf] * 4])
    counts = likelihoods(logit, tau, [0.01, 0.1, 1.0], data)
    config = {"data": {"source": "synthetic", "order": list(ORDER)}, "preset": "laptop", "seed": seed}
    manifest = {"commit": "c" * 40, "finished": f"2020-01-0{seed + 1}"}
    return Saved(run, config, manifest, {LIKELIHOODS: counts}.get)


@pytest.fixture(scope="module")
def runs():
    return [made(str(seed), seed, shift=0.7) for seed in range(4)]


def test_the_table_has_every_other_year_product_and_threshold(runs):
    found = decomposition.table(runs)
    assert len(found) == 3 * 4 * 2  # r_t = 1 promises nothing
    assert set(found["role"]) == {0, 1, 2}
    used = found[found["role"] == 2]
    tables = pd.concat(run.table(LIKELIHOODS) for run in runs)
    for row in used.to_dict("records"):
        mine = tables[(tables["product"] == row["product"]) & (tables["r_t"] == row["r_t"])]
        sums = mine.groupby("role")[list(decomposition.COUNTS)].sum()
        assert [row[name] for name in decomposition.COUNTS] == sums.loc[2].tolist()
        assert [row[f"calibrated_{name}"] for name in decomposition.COUNTS] == sums.loc[3].tolist()
        share = row["accepted_unsafe"] / (row["accepted_safe"] + row["accepted_unsafe"])
        assert row["over"] == pytest.approx(share / row["r_t"])
        assert row["excess"] == pytest.approx(np.prod([row[name] for name in decomposition.FACTORS]))
        for name in ("U", "L", "prior", "excess"):
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
        assert row["prior_low"] > 1.1  # the odds were raised by exp(.7) at every score
        assert row["L_low"] < 1.05
        assert row["largest"] == (max(decomposition.FACTORS, key=row.get) if row["excess"] > 1 else "")
    assert (used["largest"] != "").any()


def test_years_without_a_change_hold_1_in_their_intervals(runs):
    quiet = decomposition.table([made(str(seed), seed) for seed in range(4)])
    covered = [
        ((quiet[f"{name}_low"] <= 1) & (quiet[f"{name}_high"] >= 1)).mean() for name in ("U", "L", "prior")
    ]
    assert min(covered) > 0.85


def test_runs_that_saw_the_same_hours_share_the_draws_of_weeks():
    """Were they drawn apart, two runs would look like two years, and the interval of the prior too narrow."""
    alone = made("a", 0)
    counts = alone.table(LIKELIHOODS)
    twice = [alone, Saved("b", alone.config, alone.manifest, {LIKELIHOODS: counts}.get)]
    counted = decomposition.Counted(twice)
    assert counted.group.tolist() == [0, 0]
    one = decomposition.Counted([alone])
    spread = [np.log(each.drawn([3])[1] / each.drawn([3])[0]).std() for each in (one, counted)]
    assert spread[1] == pytest.approx(spread[0], rel=0.1)


def test_summary_and_claims(runs, tmp_path):
    text = decomposition.summary(runs[:1])
    assert "product-1       2024-01-02    0.01" in text
    paths = decomposition.publish(
        {ORDER: runs}, "synthetic", "laptop", Target(tmp_path, tmp_path / "claims.csv")
    )
    assert [path.name for path in paths] == ["production_decomposition_synthetic_0132.csv"]
    claims = pd.read_csv(tmp_path / "claims.csv").set_index("claim")
    names = decomposition.CLAIMED.values()
    mostly = [claims.loc[f"production.decomposition.0132.mostly.{name}", "value"] for name in names]
    above = claims.loc["production.decomposition.0132.above"]
    assert sum(mostly) == above["value"]
    assert above["n"] == 8
    assert above["value"] > 0


def test_without_counts_or_a_year_to_calibrate_on_it_says_so(runs):
    with pytest.raises(ResultsError, match="no run kept the counts"):
        decomposition.table([])
    counts = runs[0].table(LIKELIHOODS)
    without = Saved("a", {}, {}, {LIKELIHOODS: counts[counts["role"] != 3]}.get)
    with pytest.raises(ResultsError, match=r"no year has the role 3; roles are \[0, 1, 2\]"):
        decomposition.table([without])
