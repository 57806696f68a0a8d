"""Guards in service from a tiny run: what it leaves, and what the tables say of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from scipy import stats

from experiments.production.config import ProductionConfig
from experiments.production.records import ALARMS, LIKELIHOODS, ORACLE, PRODUCTS, SERVED, WEEKLY
from experiments.production.reporting import deployment, measured, publication
from experiments.production.reporting.cells import holm
from experiments.support import registry
from experiments.support.config import to_object
from experiments.support.errors import ConfigError
from experiments.support.files import REPOSITORY
from experiments.support.results.publish import Target
from experiments.support.results.saved import NoRuns
from experiments.support.runs import running

METHODS = ["static_plug_in", "worst_product", "shrinkage_budget"]
TINY = (
    "experiment=production", "preset=smoke", "progress=false", "threads=1", "data.hours_per_quarter=900",
    "training.epochs=1", "r_t=1e-2", "data.order=[0,1,3,2]", f"service.methods=[{','.join(METHODS)}]",
)  # fmt: skip


def configured(output, *overrides: str) -> ProductionConfig:
    registry.register_schemas()
    with initialize_config_dir(str(REPOSITORY / "configs"), version_base="1.3"):
        composed = compose("config", overrides=[*TINY, f"output={output}", *overrides])
    config = to_object(composed, ProductionConfig)
    assert isinstance(config, ProductionConfig)
    return config


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        running.perform(registry.get("production"), configured(place, f"seed={seed}"))
    return place


@pytest.fixture(scope="module")
def runs(root):
    found = deployment.load("synthetic", "smoke", root=root)
    assert list(found) == [(0, 1, 3, 2)]
    return found[0, 1, 3, 2]


def test_a_run_leaves_what_every_product_did_in_every_week(runs):
    for run in runs:
        served, weekly = run.table(SERVED), run.table(WEEKLY)
        assert set(served["method"]) == set(METHODS)
        assert (served["violations"] <= served["accepted"]).all()
        ours = weekly[weekly["method"] == "worst_product"].groupby("r_t")[["produced", "violations"]].sum()
        mine = served[served["method"] == "worst_product"].groupby("r_t")[["accepted", "violations"]].sum()
        # the planner may leave out a product that it might make
        assert (ours["produced"].to_numpy() <= mine["accepted"].to_numpy()).all()
        assert (weekly["method"] == ORACLE).any()
        assert len(run.table(ALARMS)) == len(METHODS) * served["r_t"].nunique() * 4


def test_cells_count_and_test_what_was_served(runs):
    cells = deployment.served(runs)
    assert len(cells) == 2 * len(METHODS) * cells["r_t"].nunique() * 4
    served = pd.concat(run.table(SERVED).assign(seed=run.seed) for run in runs)
    some = cells[(cells["accepted"] > 0) & (cells["r_t"] < 1)].iloc[::7]
    assert len(some) > 3
    for row in some.itertuples():
        weeks = served[
            (served["method"] == row.method) & (served["r_t"] == row.r_t)
            & (served["product"] == row.product) & (served["seed"] == row.seed)
        ]  # fmt: skip
        k, n = int(weeks["violations"].sum()), int(weeks["accepted"].sum())
        assert (row.violations, row.accepted) == (k, n)
        assert row.over == pytest.approx(k / n / row.r_t)
        assert row.p_exact == pytest.approx(stats.binomtest(k, n, row.r_t, "greater").pvalue)
        excess = weeks["violations"] - row.r_t * weeks["accepted"]
        if excess.mean() > 0:
            wanted = stats.ttest_1samp(excess, 0.0, alternative="greater").pvalue
            assert row.p_weeks == pytest.approx(wanted)
        else:
            assert row.p_weeks == 1.0


def test_holms_correction_against_its_definition():
    rng = np.random.default_rng(0)
    for _ in range(50):
        p = rng.random(int(rng.integers(1, 9))) ** 4
        ordered, wanted = np.sort(p), 0
        while wanted < len(p) and ordered[wanted] * (len(p) - wanted) < 0.05:
            wanted += 1
        found = holm(p)
        assert found.sum() == wanted
        assert set(p[found]) == set(ordered[:wanted])


def test_the_table_compares_with_the_static_guard(runs):
    table = deployment.table(runs).set_index(["method", "r_t"])
    same = table.xs(deployment.STATIC)
    made = same[same["produced"] > 0]
    np.testing.assert_allclose(made["revenue_kept"], 1.0)
    assert (table["significant_exact"] <= table["above"]).all()
    assert (table["above"] <= table["accepting"]).all()
    assert (table["accepting"] <= table["cells"]).all()
    text = deployment.summary(runs)
    assert all(method in text for method in METHODS)


def test_figures_tables_and_claims_are_written_and_are_no_part_of_figure_2(root, runs, tmp_path):
    target = Target(tmp_path, tmp_path / "claims.csv", dirty=True)
    found = deployment.load("synthetic", "smoke", root=root)
    paths = deployment.publish(found, "synthetic", "smoke", target)
    names = {path.name for path in paths}
    assert "production_deployment_synthetic_0132.csv" in names
    assert "production_deployment_synthetic_0132.png" in names
    claims = pd.read_csv(tmp_path / "claims.csv")
    assert "production.deployment.0132.worst_product.significant_exact" in set(claims["claim"])
    caption = deployment.caption(deployment.pooled(runs), "synthetic")
    assert "2 seeds" in caption
    assert "900" in caption
    with pytest.raises(NoRuns, match="figure 2"):
        measured.load("synthetic", "smoke", root=root)
    assert publication.TABLES == (WEEKLY, PRODUCTS, SERVED, ALARMS, LIKELIHOODS)


def test_an_unknown_guard_in_service_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"service\.methods"):
        configured(tmp_path, "service.methods=[best]")
