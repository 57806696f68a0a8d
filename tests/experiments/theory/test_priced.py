"""The part on priced risk: the law, hindsight against brute force, a small run and its reports."""

import numpy as np
import pytest

from experiments.theory.config import PricedConfig
from experiments.theory.guards import priced
from experiments.theory.reporting import claims_priced
from experiments.theory.reporting.figures_priced import priced as figure
from safeframe.priced.envelope import chosen

SMALL = PricedConfig(repeats=3, cases=400, candidates=[2, 4], r_t=[0.03, 0.1], sample=600)


@pytest.fixture(scope="module")
def table():
    return priced.run(SMALL, np.random.default_rng(0))


@pytest.mark.parametrize("classifier", priced.CLASSIFIERS)
def test_draws_follow_the_law(classifier):
    found = priced.draw(np.random.default_rng(0), 40_000, 2, classifier)
    z = np.log(found.truth / (1.0 - found.truth))
    assert z.mean() == pytest.approx(priced.CENTRE, abs=0.03)
    assert z.std() == pytest.approx(priced.SPREAD, abs=0.03)
    offered = found.reward > -np.inf
    assert offered.mean() == pytest.approx(0.5, abs=0.01)
    assert (found.reward[offered] >= 0.0).all()
    order = np.argsort(z, axis=None)
    if classifier == "good":
        np.testing.assert_allclose(found.margin, z, atol=1e-9)
    if classifier == "bent":
        assert (np.diff(found.margin.ravel()[order]) >= 0.0).all()
    if classifier == "noisy":
        assert np.corrcoef(found.margin.ravel(), z.ravel())[0, 1] == pytest.approx(0.5**0.5, abs=0.02)


def test_the_best_price_in_hindsight_is_that_of_brute_force():
    sample, r_t = priced.draw(np.random.default_rng(1), 200, 4, "noisy"), 0.03
    risk = 1 / (1 + np.exp(-sample.margin))
    found = priced.best_price(sample, risk, r_t, (0.5,))
    done = [
        priced.seen(sample, chosen(risk, sample.reward, mu, 0.5 * r_t, 0.0))
        for mu in np.geomspace(1e-2, 1e4, 4000)
    ]
    wanted = max(one.reward for one in done if one.risk <= r_t)
    assert found.risk <= r_t * (1 + 1e-9)
    assert wanted <= found.reward + 1e-12
    assert found.reward == pytest.approx(wanted, rel=0.02)


def test_doing_nothing_is_always_within_r_t():
    assert priced.best_within([priced.Outcome(2.0, 0.5, 1.0)], 0.1) == (0.0, 0.0, 0.0)
    assert priced.act(priced.draw(np.random.default_rng(0), 5, 2, "good"), None).acted == 0.0


def test_rows_and_claims_and_the_figure(table):
    assert len(table) == 3 * 2 * 2 * (3 + 2 * 3)
    hindsight = table[table["rule"] == "hindsight"]
    assert (hindsight["mean_ratio"] <= 1.0 + 1e-9).all()
    wide = claims_priced.compared(table, "hindsight")
    assert (wide["oracle"] >= wide["priced"] - 0.02).all()
    claims = {one["claim"]: one for one in claims_priced.claimed(table)}
    good = claims["priced.reward_over_gated.good"]
    assert good["low"] <= good["value"] <= good["high"]
    assert good["value"] > 1.0, "in hindsight a good price earns more than a gate"
    broken = claims["priced.broken_max.certified"]
    assert broken["low"] <= broken["value"] <= broken["high"]
    drawn, caption = figure({"priced": table})
    assert len(drawn.axes) == 6
    assert "3 draws of 400 measurements" in caption
