"""PointGoal2's table, figure and claims, from made-up runs, beside those of level 1."""

import dataclasses
import functools

import numpy as np
import pandas as pd
import pytest
import safetygym_fake as fake

from experiments.safetygym.reporting import comparison, level, publication, rates
from experiments.support.results import claims
from scripts import figures as script

NAME = "goal2_point"


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Runs of level 1 alone, and of both levels."""
    alone, both = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("both")
    for root in (alone, both):
        for seed in range(2):
            fake.write_run(root, seed, "point", n=40)
    for seed in range(2):
        fake.write_run(both, seed, NAME, n=40, baselines=("ppo", "ppo_lag"))
    return alone, both


def test_each_level_has_its_own_table_figure_and_claims(roots, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(comparison, "times_safer", functools.partial(comparison.times_safer, draws=20))
    assert script.main(["figure-3", "--runs", str(roots[1]), "--results", str(tmp_path)]) == 0
    assert set(pd.read_csv(tmp_path / "tables" / "safetygym_curves.csv")["robot"]) == {"point"}
    table = pd.read_csv(tmp_path / "tables" / "safetygym_goal2.csv")
    assert set(table["method"]) == {"ours", "ppo", "ppo_lag"}
    assert (tmp_path / "figures" / "figure_3_goal2.png").exists()
    assert "vase" in (tmp_path / "figures" / "figure_3_goal2.txt").read_text()
    assert "vase" not in (tmp_path / "figures" / "figure_3a.txt").read_text()
    ledger = claims.read(tmp_path / "claims.csv")
    mine = ledger["claim"].str.contains(NAME)
    assert set(ledger.loc[~mine, "data"]) == {"Safexp-PointGoal1-v0"}
    assert set(ledger.loc[mine, "data"]) == {level.TASK}
    assert set(ledger.loc[mine, "command"]) == {level.COMMAND}
    assert {f"safetygym.{NAME}.{name}" for name in ("guarded_return", "ppo_cost")} <= set(ledger["claim"])
    assert {f"safetygym.{NAME}.ppo_lag_2_{name}" for name in ("return", "cost", "entries_per_1e7")} <= set(
        ledger["claim"]
    )
    assert "goal2_point: 2 runs" in capsys.readouterr().out


def test_raw_files_keep_both(roots):
    assert len(publication.runs("laptop", {}, roots[1])) == 4
    assert level.load("laptop", {}, roots[0]) is None
    assert level.load("laptop", {"task": "Safexp-PointGoal1-v0"}, roots[1]) is None


def test_the_table_has_hazards_and_vases_apart_and_the_event_over_its_threshold(roots):
    loaded = level.load("laptop", {}, roots[1])
    assert loaded is not None
    pool = loaded.full
    rows = []
    for at, point in pool.points.iterrows():
        for run in pool.runs["run"]:
            found = pool.frame[(pool.frame["run"] == run) & (pool.frame["metric"] == "return")].iloc[[0]]
            about = {name: point[name] for name in ("method", "r_t", "knob")}
            rows += [
                found.assign(**about, metric=m, value=v)
                for m, v in (("hazard_entries", at), ("vase_entries", 2.0))
            ]
    pool = dataclasses.replace(pool, frame=pd.concat([pool.frame, *rows], ignore_index=True))
    table = level.table(pool)
    np.testing.assert_array_equal(table["hazard_entries"], np.arange(len(table)))
    assert (table["vase_entries"] == 2.0).all()
    ours = table[table["method"] == "ours"]
    np.testing.assert_allclose(ours["unsafe_over_r_t_high"], ours["unsafe_high"] / ours["r_t"])
    assert table.loc[table["method"] == "ppo", "unsafe_over_r_t"].isna().all()
    pd.testing.assert_frame_equal(table[rates.curves(pool).columns], rates.curves(pool))
