"""Summary and claims of Safety Gym from made-up runs."""

from __future__ import annotations

import pytest
import safetygym_fake as fake

from experiments.safetygym.reporting import measured, rates, report
from experiments.safetygym.reporting.comparison import times_safer
from experiments.support.results import claims


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for n_t in (1_000_000, 1_000):
        fake.write_run(root, 0, n_t=n_t, n=60)
    fake.write_run(root, 0, name="guarded_ppo", n=60)
    return root


@pytest.fixture(scope="module")
def loaded(root):
    return measured.load(fake.TASKS["point"], "laptop", root=root)


@pytest.fixture(scope="module")
def recorded(loaded, tmp_path_factory):
    path = tmp_path_factory.mktemp("ledger") / "claims.csv"
    missing = report.record("point", loaded, "laptop", fake.TASKS["point"], path)
    return claims.read(path).set_index("claim"), missing, times_safer(loaded.full)


def test_claims_are_the_table(loaded, recorded):
    ledger, _, _ = recorded
    full = loaded.full
    table = rates.curves(full)
    at, ppo = full.at("ours", 1e-4), int(full.where("ppo")[0])
    point = ledger.loc["safetygym.point.guarded_entries_per_1e7"]
    assert point["value"] == pytest.approx(1e7 * table.at[at, "entries_total"] / table.at[at, "steps"])
    assert point["low"] <= point["value"] <= point["high"]
    assert ledger.at["safetygym.point.ppo_return", "value"] == pytest.approx(table.at[ppo, "return"])
    assert ledger.at["safetygym.point.ppo_cost", "value"] == pytest.approx(table.at[ppo, "cost"])
    ratio = (table["unsafe"] / table["r_t"])[table["method"] == "ours"].max()
    assert ledger.at["safetygym.point.violation_over_threshold_max", "value"] == pytest.approx(ratio)
    assert "safetygym.scaling_slope" in ledger.index


def test_times_safer_is_claimed_at_its_limit_where_ours_has_no_count(recorded):
    ledger, missing, safer = recorded
    claimed = safer[safer["claimed"].eq(True) & safer["ratio"].notna()].set_index(["method", "by"])
    zero = claimed[claimed["limit"].notna()]
    assert len(zero)
    for (method, by), row in claimed.iterrows():
        name = {"cost": "times_safer", "entries": "times_fewer_entries"}[by]
        value = ledger.at[f"safetygym.point.{name}.{method}", "value"]
        assert value == pytest.approx(row["limit"] if (method, by) in zero.index else row["ratio"])
    assert any("times_safer.ppo: ours earns at most" in text for text in missing)


def test_summary_shows_every_point_of_ours_and_limits(loaded):
    text = report.summary(loaded.full)
    assert sum(line.startswith("ours ") for line in text.splitlines()) == len(fake.THRESHOLDS)
    assert sum(line.startswith("guarded_ppo ") for line in text.splitlines()) == 1  # at r_t = 1e-4 only
    assert "0 <" in text
    assert "PPO" not in text.splitlines()[0]


def test_report_of_a_run_names_figure_and_pictures(root, loaded, tmp_path):
    source = root / "safetygym" / loaded.by_n_t[1_000].saved[0].run
    for name in ("episodes.parquet", "results.parquet", "config.yaml"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    text = report.report_text(tmp_path, {"guarded episode": tmp_path / "episode.gif"})
    assert f"figure: {tmp_path / 'figure_3a.png'}" in text
    assert "guarded episode: " in text
    assert (tmp_path / "figure_3a.png").is_file()


def test_without_ours_nothing_is_claimed_for_it(tmp_path):
    fake.write_run(tmp_path, 0, name="guarded_ppo", n=30)
    found = measured.load(fake.TASKS["point"], "laptop", root=tmp_path)
    missing = report.record("point", found, "laptop", fake.TASKS["point"], ledger=tmp_path / "claims.csv")
    ledger = claims.read(tmp_path / "claims.csv")
    assert set(ledger["claim"]) == {"safetygym.point.ppo_return", "safetygym.point.ppo_cost"}
    assert any("ours was not run" in text for text in missing)
