"""Figures 3A, 3B, 3C, 3D and ablations, and the command that draws them, from made-up runs."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pandas as pd
import pytest
import safetygym_fake as fake

from experiments.safetygym.reporting import (
    ablations,
    classification,
    comparison,
    figures,
    guarantee,
    measured,
    publication,
    rates,
    report,
)
from experiments.safetygym.reporting.scaling import figure_3b, scaling_fit, scaling_rows
from experiments.support.errors import ResultsError
from experiments.support.results import claims, saved
from scripts import figures as script


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for seed in range(2):
        for n_t in (1_000_000, 10_000, 1_000):
            fake.write_run(root, seed, "point", n_t, n=60)
        fake.write_run(root, seed, name="ours_xi_0", n=60, xi="0")
    fake.write_run(root, 0, "car", n=60)
    return root


@pytest.fixture(scope="module")
def by_robot(runs):
    return {robot: measured.load(task, "laptop", root=runs) for robot, task in fake.TASKS.items()}


@pytest.fixture(scope="module")
def full(by_robot):
    return {robot: loaded.full for robot, loaded in by_robot.items()}


def test_runs_are_pooled_by_method_and_n_t(by_robot, full):
    assert list(by_robot["point"].by_n_t) == [1_000_000, 10_000, 1_000]
    assert by_robot["point"].n_t == 1_000_000
    point = full["point"]
    assert len(point.runs) == 4  # two of ours, two of ours_xi_0
    assert len(point.having(int(point.where("ppo")[0]))) == 2  # baselines of the variant are repeats
    assert {"ours", "ours_xi_0", "ppo", "saute"} <= set(point.methods)
    assert point.seeds == [0, 1]
    assert not point.notes


def test_runs_with_other_settings_are_left_out_and_named(tmp_path):
    for seed in range(2):
        fake.write_run(tmp_path, seed, n=20)
    fake.write_run(tmp_path, 2, n=20, steps=7)
    found = measured.load(fake.TASKS["point"], "laptop", root=tmp_path).full
    assert found.seeds == [0, 1]
    assert "1 runs left out: other evaluation.steps=7" in found.notes[0]
    only = measured.load(fake.TASKS["point"], "laptop", {"evaluation.steps": 7}, tmp_path).full
    assert only.seeds == [2]
    with pytest.raises(ResultsError, match="no finished run"):
        measured.load(fake.TASKS["car"], "laptop", root=tmp_path)


def test_runs_that_repeat_others_do_not_count_twice(tmp_path):
    fake.write_run(tmp_path, 0, n=20, baselines=("ppo",))
    fake.write_run(tmp_path, 1, n=20, baselines=("ppo",))
    once = measured.load(fake.TASKS["point"], "laptop", root=tmp_path).full
    fake.write_run(tmp_path, 0, n=20, baselines=("ppo", "saute"), baseline_steps=7)
    twice = measured.load(fake.TASKS["point"], "laptop", root=tmp_path).full
    for method, r_t in (("ours", 1e-4), ("ours", 1e-2)):
        assert twice.total("steps", twice.at(method, r_t)) == once.total("steps", once.at(method, r_t))
    of_ppo = [pool.total("steps", int(pool.where("ppo")[0])) for pool in (once, twice)]
    assert of_ppo[0] == of_ppo[1]
    assert len(twice.having(int(twice.where("saute")[0]))) == 1
    for metric in ("bound", "return", "gap"):
        assert len(twice.rows(metric, "ours")) == len(once.rows(metric, "ours")) > 0
    fake.write_run(tmp_path, 1, n=20, baselines=("ppo",), baseline_steps=8)
    again = measured.load(fake.TASKS["point"], "laptop", root=tmp_path).full
    assert again.notes == ["1 runs left out: others of their seed have all of them"]
    assert again.total("steps", again.at("ours", 1e-4)) == once.total("steps", once.at("ours", 1e-4))


@pytest.mark.parametrize("none", [np.nan, -1.0])  # as a run has it, and as raw files do
def test_a_run_of_one_more_knob_joins_with_that_alone(none):
    rng, one, two = np.random.default_rng(0), ("ours", 1e-4, np.nan), ("ours", 1e-2, np.nan)
    has = {"a": [one, two, ("ppo_lag", np.nan, 1.0)], "b": [one, ("ppo_lag", np.nan, 0.5)]}
    parts = []
    for run, points in has.items():
        episodes = pd.concat([fake.point(rng, *point, 20.0, 0.1, 5, 30) for point in points])
        episodes[["r_t", "knob"]] = episodes[["r_t", "knob"]].fillna(none)
        parts.append({"run": run, "seed": 5, "training": 0, "episodes": episodes})
    pool = measured.gather(measured.each_once(reversed(parts)))
    assert not pool.notes
    steps = {tuple(p): pool.total("steps", at) for at, p in pool.points.fillna(-1.0).iterrows()}
    assert steps == {
        ("ours", 1e-4, -1.0): 30_000,
        ("ours", 1e-2, -1.0): 30_000,
        ("ppo_lag", -1.0, 0.5): 30_000,
        ("ppo_lag", -1.0, 1.0): 30_000,
    }


def test_a_sweep_over_n_t_may_have_settings_of_its_own(tmp_path):
    for seed in range(2):
        fake.write_run(tmp_path, seed, n=20)
        for n_t in (1_000, 1_000_000, 10_000_000):
            fake.write_run(tmp_path, seed, n_t=n_t, n=20, thresholds=[], steps=7)
    found = measured.load(fake.TASKS["point"], "laptop", root=tmp_path)
    assert found.n_t == 1_000_000
    assert found.full.seeds == [0, 1]
    assert len(found.full.runs) == 2
    assert list(found.by_n_t) == [10_000_000, 1_000_000, 1_000]
    assert not set(found.full.runs["run"]) & set(found.by_n_t[1_000_000].runs["run"])
    assert not found.full.notes  # the sweep's runs are not left out: they are figure 3B


def test_a_variant_that_was_run_at_several_n_t_has_rows_for_each(tmp_path):
    for seed in range(2):
        fake.write_run(tmp_path, seed, n=20)
        fake.write_run(tmp_path, seed, n=20, name="ours_logged")
        fake.write_run(tmp_path, seed, n=20, name="ours_xi_0")
    fake.write_run(tmp_path, 0, n_t=10_000_000, n=20, name="ours_logged")
    found = measured.load(fake.TASKS["point"], "laptop", root=tmp_path)
    assert {name: list(sizes) for name, sizes in found.variants.items()} == {
        "ours_logged": [10_000_000, 1_000_000]
    }
    assert len(found.full.runs) == 6  # the larger n_t is not pooled with the others
    assert len(found.kept) == 7
    rows = report.variant_rows(found)
    assert rows["n_t"].tolist() == [1_000_000, 1_000_000, 10_000_000]
    assert set(rows["method"]) == {"ours_logged"}
    alone = scaling_rows(found.variants["ours_logged"], method="ours_logged")
    pd.testing.assert_frame_equal(rows.drop(columns="method"), alone)
    assert report.variant_rows(dataclasses.replace(found, variants={})).empty


def test_figure_3a_is_the_same_bytes_twice_and_its_caption_says_n(full, tmp_path):
    one = figures.figure_3a(full, "preset laptop", tmp_path / "a")
    two = figures.figure_3a(full, "preset laptop", tmp_path / "b")
    assert [path.name for path in one] == [f"figure_3a.{kind}" for kind in ("png", "pdf", "txt")]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    text = one[2].read_text()
    assert "PointGoal1: 2 runs of a method (seeds 0, 1), n = 120 episodes" in text
    assert "CarGoal1: 1 run of a method (seed 0), n = 60 episodes" in text
    assert "one-sided 95 % upper limit" in text


def test_figure_3a_draws_the_table_and_zeros_on_the_line(full):
    table = rates.curves(full["point"])
    drawn = figures.panels(full)
    axes = drawn.axes[0]
    rows = table[table["method"] == "ours"]
    line = next(line for line in axes.lines if line.get_label() == "ours")
    assert line.get_xdata() == pytest.approx(rows["return"].to_numpy())
    zero = rows["cost"].to_numpy() == 0
    assert zero.any()
    assert not zero.all()
    height = np.asarray(line.get_ydata())
    assert height[~zero] == pytest.approx(rows["cost"].to_numpy()[~zero])
    assert (height[zero] == height[zero][0]).all()
    assert height[zero][0] < rows["cost"][~zero].min()
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert "0" in labels


def test_a_run_that_took_more_steps_scores_no_more_for_it(by_robot):
    """Without cost in both, ten times the steps and the return at one n_t: the same rows of score."""
    by_n_t = {}
    for n_t, found in list(by_robot["point"].by_n_t.items())[:2]:
        longer = 10 if n_t == 1_000_000 else 1
        sums = {name: longer * values for name, values in found.sums.items()}
        by_n_t[n_t] = dataclasses.replace(found, sums=sums | {"cost": 0 * sums["cost"]})
    rows = scaling_rows(by_n_t)
    assert rows["steps"].nunique() == 2
    np.testing.assert_allclose(
        rows["score"], rows["return"] - 10 * np.log10(0.5 * 1000 / rows["steps"].min())
    )


def test_scaling_rows_and_fit(by_robot, tmp_path):
    rows = scaling_rows(by_robot["point"].by_n_t)
    assert rows["n_t"].tolist() == [1_000, 1_000, 10_000, 10_000, 1_000_000, 1_000_000]
    first = rows.iloc[0]
    floor = max(first["cost_total"], 0.5) / first["steps"] * 1000
    assert first["score"] == pytest.approx(first["return"] - 10 * np.log10(floor))
    fit = scaling_fit(rows)
    assert fit is not None
    assert fit.slope > 0
    paths = figure_3b(by_robot, "preset laptop", tmp_path)
    text = paths[2].read_text()
    assert f"slope {fit.slope:.2g}" in text
    assert "n = 6 runs" in text
    assert "CarGoal1" not in text  # one n_t only
    assert figure_3b({"car": by_robot["car"]}, "preset laptop", tmp_path / "none") == []


def test_figure_3c_shows_the_bound_and_y_equal_x(full, tmp_path):
    drawn = guarantee.panels(full)
    upper = drawn.axes[0]
    labels = {line.get_label(): line for line in upper.lines}
    bound = labels["calibrated bound (ours)"]
    assert np.asarray(bound.get_ydata()) == pytest.approx(0.97 * np.asarray(bound.get_xdata()))
    equal = [line for line in upper.lines if len(line.get_xdata()) == 200]
    assert np.array_equal(equal[0].get_xdata(), equal[0].get_ydata())
    paths = guarantee.figure_3c(full, "preset laptop", tmp_path)
    assert "actions judged" in paths[2].read_text()


def test_ablations_put_ours_first_and_need_a_variant(full, tmp_path):
    table = ablations.ablation_table(full)
    assert table["method"].tolist() == ["ours", "ours_xi_0", "ours"]
    assert table["robot"].tolist() == ["point", "point", "car"]
    assert (table["r_t"] == 1e-4).all()
    assert table["bound"].notna().all()
    assert len(ablations.figure_ablations(full, "preset laptop", tmp_path)) == 3
    assert ablations.figure_ablations({"car": full["car"]}, "preset laptop", tmp_path / "none") == []


def test_command_writes_figures_tables_and_claims(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(comparison, "times_safer", functools.partial(comparison.times_safer, draws=50))
    assert script.main(["figure-3", "--runs", str(runs), "--results", str(tmp_path)]) == 0
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")}
    for name in ("a", "b", "c", "_ablations"):
        assert f"figures/figure_3{name}.png" in names
    for name in ("curves", "times_safer", "scaling", "ablations", "gap"):
        assert f"tables/safetygym_{name}.csv" in names
    ledger = claims.read(tmp_path / "claims.csv")
    assert set(ledger["data"]) == set(fake.TASKS.values())
    assert "safetygym.car.guarded_return" in set(ledger["claim"])
    out = capsys.readouterr().out
    assert "not claimed: safetygym.car.scaling_slope: ours was run at fewer than two n_t" in out
    table = pd.read_csv(tmp_path / "tables" / "safetygym_curves.csv")
    assert set(table["robot"]) == {"point", "car"}


def test_command_without_runs_says_so(tmp_path, capsys):
    assert script.main(["figure-3", "--runs", str(tmp_path), "--results", str(tmp_path)]) == 1
    assert "no finished run of safetygym with task=Safexp-PointGoal1-v0" in capsys.readouterr().err


def test_raw_files_give_the_same_tables_and_episodes(runs, full, tmp_path):
    found = publication.runs("laptop", {}, runs)
    assert len(found) == 9
    saved.write_raw(found, publication.TABLES, tmp_path / "safetygym")
    again = publication.load("laptop", {}, tmp_path)[0]
    for robot, pool in full.items():
        pd.testing.assert_frame_equal(again[robot].full.points, pool.points)
        for name, values in pool.sums.items():
            np.testing.assert_array_equal(again[robot].full.sums[name], values)
    pd.testing.assert_frame_equal(
        classification.entry_table({robot: loaded.full for robot, loaded in again.items()}),
        classification.entry_table(full),
    )


def test_entries_are_counted_by_what_decided_them(full):
    table = classification.entry_table(full).set_index(["robot", "r_t"])
    point = table.loc[("point", 1e-3)]
    # two runs; per run six accepted, two default, one unexplained; three without a safe candidate
    assert point[["recorded", "accepted", "default", "unexplained", "inevitable"]].tolist() == [
        18,
        12,
        4,
        2,
        6,
    ]
    assert point["predicted_cm"] == pytest.approx(3.5)  # median of 1 + i, i = 0..5, in cm
    assert point["true_cm"] == pytest.approx(-3.5)
    assert table.loc[("car", 1e-2), "recorded"] == 9


def test_figure_3d_shows_what_was_kept(full, tmp_path):
    paths = classification.figure_3d(full, "made up", tmp_path)
    assert [path.suffix for path in paths] == [".png", ".pdf", ".txt"]
    text = paths[-1].read_text()
    assert "PointGoal1: seeds 0, 1; n = 12,000 candidates, 36 entries traced at r_t up to 0.025." in text
    with pytest.MonkeyPatch.context() as patch:  # runs of an older version kept none
        patch.setattr(classification, "_read", lambda *_: pd.DataFrame())
        assert classification.figure_3d(full, "made up", tmp_path) == []
