"""Runs with tables and claims of their own, made up: another level, strict thresholds, routed agents."""

import dataclasses
import functools

import numpy as np
import pandas as pd
import pytest
import safetygym_fake as fake

from experiments.safetygym.reporting import apart, comparison, measured, publication, rates
from experiments.support.results import claims
from scripts import figures as script

NAME = "goal2_point"
LEVEL, STRICT = apart.PARTS[:2]
ROUTED = {part.robot: part for part in apart.PARTS if part.name == "ours_routed"}


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
    assert set(ledger.loc[mine, "data"]) == {"Safexp-PointGoal2-v0"}
    assert set(ledger.loc[mine, "command"]) == {"python run.py -m +sweep=figure-3-goal2"}
    assert {f"safetygym.{NAME}.{name}" for name in ("guarded_return", "ppo_cost")} <= set(ledger["claim"])
    assert {f"safetygym.{NAME}.ppo_lag_2_{name}" for name in ("return", "cost", "entries_per_1e7")} <= set(
        ledger["claim"]
    )
    assert "goal2_point: 2 runs" in capsys.readouterr().out


def test_raw_files_keep_both(roots):
    assert len(publication.runs("laptop", {}, roots[1])) == 4
    assert LEVEL.load("laptop", {}, roots[0]) is None
    assert LEVEL.load("laptop", {"task": "Safexp-PointGoal1-v0"}, roots[1]) is None


def test_the_table_has_hazards_and_vases_apart_and_the_event_over_its_threshold(roots):
    loaded = LEVEL.load("laptop", {}, roots[1])
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
    table = apart.table(pool)
    np.testing.assert_array_equal(table["hazard_entries"], np.arange(len(table)))
    assert (table["vase_entries"] == 2.0).all()
    ours = table[table["method"] == "ours"]
    np.testing.assert_allclose(ours["unsafe_over_r_t_high"], ours["unsafe_high"] / ours["r_t"])
    assert table.loc[table["method"] == "ppo", "unsafe_over_r_t"].isna().all()
    pd.testing.assert_frame_equal(table[rates.curves(pool).columns], rates.curves(pool))


@pytest.fixture(scope="module")
def cars(tmp_path_factory):
    """The Car's runs of figure 3, one under strict thresholds, two of routed agents."""
    root = tmp_path_factory.mktemp("cars")
    for seed in range(2):
        fake.write_run(root, seed, "car", n=40)
        fake.write_run(root, seed, "car", n=40, name="ours_routed", baselines=("ppo_lag",))
    fake.write_run(root, 0, "car", n_t=5_000_000, n=60, name="ours_strict")
    return root


def test_strict_thresholds_and_routed_agents_have_claims_of_their_own(cars, tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "times_safer", functools.partial(comparison.times_safer, draws=20))
    monkeypatch.setattr(
        apart, "PARTS", (dataclasses.replace(STRICT, r_t=1e-5, preset="laptop"), ROUTED["car"])
    )
    assert script.main(["figure-3", "--runs", str(cars), "--results", str(tmp_path)]) == 0
    together = pd.read_csv(tmp_path / "tables" / "safetygym_curves.csv")
    assert {"ours", "ours_routed", "ppo"} <= set(together["method"])
    assert not {"ours_strict", "ppo_lag_routed"} & set(together["method"])
    ledger = claims.read(tmp_path / "claims.csv").set_index("claim")
    for title, r_t, sweep in (("car_strict", 1e-5, "strict"), ("car_routed", 1e-4, "routed")):
        table = pd.read_csv(tmp_path / "tables" / f"safetygym_{title}.csv")
        mine = table[table["method"] == "ours"]
        np.testing.assert_allclose(mine["r_t"], sorted(fake.THRESHOLDS))
        np.testing.assert_allclose(mine["tau"], -1 + np.log10(mine["r_t"]) / 4)
        row = ledger.loc[f"safetygym.{title}.guarded_entries_per_1e7"]
        there = mine[np.isclose(mine["r_t"], r_t)].iloc[0]
        assert (row["value"], row["n"]) == (pytest.approx(1e4 * there["entries"]), there["steps"])
        assert row["command"] == f"python run.py -m +sweep=figure-3-{sweep}"
    assert "safetygym.car_routed.ppo_lag_2_return" in ledger.index
    assert not ledger.index.str.startswith("safetygym.car.ppo_lag_routed").any()
    np.testing.assert_allclose(together.loc[together["method"] == "ours_routed", "return"], mine["return"])


def test_raw_files_keep_all_of_them_and_other_tasks_have_none(cars):
    assert len(publication.runs("laptop", {}, cars)) == 5
    assert STRICT.load("laptop", {"task": fake.TASKS["point"]}, cars) is None
    assert STRICT.load("paper", {}, cars) is None
    assert (
        STRICT.command("paper") == "python run.py -m +sweep=figure-3-strict"
    )  # it is of that size by itself
    assert ROUTED["car"].command("paper") == "python run.py -m +sweep=figure-3-routed preset=paper"
    loaded = STRICT.load("laptop", {}, cars)
    assert loaded is not None
    assert loaded.n_t == 5_000_000
    assert ROUTED["point"].load("laptop", {}, cars) is None
    titles = [part.title for part in apart.PARTS[:4]]
    assert titles == ["goal2_point", "car_strict", "car_strict_routed", "point_routed"]


def test_the_interval_of_the_largest_share_is_over_the_runs_that_have_the_method(tmp_path):
    for seed in range(2):
        fake.write_run(tmp_path / "alone", seed, "car", n=40)
        fake.write_run(tmp_path / "mixed", seed, "car", n=40)
        fake.write_run(tmp_path / "mixed", seed, "car", n=40, name="ours_routed", baselines=("ppo_lag",))
    alone, mixed = (
        measured.load(fake.TASKS["car"], "laptop", root=tmp_path / name).full for name in ("alone", "mixed")
    )
    assert len(mixed.runs) == 2 * len(alone.runs)
    assert comparison.worst(mixed) == comparison.worst(alone)
