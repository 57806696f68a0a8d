"""Cells of the promise: counts, tests and correction against direct computation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import production_fake as fake
import pytest
from scipy import stats

from experiments.production.records import PRODUCTS
from experiments.production.reporting import measured, promises
from experiments.production.reporting.cells import cells


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        fake.write_run(root, seed)
    return measured.load("synthetic", "laptop", root=root)[8760]


def test_cells_count_every_product_hour(runs):
    by_cell = cells(runs.saved, PRODUCTS)
    assert len(by_cell) == len(fake.GUARDED) * len(fake.THRESHOLDS) * 3 * fake.PRODUCTS
    table = pd.concat([run.table("products").assign(seed=run.seed) for run in runs.saved])
    for row in by_cell.sample(20, random_state=0).to_dict("records"):
        mine = table
        for key in ("method", "seed", "product"):
            mine = mine[mine[key] == row[key]]
        mine = mine[np.isclose(mine["r_t"], row["r_t"])]
        n, k = mine["accepted"].sum(), mine["violations"].sum()
        assert (row["accepted"], row["violations"]) == (n, k)
        if n:
            assert row["over"] == pytest.approx(k / n / row["r_t"])
            exact = stats.binomtest(int(k), int(n), min(row["r_t"], 1.0), alternative="greater").pvalue
            assert row["p_exact"] == pytest.approx(exact)


def test_promises_summarise_the_cells(runs):
    by_cell = cells(runs.saved, PRODUCTS)
    table = promises.promises(runs).set_index("method")
    for method, row in table.iterrows():
        mine = by_cell[(by_cell["method"] == method) & (by_cell["r_t"] < 1) & (by_cell["accepted"] > 0)]
        assert row["cells"] == len(mine)
        assert row["worst_over"] == mine["over"].max()
        assert row["significant_exact"] == (mine["p_exact"] < 0.05).sum()
        assert row["significant_holm"] == mine["holm"].sum() <= row["significant_exact"]
        at = runs.at(method, 1e-3)
        earned = runs.revenue[:, at].sum() / runs.revenue[:, runs.oracle].sum()
        assert row["revenue_0.001"] == pytest.approx(earned)
    assert table.loc["binary_cross_entropy_xi_0", "significant_exact"] > 0  # made with 1.1 times r_t
    assert table.loc["ours", "significant_holm"] == 0  # with half of it


def test_the_worst_product_is_found(runs):
    worst = promises.worst_products(runs)
    by_cell = cells(runs.saved, PRODUCTS)
    row = worst[(worst["method"] == "ours") & np.isclose(worst["r_t"], 1.0)].iloc[0]
    mine = by_cell[(by_cell["method"] == "ours") & np.isclose(by_cell["r_t"], 1.0)]
    assert row["share"] == pytest.approx((mine["violations"] / mine["accepted"]).max())
