"""Figure 2, tables, claims and summary from made-up runs; nothing is written outside the test's folder."""

from __future__ import annotations

import numpy as np
import pandas as pd
import production_fake as fake
import pytest
from omegaconf import OmegaConf

from experiments.production.reporting import figures, measured, mended, publication, report, scaling
from experiments.support.errors import ResultsError
from experiments.support.results import claims, saved
from experiments.support.results.publish import Target
from scripts import figures as script


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        fake.write_run(root, seed)
        fake.write_run(root, seed, "eia")
        fake.write_run(root, seed, n_t=1000)
    return root


def test_figure_2_is_the_same_bytes_twice(runs, tmp_path):
    full = measured.load("synthetic", "laptop", root=runs)[8760]
    first = figures.figure_2(full, "synthetic", directory=tmp_path / "a")
    second = figures.figure_2(full, "synthetic", directory=tmp_path / "b")
    assert [path.name for path in first] == [f"figure_2_synthetic.{kind}" for kind in ("png", "pdf", "txt")]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_caption_says_n_seeds_interval_and_what_is_not_shown(runs):
    full = measured.load("eia", "laptop", root=runs)[8760]
    text = figures.caption(full, "eia")
    assert "3 runs (seeds: 0, 1, 2" in text
    assert "t interval (95 %) over runs" in text
    assert "validate on the same hours" in text
    assert "ours at r_t = 0.0001" in text  # it produced nothing
    produced = figures.limits(full)["produced"]
    assert f"n = {produced.min():,} to {produced.max():,}" in text
    own = figures.caption(measured.load("synthetic", "laptop", root=runs)[8760], "synthetic")
    assert "same hours" not in own


def test_points_drawn_are_those_of_the_table(runs):
    import matplotlib.pyplot as plt

    full = measured.load("synthetic", "laptop", root=runs)[8760]
    table = figures.limits(full)
    figure = figures.panels(full)
    left, strong, pooled, product = figure.axes
    lines = {line.get_label(): line for line in left.get_lines()}
    rows = table[table["method"] == "ours"]
    assert np.allclose(lines["ours"].get_xdata(), rows["revenue_share"])
    assert np.allclose(lines["ours"].get_ydata(), 100 * rows["violation"])
    assert len(rows) == 10  # of 11: nothing was produced at 1e-4
    assert {"ours", "MeanVar, 24 hours", "EndToEnd"} <= set(lines)
    assert "TwoStage + margin" not in lines
    zeros = table[(table["method"] == "two_stage_margin") & table["zero"]]
    assert len(zeros) > 0
    swept = {line.get_label(): line for line in strong.get_lines()}["TwoStage + margin"]
    rail = min(swept.get_ydata())
    assert rail < 100 * table["limit"].min()
    assert (np.asarray(swept.get_ydata()) == rail).sum() == len(zeros)
    assert {"ours", "binary (the paper's)"} <= {line.get_label() for line in pooled.get_lines()}
    worst = {line.get_label(): line for line in product.get_lines()}["ours"]
    own = full.frame[(full.frame["method"] == "ours") & full.frame["metric"].str.startswith("violation.")]
    at = own[np.isclose(own["r_t"], 1.0)]["value"].max()
    assert max(worst.get_ydata()) == pytest.approx(100 * at)
    texts = [text.get_text() for text in left.texts]
    assert {"ours", "MeanVar, 24 hours", "EndToEnd"} <= set(texts)  # names stand beside lines: no legend
    assert figure.legends == []
    assert left.get_legend() is None
    plt.close(figure)


def test_missing_methods_are_no_error(tmp_path):
    table = fake.weekly(0, weeks=8)
    part = {"run": "a", "seed": 0, "order": (), "weekly": table[table["method"].isin(["ours", "oracle"])]}
    assert all(path.is_file() for path in figures.figure_2(measured.gather([part]), "x", directory=tmp_path))


def test_draw_and_summary_of_one_run(runs):
    directory = runs / "production" / "synthetic0"
    paths = figures.draw(directory)
    assert [path.name for path in paths] == [f"figure_2a_2b.{kind}" for kind in ("png", "pdf", "txt")]
    text = figures.summary(directory)
    table = fake.weekly(0)
    assert text == figures.summary(fake.tidy(table, 0), table)
    rows = table[(table["method"] == "ours") & np.isclose(table["r_t"], 1e-2)]
    line = next(line for line in text.splitlines() if line.startswith("ours ") and "r_t 0.01" in line)
    share = rows["violations"].sum() / rows["produced"].sum()
    assert f"{100 * share:.3g}" in line
    assert f"{rows['produced'].sum():,}" in line
    assert "nothing made" in text
    assert "two_stage_margin*" in text
    assert all(len(line) <= 100 for line in text.splitlines())


