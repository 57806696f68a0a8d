"""The slope of small risks: known answers, what it may not do, and where it helps a bound."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from safeframe.risk_scale import RiskScale, TailScale
from safeframe.risk_scale.odds import from_log_odds, log_odds
from safeframe.shrinkage import Shrinkage, ShrinkageCurve
from safeframe.types import SafeframeError


def cases(slope, n=200_000, seed=0, below=0.2):
    """(p̂, label): the log odds of the risk fall `slope` times as fast as those of p̂ below the level."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(-4.0, 4.0, n)
    edge = log_odds(np.asarray(below))
    risk = from_log_odds(np.where(odds < edge, edge + slope * (odds - edge), odds))
    return from_log_odds(odds), (rng.random(n) < risk).astype(int)


@pytest.mark.parametrize("slope", [0.4, 0.7, 1.0])
def test_the_slope_of_a_law_that_is_known_is_found(slope):
    found = TailScale.fit(*cases(slope))
    assert found.slope == pytest.approx(slope, abs=0.03)
    assert isinstance(found, RiskScale)


def test_the_slope_is_that_of_an_independent_fit():
    chance, label = cases(0.6, n=5000)
    low = chance <= 0.2
    odds, unsafe = log_odds(chance[low]), label[low]

    def loss(w):
        return np.sum(np.logaddexp(0.0, w[0] + w[1] * odds) - unsafe * (w[0] + w[1] * odds))

    assert TailScale.fit(chance, label).slope == pytest.approx(minimize(loss, [0.0, 1.0]).x[1], rel=1e-2)


def test_a_scale_that_is_too_timid_is_left_alone():
    """A slope above one would make small risks smaller still, from a handful of unsafe cases."""
    chance, label = cases(1.6)
    found = TailScale.fit(chance, label)
    assert found.slope == 1.0
    np.testing.assert_allclose(found.probability(chance), chance, rtol=1e-12)


def test_without_cases_of_both_states_below_nothing_is_known():
    chance = np.array([0.01, 0.1, 0.5, 0.9])
    for label in ([0, 0, 0, 1], [1, 1, 1, 1]):
        assert TailScale.fit(chance, label).slope == 1.0
    assert TailScale.fit(np.empty(0), np.empty(0, int)).slope == 1.0


@settings(max_examples=200, deadline=None)
@given(
    below=st.floats(0.001, 0.999), slope=st.floats(0.0, 1.0),
    chance=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20),
)  # fmt: skip
def test_no_risk_becomes_smaller_and_the_order_stays(below, slope, chance):
    asked = np.sort(chance)
    got = TailScale(below, slope).probability(asked)
    assert got.shape == asked.shape
    assert (got >= asked).all()
    assert (got <= 1.0).all()
    assert (np.diff(got) >= -1e-15).all()
    above = asked >= below
    assert (got[above] == asked[above]).all()
    assert (got[~above] <= below * (1 + 1e-12)).all()


def test_known_answer():
    # log odds of .01 halfway to those of .5, which are 0
    assert TailScale(0.5, 0.5).probability(0.01) == pytest.approx(1 / (1 + 99**0.5))
    assert TailScale(0.2, 0.0).probability(np.array([1e-9, 0.3])) == pytest.approx([0.2, 0.3])


def test_the_shrinkage_bound_needs_it_where_small_risks_are_believed_too_much():
    """The second assumption of `safeframe.shrinkage`: below .05, p̂ is wrong by a factor. Here its log odds
    run twice too far; where the bound accepts at 1e-4, the risk is far above in most draws, and flattened it
    is not.
    """
    rule, r_t = Shrinkage(dispersion=1.0), 1e-4
    risk_of = TailScale(0.2, 0.5)
    above = {"as it is": 0, "flattened": 0}
    for seed in range(40):
        chance, label = cases(0.5, n=8760, seed=seed)
        fitted, counted = slice(0, 4380), slice(4380, None)
        tail = TailScale.fit(chance[fitted], label[fitted])
        for name, scale in (("as it is", TailScale(0.2, 1.0)), ("flattened", tail)):
            p = np.clip(scale.probability(chance[counted]), 1e-12, 1.0)
            curve = ShrinkageCurve(log_odds(p), label[counted], p, rule)
            tau = curve.largest_threshold(r_t).tau
            taken = log_odds(p) < tau
            risk = risk_of.probability(chance[counted])[taken]
            above[name] += bool(len(risk)) and bool(risk.mean() > r_t)
    assert above["as it is"] > 30
    assert above["flattened"] <= 4


def test_bad_input_is_refused():
    chance, label = cases(1.0, n=100)
    for below in (0.0, 1.0, np.nan):
        with pytest.raises(SafeframeError, match="below"):
            TailScale.fit(chance, label, below)
    with pytest.raises(SafeframeError, match="100 cases, label 99"):
        TailScale.fit(chance, label[1:])
    with pytest.raises(SafeframeError, match=r"outside \[0, 1\]"):
        TailScale.fit(chance * 3, label)
    with pytest.raises(SafeframeError, match="NaN"):
        TailScale(0.2, 0.5).probability(np.nan)
    with pytest.raises(SafeframeError, match=r"0 .safe."):
        TailScale.fit(chance, label + 1)
