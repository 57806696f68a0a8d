"""Constraints over groups: broken promises are counted, group by group and over all that is accepted.

Small: `python run.py experiment=theory` counts every rule (results/tables/theory_group_constraints.csv).
"""

import numpy as np
import pytest
from scipy import stats

from experiments.theory.guards import group_constraints
from safeframe.guard.settings import Certified
from safeframe.threshold_rule import Conservative, PlugIn

DELTA, R_T = 0.1, 0.1


def outcomes(kind, constraint, rule, n, draws, r_t=R_T):
    """(draws, 3) largest risk of a group, pooled risk, acceptance; where it stops, nothing is accepted."""
    rng, found = np.random.default_rng(n), []
    for _ in range(draws):
        evidence = group_constraints.drawn(kind, rng, n)
        taus = group_constraints.accepted(evidence, rule, constraint, [r_t], group_constraints.LAWS[kind])
        found.append((0.0, 0.0, 0.0) if taus is None else group_constraints.outcome(kind, n, taus[0]))
    return np.array(found)


@pytest.mark.parametrize("kind", group_constraints.KINDS)
@pytest.mark.parametrize("constraint", group_constraints.CONSTRAINTS)
def test_the_certified_rule_breaks_what_it_promises_in_at_most_delta_of_the_draws(constraint, kind):
    draws = 25
    worst, pooled, acceptance = outcomes(kind, constraint, Certified(DELTA), 2000, draws).T
    broken = ((pooled if constraint == "pooled" else worst) > R_T).sum()
    assert broken <= stats.binom.ppf(0.999, draws, DELTA)
    if kind == "unequal":
        assert (acceptance > 0.3).mean() > (0.1 if constraint == "worst_group" else 0.5)


@pytest.mark.parametrize("constraint", group_constraints.CONSTRAINTS)
def test_the_mean_risk_of_the_conservative_rule_is_at_most_r_t(constraint):
    for n, draws in ((400, 20), (3000, 12)):
        worst, pooled, acceptance = outcomes("unequal", constraint, Conservative(), n, draws).T
        ratio = (pooled if constraint == "pooled" else worst) / R_T
        error = ratio.std(ddof=1) / np.sqrt(draws)
        assert ratio.mean() <= 1.0 + 3.0 * error
    assert acceptance.max() > 0.3


def test_pooled_promises_nothing_of_a_small_group_and_the_count_tells():
    worst, pooled, _ = outcomes("unequal", "pooled", PlugIn(), 4000, 20).T
    assert (worst > R_T).mean() > 0.8
    assert np.median(pooled) == pytest.approx(R_T, rel=0.15)


def test_a_group_of_two_cases_is_never_accepted_by_the_rules_that_promise():
    for rule in (Conservative(), Certified(DELTA)):
        found = outcomes("two", "worst_group", rule, 1000, 10)
        assert (found[:, 0] <= R_T).all()
    assert (outcomes("two", "worst_group", Conservative(), 1000, 10)[:, 2] == 0.0).all()
    assert (outcomes("two", "pooled", Conservative(), 1000, 10)[:, 2] > 0.5).all()
