"""Constraints, choices and calibrations of the guard on made-up risk, against naive loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experiments.production.config import ServiceConfig
from experiments.production.demand.series import Quarter
from experiments.production.demand.synthetic import synthetic, truth_probability
from experiments.production.guard import knobs
from experiments.production.guard.curves import Curve, Guarded, all_curves
from experiments.production.guard.score import Calibrated, calibrated
from experiments.production.planning import PlanTable, ProductionProblem, plan
from safeframe.priced.rule import CHARGES, PriceRule
from safeframe.risk_scale import GivenRisk
from safeframe.risk_scale.odds import from_log_odds, log_odds
from safeframe.threshold_rule import Conservative

HOURS = 1400
LEVELS = [0.0123, 0.0987, 0.3141, 1.0]  # no share of few cases equals one


@pytest.fixture(scope="module")
def world():
    data = synthetic(5, hours_per_quarter=HOURS)
    table = PlanTable(ProductionProblem(), data.demand.astype(np.float64))
    test, use = (data.where(q) for q in (Quarter.INTERNAL_TEST_VALIDATION, Quarter.VALIDATION))
    odd = (data.target_hour[test] // 168) % 2 == 1
    known = [data.where(q) for q in (Quarter.TRAINING, Quarter.INTERNAL_TEST_TRAINING)]
    risk = np.clip(truth_probability(data), 1e-9, 1 - 1e-9)
    given = Calibrated(risk, test[~odd])
    return data, given.counted, use, Guarded(given, data, use, known, ServiceConfig(), table), risk, table


@pytest.mark.parametrize("crossed", [False, True])
def test_no_case_that_is_counted_was_fitted_on(world, crossed):
    """Flip the label of a counted case: its own probability does not change; others' may."""
    data, *_ = world
    test = data.where(Quarter.INTERNAL_TEST_VALIDATION)
    scores = [-data.measurement[:, -1].astype(np.float64), -data.measurement.mean(axis=1, dtype=np.float64)]
    found = calibrated(scores, data, test, crossed)
    assert len(found.counted) == (len(test) if crossed else (1 - (data.target_hour[test] // 168) % 2).sum())
    for case in found.counted[[0, 300, len(found.counted) - 1]]:
        unsafe = data.unsafe.copy()
        unsafe[case] ^= True
        other = calibrated(scores, replace(data, unsafe=unsafe), test, crossed)
        week = data.target_hour[test] // 168 % 2 == data.target_hour[case] // 168 % 2
        assert np.array_equal(other.probability[test[week]], found.probability[test[week]])
        assert crossed != np.array_equal(other.probability, found.probability)


def test_plug_in_thresholds_are_the_largest_within_r_t(world):
    data, counted, use, guarded, risk, _ = world
    own = guarded.gates(Curve("per_product", "gated", "static"), "plug_in", LEVELS)
    pooled = guarded.gates(Curve("pooled", "gated", "static"), "plug_in", LEVELS)
    for at, r_t in enumerate(LEVELS):
        for i in range(4):
            tau = largest(risk[counted, i], data.unsafe[counted, i], r_t)
            assert np.array_equal(own[at, :, i], risk[use, i] < tau)
        tau = largest(risk[counted].ravel(), data.unsafe[counted].ravel(), r_t)
        assert np.array_equal(pooled[at], risk[use] < tau)


def largest(risk: np.ndarray, unsafe: np.ndarray, r_t: float) -> float:
    found = -np.inf
    for tau in [*np.unique(risk[unsafe]), np.inf]:
        accepted = risk < tau
        if accepted.any() and unsafe[accepted].mean() <= r_t:
            found = max(found, tau)
    return found


def test_the_worst_product_s_threshold_is_common_and_no_looser_than_any_own(world):
    *_, guarded, _, _ = world
    for calibration in ("static", "weekly"):
        own = guarded.gates(Curve("per_product", "gated", calibration), "strict", LEVELS)
        worst = guarded.gates(Curve("worst_product", "gated", calibration), "strict", LEVELS)
        assert (worst <= own).all()
        assert worst.any()


@pytest.mark.parametrize("curve", all_curves(), ids=lambda curve: curve.name)
def test_a_looser_r_t_makes_no_less_and_no_future_label_matters(world, curve):
    data, counted, use, guarded, risk, _ = world
    gates = guarded.gates(curve, "strict", LEVELS)
    if curve.choice == "gated":
        assert (np.diff(gates.astype(int), axis=0) >= 0).all()
    assert gates[-1].any()
    cut = 700
    unsafe = data.unsafe.copy()
    unsafe[use[cut - 47 :]] ^= True  # known 48 hours after they are planned, at the earliest
    blind = Guarded.__new__(Guarded)
    blind.__dict__.update(guarded.__dict__)
    blind.served = type(guarded.served)(
        risk, unsafe, data.target_hour, counted, use, guarded.served.years, guarded.served.clock
    )
    assert np.array_equal(blind.gates(curve, "strict", LEVELS)[:, :cut], gates[:, :cut])


def test_priced_makes_what_is_worth_its_risk(world):
    _, _, use, guarded, risk, table = world
    gates = guarded.gates(Curve("pooled", "priced", "static"), "plug_in", [0.1])
    gain = np.stack([table.gain(i) for i in range(4)], axis=1)[use]
    assert gates.any()
    made, left = gates[0], ~gates[0]

    def separated(charged_from: float) -> bool:
        """One price separates what is made from what is left, for risk above and below this level."""
        apart = risk[use] - charged_from
        ratio, risky = gain / np.abs(apart), apart > 0
        return ratio[made & risky].min() >= ratio[left & risky].max() and made[~risky].all()

    assert sum(separated(share * 0.1) for share in CHARGES) == 1


def test_priced_does_in_use_what_the_price_counts():
    """On the very cases that bear the price, what is made is what the rule counted, gates included."""
    data = synthetic(1, hours_per_quarter=1000)
    table = PlanTable(ProductionProblem(), data.demand.astype(np.float64))
    counted, year = (data.where(q) for q in (Quarter.INTERNAL_TEST_VALIDATION, Quarter.TRAINING))
    risk = np.clip(truth_probability(data) ** 0.7, 1e-9, 1 - 1e-9)
    own = Guarded(Calibrated(risk, counted), data, counted, [year], ServiceConfig(), table)
    levels = [0.002, 0.0046, 0.01, 0.1, 0.3]
    gates = own.gates(Curve("pooled", "priced", "static"), "conservative", levels)
    gain = np.stack([table.gain(i) for i in range(4)], axis=1)
    found = PriceRule(
        log_odds(risk[counted]).reshape(-1, 1), gain[counted].reshape(-1, 1),
        data.unsafe[counted].astype(np.int64).reshape(-1, 1), GivenRisk(from_log_odds), Conservative(),
        np.repeat(np.arange(len(counted)) // 168 % 2 == 1, 4), prior=own.served.prior_of_all(counted),
    ).prices(levels)  # fmt: skip
    assert any(one.price.feasible for one in found)
    assert any(np.isfinite(one.price.gate) for one in found)
    for one, gate in zip(found, gates, strict=True):
        assert gate.sum() == one.price.n_acted
        assert (gate & data.unsafe[counted]).sum() == one.price.n_unsafe_acted


def test_plan_table_is_the_plan():
    rng, problem = np.random.default_rng(0), ProductionProblem()
    demand, gate = rng.uniform(0, 10, (300, 4)), rng.random((300, 4)) < 0.6
    table = PlanTable(problem, demand)
    assert np.allclose(table.action(gate), plan(problem, demand, gate).action, atol=1e-12)
    rows = np.arange(5, 50)
    assert np.array_equal(table.action(gate[rows], rows), table.action(gate)[rows])
    for i in range(4):
        everything, without = np.ones((300, 4), bool), np.ones((300, 4), bool)
        without[:, i] = False
        gain = plan(problem, demand, without).objective - plan(problem, demand, everything).objective
        assert np.allclose(table.gain(i), np.maximum(gain, 0), atol=1e-9)


def test_a_knob_is_chosen_by_what_it_earns_within_r_t():
    problem = ProductionProblem()
    demand = np.array([[2.0, 5.0, 5.0, 5.0]] * 4)
    nothing, careful, bold = np.zeros((4, 4)), np.zeros((4, 4)), np.full((4, 4), 0.5)
    careful[:, 1] = 1.0
    settings = [
        knobs.tried(problem, knob, action, demand)
        for knob, action in ((3.0, nothing), (2.0, careful), (1.0, bold))
    ]
    assert np.isnan(settings[0].share)
    assert [one.share for one in settings[1:]] == [0.0, 0.25]
    assert knobs.chosen(settings, 0.1) == 2.0
    assert knobs.chosen(settings, 0.3) == 1.0
    assert knobs.chosen(settings[:1], 0.3) is None