def test_runs_of_different_settings_are_not_pooled(tmp_path):
    for seed in range(2):
        fake.write_run(tmp_path, seed)
    fake.write_run(tmp_path, 2, steps=50)
    full = measured.load("synthetic", "laptop", root=tmp_path)[8760]
    assert full.seeds == [0, 1]
    assert "1 runs left out: other training.steps=50 (not 400)" in full.notes
    assert measured.load("synthetic", "laptop", {"training.steps": 50}, tmp_path)[8760].seeds == [2]
    with pytest.raises(ResultsError, match=r"no finished run of production with data\.source=eia"):
        measured.load("eia", "laptop", root=tmp_path)
    (tmp_path / "production" / "synthetic0" / "weekly.parquet").unlink()
    with pytest.raises(ResultsError, match=r"run synthetic0 has no table 'weekly'"):
        measured.load("synthetic", "laptop", root=tmp_path)


def test_mended_training_is_claimed_beside_the_paper_s_and_not_pooled_with_it(tmp_path):
    for seed in range(3):
        fake.write_run(tmp_path, seed)
        fake.write_run(tmp_path, seed, mended=True, steps=50)
    assert len(measured.load("synthetic", "laptop", root=tmp_path)[8760].runs) == 3
    ours = mended.load("synthetic", "laptop", {}, tmp_path)
    assert [mended.is_mended(run) for run in ours] == [True] * 3
    everything = publication.runs("laptop", {}, tmp_path)
    assert {run.run for run in ours} < {run.run for run in everything}
    kept = publication.trim(everything)
    assert all(kept(run, "weekly", run.table("weekly")).empty == mended.is_mended(run) for run in everything)

    assert set(kept(ours[0], "results", ours[0].table("results"))["metric"]) == {
        "acceptance",
        "calibration_acceptance",
    }
    target = Target(tmp_path / "results", tmp_path / "claims.csv", dirty=True)
    mended.record(ours, "synthetic", "laptop", target)
    found = claims.read(target.ledger).set_index("claim")
    for suffix in ("", "_xi_0"):
        gains = []
        for run in ours:
            rows = run.table("results")
            at = rows[np.isclose(rows["r_t"], 1e-3) & (rows["metric"] == "acceptance")]
            at = at.set_index("method")["value"]
            gains.append(at["binary" + suffix] - at["binary_cross_entropy" + suffix])
        claimed = found.loc[f"production.acceptance_gain_over_cross_entropy_mended{suffix}", "value"]
        assert claimed == pytest.approx(np.mean(gains))


def test_claims(runs, tmp_path):
    full = measured.load("synthetic", "laptop", root=runs)[8760]
    ledger = tmp_path / "claims.csv"
    assert report.record(full, "synthetic", "laptop", ledger=ledger) == []
    found = claims.read(ledger).set_index("claim")
    assert set(found["data"]) == {"synthetic"}
    assert set(found["seeds"]) == {"0-2"}
    for method in (
        "mean_variance",
        "mean_variance_chosen",
        "two_stage_margin",
        "end_to_end",
        "binary",
        "binary_cross_entropy",
        "binary_certified",
        "binary_xi_0",
    ):
        row = found.loc[f"production.times_safer.{method}"]
        assert row["low"] < row["value"] < row["high"]
    frame = full.frame
    at = frame[np.isclose(frame["r_t"], 1e-3) & (frame["metric"] == "acceptance")].set_index(
        ["method", "run"]
    )["value"]
    gain = (at["binary"] - at["binary_cross_entropy"]).to_numpy()
    row = found.loc["production.acceptance_gain_over_cross_entropy"]
    assert row["value"] == pytest.approx(gain.mean())
    assert row["high"] - row["value"] == pytest.approx(4.302653 * gain.std(ddof=1) / np.sqrt(3), rel=1e-5)
    gain = (at["binary_xi_0"] - at["binary_cross_entropy_xi_0"]).mean()
    assert found.loc["production.acceptance_gain_over_cross_entropy_xi_0", "value"] == pytest.approx(gain)
    assert "production.calibration_acceptance_gain_over_cross_entropy_xi_0" in found.index
    worst = max(
        full.violations[:, i].sum() / full.produced[:, i].sum() / full.points["r_t"].iloc[i]
        for i in full.where("ours")
        if full.produced[:, i].sum() > 0
    )
    assert found.loc["production.violation_over_threshold_max", "value"] == pytest.approx(worst)
    assert found.loc["production.violation_over_threshold_max_binary_xi_0", "value"] > worst
    assert 0.4 < found.loc["production.revenue_share_of_oracle", "value"] < 0.5


