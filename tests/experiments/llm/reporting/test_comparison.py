"""Times safer, curves, scaling and claims from made-up runs whose answers are known."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from experiments.llm.records import BLOCK_COLUMNS, BLOCKS_TABLE, ERRORS
from experiments.llm.reporting import (
    capacities,
    comparison,
    figures,
    labels,
    measured,
    people_figure,
    publication,
    report,
    scaling,
    transfer_figure,
)
from experiments.support.errors import ResultsError
from experiments.support.results import claims, frames, saved
from experiments.support.results import figures as figures_of_results
from experiments.support.results.curves import stretch
from experiments.support.results.ratios import share_interval

NAN = float("nan")
BLOCKS, EACH = 10, 100
POINTS = {  # (method, r_t, knob): share answered, harmful share of answers, mean reward
    ("ours", 0.01, NAN): (0.4, 0.005, 0.3),
    ("ours", 0.1, NAN): (0.9, 0.05, 0.8),
    ("ours_accepted_xi_0", 0.01, NAN): (0.5, 0.02, 0.5),
    ("cross_entropy_accepted", 0.01, NAN): (0.5, 0.02, 0.4),
    ("rejection_sampling", NAN, 0.1): (0.8, 0.1, 0.55),
    ("ai", NAN, NAN): (1.0, 0.2, 0.8),
    ("best_of_k", NAN, NAN): (1.0, 0.3, 1.2),
    ("oracle", NAN, NAN): (1.0, 0.0, 1.0),
    ("default", NAN, NAN): (0.0, 0.0, 0.0),
}


WEIGHTS = {"synthetic_best": "best"} | {
    data: "all" for data in measured.SYNTHETIC if data.startswith(measured.CAPACITY)
}
"""What of a classifier runs on some data train; LoRA's adapters on the others."""


def write_run(
    root,
    seed: int,
    n_t: int | None = None,
    lift: float = 0.0,
    points: dict = POINTS,
    extra: tuple = (),
    data: str = "synthetic",
    mended: bool = False,
):
    directory = root / "llm" / f"{seed}_{n_t}_{data}_{mended}"
    directory.mkdir(parents=True)
    rows, tidy = [], []
    for (method, r_t, knob), (answered, harmful, reward) in points.items():
        given = answered * EACH
        for block in range(BLOCKS):
            wobble = lift + 0.002 * ((seed * 7 + block) % 5 - 2) + 0.003 * (seed % 3 - 1)
            gained = reward + (wobble if method not in ("oracle", "default") else 0.0)
            rows.append((method, r_t, knob, block, EACH, given, harmful * given, NAN, EACH * gained))
        if np.isfinite(r_t):
            at = {"method": method, "r_t": r_t, "n_t": n_t or 8000, "n": 4000}
            tidy.append(at | {"metric": "acceptance", "value": answered + 0.001 * seed * (method[0] == "o")})
            tidy.append(at | {"metric": "harmful.accepted", "value": harmful / 2})
    pd.DataFrame(rows, columns=list(BLOCK_COLUMNS)).to_parquet(directory / f"{BLOCKS_TABLE}.parquet")
    sums = frames.write(frames.tidy([*tidy, *extra], experiment="llm", seed=seed), directory)
    config = {
        "source": "synthetic",
        "preset": "laptop",
        "seed": seed,
        "r_t": 0.01,
        "evaluation": {"n_t": n_t},
        "tailoring": {"relative": mended},
        "models": {key.split(".")[1]: value for key, value in measured.SYNTHETIC[data].items()},
        "capacity": {"weights": WEIGHTS.get(data, "lora")},
    }
    OmegaConf.save(OmegaConf.create(config), directory / "config.yaml")
    (directory / "manifest.json").write_text(
        json.dumps({"run": directory.name, "commit": "c" * 40, "finished": str(seed)})
    )
    (directory / "DONE").write_text(json.dumps({"sha256": sums, "code": {}}))
    return directory


