"""The rule from labelled margins to thresholds, against loops over the cases; what it refuses, and why."""

from __future__ import annotations

import math

import numpy as np
import pytest

from safeframe.informativeness import radius_between
from safeframe.risk_curve import RiskCurve
from safeframe.selected_risk import SelectedRiskCurve
from safeframe.shrinkage import Shrinkage, ShrinkageCurve
from safeframe.threshold_rule import (
    Calibrated,
    Conservative,
    LackingClassError,
    PlugIn,
    PriorInterval,
    ThresholdRule,
    most_permissive,
    one_more,
    prior_interval,
)
from safeframe.types import SafeframeError, Threshold

RNG = np.random.default_rng(7)
N = 240
LABEL = (RNG.random(N) < 0.3).astype(int)
MARGIN = np.round(RNG.normal(size=N) + 2.0 * LABEL, 1)
BLOCK = np.repeat([1, 2, 3], N // 3)
GROUPS, SIZE = 80, 3
SCORE = RNG.normal(size=(GROUPS, SIZE))
SCORE[RNG.random((GROUPS, SIZE)) < 0.15] = -np.inf
LEVELS = [0.02, 0.1, 0.25, 0.6]


def bound(tau, margin, label, prior, radius=0.0, slack=0.0):
    """Section 3 of the paper, tight form, by its words."""
    shift = math.sqrt(2) * radius
    unsafe = min(np.mean(margin[label == 1] - shift < tau) + slack, 1.0)
    safe = max(np.mean(margin[label == 0] + shift < tau) - slack, 0.0)
    whole = unsafe * prior + safe * (1 - prior)
    return unsafe * prior / whole if whole > 0 else 1.0


def largest(r_t, margin, label, prior, radius=0.0, slack=0.0):
    entries = [*np.sort(margin[label == 1] - math.sqrt(2) * radius), np.inf]
    fine = [tau for tau in entries if bound(tau, margin, label, prior, radius, slack) <= r_t]
    return max(fine, default=-np.inf)


def selection(tau, margin, score, label):
    """Groups that select a candidate with margin < tau, and unsafe ones among these."""
    count = unsafe = 0
    for m, s, y in zip(margin, score, label, strict=True):
        inside = [i for i in range(len(m)) if m[i] < tau and s[i] > -np.inf]
        if inside:
            count += 1
            unsafe += int(y[max(inside, key=lambda i: s[i])])
    return count, unsafe


@pytest.fixture
def candidates():
    return MARGIN.reshape(GROUPS, SIZE), LABEL.reshape(GROUPS, SIZE)


def test_a_prior_that_is_not_given_is_the_share_of_the_cases():
    assert prior_interval(None, [0, 1, 0, 0]) == PriorInterval(0.25, 0.25, 0.25, False)
    assert prior_interval(0.5, [0, 1, 0, 0]) == PriorInterval(0.5, 0.5, 0.25, True)
    assert prior_interval((0.1, 0.2), [0, 1, 0, 0]) == PriorInterval(0.1, 0.2, 0.25, True)
    assert prior_interval((0.2, 0.2), [0, 1, 0, 0]) == PriorInterval(0.2, 0.2, 0.25, True)


def test_an_observed_prior_is_the_least_and_the_largest_share_of_the_blocks():
    label, block = np.array([1, 0, 0, 0, 1, 1, 0, 0]), np.array(["a", "a", "a", "a", "b", "b", "b", "c"])
    assert prior_interval("observed", label, block) == PriorInterval(0.0, 2 / 3, 3 / 8, True)
    assert prior_interval("observed", label[:7], block[:7]) == PriorInterval(0.25, 2 / 3, 3 / 7, True)


@pytest.mark.parametrize(
    ("prior", "block", "why"),
    [
        ("seen", None, "it must be a number"),
        ("observed", None, "at least two periods"),
        ("observed", np.zeros(4), "at least two periods"),
        ((0.3, 0.2), None, "the lower end comes first"),
        ((-0.1, 0.2), None, "prior"),
        ((0.1, 1.2), None, "prior"),
        (1.5, None, "prior"),
        (math.nan, None, "prior"),
    ],
)
def test_priors_that_are_refused(prior, block, why):
    with pytest.raises(SafeframeError, match=why):
        prior_interval(prior, np.array([0, 1, 0, 0]), block)


def test_one_more_is_one_of_one_more():
    assert [one_more(n) for n in (0, 1, 4)] == [1.0, 0.5, 0.2]


@pytest.mark.parametrize("share", [-0.1, 1.0, math.nan])
def test_shares_that_are_refused(share):
    with pytest.raises(SafeframeError, match="share of r_t left out must lie in"):
        Conservative(share=share)


@pytest.mark.parametrize("rule", [PlugIn, Conservative])
def test_radii_and_forms_that_are_refused(rule):
    with pytest.raises(SafeframeError, match="radius"):
        rule(radius=-1.0)
    with pytest.raises(SafeframeError, match="form"):
        rule(form="loose")


def test_what_is_not_given_is_measured_and_half_is_left_out():
    with pytest.raises(SafeframeError, match='it must be a number or "measured"'):
        Conservative(radius="given")
    assert (Conservative().radius, Conservative().share, Conservative().form) == ("measured", 0.5, "tight")
    assert Conservative(share=0.0).share == 0.0
    assert (PlugIn().radius, PlugIn().form) == (0.0, "tight")


def test_what_is_safe_enough_at_a_stricter_level_is_so_at_a_looser_one():
    def choice(r_t):
        tau = {0.1: 1.0, 0.2: 3.0, 0.3: 2.0, 0.4: 3.0, 0.5: 4.0}[r_t]
        return Calibrated(Threshold(tau, r_t, 0.0, True, 0, 0, 0, r_t), 0.0)

    found = most_permissive(choice, [0.1, 0.2, 0.3, 0.4, 0.5])
    assert [one.tau for one in found] == [1.0, 3.0, 3.0, 3.0, 4.0]
    assert [one.r_t for one in found] == [0.1, 0.2, 0.2, 0.2, 0.5]
    assert found[1] is found[2] is found[3]
    assert (found[0].slack, found[0].refused) == (0.0, "")


@pytest.mark.parametrize("prior", [None, 0.2, (0.1, 0.45), "observed"])
@pytest.mark.parametrize("radius", [0.0, 0.1])
def test_the_plug_in_rule_is_the_loop(prior, radius):
    rule = ThresholdRule(MARGIN, LABEL, PlugIn(radius), prior=prior, block=BLOCK)
    high = rule.prior.high
    if prior == "observed":
        assert high == max(LABEL[key == BLOCK].mean() for key in (1, 2, 3))
    for r_t in LEVELS:
        found = rule.calibrate(r_t)
        assert found.tau == pytest.approx(largest(r_t, MARGIN, LABEL, high, radius))
        assert (found.radius, found.slack, found.refused, found.r_t) == (radius, 0.0, "", r_t)
        assert rule.radius(r_t) == rule.radius_within(0.0, r_t) == radius
        assert rule.mass(r_t) == 0.0
    assert rule.fixed
    assert (rule.n_t, rule.n_unsafe) == (N, int(LABEL.sum()))


def test_the_odds_are_those_of_a_given_prior():
    mean = LABEL.mean()
    rule = ThresholdRule(MARGIN, LABEL, PlugIn(), prior=(0.1, 0.5))
    assert rule.odds == pytest.approx((0.5 / 0.5) / (mean / (1 - mean)))
    assert ThresholdRule(MARGIN, LABEL, PlugIn()).odds == 1.0
    assert ThresholdRule(MARGIN, LABEL, PlugIn(), prior=float(mean)).odds == 1.0


@pytest.mark.parametrize("odd", [None, np.arange(N) < 100])
def test_the_conservative_rule_adds_radius_mass_and_one_case(odd):
    rule = ThresholdRule(MARGIN, LABEL, Conservative(share=0.25), odd=odd, prior=0.4)
    half = np.arange(N) % 2 == 1 if odd is None else odd
    assert not rule.fixed
    for r_t in LEVELS:
        reach = largest(r_t, MARGIN, LABEL, 0.4)
        radius = 0.0 if reach == -np.inf else radius_between(MARGIN, LABEL, half, reach, 0.25 * r_t)
        assert rule.mass(r_t) == 0.25 * r_t
        assert rule.radius(r_t) == radius == rule.radius_within(reach, r_t)
        slack = 0.25 * r_t + 1 / (LABEL.sum() + 1)
        found = rule.calibrate(r_t)
        assert found.tau == pytest.approx(largest(r_t, MARGIN, LABEL, 0.4, radius, slack))
        assert (found.radius, found.slack) == (radius, pytest.approx(slack))
        assert rule.risks(r_t, 0.5) == (pytest.approx(bound(0.5, MARGIN, LABEL, 0.4, radius, slack)), None)
        parts = rule.parts(r_t, 0.5)
        assert list(parts) == ["seen", "prior", "radius", "few cases"]
        assert parts["seen"] == pytest.approx(bound(0.5, MARGIN, LABEL, LABEL.mean()))
        assert parts["prior"] == pytest.approx(bound(0.5, MARGIN, LABEL, 0.4))
        assert parts["radius"] == pytest.approx(bound(0.5, MARGIN, LABEL, 0.4, radius))
        assert parts["few cases"] == pytest.approx(bound(0.5, MARGIN, LABEL, 0.4, radius, slack))
    assert len({rule.radius(r_t) for r_t in LEVELS}) > 1
    assert [one.tau for one in rule.thresholds(LEVELS)] == sorted(one.tau for one in rule.thresholds(LEVELS))


def test_a_given_radius_leaves_no_mass_out_but_counts_one_more():
    rule = ThresholdRule(MARGIN, LABEL, Conservative(0.2, share=0.5))
    slack = 1 / (LABEL.sum() + 1)
    assert rule.fixed
    assert rule.mass(0.25) == 0.0
    assert rule.calibrate(0.25).radius == 0.2
    assert rule.calibrate(0.25).tau == pytest.approx(largest(0.25, MARGIN, LABEL, LABEL.mean(), 0.2, slack))


def test_the_form_of_the_rule_is_that_of_its_curves():
    for rule in (PlugIn(form="paper"), Conservative(0.0, form="paper")):
        made = ThresholdRule(MARGIN, LABEL, rule)
        assert made.plain.form == made.curve(0.1).form == "paper"


def test_no_radius_is_measured_where_nothing_is_within_reach():
    rule = ThresholdRule(MARGIN, LABEL, Conservative())
    assert rule.radius_within(-np.inf, 0.1) == 0.0
    assert rule.radius_within(1.0, 0.1) > 0.0


def test_one_case_more_than_were_seen_may_leave_nothing():
    margin, label = np.array([0.0, 1.0, 2.0, 3.0, 4.0]), np.array([0, 0, 0, 0, 1])
    assert ThresholdRule(margin, label, Conservative(0.0)).curve(0.5).slack == 0.5
    assert ThresholdRule(margin, 1 - label, Conservative(0.0)).curve(0.5).slack == 0.2
    none = ThresholdRule(
        np.array([0.0, 1.0, 2.0, 3.0]),
        np.array([0, 0, 1, 1]),
        Conservative(share=0.9),
        np.array([0, 1, 0, 1], bool),
    )
    # 1/3 + .9 * .8 > 1
    assert none.curve(0.8) is None
    found = none.calibrate(0.8)
    assert found.refused == "one unsafe case more than the 2 seen leaves nothing to accept"
    assert (found.slack, found.tau, found.r_t) == (1.0, -np.inf, 0.8)
    assert found.radius == none.radius(0.8)
    assert found.threshold == Threshold(-np.inf, 1.0, 0.0, False, 0, 0, 2, 0.8)  # 1 - .05^(1/2) < .8
    assert none.risks(0.8, 1.0) == (1.0, None)
    assert none.parts(0.8, 1.0)["few cases"] == 1.0


@pytest.mark.parametrize(("label", "name"), [([0, 0, 0, 0], "unsafe"), ([1, 1, 1, 1], "safe")])
def test_few_cases_that_lack_a_class_accept_nothing_and_say_so(label, name):
    margin = np.array([0.0, 1.0, 2.0, 3.0])
    with pytest.raises(SafeframeError, match=name):
        ThresholdRule(margin, label, PlugIn())
    rule = ThresholdRule(margin, label, PlugIn(0.3), few=True)
    assert rule.refused == rule.lacking == f"there is no {name} case in the cases (4 cases)"
    found = rule.calibrate(0.1)
    assert (found.tau, found.radius, found.refused) == (-np.inf, 0.3, rule.refused)
    assert found.threshold.cases_needed == 29  # none unsafe among 29 certifies 0.1
    assert rule.counts(2.0) == (2, 2 * label[0])
    measured = ThresholdRule(margin, label, Conservative(), few=True)
    assert measured.calibrate(0.1).radius == 0.0


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        ([True, True, False, False], "there is no unsafe case in the even half (2 cases)"),
        ([False, False, True, True], "there is no unsafe case in the odd half (2 cases)"),
        ([True, False, False, True], "there is no safe case in the odd half (2 cases)"),
    ],
)
def test_a_half_that_lacks_a_class_measures_no_radius(odd, why):
    margin, label = np.array([2.0, 0.0, 1.0, 0.5]), np.array([1, 0, 0, 0])
    if "safe case in the odd" in why and "unsafe" not in why:
        label = np.array([1, 1, 0, 1])
    rule = ThresholdRule(margin, label, Conservative(), np.array(odd))
    assert (rule.lacking, rule.refused) == (why, "")
    with pytest.raises(LackingClassError, match="so the radius cannot be measured"):
        rule.radius_within(1.0, 0.5)
    assert ThresholdRule(margin, label, Conservative(0.1), np.array(odd)).lacking == ""
    assert ThresholdRule(margin, label, PlugIn(), np.array(odd)).lacking == ""


