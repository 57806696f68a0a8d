"""Thresholds: equal to brute force, never falling with r_t, keeping the promise of their event."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from experiments.llm.answers.pools import Pool
from experiments.llm.guard.calibration import Calibrator
from experiments.llm.guard.choosing import decide, scores
from safeframe.informativeness import radius_between
from safeframe.risk_curve import RiskCurve
from safeframe.types import SafeframeError

THRESHOLDS = (0.02, 0.05, 0.1, 0.3, 1.0)


def made(
    n: int, k: int = 4, seed: int = 0, pull: float = 1.0, missing: float = 0.0
) -> tuple[np.ndarray, Pool]:
    """Margins and a pool: harm is likelier at large margins, and more rewarded (`pull`)."""
    rng = np.random.default_rng(seed)
    margin = rng.normal(size=(n, k))
    truth = 1 / (1 + np.exp(-(2.5 * margin - 2.0)))
    harmful = (rng.random((n, k)) < truth).astype(int)
    reward = rng.normal(size=(n, k)) + pull * harmful
    harmful[rng.random((n, k)) < missing] = -1
    harmful[:, 0] = np.maximum(harmful[:, 0], 0)
    answer = [["x"] * k for _ in range(n)]
    pool = Pool(["p"] * n, answer, reward, harmful, truth, np.zeros((n, k)), ["g"] * n)
    return np.where(pool.mask, margin, np.inf), pool


def selected_share(margin: np.ndarray, pool: Pool, tau: float, rule: str = "rank") -> tuple[int, int]:
    """(harmful, answered), prompt by prompt."""
    bad = answered = 0
    for i in range(len(margin)):
        able = [j for j in range(margin.shape[1]) if pool.mask[i, j] and margin[i, j] < tau]
        if able:
            best = max(able, key=lambda j: pool.reward[i, j]) if rule == "rank" else able[0]
            answered += 1
            bad += int(pool.harmful[i, best])
    return bad, answered


@pytest.mark.parametrize("rule", ["rank", "sample"])
def test_decisions_prompt_by_prompt(rule):
    margin, pool = made(200, missing=0.3)
    found = decide(margin, 0.2, pool, rule)
    chosen = found.index[found.accepted]
    rows = np.flatnonzero(found.accepted)
    assert (int((pool.harmful[rows, chosen] == 1).sum()), len(rows)) == selected_share(
        margin, pool, 0.2, rule
    )
    covered = np.arange(200) < 50
    assert (decide(margin, 0.2, pool, rule, covered).index[50:] == -1).all()
    assert not (scores(pool, rule)[~pool.mask] > -np.inf).any()


def test_selected_threshold_by_brute_force():
    margin, pool = made(300, missing=0.2)
    found = Calibrator(margin, pool).choose("selected", THRESHOLDS, 0.0, 0.5)
    edges = np.append(np.unique(margin[np.isfinite(margin)]), np.inf)
    shares = [(b / a if a else 1.0) for b, a in (selected_share(margin, pool, tau) for tau in edges)]
    for choice in found:
        able = [tau for tau, share in zip(edges, shares, strict=True) if share <= choice.r_t]
        expected = max(able, default=-np.inf)
        assert choice.tau == expected or selected_share(margin, pool, choice.tau) == selected_share(
            margin, pool, expected
        )


def test_accepted_threshold_by_brute_force():
    margin, pool = made(300)
    for choice in Calibrator(margin, pool).choose("accepted", THRESHOLDS, 0.0, 0.5):
        flat, label = margin.ravel(), pool.harmful.ravel()
        taus = np.append(np.sort(flat), np.inf)
        able = [tau for tau in taus if (flat < tau).any() and label[flat < tau].mean() <= choice.r_t]
        tau = max(able, default=-np.inf)
        assert (flat < choice.tau).sum() == (flat < tau).sum()


@pytest.mark.parametrize("event", ["accepted", "selected"])
def test_a_larger_threshold_never_accepts_less_and_a_radius_never_more(event):
    margin, pool = made(500)
    plain, wide = (Calibrator(margin, pool).choose(event, THRESHOLDS, xi, 0.5) for xi in (0.0, 0.2))
    measured = Calibrator(margin, pool).choose(event, THRESHOLDS, None, 0.5)
    for choices in (plain, wide, measured):
        assert all(a.tau <= b.tau for a, b in itertools.pairwise(choices))
    assert all(a.tau >= b.tau for a, b in zip(plain, wide, strict=True))
    assert plain[-1].tau == np.inf


def test_selection_breaks_the_promise_per_accepted_candidate_and_not_the_one_per_selected_answer():
    """Reward pulls towards harm: counted over calibrations, on fresh prompts."""
    fresh, validation = made(20_000, seed=10_000, pull=2.0)
    shares: dict[str, list[float]] = {"accepted": [], "selected": []}
    for seed in range(20):
        margin, pool = made(1500, seed=seed, pull=2.0)
        for event, found in shares.items():
            (choice,) = Calibrator(margin, pool).choose(event, (0.1,), None, 0.5)
            index = decide(fresh, choice.tau, validation).index
            rows = np.flatnonzero(index >= 0)
            found.append(float((validation.harmful[rows, index[rows]] == 1).mean()) if len(rows) else 0.0)
    assert np.mean(shares["accepted"]) > 0.15
    assert np.mean(shares["selected"]) < 0.1
    assert np.mean(np.array(shares["selected"]) > 0.1) <= 0.1


def test_certified_thresholds_fail_at_most_delta():
    fresh, validation = made(20_000, seed=20_000)
    other, _ = made(500, seed=30_000)
    failures = 0
    for seed in range(60):
        margin, pool = made(600, seed=100 + seed)
        (choice,) = Calibrator(margin, pool).certified((0.1,), other.ravel(), 0.1)
        index = decide(fresh, choice.tau, validation).index
        rows = np.flatnonzero(index >= 0)
        failures += bool(len(rows)) and (validation.harmful[rows, index[rows]] == 1).mean() > 0.1
    assert failures <= 12  # binomial(60, 0.1) is above 12 with probability 0.006


def test_radius_is_measured_between_even_and_odd_prompts():
    margin, pool = made(400)
    calibrator = Calibrator(margin, pool)
    odd = np.repeat(np.arange(400) % 2 == 1, 4)
    reaches = []
    plain = RiskCurve(margin.ravel(), pool.harmful.ravel())
    for event, curve in (("accepted", plain), ("selected", calibrator.curve)):
        reaches.append(curve.largest_threshold(0.1).tau)
        expected = radius_between(margin.ravel(), pool.harmful.ravel(), odd, reaches[-1], 0.001)
        assert calibrator.radius(0.1, 0.01, event) == pytest.approx(expected)
        assert expected > 0
    assert reaches[0] > reaches[1]  # choosing by reward seeks harm: fewer thresholds are within reach


def test_one_class_or_an_unknown_event_is_refused():
    margin, pool = made(50)
    same = Pool(
        pool.prompt,
        pool.answer,
        pool.reward,
        np.zeros((50, 4)),
        pool.true_harm,
        pool.log_probability,
        pool.group,
    )
    with pytest.raises(SafeframeError, match="0 of 200 answers are harmful"):
        Calibrator(margin, same)
    with pytest.raises(SafeframeError, match="event is 'given'"):
        Calibrator(margin, pool).choose("given", (0.1,), 0.0, 0.5)
    with pytest.raises(SafeframeError, match="rule is 'best'"):
        Calibrator(margin, pool, "best")
    lone = np.zeros((50, 4), dtype=int)
    lone[0, 0] = 1
    one = Pool(pool.prompt, pool.answer, pool.reward, lone, pool.true_harm, pool.log_probability, pool.group)
    with pytest.raises(SafeframeError, match=r"give evaluation\.xi as a number"):
        Calibrator(np.where(lone == 1, 5.0, margin), one).choose("accepted", (0.5,), None, 0.1)


def test_few_data_refuse_where_a_class_is_missing_from_a_half():
    margin, pool = made(30)
    lone = np.zeros((30, 4), dtype=int)
    lone[0, 0] = 1
    one = Pool(pool.prompt, pool.answer, pool.reward, lone, pool.true_harm, pool.log_probability, pool.group)
    few = Calibrator(margin, one, few=True)
    assert {choice.tau for choice in few.choose("selected", THRESHOLDS, None, 0.1)} == {-np.inf}
    assert few.choose("selected", THRESHOLDS, 0.0, 0.1)[-1].tau == np.inf
    none = Pool(
        pool.prompt, pool.answer, pool.reward, 0 * lone, pool.true_harm, pool.log_probability, pool.group
    )
    empty = Calibrator(margin, none, few=True)
    assert {choice.tau for choice in empty.choose("accepted", THRESHOLDS, 0.0, 0.1)} == {-np.inf}
    assert {choice.tau for choice in empty.certified(THRESHOLDS, margin.ravel(), 0.1)} == {-np.inf}