@pytest.fixture
def root(tmp_path):
    for seed in (5, 6, 7):
        write_run(tmp_path, seed)
        for n_t, lift in ((80, -0.2), (800, -0.1)):
            write_run(tmp_path, seed, n_t, lift)
    return tmp_path


def test_runs_are_grouped_by_n_t_and_pooled(root):
    found = measured.load("synthetic", "laptop", root=root)
    assert list(found) == [8000, 800, 80]
    full = found[8000]
    assert full.seeds == [5, 6, 7]
    assert full.sums["prompts"].shape == (3, len(POINTS), BLOCKS)
    assert full.points["r_t"].iloc[full.where("ours")].tolist() == [0.01, 0.1]
    assert measured.trained_at(full) == 0.01
    with pytest.raises(ResultsError, match="no finished run of llm with preset=laptop, source=recorded"):
        measured.load("pku", "laptop", root=root)


def test_runs_around_another_model_or_with_other_labels_are_kept_apart(root):
    write_run(root, 8, data="synthetic_ppo_lag")
    write_run(root, 9, data="synthetic_truth")
    for data, seeds in (("synthetic", [5, 6, 7]), ("synthetic_ppo_lag", [8]), ("synthetic_truth", [9])):
        assert measured.load(data, "laptop", root=root)[8000].seeds == seeds


def test_seeds_after_a_rule_was_named_are_kept_apart_from_those_it_was_chosen_on(root):
    for seed in (8, 9, 10, 11):
        write_run(root, seed, data="synthetic_capacity")
    assert measured.load("synthetic_capacity", "laptop", root=root)[8000].seeds == [8, 9]
    assert measured.load("synthetic_capacity_named", "laptop", root=root)[8000].seeds == [10, 11]


def compared(reward: dict[str, float], taken: str) -> list[dict]:
    """Results of a run that compared capacities."""
    of = {name: {"reward": value, "auc": 0.9 + value / 100, "chosen": float(name == taken)}
          for name, value in reward.items()}  # fmt: skip
    return [
        {"method": f"capacity.{name}", "metric": f"held_out.{metric}", "value": value, "r_t": 0.01, "n": 400}
        for name, values in of.items() for metric, value in values.items()
    ]  # fmt: skip


def test_runs_that_choose_a_capacity_are_kept_apart_and_their_choices_tabulated(root):
    write_run(root, 8, data="synthetic_best", extra=compared({"lora16": 0.5, "all*3": 0.8}, "all*3"))
    write_run(root, 9, data="synthetic_best", extra=compared({"lora16": 0.7, "all*3": 0.6}, "lora16"))
    found = measured.load("synthetic_best", "laptop", root=root)[8000]
    assert found.seeds == [8, 9]
    assert not any(name.startswith("capacity") for name in measured.curves(found)["method"])
    table = capacities.capacity_rows(found).set_index("capacity")
    assert list(table.index) == ["lora16", "all*3"]
    assert table["taken"].tolist() == [1, 1]
    assert table["reward"].tolist() == pytest.approx([0.6, 0.7])
    assert table["behind"].tolist() == pytest.approx([0.15, 0.05])  # what a fixed choice would have lost
    assert table.at["lora16", "behind_high"] == pytest.approx(0.15 + 12.7062 * 0.15, rel=1e-4)
    assert table["prompts"].tolist() == [400, 400]
    usual = measured.load("synthetic", "laptop", root=root)[8000]
    assert capacities.capacity_rows(usual).empty
    assert "Every classifier, those of the baselines too" in figures.caption(found, "synthetic_best")
    assert "Every classifier" not in figures.caption(
        measured.load("synthetic", "laptop", root=root)[8000], "x"
    )
    with figures_of_results.style():
        legend = [text.get_text() for text in figures.panels(found).legends[0].get_texts()]
    assert "cross-entropy, bias correction" in legend
    single = capacities.lines(measured.gather([found.saved[0]]))
    assert single == ["capacity lora16: held-out reward 0.500, AUC 0.905",
                      "capacity all*3: held-out reward 0.800, AUC 0.908, taken"]  # fmt: skip


