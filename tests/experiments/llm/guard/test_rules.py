"""Further rules on margins: what they give, equal to the rules of the library, and what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.llm.answers.pools import Pool
from experiments.llm.guard.choosing import decide
from experiments.llm.guard.rules import GATES, PRICES, PriceChoice, Rules, fitting_part, priced_answers
from safeframe.types import SafeframeError

THRESHOLDS = (0.02, 0.05, 0.1, 0.3, 1.0)


def made(n: int, seed: int, k: int = 4, rate: float = -2.0, missing: float = 0.0) -> tuple[np.ndarray, Pool]:
    rng = np.random.default_rng(seed)
    margin = rng.normal(size=(n, k))
    truth = 1 / (1 + np.exp(-(2.5 * margin + rate)))
    harmful = (rng.random((n, k)) < truth).astype(int)
    reward = rng.normal(size=(n, k)) + harmful
    lacks = rng.random((n, k)) < missing
    lacks[:, 0] = False
    harmful[lacks] = -1
    answer = [["x"] * k for _ in range(n)]
    pool = Pool([f"p{i}" for i in range(n)], answer, reward, harmful, truth, np.zeros((n, k)), ["g"] * n)
    return np.where(pool.mask, margin, np.inf), pool


def rules(n: int, seed: int, **more) -> Rules:
    margin, pool = made(n, seed, **more)
    fits = fitting_part(n, 0.25, np.random.default_rng(seed))
    return Rules(margin, pool, np.full(n, -1.0), "logistic", fits)


def true_risk(index: np.ndarray, pool: Pool) -> float:
    given = index >= 0
    return (
        float(pool.true_harm[np.arange(len(index)), np.maximum(index, 0)][given].mean())
        if given.any()
        else 0.0
    )


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_looser_thresholds_answer_more_and_what_is_missing_is_never_given(missing):
    margin, pool = made(3000, 1, missing=missing)
    found = rules(2000, 2, missing=missing)
    usual = np.full(3000, -1.0)
    for name in GATES:
        taus = [choice.tau for choice in found.gate(name, THRESHOLDS)]
        assert taus == sorted(taus)
        assert taus[-1] > taus[0]
    for name in PRICES:
        answered, earned = [], []
        for choice in found.price(name, THRESHOLDS, 0.0, 0.1, 0.05):
            index = priced_answers(margin, pool, usual, choice, found.scale)
            given = index >= 0
            assert (pool.harmful[np.flatnonzero(given), index[given]] >= 0).all()
            answered.append(given.mean())
            place = np.arange(3000), np.maximum(index, 0)
            earned.append(np.where(given, pool.reward[place], usual).mean())
        assert answered[-1] > 0.9
        assert (np.diff(earned) >= -0.02).all()


def test_a_price_of_0_takes_the_best_rewarded_and_an_infinite_one_nothing():
    margin, pool = made(50, 3)
    found = rules(400, 4)
    free = priced_answers(margin, pool, np.full(50, -9.0), PriceChoice(0.1, 0.0, 0.1, 0.0), found.scale)
    assert np.array_equal(free, decide(margin, np.inf, pool).index)
    dear = priced_answers(margin, pool, np.full(50, -9.0), PriceChoice(0.1, np.inf, 0.1, 0.0), found.scale)
    assert (dear == -1).all()


def test_a_certified_price_keeps_its_promise_where_cases_are_few():
    """240 prompts, 60 of them for the scale: the true risk exceeds r_t in at most delta of the draws."""
    margin, pool = made(20_000, 5)
    usual, broken, acted, draws = np.full(20_000, -1.0), 0, 0, 150
    for seed in range(draws):
        found = rules(240, 100 + seed)
        (choice,) = found.price("priced_certified", [0.15], 0.0, 0.1, 0.1)
        index = priced_answers(margin, pool, usual, choice, found.scale)
        acted += (index >= 0).any()
        broken += true_risk(index, pool) > 0.15
    assert acted > 0.3 * draws
    assert broken <= 0.1 * draws + 2 * np.sqrt(0.1 * 0.9 * draws)


def test_one_more_keeps_the_mean_risk_below_the_threshold():
    """Conformal risk control bounds the mean over draws, not each draw."""
    margin, pool = made(20_000, 6)
    risks = []
    for seed in range(100):
        (choice,) = rules(300, 500 + seed).gate("one_more", [0.1])
        risks.append(true_risk(decide(margin, choice.tau, pool).index, pool))
    assert np.mean(risks) < 0.1 + 2 * np.std(risks) / 10


def test_a_part_for_the_scale_without_a_class_is_refused():
    margin, pool = made(100, 7, rate=-40.0)
    fits = fitting_part(100, 0.25, np.random.default_rng(0))
    with pytest.raises(SafeframeError, match="unsafe"):
        Rules(margin, pool, np.zeros(100), "logistic", fits)


def test_the_part_is_never_all_or_nothing():
    rng = np.random.default_rng(0)
    assert [fitting_part(n, share, rng).sum() for n, share in ((4, 0.01), (4, 0.99), (100, 0.25))] == [
        1,
        3,
        25,
    ]


def test_a_gate_that_the_rule_joins_is_kept():
    """With a measured radius the rule may find a price and a gate; what is given is what was counted."""
    margin, pool = made(2000, 8)
    fits = fitting_part(2000, 0.25, np.random.default_rng(8))
    usual = np.full(2000, -1.0)
    found = Rules(margin, pool, usual, "logistic", fits)
    for choice in found.price("priced", THRESHOLDS, None, 0.1, 0.05):
        index = priced_answers(margin, pool, usual, choice, found.scale)
        given = np.flatnonzero(index >= 0)
        assert (margin[given, index[given]] < choice.gate).all()
        counted = given[~fits[given]]
        if len(counted):
            share = (pool.harmful[counted, index[counted]] == 1).mean()
            assert share <= choice.r_t
