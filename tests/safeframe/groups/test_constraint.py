"""One constraint over several groups: against brute force over all common thresholds, and hard groups."""

import itertools

import numpy as np
import pytest

from safeframe.groups.constraint import GroupConstraint
from safeframe.groups.worst import WorstCurve
from safeframe.risk_curve import RiskCurve
from safeframe.risk_scale.odds import from_log_odds, log_odds
from safeframe.shrinkage import Shrinkage
from safeframe.threshold_rule import Conservative, PlugIn, ThresholdRule
from safeframe.types import SQRT2, SafeframeError

RULES = {
    "plug-in": PlugIn(),
    "paper": PlugIn(0.05, "paper"),
    "fixed": Conservative(0.1),
    "measured": Conservative(),
    "shrinkage": Shrinkage(ratio=1.2),
}
LEVELS = [0.02, 0.1, 0.25, 0.5]
SHARES = {"a": 0.6, "b": 0.35, "c": 0.05}


def drawn(seed, n=400, ties=False, shares=SHARES, offset=0.0):
    """Groups whose p̂ is right, but too high in "a" and too low in "b" by ``offset`` in log odds."""
    rng = np.random.default_rng(seed)
    group = rng.choice(list(shares), size=n, p=list(shares.values()))
    logit = rng.normal(-1.0, 2.0, size=n)
    if ties:
        logit = np.round(logit * 2) / 2
    label = (rng.random(n) < from_log_odds(logit)).astype(int)
    wrong = np.where(group == "a", offset, np.where(group == "b", -offset, 0.0))
    return from_log_odds(logit + wrong), label, group


def own_bound(z, label, rule, tau, r_t):
    """A group's bound at a threshold on the log odds, from the definition."""
    if isinstance(rule, Shrinkage):
        p, below = from_log_odds(z), z < tau
        return float(rule.bound(below.sum(), label[below].sum(), p[below].sum(), rule.ratio))
    u, s = z[label == 1], z[label == 0]
    radius, slack, more = rule.radius, 0.0, 0.0
    if isinstance(rule, Conservative):
        more = 1 / (len(u) + 1)
        if radius == "measured":
            radius = ThresholdRule(z, label, rule).radius(r_t)
            slack = rule.share * r_t
    above = min((u - SQRT2 * radius < tau).mean() + slack + more, 1.0)
    safe = max((s + SQRT2 * radius < tau).mean() - slack - more, 0.0)
    prior = label.mean()
    certain = max((u + SQRT2 * radius < tau).mean() - slack - more, 0.0) if rule.form == "paper" else above
    over, under = prior * above, (1 - prior) * safe + prior * certain
    if under <= 0:
        return np.inf if over > 0 else 1.0
    return over / under


def brute(z, label, group, rule, constraint, r_t):
    """The cases that the most permissive common threshold accepts, over every threshold there is."""
    radius = 0.1 * SQRT2 if rule == RULES["fixed"] else 0.05 * SQRT2 if rule == RULES["paper"] else 0.0
    tau = np.unique(np.concatenate([z, z - radius, z + radius, np.nextafter(z, 99), [np.inf]]))
    parts = [np.ones(len(z), bool)] if constraint == "pooled" else [group == key for key in np.unique(group)]
    fine = [t for t in tau if all(own_bound(z[mine], label[mine], rule, t, r_t) <= r_t for mine in parts)]
    return z < max(fine, default=-np.inf)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("constraint", ["pooled", "worst_group"])
@pytest.mark.parametrize("rule", [name for name in RULES if name != "measured"])
def test_the_common_threshold_is_that_of_brute_force(rule, constraint, ties):
    some = 0
    for seed in range(4):
        p, label, group = drawn(seed, 120, ties, {"a": 0.6, "b": 0.4})
        z = log_odds(p)
        made = GroupConstraint(p, label, group, RULES[rule], constraint)
        for r_t in LEVELS:
            found = made.calibrate(r_t)
            accepted = z < np.array([found.tau[key] for key in group])
            np.testing.assert_array_equal(accepted, brute(z, label, group, RULES[rule], constraint, r_t))
            some += accepted.any()
            if accepted.any():
                assert found.bound <= r_t
    assert some >= 3