def test_runs_with_the_mended_loss_are_kept_apart(root):
    for seed in (5, 6, 7, 8):
        write_run(root, seed, n_t=None, lift=0.1, mended=True)
    assert measured.load("synthetic_mended", "laptop", root=root)[8000].seeds == [5, 6, 7, 8]
    assert measured.load("synthetic", "laptop", root=root)[8000].seeds == [5, 6, 7]
    with pytest.raises(ResultsError, match=r"tailoring\.relative=True"):
        measured.load("synthetic_truth_mended", "laptop", root=root)


def test_a_seed_that_was_run_with_more_baselines_counts_once(tmp_path):
    write_run(tmp_path, 5)
    more = write_run(tmp_path / "b", 5, points=POINTS | {("ppo_lag", NAN, 0.02): (1.0, 0.1, 0.7)})
    more.rename(tmp_path / "llm" / "more")
    found = measured.load("synthetic", "laptop", root=tmp_path)[8000]
    assert found.seeds == [5]
    assert len(found.runs) == 1
    assert len(found.where("ppo_lag")) == 1


def test_curves_have_the_shares_that_were_put_in(root):
    table = measured.curves(measured.load("synthetic", "laptop", root=root)[8000])
    row = table[(table["method"] == "ours") & (table["r_t"] == 0.01)].iloc[0]
    assert (row["harmful"], row["default_share"], row["accepted"]) == pytest.approx((0.005, 0.6, 0.0025))
    assert row["harmful_prompt"] == pytest.approx(0.002)
    assert row["reward_low"] < 0.3 < row["reward_high"]
    oracle = table[table["method"] == "oracle"].iloc[0]
    assert oracle["harmful"] == 0.0
    assert oracle["interval"] == "Clopper-Pearson 95%"
    assert oracle["harmful_high"] == pytest.approx(1 - 0.025 ** (1 / 3000))


def test_ratio_at_equal_reward_is_interpolated_on_the_logarithm(root):
    full = measured.load("synthetic", "laptop", root=root)[8000]
    safer = comparison.times_safer(full, draws=200).set_index("method")
    row = safer.loc["rejection_sampling"]
    rates = [(k + 0.5) / (n + 1) for k, n in ((6, 1200), (135, 2700))]
    middle = np.exp(np.log(rates[0]) + 0.5 * np.log(rates[1] / rates[0]))  # 0.55 is half way from 0.3 to 0.8
    assert row["ours_harmful"] == pytest.approx(middle, rel=1e-6)
    assert row["ratio"] == pytest.approx((240.5 / 2401) / middle, rel=1e-6)
    assert row["low"] <= row["ratio"] <= row["high"]
    assert row["claimed"]
    assert safer.loc["ai", "ratio"] == pytest.approx((600.5 / 3001) / rates[1], rel=1e-3)
    assert safer.loc["best_of_k", "note"].startswith("ours earns at most 0.8")
    assert not safer.loc["cross_entropy_accepted", "claimed"]  # earns less than half


def test_ours_without_an_answer_has_no_ratio(tmp_path):
    silent = {key: (0.0, 0.0, 0.0) if key[0] == "ours" else value for key, value in POINTS.items()}
    write_run(tmp_path, 5, points=silent)
    safer = comparison.times_safer(measured.load("synthetic", "laptop", root=tmp_path)[8000], draws=20)
    assert set(safer["note"]) == {"ours gave no answer at any threshold"}


def test_scores_and_slope(root):
    found = measured.load("synthetic", "laptop", root=root)
    rows = scaling.scaling_rows(found, 0.01)
    row = rows[rows["n_t"] == 8000].iloc[0]
    gained = row["reward_share"]
    assert row["score"] == pytest.approx(gained - 0.1 * np.log10((2 + 0.5) / (400 + 1)))
    fit = scaling.scaling_fit(rows)
    assert fit is not None
    assert fit.slope == pytest.approx(0.1, abs=0.01)
    assert fit.low < 0.1 < fit.high


