"""What recalibration promises, counted on laws whose risk is known: many looks, censored labels, drift.

The law: margins of safe cases N(-1, 1), of unsafe ones N(1, 1); a share ``prior`` is unsafe. Every simulated
service decides, labels what it accepted (and what is audited), looks, and goes on with the new thresholds.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from safeframe import Certified, Conservative, InternalTestData, SafetyGuard
from safeframe.certificates.cases import cases_needed, fixed_sequence
from safeframe.service.cuts import Cut, first_cuts
from safeframe.service.looks import fewest, log_e_value, passing, spent
from safeframe.service.thresholds import new_cuts
from safeframe.service.window import Cases, stepped_span

R_T = 0.1
CALM, DRIFTED = 0.1, 0.25


def risk(tau, prior):
    """P(unsafe | margin < tau), exactly; 0 where nothing is accepted."""
    tau = np.asarray(tau, float)
    bad, good = prior * stats.norm.cdf(tau - 1), (1 - prior) * stats.norm.cdf(tau + 1)
    return np.divide(bad, bad + good, out=np.zeros_like(bad), where=bad + good > 0)


def draw(rng, n, prior):
    unsafe = (rng.random(n) < prior).astype(int)
    return rng.normal(size=n) + 2.0 * unsafe - 1.0, unsafe


def guard_of(rng, rule, n=2000, prior=CALM):
    made = SafetyGuard(
        lambda y: np.zeros(len(y)), lambda y: y, InternalTestData(*draw(rng, n, prior)), R_T, -1.0, rule=rule
    )
    made.calibrate()
    return made


def window_of(margin, unsafe, tau, audit):
    accepted = margin < tau
    everything = np.full(len(margin), "all", dtype=object)
    known = np.where(accepted | audit, unsafe, -1)
    return Cases(margin, tau, np.full(len(margin), R_T), accepted, audit, known, everything)


def served(rng, guard, prior, looks, every, window, audit=0.0, look=new_cuts):
    """Thresholds after each look of one service; each batch is decided by the one before."""
    n = looks * every
    margin, unsafe = draw(rng, n, prior)
    audited, tau = rng.random(n) < audit, np.empty(n)
    cuts, found = first_cuts(guard), []
    for i in range(looks):
        tau[i * every : (i + 1) * every] = cuts[R_T]["all"].tau
        span = stepped_span((i + 1) * every, window)
        part = slice(span.first - 1, span.last)
        cases = window_of(margin[part], unsafe[part], tau[part], audited[part]).counted("left out")
        cuts = look(guard, cuts, cases, span.start)
        found.append(cuts[R_T]["all"].tau)
    return np.array(found)


def at_most(broken, draws, delta):
    return broken <= stats.binom.ppf(0.999, draws, delta)


def naive(guard, former, cases, start):
    """The same list of thresholds and fixed sequences, but every look has all of delta: no spending."""
    grid = np.linspace(-2.0, 1.0, 40)
    index = fixed_sequence(*cases.counts(grid), R_T, guard.settings.rule.delta)
    return {R_T: {"all": Cut(-np.inf if index is None else float(grid[index]), "new")}}


def test_many_looks_keep_delta_where_every_look_alone_would_not():
    draws, delta, chosen = 25, 0.2, {"looks": 40, "every": 250, "window": 1000, "audit": 1.0}
    broken = {"e-process": 0, "naive": 0}
    last = []
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        guard = guard_of(rng, Certified(delta))
        tau = served(rng, guard, DRIFTED, **chosen)
        broken["e-process"] += bool((risk(tau, DRIFTED) > R_T).any())
        last.append(tau[-1])
        tau = served(rng, guard, DRIFTED, look=naive, **chosen)
        broken["naive"] += bool((risk(tau, DRIFTED) > R_T).any())
    assert at_most(broken["e-process"], draws, delta), broken
    assert broken["naive"] > 0.5 * draws, broken  # the count can tell
    assert np.mean(np.array(last) > -np.inf) > 0.8  # and not because nothing is accepted


def mixed_window(rng, n, strict, loose, prior, share):
    """A window whose last part was decided with the looser threshold, all accepted cases labelled."""
    margin, unsafe = draw(rng, n, prior)
    tau = np.where(np.arange(n) < (1 - share) * n, strict, loose)
    return window_of(margin, unsafe, tau, np.zeros(n, bool)).counted("left out")


@pytest.mark.parametrize("rule", [Certified(0.2), Conservative()])
def test_censored_labels_do_not_break_the_promise_and_would_if_they_were_pooled(rule):
    """Most of the window is from a time of a strict threshold, so that safe cases are too many."""
    draws, prior = 30, DRIFTED
    grid = np.linspace(-3, 3, 601)
    loose = float(grid[np.searchsorted(risk(grid, prior), 1.4 * R_T)])
    strict = loose - 1.2
    taus = {"counted": [], "pooled": []}
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        guard = guard_of(rng, rule)
        own = replace(first_cuts(guard)[R_T]["all"], tau=loose)
        cases = mixed_window(rng, 8000, strict, loose, prior, 0.25)
        blind = replace(cases, tau=np.full(len(cases.tau), np.inf))
        for name, seen in (("counted", cases), ("pooled", blind)):
            taus[name].append(new_cuts(guard, {R_T: {"all": own}}, seen, 0)[R_T]["all"].tau)
    ratio = {name: risk(np.array(found), prior) / R_T for name, found in taus.items()}
    if isinstance(rule, Certified):
        assert at_most(int((ratio["counted"] > 1).sum()), draws, rule.delta)
        assert (ratio["pooled"] > 1).mean() > 2 * rule.delta
    else:
        error = ratio["counted"].std(ddof=1) / np.sqrt(draws)
        assert ratio["counted"].mean() <= 1 + 3 * error
        assert ratio["pooled"].mean() > ratio["counted"].mean() + 0.15
    assert np.mean(np.array(taus["counted"]) > -np.inf) > 0.8


@pytest.mark.parametrize("audit", [0.0, 0.2])
def test_the_promise_of_the_conservative_rule_after_the_prior_has_drifted(audit):
    draws, first, last = 20, [], []
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        guard = guard_of(rng, Conservative())
        first.append(first_cuts(guard)[R_T]["all"].tau)
        last.append(served(rng, guard, DRIFTED, 4, 1500, 3000, audit)[-1])
    before, after = risk(np.array(first), DRIFTED) / R_T, risk(np.array(last), DRIFTED) / R_T
    error = after.std(ddof=1) / np.sqrt(draws)
    assert before.mean() > 1.5  # the calibration from before the drift does not hold any more
    assert after.mean() <= 1 + 3 * error
    assert np.mean(np.array(last) > -np.inf) > 0.8


def test_the_promise_of_the_certified_rule_after_the_prior_has_drifted():
    draws, delta, broken, accepts = 30, 0.1, 0, 0
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        guard = guard_of(rng, Certified(delta))
        tau = served(rng, guard, DRIFTED, 6, 1000, 2000)
        chosen = tau != first_cuts(guard)[R_T]["all"].tau  # where it was kept, the promise is the former one
        broken += bool((risk(tau[chosen], DRIFTED) > R_T).any())
        accepts += tau[-1] > -np.inf
    assert at_most(broken, draws, delta)
    assert accepts > 0.5 * draws


def test_the_promise_where_the_prior_falls_and_audits_let_thresholds_rise():
    draws, delta, broken, risen = 20, 0.2, 0, 0
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        guard = guard_of(rng, Certified(delta), prior=DRIFTED)
        tau = served(rng, guard, CALM, 8, 1500, 6000, audit=0.5)
        broken += bool((risk(tau, CALM) > R_T).any())
        risen += tau[-1] > first_cuts(guard)[R_T]["all"].tau
    assert at_most(broken, draws, delta)
    assert risen > 0.5 * draws


@pytest.mark.long
@pytest.mark.parametrize("audit", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(("every", "window"), [(50, 200), (100, 1000), (1000, 2000)])
def test_hundreds_of_looks_at_small_and_large_windows_keep_delta(audit, every, window):
    draws, delta, broken = 100, 0.2, 0
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        guard = guard_of(rng, Certified(delta))
        own = first_cuts(guard)[R_T]["all"].tau
        tau = served(rng, guard, DRIFTED, 150, every, window, audit)
        broken += bool((risk(tau[tau != own], DRIFTED) > R_T).any())
    assert at_most(broken, draws, delta)


def test_the_e_process_ever_passes_with_probability_at_most_delta_where_the_risk_is_r():
    draws, n, delta = 1000, 2000, 0.1
    rng = np.random.default_rng(0)
    for r in (0.3, 0.02):
        k = np.cumsum(rng.random((draws, n)) < r, axis=1)
        at = np.unique(np.geomspace(1, n, 400).astype(int))
        ever = (log_e_value(np.broadcast_to(at, (draws, len(at))), k[:, at - 1], r) >= -np.log(delta)).any(1)
        assert at_most(int(ever.sum()), draws, delta)
        assert ever.mean() > 0.2 * delta  # and it is not idle


def test_e_values_are_the_mean_of_likelihood_ratios_and_never_nan():
    r = 0.1
    for n, k in ((0, 0), (20, 0), (30, 7), (10, 10)):
        shares = np.array([0.0, 0.125, 0.25, 0.5, 0.75])
        exact = np.mean(shares**k * ((1 - shares * r) / (1 - r)) ** (n - k))
        assert log_e_value(np.array(n), np.array(k), r) == pytest.approx(np.log(exact))
    counts = np.arange(40) * 1000
    assert np.isfinite(log_e_value(counts, counts // 2, 1e-4)).all()
    assert np.isclose(sum(spent(0.2, j) for j in range(100_000)), 0.2, atol=1e-5)
    needed = [fewest(1e-3, spent(0.05, start)) / cases_needed(1e-3, 0.05) for start in (0, 9)]
    assert np.round(needed, 1).tolist() == [2.3, 3.9]  # as docs/in_service.md says
    least = fewest(r, 0.2)
    many = np.full(40, least)
    assert passing(many, np.zeros(40, int), r, 0.2).all()
    assert not passing(many - 1, np.zeros(40, int), r, 0.2).any()
