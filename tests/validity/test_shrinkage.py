"""The shrinkage bound: broken promises are counted where its model is right, wrong, drifting, and blind.

Small: `python run.py experiment=theory` counts every rule (results/tables/theory_shrinkage.csv).
"""

import numpy as np
import pytest
from scipy import stats

from experiments.theory.config import ShrinkageConfig
from experiments.theory.guards import shrinkage
from safeframe.guard.calibration import calibrate_evidence
from safeframe.guard.report import EVERYTHING
from safeframe.guard.settings import GuardSettings
from safeframe.shrinkage import Shrinkage
from safeframe.threshold_rule import Conservative

LEVELS = [1e-4, 1e-3, 1e-2, 0.1]
ODDS = np.log(shrinkage.FACTOR)
LAW = shrinkage.plain()
NOMINAL = stats.norm.sf(1.0)
"""Of one standard deviation, z = 1: what a share of broken promises is measured against."""


def models():
    """By name: the scale of risk, the draw, the law in use, the prior."""
    odds = shrinkage.DRIFT * LAW.prior / (1 - LAW.prior)
    high = odds / (1 + odds)

    def off(by):
        return lambda m: shrinkage.expit(shrinkage._log_odds(m) + by)

    return {
        "right": (shrinkage.right, shrinkage.plain_draw, LAW, None),
        "low": (off(-ODDS), shrinkage.plain_draw, LAW, None),
        "high": (off(ODDS), shrinkage.plain_draw, LAW, None),
        "weeks": (shrinkage.right, shrinkage.weeks_draw, LAW, None),
        "upper end": (shrinkage.right, shrinkage.plain_draw, LAW.with_prior(high), (LAW.prior, high)),
        "no prior": (shrinkage.right, shrinkage.plain_draw, LAW.with_prior(high), None),
        "floor": (
            shrinkage.right, shrinkage.floor_draw, shrinkage.of_risk(shrinkage._with_floor), None
        ),
    }  # fmt: skip


def ratios(model, n, draws, rule=None, seed=0):
    """(draws, levels) true risk over r_t, and acceptance."""
    scale, draw, law, prior = models()[model]
    rng = np.random.default_rng([seed, n])
    settings = GuardSettings(tuple(LEVELS), rule or Shrinkage(), prior=prior, scale=scale)
    taus = []
    for _ in range(draws):
        _, made = calibrate_evidence(draw(rng, n), settings)
        taus.append([made[r_t][EVERYTHING].tau for r_t in LEVELS])
    return law.risk(np.array(taus)) / np.array(LEVELS), law.acceptance(np.array(taus))


@pytest.mark.parametrize("n", [50, 200, 1000])
@pytest.mark.parametrize("model", ["right", "low", "high", "weeks", "upper end"])
def test_where_its_assumptions_hold(model, n):
    draws = 60
    ratio, acceptance = ratios(model, n, draws)
    broken = (ratio > 1.0).sum(axis=0)
    assert (broken <= stats.binom.ppf(0.999, draws, NOMINAL)).all()
    error = ratio.std(axis=0, ddof=1) / np.sqrt(draws)
    assert (ratio.mean(axis=0) <= 1.0 + 3.0 * error).all()
    assert (acceptance.mean(axis=0) > 0.3).all(), "and not because nothing is accepted, at 1e-4 either"


def test_a_risk_that_the_model_does_not_know_of_breaks_it_where_counts_alone_refuse():
    for n in (50, 1000):
        ratio, _ = ratios("floor", n, 20)
        assert (ratio[:, :2] > 1.0).all(), "r_t below the floor: every calibration is broken"
        assert (ratio[:, 3] <= 1.0).all()
        careful, acceptance = ratios("floor", n, 20, Conservative())
        assert (careful[:, :2] <= 1.0).all()
        assert (acceptance[:, :2] == 0.0).all()


def test_a_prior_that_moves_unsaid_breaks_it():
    ratio, _ = ratios("no prior", 1000, 40)
    assert (ratio[:, 3] > 1.0).mean() > 0.5


@pytest.mark.long
@pytest.mark.parametrize("model", ["right", "low", "high", "weeks", "upper end"])
def test_where_its_assumptions_hold_in_many_draws(model):
    for n in (50, 200, 1000, 5000):
        ratio, _ = ratios(model, n, 400, seed=1)
        assert ((ratio > 1.0).sum(axis=0) <= stats.binom.ppf(0.999, 400, NOMINAL)).all()


def test_a_run_of_the_part_uses_the_same_states():
    names = {one.name for one in shrinkage.settings(ShrinkageConfig())}
    assert {"right", "low", "high", "weeks", "floor"} <= names