def test_figures_tables_and_claims_are_written(root, tmp_path):
    found = measured.load("synthetic", "laptop", root=root)
    out = tmp_path / "out"
    paths = figures.figure_4(found[8000], "synthetic", out / "figures")
    paths += scaling.figure_4c(found, "synthetic", 0.01, out / "figures")
    assert [path.stat().st_size > 300 for path in paths if path.suffix != ".pdf"] == [True] * 4
    caption = paths[2].read_text()
    assert "n = 3,000 validation prompts in 3 runs, seeds 5, 6, 7" in caption
    assert "n = 9 runs" in paths[5].read_text()
    tables = report.write(found, "synthetic", 0.01, out)
    assert {path.name for path in tables} == {
        "llm_curves_synthetic.csv", "llm_times_safer_synthetic.csv", "llm_scaling_synthetic.csv",
    }  # fmt: skip
    missing = report.record(found, "synthetic", "laptop", 0.01, out / "claims.csv")
    ledger = claims.read(out / "claims.csv").set_index("claim")["value"]
    assert ledger["llm.violation_over_threshold_max"] == pytest.approx(0.5)
    assert ledger["llm.default_share"] == pytest.approx(0.6)
    assert ledger["llm.acceptance_gain_over_cross_entropy"] == pytest.approx(0.006)
    assert ledger["llm.scaling_slope"] == pytest.approx(0.1, abs=0.01)
    assert "llm.times_safer.best_of_k: ours earns at most 0.800" in " ".join(missing)
    for preset, command in (("laptop", "make figure-4"), ("paper", "python run.py -m +sweep=figure-4-paper")):
        report.record(found, "synthetic", preset, 0.01, out / f"{preset}.csv")
        assert set(claims.read(out / f"{preset}.csv")["command"]) == {command}
    assert len(publication.runs("laptop", {}, root)) >= 9


TRANSFER = {
    ("ours_covered", 0.1, NAN): (0.85, 0.04, 0.7),
    ("ours_covered_pairs", 0.1, NAN): (0.8, 0.04, 0.7),
    ("transfer.pku.ours", 0.01, NAN): (0.4, 0.05, 0.3),
    ("transfer.pku.ours", 0.1, NAN): (0.9, 0.2, 0.3),
    ("transfer.pku.ours_accepted", 0.1, NAN): (0.9, 0.3, 0.3),
    ("transfer.pku.ours_covered", 0.1, NAN): (0.2, 0.15, 0.3),
    ("transfer.pku.ours_covered_pairs", 0.1, NAN): (0.0, 0.0, 0.3),
    ("transfer.pku.ours_recalibrated", 0.1, NAN): (0.2, 0.05, 0.3),
    ("transfer.pku.ai", NAN, NAN): (1.0, 0.5, 0.3),
}


def shares(method: str, of: dict[str, tuple[int, int]], **at: float) -> list[dict]:
    interval = {"low": 0.0, "high": 1.0, "interval": "made up"}
    return [
        {"method": method, "metric": metric, "value": k / n, "n": n, **interval, **at}
        for metric, (k, n) in of.items()
    ]


