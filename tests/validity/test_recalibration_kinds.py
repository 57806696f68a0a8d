"""What recalibration promises for groups, the shrinkage rule and guards with a budget: failures are counted.

The law, in each of two groups: margins of safe cases N(-1, 1), of unsafe ones N(1, 1); a share of the group
is unsafe. After the guard was calibrated the north has become riskier. The scales of risk are those of the
calm time throughout, so that afterwards they say too little of the north.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from safeframe import Certified, Conservative, InternalTestData, PlugIn, SafetyGuard, Shrinkage
from safeframe.service.cuts import first_cuts
from safeframe.service.ledger import BudgetLedger
from safeframe.service.thresholds import new_cuts
from safeframe.service.window import Cases, stepped_span

R_T = 0.1
CALM = {"north": 0.1, "south": 0.2}
DRIFTED = {"north": 0.35, "south": 0.2}


def risk(tau, prior):
    """P(unsafe | margin < tau), exactly; 0 where nothing is accepted."""
    tau = np.asarray(tau, float)
    bad, good = prior * stats.norm.cdf(tau - 1), (1 - prior) * stats.norm.cdf(tau + 1)
    return np.divide(bad, bad + good, out=np.zeros_like(bad), where=bad + good > 0)


def draw(rng, n, priors):
    group = np.where(rng.random(n) < 0.5, "north", "south").astype(object)
    prior = np.where(group == "north", priors["north"], priors["south"])
    unsafe = (rng.random(n) < prior).astype(int)
    return rng.normal(size=n) + 2.0 * unsafe - 1.0, unsafe, group


def guard_of(rng, rule, constraint, n=4000, threshold=R_T):
    margin, unsafe, group = draw(rng, n, CALM)
    data = InternalTestData(margin, unsafe, group=group.astype(str) if constraint else None)
    made = SafetyGuard(
        lambda y: np.zeros(len(y)), lambda y: y, data, threshold, -1.0, rule=rule, constraint=constraint
    )
    made.calibrate()
    return made


def seen(guard, margin, group):
    """Margins as the log of this guard holds them."""
    if not guard.settings.on_common_scale:
        return margin
    return next(iter(guard._rulings.values())).scales.log_odds(margin, group.astype(str))


def raw(guard, tau, key):
    """The threshold on the margin that one on the log odds is, in a group: a logistic scale is a line."""
    if not guard.settings.on_common_scale:
        return tau
    low, high = (seen(guard, np.array([m]), np.array([key], object))[0] for m in (-1.0, 1.0))
    return -1.0 + 2.0 * (np.asarray(tau) - low) / (high - low)


def served(rng, guard, priors, looks, every, window, audit=0.0, ledger=None):
    """Cuts after each look of one service; each batch is decided by those before, and labelled at once."""
    n = looks * every
    margin, unsafe, group = draw(rng, n, priors)
    z, audited = seen(guard, margin, group), rng.random(n) < audit
    level = max(guard.calibrations)
    tau, accepted = np.empty(n), np.zeros(n, bool)
    cuts, found = first_cuts(guard), []
    for i in range(looks):
        now = slice(i * every, (i + 1) * every)
        every_key = "all" in cuts[level]
        tau[now] = [cuts[level]["all" if every_key else key].tau for key in group[now]]
        accepted[now] = z[now] < tau[now]
        if ledger is not None:
            ids, taken = ledger.take(accepted[now])
            accepted[now] = taken
            ledger.learn(ids[taken], unsafe[now][taken])
        span = stepped_span((i + 1) * every, window)
        part = slice(span.first - 1, span.last)
        known = np.where(accepted[part] | audited[part], unsafe[part], -1)
        r_t = np.full(span.last - span.first + 1, level)
        cases = Cases(z[part], tau[part], r_t, accepted[part], audited[part], known, group[part])
        cuts = new_cuts(guard, cuts, cases.counted("left out"), span.start)
        found.append(cuts)
    return found


def ratios(guard, cuts, priors, r_t=R_T):
    """By group, risk over r_t at some cuts."""
    key_of = (lambda key: "all") if "all" in cuts[r_t] else (lambda key: key)
    return np.array([
        float(risk(raw(guard, cuts[r_t][key_of(key)].tau, key), priors[key])) / r_t for key in CALM
    ])  # fmt: skip


def at_most(broken, draws, delta):
    return broken <= stats.binom.ppf(0.999, draws, delta)


def mean_within(ratio):
    """Whether the mean of ratios is at most 1, by three standard errors."""
    return ratio.mean() <= 1 + 3 * ratio.std(ddof=1) / np.sqrt(len(ratio))


@pytest.mark.parametrize("rule", [Conservative(), Conservative(0.0), Shrinkage()])
def test_the_worst_group_s_risk_is_within_r_t_after_a_drift_of_one_group(rule):
    draws, before, after, pooled = 12, [], [], []
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        guard = guard_of(rng, rule, "worst_group")
        before.append(ratios(guard, first_cuts(guard), DRIFTED).max())
        cuts = served(rng, guard, DRIFTED, 3, 2000, 4000)[-1]
        assert len({cut.tau for cut in cuts[R_T].values()}) == 1
        after.append(ratios(guard, cuts, DRIFTED).max())
        whole = guard_of(rng, PlugIn(), "pooled")
        pooled.append(ratios(whole, served(rng, whole, DRIFTED, 3, 2000, 4000)[-1], DRIFTED).max())
    assert np.mean(before) > 1.5  # the calibration from before the drift does not hold any more
    assert mean_within(np.array(after))
    assert np.mean(np.array(after) > 0) > 0.5
    assert np.mean(pooled) > 1.2  # what is promised of all groups together is no promise of each


@pytest.mark.parametrize("constraint", ["worst_group", "pooled"])
def test_certified_thresholds_keep_delta_over_many_looks(constraint):
    draws, delta, broken, accepts = 20, 0.2, 0, 0
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        guard = guard_of(rng, Certified(delta), constraint)
        own = {cut.tau for cut in first_cuts(guard)[R_T].values()}
        failed = False
        for cuts in served(rng, guard, DRIFTED, 12, 1000, 4000, audit=0.3):
            taus = {cut.tau for cut in cuts[R_T].values()}
            assert len(taus) == 1
            if taus != own:  # where it was kept, the promise is the former one
                accepted = ratios(guard, cuts, DRIFTED)
                failed |= bool(_promised(guard, cuts, constraint, accepted) > 1)
        broken += failed
        accepts += max(taus) > -np.inf
    assert at_most(broken, draws, delta)
    assert accepts > 0.6 * draws


def _promised(guard, cuts, constraint, each):
    """Risk over r_t of what is promised: of the worst group, or of all groups together."""
    if constraint == "worst_group":
        return each.max()
    (cut,) = cuts[R_T].values()
    tau = [raw(guard, cut.tau, key) for key in CALM]
    share = [
        DRIFTED[key] * stats.norm.cdf(t - 1) + (1 - DRIFTED[key]) * stats.norm.cdf(t + 1)
        for key, t in zip(CALM, tau, strict=True)
    ]
    return float(np.average(each, weights=share)) if sum(share) > 0 else 0.0


@pytest.mark.parametrize("constraint", [None, "per_group"])
def test_the_shrinkage_rule_measures_the_ratio_of_observed_to_expected_anew(constraint):
    """The scale says a fifth of the odds there are; a fixed ratio of 1 would believe it."""
    draws, levels = 15, (0.001, 0.01, 0.1)
    priors = (
        {key: 5 * p / (1 + 4 * p) for key, p in CALM.items()} if constraint else {"north": 0.4, "south": 0.4}
    )
    before, after, believed = [], [], []
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        guard = guard_of(rng, Shrinkage(), constraint, threshold=levels)
        firm = guard_of(rng, Shrinkage(ratio=1.0), constraint, threshold=levels)
        last = served(rng, guard, priors, 2, 1500, 3000)[-1]
        blind = served(rng, firm, priors, 2, 1500, 3000)[-1]
        before.append([ratios(guard, first_cuts(guard), priors, r_t).max() for r_t in levels])
        after.append([ratios(guard, last, priors, r_t) for r_t in levels])
        believed.append([ratios(firm, blind, priors, r_t).max() for r_t in levels])
    after = np.array(after)
    assert (np.mean(before, axis=0) > 1.3).all()
    for i in range(len(levels)):
        for j in range(after.shape[2]):
            assert mean_within(after[:, i, j]), (levels[i], after[:, i, j].mean())
    assert np.mean(believed, axis=0)[0] > 1.5  # the count can tell
    assert (after > 0).mean() > 0.8  # also at a thousandth, far below one over the cases


def test_what_a_budget_withholds_does_not_break_a_recalibration():
    draws, delta, broken, accepts, taken = 20, 0.2, 0, 0, []
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        guard = guard_of(rng, Certified(delta), None)
        own = first_cuts(guard)[R_T]["all"].tau
        priors = {"north": 0.3, "south": 0.3}
        ledger = BudgetLedger(R_T, reserve=20.0, late=100)
        found = served(rng, guard, priors, 20, 500, 5000, 0.1, ledger)
        tau = np.array([cuts[R_T]["all"].tau for cuts in found])
        broken += bool((risk(tau[tau != own], 0.3) > R_T).any())
        accepts += tau[-1] > -np.inf
        taken.append(ledger.accepted / ledger.decisions)
    assert at_most(broken, draws, delta)
    assert accepts > 0.5 * draws
    # Without a budget all below the threshold would be accepted: more than half of all cases.
    assert max(taken) < 0.45
    assert min(taken) > 0.1


@pytest.mark.long
@pytest.mark.parametrize("audit", [0.0, 0.2, 1.0])
@pytest.mark.parametrize(("every", "window"), [(200, 1000), (1000, 4000)])
@pytest.mark.parametrize("constraint", ["worst_group", "pooled", "per_group"])
def test_many_looks_at_small_and_large_windows_keep_delta_under_every_constraint(
    constraint, every, window, audit
):
    draws, delta, broken = 60, 0.2, 0
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        guard = guard_of(rng, Certified(delta), constraint)
        own = first_cuts(guard)[R_T]
        failed = False
        for cuts in served(rng, guard, DRIFTED, 40, every, window, audit):
            new = {key for key, cut in cuts[R_T].items() if cut.tau != own[key].tau}
            each = dict(zip(CALM, ratios(guard, cuts, DRIFTED), strict=True))
            if constraint == "per_group":
                failed |= any(each[key] > 1 for key in new)
            elif new:
                failed |= bool(_promised(guard, cuts, constraint, np.array(list(each.values()))) > 1)
        broken += failed
    assert at_most(broken, draws, delta)


@pytest.mark.long
@pytest.mark.parametrize("rule", [Conservative(), Conservative(0.0), Shrinkage()])
@pytest.mark.parametrize("window", [500, 2000, 8000])
@pytest.mark.parametrize("audit", [0.0, 0.2])
def test_the_mean_risk_of_the_worst_group_over_many_services(rule, window, audit):
    draws, after = 80, []
    for seed in range(draws):
        rng = np.random.default_rng([seed, window])
        guard = guard_of(rng, rule, "worst_group")
        found = served(rng, guard, DRIFTED, 6, window // 2, window, audit)
        own = {cut.tau for cut in first_cuts(guard)[R_T].values()}
        if {cut.tau for cut in found[-1][R_T].values()} != own:
            after.append(ratios(guard, found[-1], DRIFTED).max())
    assert mean_within(np.array(after))