def test_a_run_repeated_from_another_place_does_not_count_twice(tmp_path):
    for seed in range(2):
        fake.write_run(tmp_path, seed, "eia")
    once = measured.load("eia", "laptop", root=tmp_path)[8760]
    again = fake.write_run(tmp_path, 0, "eia", steps=400, tag="elsewhere")
    config = OmegaConf.load(again / "config.yaml")
    del config.training["tag"]
    config.data.path = "/elsewhere/demand.csv.gz"
    OmegaConf.save(config, again / "config.yaml")
    twice = measured.load("eia", "laptop", root=tmp_path)[8760]
    assert twice.seeds == once.seeds
    assert len(twice.runs) == len(once.runs) == 2
    assert twice.produced.sum() == once.produced.sum()


def test_what_cannot_be_claimed_is_said(tmp_path):
    table = fake.weekly(0, weeks=8)
    part = {
        "run": "a",
        "seed": 0,
        "order": (),
        "weekly": table[table["method"].isin(["two_stage_margin", "oracle"])],
    }
    missing = report.record(measured.gather([part]), "synthetic", "laptop", ledger=tmp_path / "claims.csv")
    assert any("times_safer.two_stage_margin: ours was not run" in text for text in missing)
    assert any("revenue_share_of_oracle" in text for text in missing)
    assert claims.read(tmp_path / "claims.csv").empty


def test_line_recovers_a_known_slope_and_covers():
    n_t = np.repeat([100, 1000, 8760], 5)
    exact, half, slope, width = scaling.line(n_t, 0.3 + 0.05 * np.log10(n_t), np.array([100.0, 10_000.0]))
    assert slope == pytest.approx(0.05)
    assert exact == pytest.approx([0.4, 0.5])
    assert np.allclose([*half, width], 0, atol=1e-9)
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        noisy = 0.3 + 0.05 * np.log10(n_t) + rng.normal(0, 0.02, len(n_t))
        _, _, slope, width = scaling.line(n_t, noisy, n_t)
        hits += abs(slope - 0.05) <= width
    assert 273 <= hits <= 297  # 95 % of 300 is 285


@pytest.fixture(scope="module")
def raw(runs, tmp_path_factory):
    place = tmp_path_factory.mktemp("raw")
    found = publication.runs("laptop", {}, runs)
    saved.write_raw(found, publication.TABLES, place / "laptop" / "production")
    return place


def test_command_draws_everything_from_raw_files_alone(raw, tmp_path, capsys):
    assert script.main(["figure-2", "--raw", str(raw), "--results", str(tmp_path)]) == 0
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*") if "runs" not in path.parts}
    for source in ("synthetic", "eia"):
        assert f"figures/figure_2_{source}.png" in names
        assert {
            f"tables/production_{t}_{source}.csv"
            for t in (
                "times_safer",
                "times_safer_at",
                "times_safer_over",
                "curves",
                "promises",
                "per_product",
            )
        } <= names
    assert "figures/figure_2_scaling_synthetic.pdf" in names
    assert "figures/figure_2_scaling_eia.pdf" not in names  # one n_t only
    table = pd.read_csv(tmp_path / "tables" / "production_times_safer_synthetic.csv")
    assert len(table) == 9
    ledger = claims.read(tmp_path / "claims.csv")
    assert set(ledger["data"]) == {"synthetic", "eia"}
    assert set(ledger["commit"]) == {"c" * 12}  # of the runs, not of the drawing
    assert "not claimed" not in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.usefixtures("rendered_pdf")
def test_raw_files_and_runs_give_the_same_bytes(raw, runs, tmp_path):
    for name, source in (("a", ["--raw", str(raw)]), ("b", ["--runs", str(runs)])):
        assert script.main(["figure-2", *source, "--results", str(tmp_path / name)]) == 0
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) > 15
    for file in files:
        if "runs" not in file.parts:
            assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_command_without_runs_or_raw_files_says_so(tmp_path, capsys):
    assert script.main(["figure-2", "--runs", str(tmp_path), "--results", str(tmp_path)]) == 1
    assert "no finished run of production with data.source=synthetic" in capsys.readouterr().err
    assert script.main(["figure-2", "--raw", str(tmp_path), "--results", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: figure-2 has nothing to draw from: ")
    assert "runs.json does not exist" in said
    assert said.count("\n") == 1
    assert script.main(["--raw", str(tmp_path), "--results", str(tmp_path)]) == 1
    assert "there are no raw files" in capsys.readouterr().err