@pytest.mark.parametrize("constraint", ["pooled", "worst_group"])
def test_a_measured_radius_by_brute_force(constraint):
    p, label, group = drawn(3, 400, shares={"a": 0.6, "b": 0.4})
    z = log_odds(p)
    for r_t in (0.25, 0.4):
        found = GroupConstraint(p, label, group, RULES["measured"], constraint).calibrate(r_t)
        tau = next(iter(found.tau.values()))
        parts = [slice(None)] if constraint == "pooled" else [group == key for key in ("a", "b")]
        assert max(own_bound(z[mine], label[mine], RULES["measured"], tau, r_t) for mine in parts) <= r_t
        assert tau < np.inf
        for higher in z[z >= tau][::3]:
            worst = max(
                own_bound(z[m], label[m], RULES["measured"], np.nextafter(higher, 99), r_t) for m in parts
            )
            assert worst > r_t


@pytest.mark.parametrize("rule", RULES)
def test_a_single_group_is_the_same_under_every_constraint(rule):
    p, label, _ = drawn(1)
    one = np.zeros(len(p), int)
    found = [
        GroupConstraint(p, label, one, RULES[rule], constraint).thresholds(LEVELS)
        for constraint in ("per_group", "pooled", "worst_group")
    ]
    for each in zip(*found, strict=True):
        assert len({one.tau[0] for one in each}) == 1
        assert len({one.bound for one in each}) == 1
        assert each[0].shares == each[1].shares == each[2].shares


@pytest.mark.parametrize("rule", RULES)
def test_shares_add_up_and_keep_what_is_promised(rule):
    p, label, group = drawn(2, 3000, offset=0.7)
    z = log_odds(p)
    for constraint in ("per_group", "pooled", "worst_group"):
        found = GroupConstraint(p, label, group, RULES[rule], constraint).thresholds(LEVELS)
        for one, r_t in zip(found, LEVELS, strict=True):
            for key, share in one.shares.items():
                below = (group == key) & (z < one.tau[key])
                assert (share.n_accepted, share.n_unsafe_accepted) == (below.sum(), label[below].sum())
                assert share.n_t == (group == key).sum()
                if constraint != "pooled" and share.n_accepted:
                    assert share.bound <= r_t
        assert all(a.tau[key] <= b.tau[key] for a, b in itertools.pairwise(found) for key in SHARES)
    loose = GroupConstraint(p, label, group, RULES[rule], "pooled").calibrate(0.25)
    strict = GroupConstraint(p, label, group, RULES[rule], "worst_group").calibrate(0.25)
    assert strict.tau["a"] < loose.tau["a"]
    assert loose.shares[loose.worst].bound > 0.25, "pooled lets a group be worse than r_t, and says so"
    assert strict.probability["a"] == pytest.approx(float(from_log_odds(strict.tau["a"])))


def test_a_group_of_two_cases_refuses_for_all_by_worst_group_only():
    p, label, group = drawn(4, 2000, shares={"a": 1.0})
    p, label = np.append(p, [0.01, 0.6]), np.append(label, [0, 1])
    group = np.append(group, ["two", "two"])
    for rule in (Conservative(0.0), Conservative()):
        worst = GroupConstraint(p, label, group, rule, "worst_group").calibrate(0.3)
        assert set(worst.tau.values()) == {-np.inf}
        if rule.radius == "measured":  # each half has one of the two cases
            assert "group 'two': there is no" in worst.refused
        for constraint in ("per_group", "pooled"):
            found = GroupConstraint(p, label, group, rule, constraint).calibrate(0.3)
            assert found.tau["a"] > -np.inf
            if constraint == "per_group":
                assert found.shares["two"].n_accepted == 0
            else:  # its own bound is told
                assert found.shares["two"].bound > 0.3
    # the model's word is worth something to shrinkage, where its ratio is known
    for ratio, refused in ((None, True), (1.5, False)):
        borrowed = GroupConstraint(p, label, group, Shrinkage(ratio=ratio), "worst_group").calibrate(0.3)
        assert (borrowed.tau["two"] == -np.inf) == refused


