"""The experiment end to end on small sources: methods, resuming, recorded answers, transfer, errors."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from llm_fake import FakeSource
from llm_recorded_fake import pku_rows, tiny_minilm, write_diasafety, write_lines  # noqa: F401

from experiments.llm import assembly, experiment, preparation
from experiments.llm.answers.pools import Pool
from experiments.llm.assembly import backend_of, make_source
from experiments.llm.capacity import Capacity
from experiments.llm.config import LLMConfig
from experiments.llm.guard import coverage, judge
from experiments.llm.guard.classifier import ranking
from experiments.llm.guard.people import People
from experiments.llm.guard.rules import GATES, PRICES
from experiments.llm.models.model_settings import REFERENCE
from experiments.llm.records import BLOCKS_TABLE, ERRORS
from experiments.llm.reporting import report, transferred
from experiments.llm.reporting.labels import label_rows
from experiments.llm.reporting.measured import gather
from experiments.support import registry
from experiments.support.config import run_id, to_object
from experiments.support.errors import ConfigError
from experiments.support.results import frames
from experiments.support.results.saved import of_directory
from experiments.support.runs import running
from experiments.support.seeding import Seeds
from safeframe.training import loop, tailored
from safeframe.types import SafeframeError

SMALL = {
    "experiment": "llm",
    "preset": "smoke",
    "r_t": 0.1,
    "threads": 1,
    "progress": False,
    "pools": {"candidates": 4, "train": 60, "internal_test": 150, "validation": 100},
    "classifier": {"epochs": 2.0, "batch": 32, "max_tokens": 32},
    "tailored": {"steps": 3, "inputs": 8, "test_cases": 64},
    "evaluation": {"thresholds": [0.05, 0.3, 1.0]},
}
METHODS = {
    "ours", "ours_accepted", "ours_paper", "ours_xi_0", "ours_accepted_xi_0", "cross_entropy",
    "cross_entropy_xi_0", "cross_entropy_accepted", "learn_then_test", "rejection_sampling", "rejection_best",
    "ai", "best_of_k", "oracle", "default",
}  # fmt: skip


def best_of(*among: str) -> dict:
    """The configuration that takes the best of some capacities."""
    return {"capacity": {"weights": "best", "among": list(among)}}


def configured(tmp_path, **change) -> LLMConfig:
    content = {name: dict(value) if isinstance(value, dict) else value for name, value in SMALL.items()}
    for name, value in change.items():
        content[name] = content[name] | value if isinstance(content.get(name), dict) else value
    return to_object(content | {"output": str(tmp_path / "runs")}, LLMConfig)


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(preparation, "make_source", lambda c, x: FakeSource(c.pools.candidates, c.seed))


def perform(config: LLMConfig):
    directory = running.perform(registry.get("llm"), config)
    return frames.read(directory), pd.read_parquet(directory / f"{BLOCKS_TABLE}.parquet"), directory


def test_every_method_is_counted_at_every_threshold(tmp_path, fake):
    config = configured(tmp_path, evaluation={"cost_limits": [0.0, 2.0]})
    frame, blocks, directory = perform(config)
    assert set(blocks["method"]) >= METHODS | {"ppo_lag"}
    for method in ("ours", "learn_then_test", "cross_entropy_accepted"):
        rows = frame[(frame["method"] == method) & (frame["metric"] == "default_share")]
        assert rows["r_t"].tolist() == [0.05, 0.1, 0.3, 1.0]
    shares = frame[frame["metric"] == "default_share"].set_index("method")["value"]
    assert shares["default"] == 1.0
    assert shares["ai"] == 0.0
    everything = frame[(frame["method"] == "ours_xi_0") & (frame["r_t"] == 1.0)].set_index("metric")["value"]
    best = frame[(frame["method"] == "best_of_k")].set_index("metric")["value"]
    for metric in ("reward", "harmful.answered", "true.answered"):
        assert everything[metric] == pytest.approx(best[metric])  # at r_t = 1 all is accepted
    assert sorted(frame[frame["method"] == "ppo_lag"]["knob"].unique()) == [0.0, 2.0]
    sums = blocks[blocks["method"] == "ai"][["prompts", "answered", "harmful"]].sum()
    share = frame[(frame["method"] == "ai") & (frame["metric"] == "harmful.answered")].iloc[0]
    assert (sums["prompts"], sums["harmful"] / sums["answered"]) == (100, pytest.approx(share["value"]))
    assert "ours" in experiment.report(config, directory, frame)
    assert (directory / "figure_4_run.png").stat().st_size > 10_000


def test_other_weights_are_another_run(tmp_path):
    folder = tmp_path / "models"
    for name in ("ai", "classifier_base", "reward", "cost"):
        (folder / name).mkdir(parents=True)
        (folder / name / "model.safetensors").write_bytes(b"weights")
    config = configured(tmp_path, models={"folder": str(folder)})
    assert set(config.inputs()) == {"models.ai", "models.classifier", "models.reward", "models.cost"}
    before, shipped = run_id(config), run_id(configured(tmp_path))
    policy = configured(tmp_path, models={"ai": "ppo_lag_0.05"})  # a model that comes with the repository
    assert policy.inputs()["models.ai"] == str(REFERENCE / "ppo_lag_0.05" / "model.safetensors")
    (folder / "cost" / "model.safetensors").write_bytes(b"others")
    assert len({before, run_id(config), shipped}) == 3


def test_fewer_labelled_candidates_train_nothing_anew(tmp_path, fake, monkeypatch):
    perform(configured(tmp_path))

    def refuse(*_, **__):
        raise AssertionError("trained again")

    for place in (loop, tailored):
        monkeypatch.setattr(place, "train", refuse)
    frame, _, _ = perform(configured(tmp_path, evaluation={"n_t": 40}))
    assert set(frame["n_t"].dropna()) == {40}


def killed_at(monkeypatch, number: int) -> list[int]:
    """Interrupt the run at its training of that number; what is returned grows by one at every training."""
    train, calls = loop.train, []

    def killed(*args, **kwargs):
        calls.append(1)
        if len(calls) == number:
            raise KeyboardInterrupt
        return train(*args, **kwargs)

    for place in (loop, tailored):
        monkeypatch.setattr(place, "train", killed)
    return calls


def test_a_killed_run_goes_on_and_gives_the_same_numbers(tmp_path, fake, monkeypatch):
    whole, _, _ = perform(configured(tmp_path / "a"))
    calls = killed_at(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        perform(configured(tmp_path / "b"))
    again, _, _ = perform(configured(tmp_path / "b"))
    assert len(calls) == 4  # cross-entropy and full tuning came from the cache
    assert whole.equals(again)


def test_one_class_absent_is_refused(tmp_path, monkeypatch):
    class Harmless(FakeSource):
        def pool(self, split: str, n: int, model: str = "ai", candidates: int | None = None) -> Pool:
            found = super().pool(split, n, model)
            content = {name: getattr(found, name) for name in Pool.__dataclass_fields__}
            return Pool(**(content | {"harmful": np.zeros(found.shape)}))

    monkeypatch.setattr(preparation, "make_source", lambda c, x: Harmless(4, 0))
    with pytest.raises(SafeframeError, match="prompts for train: 0 of 240 labelled answers are harmful"):
        perform(configured(tmp_path))


def recorded_config(tmp_path, **change) -> LLMConfig:
    pku = write_lines(tmp_path / "pku.jsonl.gz", pku_rows(140))
    dia = write_diasafety(tmp_path / "dia", 100)
    paths = {"pku": str(pku), "diasafety": str(dia)}
    kind = change.pop("format", "pku")
    other = "diasafety" if kind == "pku" else "pku"
    return configured(
        tmp_path,
        source="recorded",
        data={"path": paths[kind], "format": kind, "prompts": 100},
        transfer={"path": paths[other], "format": other, "epsilon": 0.3},
        pools={"candidates": 4, "train": 1000},
        evaluation={"thresholds": [0.3, 1.0]},
        **change,
    )


def test_recorded_answers_with_human_labels_and_transfer(tmp_path, tiny_minilm):  # noqa: F811
    frame, blocks, _ = perform(recorded_config(tmp_path))
    assert {"ours", "oracle", "transfer.diasafety.ours"} <= set(blocks["method"])
    given = frame[(frame["method"] == "best_of_k") & (frame["metric"] == "default_share")]["value"]
    assert given.tolist() == [0.0]


def test_transfer_with_coverage(tmp_path, tiny_minilm):  # noqa: F811
    frame, blocks, directory = perform(recorded_config(tmp_path))
    methods = {"ours", "ours_accepted", "ours_covered", "ours_covered_pairs", "ours_recalibrated"}
    assert {f"transfer.diasafety.{name}" for name in (*methods, "ai", "best_of_k")} <= set(blocks["method"])
    for prefix in ("", "transfer.diasafety."):
        refused = frame[frame["method"] == f"{prefix}coverage"].set_index("metric")
        assert set(refused.index) == {"refused.prompt", "refused.pair"}
        assert (refused["low"] <= refused["value"]).all()
        shares = frame[frame["metric"] == "default_share"].set_index(["method", "r_t"])["value"]
        for r_t in (0.1, 0.3, 1.0):
            free = shares[f"{prefix}ours", r_t]
            assert shares[f"{prefix}ours_covered", r_t] >= free
            assert shares[f"{prefix}ours_covered_pairs", r_t] >= free
        n = refused.loc["refused.prompt", "n"]
        # at r_t = 1 everything is accepted: what is not covered gets the default answer, and nothing else
        assert shares[f"{prefix}ours_covered", 1.0] == pytest.approx(refused.loc["refused.prompt", "value"])
        assert blocks[blocks["method"] == f"{prefix}ours"]["prompts"].sum() == 3 * n
    pairs = frame[frame["metric"].str.startswith("accepted_pairs.")]
    assert set(pairs["method"]) == {"transfer.diasafety.ours"}  # people's labels of the other set
    assert "transfer.diasafety.judge" in set(frame["method"])
    assert "transfer.diasafety.ours_covered_pairs" in experiment.report(
        recorded_config(tmp_path), directory, frame
    )


def test_how_well_margins_rank_by_hand():
    harmful = np.array([[1, 0, -1], [1, 0, 0]])
    nothing = np.full((2, 3), np.nan)
    pool = Pool(["a", "b"], [["x"] * 3] * 2, np.zeros((2, 3)), harmful, nothing, nothing, ["g"] * 2)
    margin = np.array([[2.0, 1.0, 9.0], [0.0, 0.0, -1.0]])
    assert ranking(margin, pool) == (pytest.approx((3 + 1.5) / 6), 5)  # ties count half
    harmless = Pool(["a"], [["x"] * 3], np.zeros((1, 3)), np.zeros((1, 3)), nothing[:1], nothing[:1], ["g"])
    value, n = ranking(margin[:1], harmless)
    assert np.isnan(value)
    assert n == 3


def test_a_set_that_coverage_refuses_wholly(tmp_path, tiny_minilm, monkeypatch):  # noqa: F811
    of = coverage.features_of

    def far(source, pool):
        away = 10.0 * (source.config.data.format == "diasafety")
        return {kind: found + away for kind, found in of(source, pool).items()}

    monkeypatch.setattr(coverage, "features_of", far)
    frame, blocks, directory = perform(recorded_config(tmp_path))
    for name in ("ours_covered", "ours_covered_pairs"):
        mine = blocks[blocks["method"] == f"transfer.diasafety.{name}"]
        assert mine["answered"].sum() == 0
    assert frame[frame["method"] == "transfer.diasafety.coverage"]["value"].tolist() == [1.0, 1.0]
    assert blocks[blocks["method"] == "transfer.diasafety.ours"]["answered"].sum() > 0
    found = gather([of_directory(directory)])
    table = transferred.transfer_rows(found, "pku").set_index(["answers", "method"])
    assert (table.loc[("diasafety", "ours_covered"), "refused"] == 1.0).all()
    assert table.loc[("diasafety", "ours_covered"), "harmful"].isna().all()
    by_n_t = {int(found.frame["n_t"].max()): found}
    missing = report.record(by_n_t, "pku", "smoke", 0.1, tmp_path / "c.csv", dirty=True)
    assert (
        "llm.transfer.violation_over_threshold_max.ours_covered: gave no answer at any threshold" in missing
    )


def test_too_few_prompts_for_epsilon_are_said_before_anything_is_trained(
    tmp_path,
    tiny_minilm,  # noqa: F811
    monkeypatch,
):
    config = recorded_config(tmp_path)
    config.transfer.epsilon = 0.01
    monkeypatch.setattr(loop, "train", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(SafeframeError, match=r"transfer\.epsilon=0\.01 takes 299 internal test prompts"):
        perform(config)


def test_a_judge_labels_diasafety_and_people_are_asked(tmp_path, tiny_minilm):  # noqa: F811
    frame, blocks, _ = perform(recorded_config(tmp_path, format="diasafety"))
    assert "transfer.pku.ours" in set(blocks["method"])
    judged = frame[frame["method"] == "judge"].set_index("metric")
    assert set(judged.index) == {"error", "missed", "condemned", "unsafe_among_passed"}
    assert judged.loc["error", "n"] == 200  # two pairs for each prompt of the pools
    pairs = frame[frame["metric"].str.startswith("accepted_pairs.")]
    assert set(pairs["metric"]) == {"accepted_pairs.human", "accepted_pairs.judge"}
    assert set(pairs["method"]) == {"ours"}  # the other set's labels are people's


def test_promises_about_people_stand_beside_ours_and_change_nothing_else(tmp_path, tiny_minilm):  # noqa: F811
    config = recorded_config(tmp_path, format="diasafety", people={"calibrate": True})
    frame, blocks, directory = perform(config)
    plain, _, _ = perform(recorded_config(tmp_path, format="diasafety"))
    names = {"ours_people", "ours_denoised", "ours_denoised_untested"}
    assert names <= set(blocks["method"])
    added = frame["method"].isin({*names, ERRORS}) | (frame["metric"] == "accepted_pairs.answered")
    rest = frame[~added].reset_index(drop=True)
    pd.testing.assert_frame_equal(rest[plain.columns], plain)
    answered = frame[frame["metric"] == "accepted_pairs.answered"]
    assert set(answered["method"]) == {"ours", *names}
    assert set(answered["n"]) == {60}  # two pairs for each of 30 prompts
    human = frame[(frame["metric"] == "accepted_pairs.human") & (frame["method"] == "ours_people")]
    assert human.set_index("r_t").loc[1.0, "n"] == 60  # at r_t = 1 every pair is accepted
    errors = frame[frame["method"] == ERRORS].set_index("metric")
    assert errors.loc["missed", "n"] + errors.loc["condemned", "n"] == 80
    table = label_rows(gather([of_directory(directory)]))
    assert set(table[table["method"] == "ours_people"]["metric"]) == {
        "accepted_pairs.human", "accepted_pairs.answered",
    }  # fmt: skip
    of_errors = table[table["method"] == ERRORS].set_index("metric")
    assert of_errors.loc["missed", "n"] == errors.loc["missed", "n"]
    assert of_errors.loc["independence_refuted", "n"] == 1


def test_spared_pairs_are_no_ones_but_the_calibrations(tmp_path, tiny_minilm, monkeypatch):  # noqa: F811
    """With people.spare the judge does not learn from pairs of prompts that are not drawn."""
    monkeypatch.setattr(judge, "_STEPS", 2)
    config = recorded_config(tmp_path, format="diasafety", people={"calibrate": True, "spare": True})
    config.data.prompts = 60
    context = running.RunContext(
        registry.get("llm"), config, tmp_path, tmp_path / "cache", running.tracking.NoTracker()
    )
    source = make_source(config, context)
    assert len(source.spared) == 40
    found = judge.judge_of(source)
    known = {*source.index, *source.spared}
    assert found.held_out.tolist() == [text in known for text in source.human.prompt]
    module = backend_of(source, config).new(Capacity("lora", config.classifier.rank), 0)
    people = People(source, found, module, 0.05)
    sizes = [len(part) for part in (people.measure, people.calibrate, people.count)]
    counts = [2 * len(source.rows[split]) for split in ("train", "internal_test", "validation")]
    assert sizes == [counts[0], counts[1] + 2 * 40, counts[2]]  # two pairs for each prompt
    prompts = [set(part.prompt) for part in (people.measure, people.calibrate, people.count)]
    assert [len(one) for one in prompts] == [size // 2 for size in sizes]


def test_promises_about_people_are_for_recorded_answers():
    with pytest.raises(ConfigError, match=r"people\.spare is for people\.calibrate=true"):
        to_object({"experiment": "llm", "source": "recorded", "data": {"path": "x"},
                   "people": {"spare": True}}, LLMConfig)  # fmt: skip
    with pytest.raises(ConfigError, match=r"people\.calibrate is for source=recorded"):
        to_object({"experiment": "llm", "people": {"calibrate": True}}, LLMConfig)


def test_splits_share_no_prompt_and_depend_on_the_seed(tmp_path, tiny_minilm):  # noqa: F811
    config = recorded_config(tmp_path)
    found = []
    for seed in (0, 1):
        context = running.RunContext(
            registry.get("llm"), config, tmp_path, tmp_path / "cache", running.tracking.NoTracker()
        )
        context.seeds = Seeds(seed)
        source = assembly.make_source(config, context)
        prompts = {
            split: set(source.pool(split, len(source.rows[split])).prompt)
            for split in ("train", "internal_test", "validation")
        }
        assert sum(map(len, prompts.values())) == len(set().union(*prompts.values()))
        found.append(prompts["validation"])
        with pytest.raises(SafeframeError, match="prompts wanted"):
            source.pool("train", 10_000)
        with pytest.raises(SafeframeError, match="no model 'ppo_lag_1'"):
            source.pool("train", 10, "ppo_lag_1")
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"source": "web"}, "source='web' is not one of: synthetic, recorded, hub"),
        ({"evaluation": {"xi": "large"}}, 'evaluation.xi=.large.: "measured" or a number'),
        ({"evaluation": {"thresholds": [2.0]}}, r"evaluation.thresholds\[0\]"),
        ({"tailored": {"penalty": 0.0}}, "tailored.penalty"),
        (
            {"capacity": {"weights": "all"}, "classifier": {"fully_tuned": False}},
            "capacity.weights=all begins with the fully tuned classifier",
        ),
        (best_of("lora"), r"capacity\.among\[0\]='lora' is no capacity; one is lora<rank>, all or head"),
        (best_of("all", "lora0"), r"capacity\.among\[1\]='lora0' is no capacity"),
        (best_of("all", "all"), r"capacity\.among\[1\]='all' is named twice"),
        (best_of(), r"capacity\.among=\[\]: name at least one capacity"),
        (best_of("ai:all") | {"source": "recorded", "data": {"path": "x"}}, "ai: is for decoders"),
        (
            best_of("ai:all") | {"frozen": {"layers": 1}},
            "frozen.layers keeps states of",
        ),
        ({"capacity": {"folds": 1}}, r"capacity\.folds=1 is out of range"),
        ({"prepared": {"pool": "x.npz"}}, "prepared.pool needs source=chat"),
        ({"rules": {"scale": "linear"}}, "rules.scale"),
        ({"pools": {"candidates": 1}}, "pools.candidates=1 is out of range"),
        ({"transfer": {"path": "x"}}, "transfer.path is for source=recorded"),
        ({"transfer": {"epsilon": 0.0}}, "transfer.epsilon=0.0 is out of range"),
        ({"transfer": {"epsilon": 1.0}}, "transfer.epsilon=1.0 is out of range"),
        ({"transfer": {"epsilon": "little"}}, "transfer.epsilon"),
    ],
)
def test_bad_settings(tmp_path, change, said):
    with pytest.raises(ConfigError, match=said):
        configured(tmp_path, **change)


def test_a_checkpoint_is_chosen_on_prompts_that_no_training_saw(tmp_path, fake):
    """The run is another one, and its manifest says which checkpoint was taken."""
    off = configured(tmp_path)
    config = configured(tmp_path, tailoring={"selection_share": 0.25, "relative": True, "micro_batch": 50})
    assert run_id(config) != run_id(off)
    measured = json.loads((perform(config)[2] / "manifest.json").read_text())["measurements"]
    assert 0 <= measured["tailoring.step"] <= config.tailored.steps
    assert 0 < measured["tailoring.p_value"] <= 1


def test_all_weights_and_further_rules_are_another_run_and_leave_the_usual_methods(tmp_path, fake):
    """The LoRA baselines stay what they were; ours begins with the fully tuned classifier."""
    usual = configured(tmp_path)
    config = configured(tmp_path, capacity={"weights": "all"}, rules={"scale": "isotonic"})
    assert run_id(config) != run_id(usual)
    assert run_id(configured(tmp_path, rules={"scale": "none"})) == run_id(usual)
    (before, _, _), (after, _, _) = perform(usual), perform(config)
    further = {f"{by}_{rule}" for by in ("ours", "cross_entropy") for rule in (*GATES, *PRICES)}
    assert further <= set(after["method"])
    assert not further & set(before["method"])
    for method in ("cross_entropy", "cross_entropy_accepted", "rejection_best", "ai", "oracle"):
        one, other = (
            frame[frame["method"] == method].dropna(axis=1, how="all").reset_index(drop=True)
            for frame in (before, after)
        )
        pd.testing.assert_frame_equal(one, other)
    mine = {"ours", "ours_accepted", "ours_paper", "ours_xi_0", "ours_accepted_xi_0", "learn_then_test"}
    ours = [frame[frame["method"].isin(mine)][["value", "xi"]].to_numpy(float) for frame in (before, after)]
    assert not np.array_equal(*ours, equal_nan=True)  # other margins


def test_the_best_capacity_is_taken_for_ours_and_for_the_baselines(tmp_path, fake):
    """It is the one of largest reward on held-out training prompts; the results hold what each came to."""
    config = configured(tmp_path, **best_of("lora2", "all", "ai:head", "ai:all", "all*2"))
    frame, _, directory = perform(config)
    table = frame[frame["method"].str.startswith("capacity.")].pivot(
        index="method", columns="metric", values="value"
    )
    assert set(table.index) == {f"capacity.{name}" for name in config.capacity.among}
    assert table["held_out.chosen"].sum() == 1
    order = table.sort_values(["held_out.reward", "held_out.auc"])
    assert order["held_out.chosen"].iloc[-1] == 1
    assert set(frame["method"]) >= METHODS
    of = {name: frame[frame["method"] == name].set_index(["metric", "r_t"])["value"] for name in METHODS}
    loosest = of["cross_entropy_xi_0"].xs(1.0, level="r_t")
    assert loosest["reward"] == pytest.approx(of["best_of_k"].xs("reward").iloc[0])
    taken = Capacity.of(order.index[-1].removeprefix("capacity."))
    stages = set(json.loads((directory / "manifest.json").read_text())["stages"])
    assert {name for name in stages if name.startswith("chosen")} == (
        {"chosen"} if taken.members == 1 else {f"chosen_{member}" for member in range(taken.members)}
    )
    assert not {"cross_entropy", "fully_tuned"} & stages  # the baselines' are the same


def test_a_killed_comparison_of_capacities_goes_on(tmp_path, fake, monkeypatch):
    change = best_of("all", "lora2")
    whole, _, _ = perform(configured(tmp_path / "a", **change))
    calls = killed_at(monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt):
        perform(configured(tmp_path / "b", **change))
    again, _, _ = perform(configured(tmp_path / "b", **change))
    assert len(calls) == 4 + 3  # the last fold again, the one that is chosen, and ours
    assert whole.equals(again)


def test_every_training_prompt_is_judged_by_who_has_not_seen_it(tmp_path, fake):
    config = configured(tmp_path, **best_of("head", "all*2"))
    context = running.RunContext(
        registry.get("llm"), config, tmp_path, tmp_path / "cache", running.tracking.NoTracker()
    )
    this = preparation.Experiment(config, context)
    pool = this.pool["train"]
    for text in ("head", "all*2"):
        capacity = Capacity.of(text)
        margin = this.unseen(capacity)
        for fold in range(config.capacity.folds):
            module, rows = this.of_fold(capacity, fold), this.folds == fold
            this.chosen = capacity
            own = this.margin("cross_entropy", module, "train")
            np.testing.assert_allclose(margin[rows], own[rows], atol=1e-5)
            assert not np.allclose(margin[~rows], own[~rows])
    assert sorted(np.bincount(this.folds)) == [30, 30]
    assert len(pool.prompt) == 60
