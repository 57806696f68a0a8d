"""Pools of candidate answers: saved and loaded whole, cut by prompt, refused where they cannot be."""

from __future__ import annotations

import numpy as np
import pytest
from llm_fake import FakeSource

from experiments.llm.answers.pools import Pool
from safeframe.types import SafeframeError


def small(**change) -> Pool:
    content = {
        "prompt": ["ä b", "c"],
        "answer": [["x", "y"], ["z", ""]],
        "reward": np.array([[1.0, 2.0], [3.0, 0.0]]),
        "harmful": np.array([[0, 1], [1, -1]]),
        "true_harm": np.full((2, 2), np.nan),
        "log_probability": np.zeros((2, 2)),
        "group": ["g", "h"],
    }
    return Pool(**(content | change))


def test_round_trip(tmp_path):
    pool = small()
    pool.save(tmp_path / "a.npz")
    again = Pool.load(tmp_path / "a.npz")
    assert (again.prompt, again.answer, again.group) == (pool.prompt, pool.answer, pool.group)
    for name in ("reward", "harmful", "true_harm", "log_probability"):
        found = getattr(again, name)
        assert np.array_equal(found, getattr(pool, name), equal_nan=True)
        assert found.dtype == getattr(pool, name).dtype


def test_subset_and_pairs_keep_what_belongs_together():
    pool = FakeSource(candidates=3).pool("train", 20)
    part = pool.subset([7, 2])
    assert part.prompt == [pool.prompt[7], pool.prompt[2]]
    assert np.array_equal(part.reward, pool.reward[[7, 2]])
    assert part.answer[1] == pool.answer[2]
    assert pool.subset(np.arange(20) < 4).shape == (4, 3)
    prompts, answers, label, place = small().pairs()
    assert (prompts, answers, label.tolist()) == (["ä b", "ä b", "c"], ["x", "y", "z"], [0, 1, 1])
    assert place.tolist() == [[0, 0], [0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"harmful": np.array([[0, 2], [1, -1]])}, "harmful holds 2; labels are 0, 1, or -1"),
        ({"reward": np.zeros((2, 3))}, r"reward has shape \(2, 3\)"),
        ({"prompt": ["a", "  "]}, "1 empty prompts, the first at index 1"),
        ({"group": ["g"]}, "2 prompts need 2 groups"),
        ({"reward": np.array([[np.nan, 2.0], [3.0, 0.0]])}, "reward must be finite"),
    ],
)
def test_refused(change, said):
    with pytest.raises(SafeframeError, match=said):
        small(**change)


def test_a_reward_that_is_missing_with_its_answer_is_no_error():
    assert small(reward=np.array([[1.0, 2.0], [3.0, np.nan]])).mask.sum() == 3