@pytest.mark.parametrize("radius", [0.0, 0.15])
@pytest.mark.parametrize("prior", [None, 0.5])
def test_the_selected_action_is_counted_as_the_loop_counts_it(candidates, radius, prior):
    margin, label = candidates
    rule = ThresholdRule(
        margin, label, PlugIn(radius), score=SCORE, event="selected", prior=prior, block=None
    )
    there = -np.inf < SCORE
    mean = label[there].mean()
    odds = 1.0 if prior is None else (prior / (1 - prior)) / (mean / (1 - mean))
    assert rule.odds == pytest.approx(odds)
    assert (rule.n_t, rule.n_unsafe) == (GROUPS, int(label[there].sum()))
    curve = SelectedRiskCurve(margin, SCORE, np.where(there, label, 0), radius, odds=odds)
    for tau in (-9.0, -0.5, 0.0, 1.3, np.inf):
        assert rule.counts(tau) == selection(tau, margin, SCORE, label)
        assert float(rule.plain_selected.bound(tau)) == pytest.approx(
            float(SelectedRiskCurve(margin, SCORE, np.where(there, label, 0), odds=odds).bound(tau))
        )
        accepted, selected = rule.risks(0.1, tau)
        assert selected == pytest.approx(min(float(curve.bound(tau)), 1.0))
        share = mean if prior is None else prior
        assert accepted == pytest.approx(bound(tau, margin[there], label[there], share, radius))
    for r_t in LEVELS:
        assert rule.calibrate(r_t).tau == curve.largest_threshold(r_t).tau


