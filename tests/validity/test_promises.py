"""What a guard promises, counted on laws whose risk is known, with the guard's own calibration.

Small: `python run.py experiment=theory` counts every way of use (results/tables/theory_promises.csv).
"""

import numpy as np
import pytest
from scipy import stats

from experiments.theory.guards import promises
from experiments.theory.laws import threshold_laws
from safeframe.guard.report import EVERYTHING
from safeframe.guard.settings import Certified
from safeframe.threshold_rule import Conservative, PlugIn

LEVELS = [1e-4, 1e-3, 1e-2, 0.1]
DELTA = 0.05
USES = {
    "plain": (promises.plain_draw, threshold_laws.plain(), {}),
    "grouped": (
        promises.grouped_draw,
        threshold_laws.plain(promises.SMALL_NOISE),
        {"key": promises.SMALL, "constraint": "per_group"},
    ),
    "selected": (promises.selected_draw, threshold_laws.selected(promises.CANDIDATES), {}),
}


def thresholds(use, n, rule, levels, draws, seed):
    """(draws, levels) thresholds of the event that is counted; -inf where the calibration stops."""
    draw, _, chosen = USES[use]
    rng = np.random.default_rng(seed)
    found = [
        promises.calibrated(draw(rng, n), rule, levels, **{"key": EVERYTHING, **chosen}) for _ in range(draws)
    ]
    return np.nan_to_num(np.array(found), nan=-np.inf, posinf=np.inf, neginf=-np.inf)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("n", [200, 1000])
def test_the_mean_risk_of_the_conservative_rule_is_at_most_r_t(use, n):
    draws = 40
    tau = thresholds(use, n, Conservative(), LEVELS, draws, n)
    ratio = USES[use][1].risk(tau) / np.array(LEVELS)
    error = ratio.std(axis=0, ddof=1) / np.sqrt(draws)
    assert (ratio.mean(axis=0) <= 1.0 + 3.0 * error).all()
    if use != "grouped":  # and not because nothing is accepted: there 5 % of the cases are too few
        assert USES[use][1].acceptance(tau)[:, -1].mean() > 0.5 * USES[use][1].best(0.1)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("n", [200, 1000])
def test_the_certified_rule_breaks_its_promise_in_at_most_delta_of_the_draws(use, n):
    draws = 60
    tau = thresholds(use, n, Certified(DELTA), [0.1], draws, n)
    broken = int((USES[use][1].risk(tau) > 0.1).sum())
    assert broken <= stats.binom.ppf(0.999, draws, DELTA)
    if use != "grouped":
        assert (tau > -np.inf).mean() > 0.5


@pytest.mark.parametrize("use", ["plain", "selected"])
def test_the_plug_in_rule_promises_nothing_and_the_count_tells(use):
    tau = thresholds(use, 200, PlugIn(), [1e-4], 60, 0)
    ratio = USES[use][1].risk(tau) / 1e-4
    assert (ratio > 1.0).mean() > 0.8
    assert ratio.mean() > 10.0
