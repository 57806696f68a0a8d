"""Thresholds from internal test data of several behaviours, against counting."""

import dataclasses

import numpy as np
import pytest
from safetygym_margins import Linear, behaviour, decided

from experiments.safetygym.experiment import strictest_first
from experiments.safetygym.guard.calibration import Calibration, gumbel_scores
from experiments.safetygym.guard.candidate_calibration import CandidateCalibration
from experiments.safetygym.states.internal_data import Shard
from safeframe.threshold_rule import Conservative, PlugIn, ThresholdRule
from safeframe.types import SafeframeError

K = 15
THRESHOLDS = (1e-3, 1e-2, 0.05, 0.2, 0.6)


@pytest.fixture(scope="module")
def data() -> list[Shard]:
    return [behaviour(3000, 0, 3.0, 2.0), behaviour(2000, 1, 6.0, 2.5), behaviour(1500, 2, 2.0, 3.5)]


def counted(shard: Shard, score: np.ndarray, tau: float, shift: float) -> float:
    """Share of unsafe ones among the candidates selected at tau, margins moved to the worst."""
    margin = Linear().margin(shard.observation).astype(np.float64)
    margin = np.where(shard.unsafe == 1, margin - shift, margin + shift)
    accepted = margin < tau
    some = accepted.any(axis=1)
    chosen = np.where(accepted, score, -np.inf).argmax(axis=1)[some]
    return float(shard.unsafe[some, chosen].mean()) if some.any() else 1.0


