"""Pooling over agents of several trainings, from made-up runs."""

from __future__ import annotations

import numpy as np
import pytest
import safetygym_fake as fake
from scipy import stats

from experiments.safetygym.reporting import apart, measured, publication, rates, report, trainings
from experiments.support.results import claims

TASK = fake.TASKS["point"]
SHIFTS = {0: 0.0, 1: 2.0, 2: -3.0}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for training, shift in SHIFTS.items():
        for seed in range(2 if training == 0 else 1):
            baselines = {} if training == 0 else {"baselines": ["ppo"]}
            fake.write_run(root, seed + 3 * training, n=60, training=training, shift=shift, **baselines)
    return root


@pytest.fixture(scope="module")
def loaded(root):
    return measured.load(TASK, "laptop", root=root)


@pytest.fixture(scope="module")
def table(loaded):
    return trainings.agent_table(report.trained_again({"point": loaded}))


def at(table, method, r_t=None):
    rows = table[table["method"] == method]
    return (rows if r_t is None else rows[np.isclose(rows["r_t"], r_t)]).set_index("agent")


def test_figures_stay_with_the_first_training_and_others_are_kept(root, loaded):
    assert loaded.full.seeds == [0, 1]
    assert len(loaded.full.runs) == 2
    assert not loaded.full.notes
    assert sorted(loaded.trainings.runs["training"]) == [0, 0, 1, 2]
    assert len(publication.runs("laptop", {}, root)) == 4
    only = measured.load(TASK, "laptop", {"agents.training_seed": 2}, root)
    assert only.full.seeds == [6]
    assert only.trainings is None


def test_each_agent_has_its_rates_and_all_count_alike(loaded, table):
    rows = at(table, "ours", 1e-2)
    assert list(rows.index) == ["0", "1", "2", "all"]
    mine = rates.curves(loaded.full)
    place = loaded.full.at("ours", 1e-2)
    assert rows.loc["0", "return"] == pytest.approx(mine.at[place, "return"])
    assert rows.loc["0", "runs"] == 2
    each = rows["return"].iloc[:3].to_numpy()
    assert rows.loc["all", "return"] == pytest.approx(each.mean())  # not by steps: agent 0 has twice as many
    half = stats.t.ppf(0.975, 2) * each.std(ddof=1) / np.sqrt(3)
    assert rows.loc["all", "return_high"] - rows.loc["all", "return"] == pytest.approx(half)
    assert rows.loc["all", "agents"] == 3
    assert rows.loc["all", "steps"] == rows["steps"].iloc[:3].sum()


def test_rare_counts_are_at_least_as_uncertain_as_their_episodes(loaded, table):
    pool = loaded.trainings
    for r_t in fake.THRESHOLDS:
        row = at(table, "ours", r_t).loc["all"]
        low, high = rates.exact(pool, "entries", pool.at("ours", r_t))
        assert row["entries_low"] <= low
        assert row["entries_high"] >= high
        assert np.isfinite(row["entries_limit"]) == (row["entries_total"] == 0)


def test_methods_with_one_agent_have_no_interval_over_agents(table):
    lag = table[table["method"] == "ppo_lag"]
    assert set(lag["agent"]) == {"0"}
    assert set(at(table, "ppo").index) == {"0", "1", "2", "all"}


def test_runs_that_differ_in_more_than_their_agents_do_not_join(tmp_path):
    fake.write_run(tmp_path, 0, n=20)
    fake.write_run(tmp_path, 0, n=20, training=1, steps=7)
    assert measured.load(TASK, "laptop", root=tmp_path).trainings is None


def test_claims_are_over_agents_and_say_which(loaded, table, tmp_path):
    path = tmp_path / "claims.csv"
    missing = report.record("point", loaded, "laptop", TASK, ledger=path)
    ledger = claims.read(path).set_index("claim")
    row = at(table, "ours", 1e-4).loc["all"]
    found = ledger.loc["safetygym.point.agents.guarded_return"]
    assert found["value"] == pytest.approx(row["return"])
    assert (found["n"], found["seeds"]) == (3, "agents of training 0, 1, 2")
    assert found["command"] == "python run.py -m +sweep=figure-3-agents"
    assert "safetygym.point.agents.ppo_entries_per_1e7" in ledger.index
    assert ledger.at["safetygym.point.guarded_return", "n"] == 2 * 60 * 1000  # the first training's runs
    lacking = [text for text in missing if "agents" in text]
    assert len(lacking) == 1
    assert "guarded_routed was run around fewer than two agents" in lacking[0]
    newest = max(loaded.kept, key=lambda run: run.finished)
    newest.manifest["commit"] = "d" * 40  # of a run around another agent
    report.record("point", loaded, "laptop", TASK, ledger=path)
    ledger = claims.read(path).set_index("claim")
    assert newest.run not in {run.run for run in loaded.saved}
    assert ledger.at["safetygym.point.agents.guarded_return", "commit"] == "d" * 12
    assert ledger.at["safetygym.point.guarded_return", "commit"] == "c" * 12


def test_routed_agents_join_in_the_table_over_agents_alone(tmp_path):
    for seed in range(2):
        fake.write_run(tmp_path, seed, "car", n=40)
        fake.write_run(tmp_path, seed, "car", n=40, name="ours_routed", baselines=("ppo_lag",))
    fake.write_run(
        tmp_path, 3, "car", n=30, name="ours_routed", training=1, baselines=("ppo",), plain=True, shift=2.0
    )
    loaded = measured.load(fake.TASKS["car"], "laptop", root=tmp_path)
    assert loaded.full.seeds == [0, 1]
    found = trainings.agent_table(report.trained_again({"car": loaded}))
    assert list(at(found, "ours_routed", 1e-2).index) == ["0", "1", "all"]
    assert list(at(found, "ppo").index) == ["0", "1", "all"]  # with a route or without it, it is one agent
    assert list(at(found, "ours", 1e-2).index) == ["0"]
    path = tmp_path / "claims.csv"
    missing = report.record("car", loaded, "laptop", fake.TASKS["car"], ledger=path)
    ledger = claims.read(path).set_index("claim")
    mine = ledger.loc["safetygym.car.agents.guarded_routed_return"]
    assert mine["value"] == pytest.approx(at(found, "ours_routed", 1e-4).loc["all", "return"])
    assert mine["command"] == "python run.py -m +sweep=figure-3-agents-car"
    assert not any("agents" in text for text in missing)
    part = next(one for one in apart.PARTS if one.robot == "car" and one.name == "ours_routed")
    again = part.load("laptop", {}, tmp_path)
    assert again is not None
    assert again.trainings is None  # they are the other table's
    assert len(publication.runs("laptop", {}, tmp_path)) == 5


def test_an_interval_over_agents_needs_two(loaded):
    pool = trainings.of_training(loaded.trainings, 1)
    with pytest.raises(ValueError, match="needs two"):
        trainings.over_agents(pool, 0)