def test_a_group_without_an_unsafe_case():
    p, label, group = drawn(5, 2000, shares={"a": 0.9, "b": 0.1})
    label = np.where(group == "b", 0, label)
    for rule in (PlugIn(), Conservative(), Conservative(0.1)):
        worst = GroupConstraint(p, label, group, rule, "worst_group").calibrate(0.3)
        assert "group 'b': there is no unsafe case in the cases" in worst.refused
        assert set(worst.tau.values()) == {-np.inf}
        own = GroupConstraint(p, label, group, rule, "per_group").calibrate(0.3)
        assert own.tau["a"] > -np.inf == own.tau["b"]
        pooled = GroupConstraint(p, label, group, rule, "pooled").calibrate(0.3)
        assert pooled.shares["b"].n_accepted > 0
        assert pooled.shares["b"].bound == 1.0, "nothing is known of it alone"
    assert GroupConstraint(p, label, group, Shrinkage(), "worst_group").calibrate(0.3).tau["b"] > -np.inf


@pytest.mark.parametrize("rule", RULES)
def test_the_selected_candidate(rule):
    rng = np.random.default_rng(0)
    z = rng.normal(-1.0, 2.0, size=(600, 4))
    p, label = from_log_odds(z), (rng.random((600, 4)) < from_log_odds(z)).astype(int)
    z, score, group = log_odds(p), z + rng.normal(size=z.shape), np.arange(600) % 2
    for constraint in ("pooled", "worst_group"):
        made = GroupConstraint(p, label, group, RULES[rule], constraint, score=score, event="selected")
        found = made.calibrate(0.3)
        tau = found.tau[0]
        assert tau > -np.inf
        if constraint == "worst_group":
            curve = made._one.curve(0.3)
            assert curve.bound(tau) <= 0.3
            assert (curve.bound(curve.edges[curve.edges > tau]) > 0.3).all()
            assert curve.acceptance(np.inf) == 1.0
        for key, share in found.shares.items():
            chosen = np.where(z < tau, score, -np.inf)[group == key]
            some = chosen.max(1) > -np.inf
            bad = label[group == key][np.arange(300), chosen.argmax(1)]
            assert (share.n_accepted, share.n_unsafe_accepted) == (some.sum(), bad[some].sum())


def test_priors_per_group_and_observed_ones():
    p, label, group = drawn(6, 4000, shares={"a": 0.5, "b": 0.5})
    plain = GroupConstraint(p, label, group, PlugIn(), "worst_group").calibrate(0.1)
    higher = GroupConstraint(
        p, label, group, PlugIn(), "worst_group", prior={"a": (0.1, 0.6), "b": None}
    ).calibrate(0.1)
    assert higher.tau["a"] < plain.tau["a"]
    block = np.arange(4000) // 400
    observed = GroupConstraint(p, label, group, Shrinkage(), "pooled", prior="observed", block=block)
    assert observed.calibrate(0.1).tau["a"] < GroupConstraint(
        p, label, group, Shrinkage(), "pooled"
    ).calibrate(0.1).tau["a"]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"constraint": "both"}, "constraint is 'both'; it must be one of per_group, pooled, worst_group"),
        ({"group": np.zeros(3)}, "group has shape"),
        ({"probability": np.zeros(20)}, "must lie in"),
        ({"prior": {0: 0.1}}, "no entry for group 1"),
        ({"prior": {0: 0.1, 1: 0.2}, "constraint": "pooled"}, "pooled"),
        ({"label": np.full(20, 3)}, "label"),
        ({"event": "selected"}, "needs the scores"),
    ],
)
def test_bad_input(change, message):
    p, label, _ = drawn(0, 20)
    given = {"probability": p, "label": label, "group": np.arange(20) % 2, "rule": PlugIn()} | change
    with pytest.raises(SafeframeError, match=message):
        GroupConstraint(**given)
    with pytest.raises(SafeframeError, match="no case"):
        GroupConstraint(p[:0], label[:0], label[:0], PlugIn())
    with pytest.raises(SafeframeError, match="no group"):
        WorstCurve({})


def test_log_odds_are_finite_and_turn_back():
    p = np.array([1e-300, 1e-9, 0.3, 1 - 1e-12, 1.0])
    assert np.isfinite(log_odds(p)).all()
    np.testing.assert_allclose(from_log_odds(log_odds(p)), p, rtol=1e-9)
    assert from_log_odds(-np.inf) == 0.0


def test_the_worst_curve_of_one_is_that_one():
    p, label, _ = drawn(7, 300)
    own = RiskCurve(log_odds(p), label)
    worst = WorstCurve({"a": own})
    for r_t in LEVELS:
        assert worst.largest_threshold(r_t).tau == own.largest_threshold(r_t).tau
    np.testing.assert_array_equal(worst.level(log_odds(p)), own.level(log_odds(p)))
    assert worst.worst(0.0) == "a"
