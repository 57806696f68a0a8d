"""The parts on the shrinkage bound and on constraints over groups: draws, outcomes by hand, small runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from experiments.theory.config import GroupConstraintsConfig, ShrinkageConfig
from experiments.theory.guards import group_constraints, shrinkage
from experiments.theory.laws import threshold_laws
from experiments.theory.reporting import claims_groups, figures_groups
from safeframe.guard.report import EVERYTHING
from safeframe.threshold_rule import PlugIn

STATES = (
    "right",
    "low",
    "high",
    "fitted",
    "steep",
    "floor",
    "drift, prior none",
    "drift, prior upper end",
    "weeks",
)


@pytest.fixture(scope="module")
def shrunk() -> pd.DataFrame:
    return shrinkage.run(
        ShrinkageConfig(repeats=2, sizes=[50, 400], r_t=[1e-3, 0.1]), np.random.default_rng(0)
    )


@pytest.fixture(scope="module")
def grouped() -> pd.DataFrame:
    return group_constraints.run(GroupConstraintsConfig(repeats=2, sizes=[300]), np.random.default_rng(0))


def test_a_right_model_is_the_laws_and_a_wrong_one_is_off_by_its_factor():
    states = {one.name: one for one in shrinkage.settings(ShrinkageConfig())}
    assert tuple(states) == STATES
    margin = np.linspace(-2.5, 1.0, 50)
    p = shrinkage.right(margin)
    np.testing.assert_allclose(p, threshold_laws.unsafe_probability(margin + 1.0))
    y, label = threshold_laws.draw(np.random.default_rng(0), 1_000_000)
    near = np.abs(y - 0.9) < 0.02
    assert label[near].mean() == pytest.approx(float(shrinkage.right(np.array(-0.1))), rel=0.06)
    np.testing.assert_allclose(expit(shrinkage._log_odds(margin)), p)


def test_cases_of_a_week_depend_and_each_alone_has_the_readmes_law():
    found = shrinkage.weeks_draw(np.random.default_rng(0), 100_000)
    law = threshold_laws.plain()
    assert found.label.mean() == pytest.approx(law.prior, abs=0.01)
    residual = found.label - shrinkage.right(found.margin)
    weeks = residual.reshape(-1, shrinkage.WEEK)
    within = (weeks.sum(1) ** 2 - (weeks**2).sum(1)).mean() / (shrinkage.WEEK * (shrinkage.WEEK - 1))
    alone = (residual**2).mean()
    assert within / alone > 0.03
    assert len(np.unique(found.block)) == 4000


def test_a_floor_that_the_model_does_not_know_of():
    found = shrinkage.floor_draw(np.random.default_rng(0), 400_000)
    safe_looking = found.margin < -1.5
    assert found.label[safe_looking].mean() == pytest.approx(shrinkage.FLOOR, rel=0.2)
    assert threshold_laws.of_risk(shrinkage._with_floor).best(1e-3) == 0.0


def test_the_law_of_a_risk_is_that_of_the_noise():
    a, b = (
        threshold_laws.plain(0.6),
        threshold_laws.of_risk(lambda y: threshold_laws.unsafe_probability(y, 0.6)),
    )
    np.testing.assert_array_equal(a.unsafe, b.unsafe)


def test_groups_have_the_sizes_and_laws_they_say():
    for kind, groups in group_constraints.KINDS.items():
        counts = group_constraints.sizes(kind, 1000)
        assert sum(counts.values()) == 1000
        assert set(counts) == set(groups)
        found = group_constraints.drawn(kind, np.random.default_rng(0), 200_000)
        for key, law in group_constraints.LAWS[kind].items():
            mine = found.group == key
            if key == "two":
                assert mine.sum() == 2
            else:
                assert found.label[mine].mean() == pytest.approx(law.prior, abs=0.015)
    assert group_constraints.sizes("unequal", 1000) == {"large": 600, "middle": 350, "small": 50}


def test_outcomes_by_hand():
    """Everything of the large group, nothing of the others; and everything of all."""
    laws = group_constraints.LAWS["unequal"]
    taus = {"large": np.inf, "middle": -np.inf, "small": -np.inf}
    worst, pooled, accepted = group_constraints.outcome("unequal", 1000, taus)
    assert worst == pooled == pytest.approx(laws["large"].prior)
    assert accepted == pytest.approx(0.6, abs=1e-6)
    worst, pooled, accepted = group_constraints.outcome("unequal", 1000, dict.fromkeys(taus, np.inf))
    assert worst == pytest.approx(laws["small"].prior)
    assert pooled == pytest.approx(
        0.6 * laws["large"].prior + 0.35 * laws["middle"].prior + 0.05 * laws["small"].prior
    )
    assert accepted == pytest.approx(1.0, abs=1e-6)
    assert group_constraints.outcome("unequal", 1000, dict.fromkeys(taus, -np.inf)) == (0.0, 0.0, 0.0)


def test_a_common_threshold_is_turned_into_each_groups_margin():
    evidence = group_constraints.drawn("unequal", np.random.default_rng(1), 3000)
    laws = group_constraints.LAWS["unequal"]
    (taus,) = group_constraints.accepted(evidence, PlugIn(), "pooled", [0.1], laws)
    rulings, made = group_constraints.calibrate_evidence(
        evidence, group_constraints.GuardSettings((0.1,), PlugIn(), constraint="pooled")
    )
    scales = rulings[EVERYTHING].scales
    for key, tau in taus.items():
        below = scales.log_odds(np.array([tau - 2e-3, tau + 2e-3]), np.array([key, key]))
        assert below[0] < made[0.1][EVERYTHING].tau <= below[1]
    assert len(set(taus.values())) == 3
    one = evidence.subset(np.flatnonzero(evidence.label == 0))
    assert group_constraints.accepted(one, PlugIn(), "per_group", [0.1], laws) is None


def test_small_runs_have_every_row(shrunk, grouped):
    assert len(shrunk) == len(STATES) * 4 * 2 * 2
    assert set(shrunk["rule"]) == set(shrinkage.RULES)
    rows = shrunk.set_index(["setting", "rule", "n", "r_t"])
    assert rows.loc[("floor", "shrinkage", 400, 1e-3), "broken"] == 2, (
        "no rule can know, and this one accepts"
    )
    assert rows.loc[("floor", "conservative", 400, 1e-3), "broken"] == 0
    assert rows.loc[("right", "shrinkage", 50, 1e-3), "acceptance"] > 0.3
    assert rows.loc[("right", "conservative", 50, 1e-3), "acceptance"] == 0.0
    assert len(grouped) == 3 * 3 * 4 * 2
    assert (grouped["acceptance"] <= 1.0).all()
    rows = grouped.set_index(["kind", "constraint", "rule", "r_t"]).sort_index()
    for r_t in (0.01, 0.1):
        assert (rows.loc[("two", "worst_group", "conservative", r_t), "acceptance"] == 0.0).all()
    assert (rows.loc[("two", "pooled", "conservative", 0.1), "acceptance"] > 0.3).all()
    pooled = grouped[(grouped["constraint"] == "pooled") & (grouped["acceptance"] > 0)]
    np.testing.assert_allclose(pooled["mean_ratio"], pooled["pooled_ratio"])


def test_claims_and_figures_of_runs(shrunk, grouped):
    claims = {one["claim"]: one for one in claims_groups.shrinkage(shrunk)}
    claims |= {one["claim"]: one for one in claims_groups.group_constraints(grouped)}
    assert claims["guard.shrinkage.broken_max.floor"]["value"] == 1.0
    assert claims["guard.shrinkage.acceptance_rare.conservative"]["value"] == 0.0
    rare = claims["guard.shrinkage.acceptance_rare.shrinkage"]["value"]
    assert 0.0 < rare < claims["guard.shrinkage.acceptance_rare.best"]["value"]
    for one in claims.values():
        assert one["n"] == 2
        assert one.get("low", -np.inf) <= one["value"] <= one.get("high", np.inf)
    assert "guard.groups.broken_max.worst_group.certified" in claims
    for make, tables in (
        (figures_groups.shrinkage, {"shrinkage": shrunk}),
        (figures_groups.group_constraints, {"group_constraints": grouped}),
    ):
        figure, caption = make(tables)
        assert "of 2 draws per point" in caption
        assert len(figure.axes) in (9 * 2, 9 * 4)