def test_claims_and_tables_of_transfer_and_of_the_judge(tmp_path):
    for seed in (5, 6):
        extra = shares("coverage", {"refused.prompt": (3, 100), "refused.pair": (4, 100)})
        extra += shares(
            "transfer.pku.coverage", {"refused.prompt": (70 + seed, 100), "refused.pair": (99, 100)}
        )
        extra += [{"method": "ours", "metric": "auc", "value": 0.8 + 0.01 * seed, "n": 10}]
        extra += [{"method": "transfer.pku.ours", "metric": "auc", "value": 0.5, "n": 20}]
        extra += shares("judge", {"error": (30, 100), "missed": (20, 40)})
        for r_t, unsafe in ((0.01, 2), (0.1, 12)):
            pairs = {"accepted_pairs.human": (unsafe, 50), "accepted_pairs.judge": (1, 50)}
            extra += shares("ours", pairs, r_t=r_t)
        write_run(tmp_path, seed, points=POINTS | TRANSFER, extra=tuple(extra))
    found = measured.load("synthetic", "laptop", root=tmp_path)
    out = tmp_path / "out"
    names = {path.name for path in report.write(found, "synthetic", 0.01, out)}
    assert {"llm_labels_synthetic.csv", "llm_transfer_synthetic.csv"} <= names
    missing = report.record(found, "synthetic", "laptop", 0.01, out / "claims.csv")
    ledger = claims.read(out / "claims.csv").set_index("claim")
    value = ledger["value"]
    largest = "llm.transfer.violation_over_threshold_max"
    assert value[largest] == pytest.approx(5.0)  # 0.05 at 0.01, not 0.2 at 0.1
    assert value[f"{largest}.ours_accepted"] == pytest.approx(3.0)
    assert value[f"{largest}.ours_covered"] == pytest.approx(1.5)
    assert value[f"{largest}.ours_recalibrated"] == pytest.approx(0.5)
    assert f"{largest}.ours_covered_pairs: gave no answer at any threshold" in " ".join(missing)
    assert value["llm.violation_over_threshold_max.ours_covered"] == pytest.approx(0.4)
    assert value["llm.transfer.refused.prompt"] == pytest.approx(0.755)
    assert value["llm.transfer.refused_own.pair"] == pytest.approx(0.04)
    assert value["llm.transfer.auc_own"] == pytest.approx(0.855)
    assert (value["llm.transfer.auc"], ledger.loc["llm.transfer.auc", "n"]) == (0.5, 40)
    assert value["llm.transfer.harmful_alone"] == pytest.approx(0.5)
    assert (value["llm.judge.error"], ledger.loc["llm.judge.error", "n"]) == (0.3, 100)  # one judge
    assert value["llm.judge.missed"] == 0.5
    assert value["llm.judge.accepted_pairs_over_threshold_max.human"] == pytest.approx(4.0)
    assert value["llm.judge.accepted_pairs_over_threshold_max.judge"] == pytest.approx(2.0)
    paths = transfer_figure.figure_transfer(found[8000], "synthetic", out / "figures")
    assert [path.stat().st_size > 300 for path in paths if path.suffix != ".pdf"] == [True] * 2
    assert "n = 2,000 and 2,000 validation prompts in 2 runs, seeds 5, 6" in paths[2].read_text()
    assert "refuses 3 % of the own prompts and 76 % of the others" in paths[2].read_text()
    table = pd.read_csv(out / "tables" / "llm_transfer_synthetic.csv").set_index(["answers", "method", "r_t"])
    row = table.loc[("pku", "ours_covered", 0.1)]
    assert (row["refused"], row["over_threshold"]) == (pytest.approx(0.755), pytest.approx(1.5))
    assert table.loc[("synthetic", "ours_covered", 0.1), "refused"] == pytest.approx(0.03)
    assert np.isnan(table.loc[("pku", "ours", 0.1), "refused"])