def test_the_selected_rule_measures_its_radius_where_its_own_threshold_leads(candidates):
    margin, label = candidates
    there = -np.inf < SCORE
    rule = ThresholdRule(margin, label, Conservative(share=0.25), score=SCORE, event="selected", prior=0.4)
    own = np.where(there, label, 0)
    half = np.broadcast_to((np.arange(GROUPS) % 2 == 1)[:, None], (GROUPS, SIZE))[there]
    for r_t in LEVELS:
        reach = SelectedRiskCurve(margin, SCORE, own, odds=rule.odds).largest_threshold(r_t).tau
        radius = 0.0
        if reach > -np.inf:
            radius = radius_between(margin[there], label[there], half, reach, 0.25 * r_t)
        assert rule.radius(r_t) == radius
        curve = SelectedRiskCurve(margin, SCORE, own, radius, slack=0.25 * r_t, one_more=True, odds=rule.odds)
        found = rule.calibrate(r_t)
        assert (found.tau, found.radius, found.slack) == (
            curve.largest_threshold(r_t).tau, radius, 0.25 * r_t
        )  # fmt: skip
        seen = SelectedRiskCurve(margin, SCORE, own)
        parts = rule.parts(r_t, 1.0)
        assert parts["seen"] == float(seen.bound(1.0))
        assert parts["prior"] == float(SelectedRiskCurve(margin, SCORE, own, odds=rule.odds).bound(1.0))
        moved = SelectedRiskCurve(margin, SCORE, own, radius, odds=rule.odds)
        assert parts["radius"] == float(moved.bound(1.0))
        assert parts["few cases"] == min(float(curve.bound(1.0)), 1.0)
        assert rule.risks(r_t, -9.0)[1] == 1.0  # nothing selected: one more would exceed 1


