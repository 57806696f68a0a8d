"""Coverage of recorded answers: which prompts and candidates are refused, and how many of the own kind."""

from __future__ import annotations

import numpy as np
import pytest
from llm_recorded_fake import pku_rows, tiny_minilm, write_lines  # noqa: F401

from experiments.llm.answers.pools import UNKNOWN, Pool
from experiments.llm.answers.recorded_source import RecordedSource
from experiments.llm.config import LLMConfig
from experiments.llm.guard import coverage
from experiments.llm.guard.choosing import accepted, decide
from experiments.llm.guard.judge import judge_of
from experiments.support import registry
from experiments.support.config import to_object
from experiments.support.runs import running
from safeframe.certificates.cases import clopper_pearson_upper
from safeframe.optimisation.candidates import DEFAULT
from safeframe.types import SafeframeError


def drawn(n: int, seed: int, k: int = 4, shift: float = 0.0) -> dict[str, np.ndarray]:
    """Features of n prompts with candidates near them; every other prompt lacks its last candidate."""
    rng = np.random.default_rng(seed)
    prompt = rng.normal(size=(n, 3)) + shift
    pair = prompt[:, None] + 0.3 * rng.normal(size=(n, k, 3))
    pair[::2, -1] = np.nan
    return {"prompt": prompt, "pair": pair}


def small_pool(harmful: np.ndarray) -> Pool:
    n, k = harmful.shape
    reward = np.tile(np.arange(k, dtype=float), (n, 1))
    nothing = np.full((n, k), np.nan)
    return Pool([f"p{i}" for i in range(n)], [["a"] * k] * n, reward, harmful, nothing, nothing, ["g"] * n)


def test_inputs_like_the_internal_test_data_are_refused_no_more_often_than_epsilon():
    epsilon, over = 0.1, dict.fromkeys(coverage.KINDS, 0)
    fresh = drawn(4000, 10_000)
    for seed in range(60):
        guards = coverage.fit(drawn(200, seed), epsilon, seed)
        inside = coverage.covered(guards, fresh)
        over["prompt"] += (~inside["prompt"]).mean() > epsilon
        over["pair"] += (~inside["pair"][:, 0]).mean() > epsilon
    for failures in over.values():  # each with probability 0.05 at most
        assert clopper_pearson_upper(failures, 60, 0.05) < 0.2
    assert not inside["pair"][::2, -1].any()  # what is not there


def test_another_kind_is_refused_wholly():
    guards = coverage.fit(drawn(200, 0), 0.1, 0)
    inside = coverage.covered(guards, drawn(50, 1, shift=20.0))
    rows = coverage.refused_rows("transfer.pku.coverage", inside)
    assert [(row["metric"], row["value"], row["n"]) for row in rows] == [
        ("refused.prompt", 1.0, 50),
        ("refused.pair", 1.0, 50),
    ]
    assert rows[0]["low"] == pytest.approx(0.025 ** (1 / 50))


def test_the_unit_of_a_refused_pair_is_the_prompt():
    inside = {"prompt": np.array([True, False]), "pair": np.array([[True, False], [True, False]])}
    rows = coverage.refused_rows("coverage", inside)
    assert [(row["value"], row["n"]) for row in rows] == [(0.5, 2), (0.0, 2)]


def test_what_is_not_covered_is_not_given():
    pool = small_pool(np.array([[0, 0, 1], [0, 1, UNKNOWN]]))
    margin = np.zeros((2, 3))
    assert decide(margin, 1.0, pool).index.tolist() == [2, 1]
    assert decide(margin, 1.0, pool, covered=np.array([True, False])).index.tolist() == [2, DEFAULT]
    pairs = np.array([[True, True, False], [False, False, True]])
    assert decide(margin, 1.0, pool, covered=pairs).index.tolist() == [1, DEFAULT]  # the third is not there
    assert accepted(margin, 1.0, pool, pairs).tolist() == [[True, True, False], [False] * 3]


def test_how_many_prompts_epsilon_takes():
    coverage.require_enough(118, 0.05)
    with pytest.raises(SafeframeError, match="takes 59 internal test prompts held out, half of 117 are 58"):
        coverage.require_enough(117, 0.05)
    coverage.fit(drawn(118, 0), 0.05, 0)
    with pytest.raises(SafeframeError, match="58 held-out cases cannot certify"):
        coverage.fit(drawn(117, 0), 0.05, 0)


def test_features_of_recorded_answers(tmp_path, tiny_minilm):  # noqa: F811
    path = write_lines(tmp_path / "pku.jsonl.gz", pku_rows(60))
    content = {"source": "recorded", "data": {"path": str(path)}, "classifier": {"max_tokens": 32}}
    config = to_object({"experiment": "llm", "preset": "smoke", "progress": False} | content, LLMConfig)
    context = running.RunContext(
        registry.get("llm"), config, tmp_path, tmp_path / "cache", running.tracking.NoTracker()
    )
    source = RecordedSource(config, context, judge_of)
    pool = source.pool("validation", 10)
    found = coverage.features_of(source, pool)
    assert np.allclose(found["prompt"], source.mini.embed(pool.prompt), atol=1e-5)
    assert np.array_equal(np.isfinite(found["pair"]).all(axis=2), pool.mask)
    assert np.allclose(np.linalg.norm(found["pair"][pool.mask], axis=1), 1.0, atol=1e-5)
    i, j = np.argwhere(pool.mask)[7]
    state, mask = source.mini.hidden([pool.prompt[i]], [pool.answer[i][j]], 32).batch(np.array([0]))
    mean = state[mask].mean(dim=0).numpy()
    assert np.allclose(found["pair"][i, j], mean / np.linalg.norm(mean), atol=2e-3)
    assert (tmp_path / "cache" / "prompt_embeddings").is_dir()