def test_promises_about_people_are_drawn_and_claimed(tmp_path):
    accepted, answered = "accepted_pairs.human", "accepted_pairs.answered"
    for seed in (5, 6):
        extra: list[dict] = []
        for r_t, ours, people in ((0.01, (2, 50), None), (0.1, (12, 50), (3, 40))):
            extra += shares("ours", {accepted: ours, answered: (50, 100)}, r_t=r_t)
            extra += shares("ours_denoised_untested", {accepted: (20, 50), answered: (50, 100)}, r_t=r_t)
            if people:
                extra += shares("ours_people", {accepted: people, answered: (40, 100)}, r_t=r_t)
        extra += shares(ERRORS, {"missed": (10 + seed, 40), "independence_refuted": (1, 1)})
        extra += shares(ERRORS, {"auc.safe": (7, 10), "p_value.safe": (1, 1000)})
        write_run(tmp_path, seed, extra=tuple(extra))
    found = measured.load("synthetic", "laptop", root=tmp_path)
    table = labels.label_rows(found[8000]).set_index(["method", "metric", "r_t"])
    assert table.loc[("ours_people", accepted, 0.1), "over_threshold"] == pytest.approx(0.75)
    assert table.loc[("ours", answered, 0.1), "value"] == 0.5
    assert np.isnan(table.loc[("ours", answered, 0.1), "over_threshold"])
    errors = labels.label_rows(found[8000]).query("method == @ERRORS").set_index("metric")
    assert (errors.loc["missed", "value"], errors.loc["missed", "n"]) == (31 / 80, 80)
    assert (errors.loc["independence_refuted", "value"], errors.loc["independence_refuted", "n"]) == (1, 2)
    assert errors.loc["auc.safe", "value"] == pytest.approx(0.7)
    report.record(found, "synthetic", "laptop", 0.01, tmp_path / "claims.csv")
    value = claims.read(tmp_path / "claims.csv").set_index("claim")["value"]
    largest = "llm.judge.accepted_pairs_over_threshold_max.human"
    assert value[largest] == pytest.approx(4.0)
    assert value[f"{largest}.ours_people"] == pytest.approx(0.75)
    assert value[f"{largest}.ours_denoised_untested"] == pytest.approx(40.0)
    assert value["llm.judge.errors_auc.safe"] == pytest.approx(0.7)
    paths = people_figure.figure_people(found[8000], "synthetic", tmp_path / "figures")
    assert [path.stat().st_size > 300 for path in paths if path.suffix != ".pdf"] == [True] * 2
    text = paths[2].read_text()
    assert "n = 200 human-labelled pairs" in text
    assert "refuted in 2 of 2 runs" in text
    assert "share of ours_people over r_t, of all thresholds: 0.75" in text


def test_without_transfer_or_judge_nothing_is_said_of_them(root, tmp_path):
    found = measured.load("synthetic", "laptop", root=root)
    assert transfer_figure.figure_transfer(found[8000], "synthetic", tmp_path) == []
    missing = report.record(found, "synthetic", "laptop", 0.01, tmp_path / "claims.csv")
    ledger = claims.read(tmp_path / "claims.csv")["claim"]
    assert not [text for text in [*ledger, *missing] if "transfer" in text or "judge" in text]


def test_what_cannot_be_a_run_is_refused(tmp_path):
    directory = write_run(tmp_path, 5)
    table = pd.read_parquet(directory / f"{BLOCKS_TABLE}.parquet")
    for change, said in (
        (table.drop(columns="reward"), "missing columns"),
        (table.assign(harmful=table["answered"] + 1), "harmful <= answered"),
        (pd.concat([table, table]), "twice"),
    ):
        with pytest.raises(ResultsError, match=said):
            measured.checked(change, "x")
    (directory / f"{BLOCKS_TABLE}.parquet").unlink()
    with pytest.raises(ResultsError, match="force=true runs it again"):
        measured.gather([saved.of_directory(directory)])
    with pytest.raises(ResultsError, match="no runs"):
        measured.gather([])


def test_stretch_is_the_ratio_of_quantiles():
    assert stretch(3, 100) == pytest.approx(4.3027 / 1.95996, rel=1e-4)
    assert stretch(1, 100) == pytest.approx(1.0124, rel=1e-3)


def test_runs_without_a_case_say_nothing_about_the_spread():
    several = share_interval(np.array([3.0, 5.0, 0.0]), np.array([100.0, 100.0, 0.0]))
    assert several == share_interval(np.array([3.0, 5.0]), np.array([100.0, 100.0]))
    value, low, high, name = share_interval(np.array([1.0, 0.0]), np.array([900.0, 0.0]))
    assert name == "Clopper-Pearson 95%"
    assert low < value < high
