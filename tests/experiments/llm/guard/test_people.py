"""Promises about people's labels: kept where the judge's errors are independent, refused where not."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.llm.answers.pools import Pool
from experiments.llm.guard.calibration import Calibrator
from experiments.llm.guard.choosing import decide
from experiments.llm.guard.people import (
    Pairs,
    by_people,
    denoised,
    independence,
    measured_noise,
    refuted,
)
from safeframe.label_noise import LabelNoise

CONDEMNED, MISSED = 0.15, 0.25
THRESHOLDS = (0.02, 0.05, 0.1, 0.3, 1.0)


def drawn(shape, seed: int, dependent: bool = False):
    """Margins, people's labels and the judge's: its errors independent of the margin given the state, or
    (dependent) it calls unsafe what has a large margin, so that it errs where the margin does.
    """
    rng = np.random.default_rng(seed)
    unsafe = rng.random(shape) < 0.4
    margin = rng.normal(size=shape) + 3.0 * unsafe
    if dependent:
        return margin, unsafe.astype(int), margin + 0.5 * rng.normal(size=shape) > 1.5
    flipped = rng.random(shape) < np.where(unsafe, MISSED, CONDEMNED)
    return margin, unsafe.astype(int), unsafe ^ flipped


def pairs(n: int, seed: int, dependent: bool = False) -> Pairs:
    margin, label, said = drawn(n, seed, dependent)
    return Pairs(margin, label, said, np.arange(n) // 2)


def pool(n: int, seed: int, dependent: bool = False, k: int = 4) -> tuple[np.ndarray, np.ndarray, Pool]:
    """Margins, people's labels, and the pool with the judge's labels."""
    margin, label, said = drawn((n, k), seed, dependent)
    reward = np.random.default_rng(seed + 10_000).normal(size=(n, k)) + 0.5 * label
    nothing = np.full((n, k), np.nan)
    texts = [f"p{i}" for i in range(n)], [["x"] * k for _ in range(n)]
    return margin, label, Pool(*texts, reward, said.astype(int), nothing, nothing, ["g"] * n)


def kept(dependent: bool, seeds: range, n: int = 600) -> dict[float, float]:
    """Mean share that people call unsafe of the answers given, over r_t, of the untested correction."""
    bad, given = np.zeros(len(THRESHOLDS)), np.zeros(len(THRESHOLDS))
    for seed in seeds:
        noise = measured_noise(pairs(1500, 3 * seed, dependent), 0.05)
        margin, _, internal = pool(n, 3 * seed + 1, dependent)
        choices = denoised(Calibrator(margin, internal), noise, THRESHOLDS, None, 0.1)
        margin, label, fresh = pool(n, 3 * seed + 2, dependent)
        for i, choice in enumerate(choices):
            index = decide(margin, choice.tau, fresh).index
            rows = np.flatnonzero(index >= 0)
            bad[i] += label[rows, index[rows]].sum()
            given[i] += len(rows)
    assert given[-1] == n * len(seeds)  # r_t = 1 refuses nothing
    return {r_t: b / g / r_t for r_t, b, g in zip(THRESHOLDS, bad, given, strict=True) if g}


def test_the_correction_keeps_its_promise_about_people_where_errors_are_independent():
    found = kept(False, range(25))
    assert 0.1 in found  # it answers there: the judge's own labels have 0.15 unsafe at best
    assert max(found.values()) <= 1.0


def test_without_independence_the_correction_breaks_and_the_test_says_so():
    assert max(kept(True, range(5)).values()) > 1.5
    assert all(refuted(independence(pairs(800, seed, True)), 0.05) for seed in range(40))


def test_independent_errors_are_refuted_no_more_often_than_allowed():
    times = 400
    wrong = sum(refuted(independence(pairs(300, seed)), 0.05) for seed in range(times))
    assert wrong / times <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / times)
    assert wrong > 0  # a test that cannot refuse tests nothing


def test_the_measured_error_covers_the_true_one():
    times, outside = 400, 0
    for seed in range(times):
        noise = measured_noise(pairs(200, seed), 0.1)
        assert noise is not None
        outside += noise.safe > CONDEMNED or noise.unsafe < MISSED
    assert outside / times <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / times)


def test_levels_are_the_labelled_shares_that_r_t_corresponds_to():
    margin, _, internal = pool(800, 1)
    noise = LabelNoise(0.1, 0.2)
    calibrator = Calibrator(margin, internal)
    found = denoised(calibrator, noise, [0.1, 0.3, 1.0], 0.0, 0.1)
    by_hand = calibrator.choose("selected", [0.1 + 0.7 * 0.1, 0.1 + 0.7 * 0.3, 1.0], 0.0, 0.1)
    assert [one.tau for one in found] == [one.tau for one in by_hand]
    assert [one.r_t for one in found] == [0.1, 0.3, 1.0]


def test_people_keep_their_promise_with_few_pairs():
    bad, given = np.zeros(len(THRESHOLDS)), np.zeros(len(THRESHOLDS))
    for seed in range(60):
        choices, fresh = by_people(pairs(400, seed), THRESHOLDS, None, 0.1), pairs(2000, 1000 + seed)
        assert [c.tau for c in choices] == sorted(c.tau for c in choices)
        for i, choice in enumerate(choices):
            passed = fresh.margin < choice.tau
            bad[i] += fresh.label[passed].sum()
            given[i] += passed.sum()
    assert given[2] > 0
    assert all(b <= r_t * g for b, g, r_t in zip(bad, given, THRESHOLDS, strict=True))


def test_what_cannot_be_promised_is_refused():
    none = Pairs(np.empty(0), np.empty(0, int), np.empty(0, bool), np.empty(0, int))
    assert [c.tau for c in by_people(none, [0.1, 1.0], None, 0.1)] == [-np.inf, -np.inf]
    margin = np.arange(20.0)
    safe = Pairs(margin, np.zeros(20, int), np.zeros(20, bool), np.arange(20))
    assert by_people(safe, [0.1], None, 0.1)[0].tau == -np.inf
    assert measured_noise(none, 0.05) is None
    assert measured_noise(safe, 0.05) is None  # no unsafe pair: it may miss all
    assert refuted(independence(safe), 0.05)  # what cannot be tested is not trusted
    useless = Pairs(margin, np.arange(20) % 2, np.zeros(20, bool), np.arange(20))
    assert measured_noise(useless, 0.05) is None
    calibrator = Calibrator(*_of(pool(50, 3)))
    assert [c.tau for c in denoised(calibrator, None, [0.1, 1.0], None, 0.1)] == [-np.inf, -np.inf]


def _of(found):
    return found[0], found[2]


@pytest.mark.parametrize(("state", "auc"), [("safe", 1.0), ("unsafe", 0.0)])
def test_independence_by_hand(state, auc):
    margin = np.array([0.0, 1.0, 2.0, 3.0])
    label, said = np.array([0, 0, 1, 1]), np.array([False, True, True, False])
    found = independence(Pairs(margin, label, said, np.arange(4)))[state]
    assert (found.auc, found.n, found.p_value) == (auc, 2, 1.0)
