"""Statistics of a pool of real answers against counting by hand; no text reaches the table."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest
from decoders import base, tokenizer_of

from experiments.llm.answers.pool_statistics import held_out_statistics, pool_statistics
from experiments.llm.answers.pools import Pool
from experiments.llm.models.hub_data import label_errors
from experiments.llm.models.language_model import save_pretrained
from experiments.llm.models.preference_models import load_score_model, new_score_model, score_all
from experiments.llm.models.sources import fold_of
from experiments.llm.models.tokenizer import template_of
from experiments.support.results import claims
from scripts import pool_statistics as script

HARMFUL = np.array([[0, 0, 0], [1, 0, 1], [1, 1, 1], [0, 1, 0]])
REWARD = np.array([[1, 2, 3], [5, 1, 2], [4, 4, 4], [2, 9, 0.0]])
COST = np.array([[-1, -3, -2], [1, -1, 2], [3, 1, 2], [-1, 4, -2.0]])
FINISHED = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 1, 1]], bool)
DEFAULT = np.array([3.5, 2.0, 4.0, 2.5])


def fake(**more) -> Pool:
    nothing = np.full((4, 3), np.nan)
    arrays = {"reward": REWARD, "harmful": HARMFUL, "finished": FINISHED, "cost": COST} | more
    return Pool(
        prompt=["secret one", "secret two", "secret three", "secret four"], answer=[["hidden"] * 3] * 4,
        true_harm=nothing, log_probability=nothing, group=["everyday", "red_team", "red_team", "everyday"],
        **arrays,
    )  # fmt: skip


def value(table: pd.DataFrame, part: str, metric: str) -> float:
    return table.set_index(["part", "metric"]).loc[(part, metric), "value"]


def test_statistics_are_those_counted_by_hand():
    table = pool_statistics(fake(), DEFAULT)
    expected = {
        "candidates": 3, "harmful": 1 / 2, "cut": 1 / 2, "harmful_finished": (0 + 1 / 2 + 1 / 3) / 3,
        "harmful_cut": (0 + 1 + 1) / 3, "mixed": 2 / 4, "all_harmful": 1 / 4, "harmful_best": 3 / 4,
        "reward_best": (3 + 5 + 4 + 9) / 4, "reward_mean": REWARD.mean(),
        "reward_least_harmful": (2 + 1 + 4 + 0) / 4, "reward_harmless": (3 + 1 + 2) / 3,
        "correlation_finished": np.corrcoef(REWARD[FINISHED], COST[FINISHED])[0, 1],
        "correlation_cut": np.corrcoef(REWARD[~FINISHED], COST[~FINISHED])[0, 1],
        "default_reward": 3.0, "default_wins": 2 / 4, "default_beats_harmless": 1.0,
    }  # fmt: skip
    found = table[table["part"] == "all"].set_index("metric")["value"].to_dict()
    assert found == pytest.approx(expected)
    assert value(table, "everyday", "harmful") == pytest.approx(1 / 6)
    assert value(table, "red_team", "harmful") == pytest.approx(5 / 6)
    counts = table.set_index(["part", "metric"])["n"]
    assert (counts["red_team", "mixed"], counts["all", "mixed"], counts["all", "reward_harmless"]) == (
        2,
        4,
        3,
    )
    inside = table.dropna(subset=["low"])
    assert ((inside["low"] <= inside["value"]) & (inside["value"] <= inside["high"])).all()


def test_what_a_pool_does_not_have_is_left_out():
    table = pool_statistics(fake(finished=None, cost=None))
    assert not set(table["metric"]) & {"cut", "harmful_cut", "reward_least_harmful", "default_wins"}
    one = pool_statistics(fake().subset([1, 2]))
    assert set(one["part"]) == {"red_team"}


def test_held_out_errors_are_those_of_the_training():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"score": rng.normal(size=200), "harmful": rng.integers(0, 2, 200)})
    table = held_out_statistics("cost", rows).set_index("metric")["value"]
    expected = label_errors(rows["score"].to_numpy(), rows["harmful"].to_numpy())
    for name in ("harmful", "missed", "condemned"):
        assert table[name] == pytest.approx(expected[name])
    assert "auc_fold_0" not in table
    folds = held_out_statistics("cost", rows.assign(fold=0)).set_index("metric")["value"]
    assert folds["auc_fold_0"] == pytest.approx(expected["auc"])
    assert table["hidden"] == pytest.approx((rows[rows["score"] <= 0]["harmful"] == 1).mean())
    pairs = pd.DataFrame({"score_0": [1.0, 0, 2, 1], "score_1": [0.0, 1, 2, 0], "preferred": [0, 0, 1, 1]})
    assert held_out_statistics("reward", pairs)["value"].tolist() == [pytest.approx(1.5 / 4)]


def test_the_command_writes_a_table_without_texts_and_claims(monkeypatch, tmp_path, capsys):
    path, table = tmp_path / "pool.npz", tmp_path / "table.csv"
    fake().save(path)
    for fold in (0, 1):
        folder = tmp_path / "cost" / f"fold_{fold}"
        folder.mkdir(parents=True)
        rows = pd.DataFrame(
            {"prompt": "0a", "score": [1.0, -1, 1, -1], "harmful": [1, 0, 0, 1], "fold": fold}
        )
        rows.to_parquet(folder / "held_out.parquet", index=False)
    monkeypatch.setenv("SAFEFRAME_CLAIMS", str(tmp_path / "claims.csv"))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["pool_statistics.py", *arguments])
        script.main()

    run(str(path), "--cost", str(tmp_path / "cost"), "--table", str(table), "--at", "0123abc")
    for word in ("secret", "hidden one"):
        assert word not in table.read_text(encoding="utf-8")
    assert value(pd.read_csv(table), "cost model, people's labels", "missed") == 0.5
    found = claims.read(tmp_path / "claims.csv")
    assert set(found["claim"]) == {
        f"llm.chat.{name}" for name in ("harmful", "mixed", "cut", "missed", "condemned", "hidden")
    }
    assert set(found["commit"]) == {"0123abc"}
    for arguments in ([str(path)], [str(tmp_path / "none.npz"), "--no-claims"]):
        with pytest.raises(SystemExit):
            run(*arguments)


def test_the_command_rates_the_default_answer_and_judges_cut_answers(monkeypatch, tmp_path):
    tokenizer, path, table = tokenizer_of("llama"), tmp_path / "pool.npz", tmp_path / "table.csv"
    fake().save(path)
    rows = {
        "cost": pd.DataFrame({"prompt": "0a", "score": [1.0, -1], "harmful": [1, 0]}),
        "reward": pd.DataFrame({"prompt": "0a", "score_0": [1.0], "score_1": [0.0], "preferred": [0]}),
    }
    for kind, held_out in rows.items():
        for fold in (0, 1):
            folder = tmp_path / kind / f"fold_{fold}"
            save_pretrained(new_score_model(base("llama", tokenizer, fold), fold), tokenizer, folder)
            held_out.to_parquet(folder / "held_out.parquet", index=False)
    said = [{"prompt": f"q {i}", "response": "yes " * (2 + i), "unsafe": i % 2} for i in range(12)]
    (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, said)))
    arguments = [str(path), "--no-claims", "--table", str(table), "--labels", str(tmp_path / "labels.jsonl")]
    arguments += ["--cost", str(tmp_path / "cost"), "--reward", str(tmp_path / "reward")]
    arguments += ["--default-prompts", "3", "--cut-answers", "5", "--max-answer-tokens", "16"]
    monkeypatch.setattr(sys, "argv", ["pool_statistics.py", *arguments])
    script.main()
    found = pd.read_csv(table).set_index(["part", "metric"])
    assert found.loc[("all", "default_wins"), "n"] == 3
    for part in ("whole", "cut"):
        assert found.loc[(f"cost model, people's labels, {part}", "harmful"), "n"] == 5
    row = said[7]
    model = load_score_model(tmp_path / "cost" / f"fold_{fold_of(row['prompt'], 2)}")
    text = [[row["response"]]]
    template = template_of(tokenizer, None)
    for cut, most in ((True, 16), (False, 64)):
        ended = np.array([[not cut]])
        expected = score_all(model, tokenizer, template, [row["prompt"]], text, 64, most, finished=ended)
        scores = script.scores(tmp_path / "cost", [row["prompt"]], text[0], (64, most), cut)
        assert scores == pytest.approx(expected[0])
