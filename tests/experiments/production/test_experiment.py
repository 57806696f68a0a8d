"""Production planning end to end on a tiny series: what a run leaves, what it shares, what it survives."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir

from experiments.production import experiment, preparation
from experiments.production.config import THRESHOLDS, ProductionConfig
from experiments.production.demand.series import Quarter
from experiments.production.guard.curves import all_curves
from experiments.production.models.networks import Inputs, SequenceNetwork
from experiments.production.planning import plan, produced
from experiments.support import registry
from experiments.support.config import to_object
from experiments.support.errors import CacheError
from experiments.support.files import REPOSITORY
from experiments.support.results import frames
from experiments.support.runs import running
from safeframe.training import loop

HOURS = 700
CURVES = {f"ours_{curve.name}" for curve in all_curves()}
BINARY = {
    "binary",
    "binary_xi_0",
    "binary_certified",
    "binary_cross_entropy",
    "binary_cross_entropy_xi_0",
}
KNOBS = {
    "mean_variance",
    "mean_variance_days",
    "end_to_end",
    "forecast_law",
    "forecast_law_errors",
    "two_stage_margin",
    "cross_entropy",
    "truth",
    "ours_knob",
}
METHODS = {"ours", *CURVES, *BINARY, *KNOBS, *(f"{name}_chosen" for name in KNOBS), "two_stage", "oracle"}
TINY = (
    "experiment=production", "preset=smoke", "progress=false", "threads=1", f"data.hours_per_quarter={HOURS}",
    "training.epochs=1", "training.steps=210", "training.inputs=64", "training.test_cases=256",
    "evaluation.penalties=[10.0]", "r_t=1e-2",
)  # fmt: skip


def tiny(output: Path, *overrides: str) -> ProductionConfig:
    registry.register_schemas()
    with initialize_config_dir(str(REPOSITORY / "configs"), version_base="1.3"):
        composed = compose("config", overrides=[*TINY, f"output={output}", *overrides])
    config = to_object(composed, ProductionConfig)
    assert isinstance(config, ProductionConfig)
    return config


def perform(output: Path, *overrides: str) -> Path:
    return running.perform(registry.get("production"), tiny(output, *overrides))


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """A finished run; its caches lie two folders up."""
    return perform(tmp_path_factory.mktemp("runs"))


def weekly(directory: Path) -> pd.DataFrame:
    return pd.read_parquet(directory / "weekly.parquet")


def value(frame: pd.DataFrame, method: str, metric: str, r_t: float = np.nan) -> float:
    rows = frame[(frame["method"] == method) & (frame["metric"] == metric)]
    rows = rows[np.isclose(rows["r_t"], r_t, equal_nan=True)]
    assert len(rows) == 1, (method, metric, r_t)
    return float(rows["value"].iloc[0])


def test_a_run_is_complete(done):
    names = {path.name for path in done.iterdir()}
    assert names == {
        "config.yaml",
        "manifest.json",
        "results.csv",
        "results.parquet",
        "weekly.parquet",
        "products.parquet",
        "DONE",
    }
    frame = frames.read(done)
    assert set(frame["method"]) == METHODS
    ours = frame[(frame["method"] == "ours") & (frame["metric"] == "violation")]
    assert sorted(ours["r_t"]) == pytest.approx(sorted({*THRESHOLDS, 1e-2}))
    assert set(frame[frame["metric"] == "revenue"]["n"]) == {HOURS}
    stages = json.loads((done / "manifest.json").read_text())["stages"]
    trained = {"demand", "gaussian", "cross_entropy", "tailored", "tailored_xi_0", "safety"}
    assert trained | {"guard", "binary", "end_to_end_10"} == set(stages)
    assert not any(stage["reused"] for stage in stages.values())


def test_the_report_draws_and_names_its_figures(done, tmp_path):
    copy = shutil.copytree(done, tmp_path / done.name)
    text = experiment.report(tiny(tmp_path), copy, frames.read(copy))
    for method in ("ours", "ours_pooled_static", "binary", "oracle"):
        assert f"\n{method} " in text
    for path in text.split("figures:\n")[1].split():
        assert Path(path).stat().st_size > 0


def test_weeks_add_up_to_the_results(done):
    """Shares of violations, revenue and acceptance again from the counts of every week."""
    frame, sums = frames.read(done), weekly(done)
    total = sums.groupby(["method", "r_t", "knob"], dropna=False).sum(numeric_only=True).reset_index()
    assert set(total["hours"]) == {HOURS}
    points = frame[frame["metric"] == "violation"]
    assert len(points) == len(total)
    for metric, recomputed in (
        ("violation", lambda t: t["violations"] / t["produced"] if t["produced"] else np.nan),
        ("acceptance", lambda t: t["produced"] / (4 * HOURS)),
        ("revenue", lambda t: t["revenue"] / HOURS),
    ):
        rows = frame[frame["metric"] == metric].set_index(["method", "r_t", "knob"])["value"].to_dict()
        keyed = {tuple("-" if x != x else x for x in key): found for key, found in rows.items()}
        for _, t in total.iterrows():
            key = tuple("-" if pd.isna(t[name]) else t[name] for name in ("method", "r_t", "knob"))
            assert keyed[key] == pytest.approx(recomputed(t), nan_ok=True), (metric, key)


def test_violations_follow_from_the_saved_networks(done):
    """Margins from the cached classifiers, thresholds by a naive loop, plans, and what they violate."""
    frame = frames.read(done)
    data = preparation.load_data(tiny(done))
    stages = json.loads((done / "manifest.json").read_text())["stages"]
    inputs, problem = Inputs(data, True), preparation.load_problem(tiny(done))

    def outputs(stage: str, hidden: int) -> np.ndarray:
        network = SequenceNetwork(4, 4, hidden, 6)
        path = done.parents[1] / "cache" / stage / stages[stage]["hash"] / "value.pt"
        network.load_state_dict(torch.load(path, weights_only=True))
        return inputs.outputs(network)

    predicted = outputs("demand", 8)
    test, validation = data.where(Quarter.INTERNAL_TEST_VALIDATION), data.where(Quarter.VALIDATION)
    unsafe = data.demand < 3
    for method, stage in (
        ("binary_xi_0", "tailored_xi_0"),
        ("binary_cross_entropy_xi_0", "cross_entropy"),
    ):
        margin = outputs(stage, 4)
        for r_t in (1e-2, THRESHOLDS[-2], 1.0):
            gate = np.zeros((HOURS, 4), dtype=bool)
            for i in range(4):
                radius = value(frame, method, f"radius.product_{i + 1}", r_t)
                bad, good = margin[test][unsafe[test, i], i], margin[test][~unsafe[test, i], i]
                tau = naive_threshold(bad, good, np.sqrt(2) * radius, r_t)
                gate[:, i] = margin[validation, i] < tau
            action = plan(problem, predicted[validation], gate).action
            made = produced(action)
            assert value(frame, method, "acceptance", r_t) == made.mean()
            share = (made & unsafe[validation]).sum() / made.sum() if made.any() else np.nan
            assert value(frame, method, "violation", r_t) == pytest.approx(share, nan_ok=True)


def naive_threshold(bad: np.ndarray, good: np.ndarray, shift: float, r_t: float) -> float:
    """The largest tau with bound <= r_t, by trying all."""
    found, prior = -np.inf, len(bad) / (len(bad) + len(good))
    for tau in [*(bad - shift), np.inf]:
        upper, lower = np.mean(bad - shift < tau) * prior, np.mean(good + shift < tau) * (1 - prior)
        bound = upper / (upper + lower) if upper + lower > 0 else 1.0
        if bound <= r_t and tau > found:
            found = tau
    return found


def test_the_oracle_never_violates(done):
    frame = frames.read(done)
    assert value(frame, "oracle", "violation") == 0.0
    assert 0.5 < value(frame, "oracle", "acceptance") < 1.0


def test_a_looser_threshold_accepts_no_less(done):
    frame = frames.read(done)
    for method in ("ours_per_product_static", "ours_pooled_static", "binary_cross_entropy_xi_0"):
        rows = frame[(frame["method"] == method) & (frame["metric"] == "acceptance")].sort_values("r_t")
        assert (np.diff(rows["value"]) >= 0).all()
        assert rows["value"].iloc[-1] == 1.0  # r_t = 1


def test_networks_are_shared_where_only_the_calibration_differs(done):
    """Another n_t, or r_t for validation: everything trained is found in the cache."""
    again = perform(done.parents[1], "evaluation.n_t=400", "evaluation.thresholds=[0.05]")
    assert again != done
    stages = json.loads((again / "manifest.json").read_text())["stages"]
    assert {name for name, stage in stages.items() if not stage["reused"]} == {"guard", "binary"}
    frame = frames.read(again)
    assert set(frame[frame["method"] == "ours"]["n_t"]) == {400}
    assert set(frame[frame["method"] == "ours"]["r_t"]) == {0.05, 0.01}
    first = frames.read(done)
    for method in ("oracle", "end_to_end"):
        pair = [
            t[(t["method"] == method) & (t["metric"] == "revenue")]["value"].tolist() for t in (frame, first)
        ]
        assert pair[0] == pair[1] != []


def test_another_r_t_trains_only_the_tailored_classifiers_again(done):
    again = perform(done.parents[1], "r_t=2e-2")
    stages = json.loads((again / "manifest.json").read_text())["stages"]
    trained = {name for name, stage in stages.items() if not stage["reused"]}
    assert trained == {"guard", "binary", "tailored", "tailored_xi_0"}


def test_same_seed_same_numbers_by_force_too(done):
    before = (done / "results.csv").read_bytes(), weekly(done)
    assert perform(done.parents[1], "force=true") == done
    assert (done / "results.csv").read_bytes() == before[0]
    pd.testing.assert_frame_equal(weekly(done), before[1])


def test_killed_in_the_middle_of_training_and_started_again(done, tmp_path, monkeypatch):
    """kill -9 after the first checkpoint of the tailored classifier; the same bytes as without."""
    dying = (
        "import os, runpy, signal, sys\n"
        "from safeframe.training import loop as training\n"
        "save = training._save\n"
        "def dying(path, *rest):\n"
        "    save(path, *rest)\n"
        "    if path.parents[1].name == 'tailored':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "training._save = dying\n"
        f"runpy.run_path({str(REPOSITORY / 'run.py')!r}, run_name='__main__')\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", dying, *TINY, f"output={tmp_path}"],
        cwd=REPOSITORY, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list((tmp_path / "cache" / "tailored").glob("*/checkpoint"))) == 1
    assert not list((tmp_path / "production").glob("*/DONE"))

    steps: list[int] = []
    stream = loop.generator_of

    def counted(seed: int, step: int) -> torch.Generator:
        steps.append(step)
        return stream(seed, step)

    monkeypatch.setattr(loop, "generator_of", counted)
    again = perform(tmp_path)
    assert steps[0] == 200  # not from the beginning
    assert (again / "results.csv").read_bytes() == (done / "results.csv").read_bytes()
    pd.testing.assert_frame_equal(weekly(again), weekly(done))
    assert not list((tmp_path / "cache").glob("*/*/checkpoint"))


def test_a_damaged_network_is_named_and_never_used(done, tmp_path):
    shutil.copytree(done.parents[1] / "cache", tmp_path / "cache")
    hash_ = json.loads((done / "manifest.json").read_text())["stages"]["tailored"]["hash"]
    path = tmp_path / "cache" / "tailored" / hash_ / "value.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CacheError, match=rf"{path} is damaged .* delete the directory {path.parent}"):
        perform(tmp_path)
    (directory,) = (tmp_path / "production").glob("[!.]*")
    assert {file.name for file in directory.iterdir()} == {"config.yaml", "manifest.json", "error.txt"}
    assert path.read_bytes() == content
    shutil.rmtree(path.parent)
    assert (perform(tmp_path) / "results.csv").read_bytes() == (done / "results.csv").read_bytes()


def test_a_checkpoint_is_chosen_on_weeks_that_no_training_saw(done, tmp_path):
    """Everything that may be switched on at once; the run is another one, and says what it took."""
    on = (
        "selection_share=0.25",
        "anchor=0.1",
        "relative=true",
        "temperature_end=0.1",
        "open_width=5.0",
        "noise_every=100",
    )
    run = perform(tmp_path, *(f"tailoring.{part}" for part in on))
    assert run.name != done.name
    measured = json.loads((run / "manifest.json").read_text())["measurements"]
    assert 0 <= measured["tailoring.tailored.step"] <= 210
    assert 0 < measured["tailoring.tailored.p_value"] <= 1
    assert measured["tailoring.tailored.signal_to_noise.100"] >= 0
    assert "tailoring:" in (run / "config.yaml").read_text()


def test_products_add_up_to_the_weeks(done):
    products = pd.read_parquet(done / "products.parquet")
    keys = ["method", "r_t", "week"]
    total = products.groupby(keys)[["accepted", "violations"]].sum()
    sums = weekly(done)
    sums = sums[sums["method"].isin(products["method"])].set_index(keys)
    sums = sums.loc[total.index]
    assert set(products["method"]) == {"ours", *CURVES, *BINARY}
    assert (total["accepted"] == sums["produced"]).all()
    assert (total["violations"] == sums["violations"]).all()


def test_ours_is_the_curve_that_is_configured(done):
    sums = weekly(done).set_index("method")
    columns = ["r_t", "week", "produced", "violations", "revenue"]
    configured = sums.loc["ours_worst_product_static", columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(sums.loc["ours", columns].reset_index(drop=True), configured)


def test_parts_and_the_paper_s_classifier(done):
    """The guard alone, on the binary classifier: its networks are trained, no others."""
    run = perform(
        done.parents[1], "model.classifier=binary", "evaluation.parts=[guard]",
        "evaluation.constraint=pooled",
        "evaluation.choice=priced", "evaluation.calibration=weekly", "evaluation.rule=conservative",
    )  # fmt: skip
    stages = json.loads((run / "manifest.json").read_text())["stages"]
    assert set(stages) == {"demand", "cross_entropy", "tailored", "guard"}
    sums = weekly(run).set_index("method")
    assert set(sums.index) == {
        "ours",
        "ours_priced_weekly",
        *CURVES,
        "ours_knob",
        "ours_knob_chosen",
        "oracle",
    }
    pd.testing.assert_series_equal(
        sums.loc["ours", "revenue"].reset_index(drop=True),
        sums.loc["ours_priced_weekly", "revenue"].reset_index(drop=True),
    )


def test_days_join_the_score_on_the_same_networks(done):
    """Another run: ours changes, nothing is trained, methods without a joined score stay as they are."""
    run = perform(done.parents[1], "score.days=0", "evaluation.parts=[guard,baselines]")
    assert run != done
    stages = json.loads((run / "manifest.json").read_text())["stages"]
    assert {name for name, stage in stages.items() if not stage["reused"]} == {"guard"}
    before, after = (weekly(one).set_index(["method", "knob"])["revenue"] for one in (done, run))
    for method, same in (("forecast_law", True), ("ours_knob", False), ("forecast_law_errors", False)):
        assert np.array_equal(before.loc[method].to_numpy(), after.loc[method].to_numpy()) is same