@pytest.mark.parametrize("radius", [0.0, 0.2])
def test_the_bound_of_a_threshold_holds_for_every_behaviour(data, radius):
    agent = decided()
    calibration = Calibration(Linear(), agent, data, PlugIn(radius), seed=3)
    found = [calibration.threshold(r_t) for r_t in THRESHOLDS]
    assert [c.tau for c in found] == sorted(c.tau for c in found)
    for calibrated in found:
        assert calibrated.feasible
        shares = [
            counted(shard, gumbel_scores(agent, shard.observation, 3 + i), calibrated.tau, 2**0.5 * radius)
            for i, shard in enumerate(data)
        ]
        np.testing.assert_allclose(calibration.bound(calibrated.tau), shares, atol=1e-12)
        assert max(shares) == calibrated.bound <= calibrated.r_t
        above = calibration.grid(1.0)[calibration.grid(1.0) > calibrated.tau]
        for tau in above[:: max(1, len(above) // 20)]:
            assert calibration.bound(tau).max() > calibrated.r_t, "a larger threshold would have held too"
        rates = [(Linear().margin(s.observation) < calibrated.tau).any(axis=1).mean() for s in data]
        assert calibrated.acceptance == pytest.approx(np.mean(rates), abs=1e-9)


def test_one_more_behaviour_never_raises_a_threshold(data):
    agent = decided()
    one, all_ = (
        Calibration(Linear(), agent, data[:1], PlugIn(0.0)),
        Calibration(Linear(), agent, data, PlugIn(0.0)),
    )
    for r_t in THRESHOLDS:
        both = min(
            Calibration(Linear(), agent, data[:2], PlugIn(0.0)).threshold(r_t).tau, one.threshold(r_t).tau
        )
        assert all_.threshold(r_t).tau <= both + 0.02  # grids of quantiles differ a little
    larger = Calibration(Linear(), agent, data, PlugIn(0.3))
    assert larger.threshold(0.05).tau < all_.threshold(0.05).tau


def test_the_papers_mode_bounds_the_share_among_accepted_labelled_cases(data):
    hidden = np.random.default_rng(0).random(data[0].unsafe.shape) < 0.8
    partly = dataclasses.replace(data[0], unsafe=np.where(hidden, -1, data[0].unsafe).astype(np.int8))
    calibration = Calibration(Linear(), decided(), [partly, data[1]], PlugIn(0.0), "accepted")
    for r_t in (0.01, 0.05, 0.2):
        calibrated = calibration.threshold(r_t)
        shares = []
        for shard in (partly, data[1]):
            taken = (Linear().margin(shard.observation) < calibrated.tau) & (shard.unsafe >= 0)
            shares.append(shard.unsafe[taken].mean())
        assert calibrated.bound == pytest.approx(max(shares), abs=1e-12)
        assert max(shares) <= r_t


@pytest.mark.parametrize("mode", ["selected", "accepted"])
def test_the_level_of_a_candidate_is_where_thresholds_begin_to_accept_it(data, mode):
    calibration = Calibration(Linear(), decided(), data, PlugIn(0.1), mode)
    margin = np.random.default_rng(5).uniform(-4, 6, (50, K)).astype(np.float32)
    level = calibration.level(margin)
    assert level.shape == margin.shape
    assert len(np.unique(level)) > 20
    for r_t in (1e-4, *THRESHOLDS, 1.0):
        np.testing.assert_array_equal(level <= r_t, margin < calibration.threshold(r_t).tau)


def test_where_nothing_can_be_kept_the_threshold_accepts_nothing():
    """The riskier a case looks the safer it is."""
    shard = behaviour(2000, 3, -4.0, -2.0)
    assert shard.unsafe[Linear().margin(shard.observation).argmin(0)].max() == 1
    found = Calibration(Linear(), decided(), [shard], PlugIn(0.0)).threshold(1e-3)
    assert (found.tau, found.feasible, found.acceptance, found.bound) == (-np.inf, False, 0.0, 1.0)


def test_candidates_without_a_label_are_refused_where_all_are_needed(data):
    unsafe = data[0].unsafe.copy()
    unsafe[3, 4] = -1
    with pytest.raises(SafeframeError, match="use backup labels"):
        Calibration(Linear(), decided(), [dataclasses.replace(data[0], unsafe=unsafe)], PlugIn(0.0))


@pytest.mark.parametrize("mode", ["selected", "accepted"])
def test_data_without_a_safe_case_are_refused(data, mode):
    shard = dataclasses.replace(data[0], unsafe=np.ones_like(data[0].unsafe))
    with pytest.raises(SafeframeError, match="safe ones are needed too"):
        Calibration(Linear(), decided(), [shard], PlugIn(0.0), mode)


@pytest.mark.parametrize("mode", ["selected", "accepted"])
def test_without_an_unsafe_case_nothing_can_be_promised(data, mode):
    shard = dataclasses.replace(data[0], unsafe=np.zeros_like(data[0].unsafe))
    found = Calibration(Linear(), decided(), [shard, shard], PlugIn(0.0), mode)
    for r_t in (1e-5, 1e-2, 1.0):
        at = found.threshold(r_t)
        assert (at.feasible, at.tau, at.bound, at.acceptance) == (False, -np.inf, 1.0, 0.0)
    assert (found.level(np.array([-5.0, 0.0, 5.0])) == 1.0).all()
    assert found.reliability().empty


@pytest.mark.parametrize("radius", [0.0, 0.2])
def test_every_candidate_keeps_its_own_promise(data, radius):
    """Counted: of the accepted cases of each candidate, in each behaviour, margins moved to the worst."""
    shift = 2**0.5 * radius
    found = CandidateCalibration(Linear(), decided(), data, PlugIn(radius))
    for r_t in (0.1, 0.15):
        at = found.threshold(r_t)
        assert at.tau.shape == (K,)
        assert at.feasible
        worst, looser = [], []
        for k in np.flatnonzero(at.tau > -np.inf):
            for tau, shares in ((at.tau[k], worst), (at.tau[k] + 0.5, looser)):
                for shard in data:
                    margin, unsafe = Linear().margin(shard.observation)[:, k], shard.unsafe[:, k] == 1
                    bad = (unsafe & (margin < tau + shift)).mean()
                    good = (~unsafe & (margin < tau - shift)).mean()
                    shares.append(bad / max(bad + good, 1e-12))
        assert at.bound <= r_t
        assert max(worst) <= r_t * 1.02 + 1e-9
        assert np.isfinite(at.tau).any()
        assert max(looser) > r_t  # a looser threshold would break somebody's
    # one threshold for all lets the riskiest candidates exceed what they may
    alone = Calibration(Linear(), decided(), data, PlugIn(radius), "accepted").threshold(0.1)
    assert found.bound(alone.tau).max() > 0.1


def test_levels_of_candidates_are_those_of_their_own_curves(data):
    found = CandidateCalibration(Linear(), decided(), data, PlugIn(0.0))
    margin = Linear().margin(data[0].observation[:50])
    level = found.level(margin)
    for r_t in (0.02, 0.1, 0.4):
        accepted = margin < found.threshold(r_t).tau
        assert (level[accepted] <= r_t + 1e-12).all()
        assert (level[~accepted] > r_t - 0.01).all()
    assert found.reliability()["unsafe"].sum() == sum((shard.unsafe == 1).sum() for shard in data)


def test_thresholds_are_tried_from_strict_to_loose_once_each():
    tau = np.array([0.0, -np.inf])
    assert strictest_first([np.inf, 1.0, -np.inf, 0.5, 1.0]) == [0.5, 1.0]
    found = strictest_first([np.full(2, -np.inf), np.ones(2), tau, tau.copy()])
    assert len(found) == 2
    np.testing.assert_array_equal(found[0], tau)


def test_candidates_by_margin_are_counted(data):
    found = Calibration(Linear(), decided(), data, PlugIn(0.0))
    table = found.reliability()
    margin = np.concatenate([Linear().margin(shard.observation).ravel() for shard in data])
    unsafe = np.concatenate([np.asarray(shard.unsafe).ravel() for shard in data]) == 1
    assert table["unsafe"].sum() == unsafe.sum()  # all of them lie in the range
    for row in table.itertuples():
        inside = (margin >= row.low) & (margin < row.high)
        assert (row.n, row.unsafe) == (inside.sum(), (inside & unsafe).sum())


def test_an_unknown_mode_is_refused(data):
    with pytest.raises(SafeframeError, match="known: selected, accepted"):
        Calibration(Linear(), decided(), data, PlugIn(0.0), "best")


def test_gumbel_scores_draw_from_the_policy_restricted_to_the_accepted():
    agent, n = decided(), 40_000
    one = np.random.default_rng(6).normal(size=(1, 60)).astype(np.float32)
    accepted = np.random.default_rng(7).random(K) < 0.5
    score = gumbel_scores(agent, np.repeat(one, n, axis=0), 0)
    drawn = np.bincount(np.where(accepted, score, -np.inf).argmax(axis=1), minlength=K) / n
    probability = np.where(accepted, agent.candidate_probabilities(one)[0], 0.0)
    probability /= probability.sum()
    assert probability.max() > 2 / accepted.sum()  # far from uniform
    assert (np.abs(drawn - probability) < 5 * np.sqrt(probability * (1 - probability) / n) + 1e-9).all()
    np.testing.assert_array_equal(score, gumbel_scores(agent, np.repeat(one, n, axis=0), 0))


def test_the_measured_radius_shrinks_with_the_data():
    few, many = (
        Calibration(Linear(), decided(), [behaviour(n, 4, 3.0, 1.0)], Conservative()).radius(0.02)
        for n in (300, 30_000)
    )
    assert 0 <= many < few


def test_where_a_half_lacks_a_class_nothing_is_accepted():
    """Only states of the first stretch have an unsafe candidate: no radius can be measured."""
    shard = behaviour(2000, 4, 3.0, 1.0)
    unsafe = np.where(np.arange(2000)[:, None] < 100, shard.unsafe, 0).astype(np.int8)
    found = Calibration(
        Linear(), decided(), [dataclasses.replace(shard, unsafe=unsafe)], Conservative()
    ).threshold(0.5)
    assert (found.tau, found.feasible, found.bound) == (-np.inf, False, 1.0)


@pytest.mark.parametrize("mode", ["selected", "accepted"])
def test_with_a_measured_radius_one_unsafe_case_more_is_counted(mode):
    shard = behaviour(400, 4, 3.0, 1.0)
    plain, more = (
        Calibration(Linear(), decided(), [shard], rule, mode) for rule in (PlugIn(), Conservative())
    )
    for tau in np.linspace(-4, 4, 9):
        assert more.bound(tau, 0.01)[0] > plain.bound(tau)[0] - 1e-12
    strict = 1e-4  # below one unsafe case in 400 states
    assert plain.threshold(strict).feasible
    assert not more.threshold(strict).feasible


def test_one_behaviour_is_calibrated_as_the_shared_rule_does(data):
    """The same thresholds as `safeframe.threshold_rule`, but for the grid."""
    agent = decided()
    found = Calibration(Linear(), agent, data[:1], Conservative(), seed=3)
    score = gumbel_scores(agent, data[0].observation, 3)
    odd = (np.arange(3000) * 20 // 3000) % 2 == 1
    rule = ThresholdRule(
        Linear().margin(data[0].observation), data[0].unsafe, Conservative(), odd, score, "selected"
    )
    for r_t in (0.01, 0.05, 0.2):
        exact, mine = rule.calibrate(r_t), found.threshold(r_t)
        assert mine.radius == exact.radius
        assert mine.tau <= exact.tau
        assert mine.acceptance == pytest.approx(exact.threshold.acceptance, abs=5e-3)


def test_thresholds_never_fall_with_r_t(data):
    found = Calibration(Linear(), decided(), data, Conservative()).thresholds([0.2, 1e-3, 0.05, 0.01, 0.6])
    assert list(found) == [1e-3, 0.01, 0.05, 0.2, 0.6]
    assert [one.tau for one in found.values()] == sorted(one.tau for one in found.values())
    for r_t, one in found.items():
        assert one.r_t == r_t
        assert one.bound <= r_t if one.feasible else one.tau == -np.inf
    assert found[0.6].feasible