def test_an_absent_candidate_is_not_counted_whatever_its_label(candidates):
    margin, label = candidates
    there = -np.inf < SCORE
    wild = np.where(there, label, 1)
    for event in ("accepted", "selected"):
        one = ThresholdRule(margin, label, PlugIn(), score=SCORE, event=event)
        other = ThresholdRule(margin, wild, PlugIn(), score=SCORE, event=event)
        assert [x.tau for x in one.thresholds(LEVELS)] == [x.tau for x in other.thresholds(LEVELS)]
        assert one.counts(1.0) == other.counts(1.0)


def test_few_candidates_that_lack_a_class_are_still_counted(candidates):
    margin, _ = candidates
    rule = ThresholdRule(
        margin, np.zeros_like(margin, int), PlugIn(), score=SCORE, event="selected", few=True
    )
    assert rule.refused
    assert rule.counts(0.3) == selection(0.3, margin, SCORE, np.zeros_like(margin, int))


def test_blocks_and_halves_are_one_per_row(candidates):
    margin, label = candidates
    block = np.arange(GROUPS) % 4
    rule = ThresholdRule(margin, label, PlugIn(), score=SCORE, prior="observed", block=block)
    there = -np.inf < SCORE
    assert rule.prior.high == max(label[block == k][there[block == k]].mean() for k in range(4))
    with pytest.raises(SafeframeError, match="expected one per row"):
        ThresholdRule(margin, label, PlugIn(), score=SCORE, block=np.zeros(GROUPS * SIZE))
    with pytest.raises(SafeframeError, match="expected one per row"):
        ThresholdRule(margin, label, PlugIn(), odd=np.zeros(3, bool))


def test_shrinkage_takes_probabilities_and_the_odds_of_a_given_prior():
    chance = 1 / (1 + np.exp(-(MARGIN - 1.5)))
    rule = ThresholdRule(MARGIN, LABEL, Shrinkage(), prior=0.4, probability=chance)
    curve = ShrinkageCurve(MARGIN, LABEL, chance, Shrinkage(), rule.odds)
    assert rule.lacking == ""
    for r_t in LEVELS:
        assert rule.calibrate(r_t).tau == curve.largest_threshold(r_t).tau
    bounded, (n, k) = float(curve.bound(0.8)), curve.counts(0.8)
    parts = rule.parts(0.1, 0.8)
    assert parts["prior"] == bounded == rule.risks(0.1, 0.8)[0]
    assert parts["seen"] == float(k / n)
    assert parts["model"] == 1.0 < curve.ratio * float(curve.expected(0.8))
    low = rule.parts(0.1, 0.0)["model"]
    assert low == pytest.approx(curve.ratio * float(curve.expected(0.0)))
    assert low < 1.0
    odds = bounded / (1 - bounded) / rule.odds
    assert parts["few cases"] == pytest.approx(odds / (1 + odds))
    assert rule.parts(0.1, -99.0)["seen"] == 1.0
    assert rule.parts(0.1, 99.0)["model"] <= 1.0


def test_shrinkage_of_the_selected_action(candidates):
    margin, label = candidates
    chance = 1 / (1 + np.exp(-(margin - 1.5)))
    there = -np.inf < SCORE
    rule = ThresholdRule(
        margin, label, Shrinkage(), score=SCORE, event="selected", prior=0.4, probability=chance
    )
    curve = ShrinkageCurve(margin, np.where(there, label, 0), chance, Shrinkage(), rule.odds, SCORE)
    accepted = ShrinkageCurve(margin[there], label[there], chance[there], Shrinkage(), rule.odds)
    for r_t in LEVELS:
        assert rule.calibrate(r_t).tau == curve.largest_threshold(r_t).tau
    assert rule.risks(0.1, 0.5) == (
        pytest.approx(float(accepted.bound(0.5))), pytest.approx(min(float(curve.bound(0.5)), 1.0))
    )  # fmt: skip


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"event": "proposed"}, "it must be one of accepted, selected"),
        ({"event": "selected"}, "needs the scores of the candidates"),
        ({"probability": np.full(N, 0.5)}, "no other takes them"),
        ({"rule": Shrinkage()}, "needs the probabilities of the cases"),
        ({"rule": Shrinkage(), "probability": np.full(3, 0.5)}, "probability has shape"),
        ({"rule": Shrinkage(), "probability": np.full(N, 0.5), "prior": 0.0}, "both excluded"),
        ({"rule": Shrinkage(), "probability": np.full(N, 0.5), "prior": 1.0}, "both excluded"),
    ],
)
def test_what_does_not_fit_is_refused(more, why):
    with pytest.raises(SafeframeError, match=why):
        ThresholdRule(**({"margin": MARGIN, "label": LABEL, "rule": PlugIn()} | more))


def test_a_prior_of_0_or_1_moves_no_odds(candidates):
    margin, label = candidates
    for prior in (0.0, 1.0):
        with pytest.raises(SafeframeError, match="both excluded"):
            ThresholdRule(margin, label, PlugIn(), score=SCORE, event="selected", prior=prior)
        assert ThresholdRule(MARGIN, LABEL, PlugIn(), prior=prior).prior.high == prior
    chance = np.full(N, 0.5)
    for value in (0, 1):
        with pytest.raises(SafeframeError, match="the cases lack a class"):
            ThresholdRule(MARGIN, np.full(N, value), Shrinkage(), prior=0.3, probability=chance)
    assert ThresholdRule(MARGIN, np.zeros(N, int), Shrinkage(), probability=chance).prior.high == 0.0


def test_levels_outside_their_range_are_refused():
    rule = ThresholdRule(MARGIN, LABEL, PlugIn())
    for r_t in (0.0, -0.1, 1.1, math.nan):
        with pytest.raises(SafeframeError):
            rule.calibrate(r_t)


def test_a_curve_of_accepted_cases_is_adjusted_and_not_sorted_again():
    rule = ThresholdRule(MARGIN, LABEL, PlugIn())
    assert isinstance(rule.plain, RiskCurve)
    assert rule.curve(0.1)._safe is rule.plain._safe
