"""The part that counts promises: laws against simulation, known answers, a run at the smallest size."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from experiments.theory.config import PromisesConfig
from experiments.theory.guards import promises
from experiments.theory.laws import threshold_laws
from experiments.theory.reporting import claims_promises
from experiments.theory.reporting.figures_promises import promises as figure
from safeframe.guard.evidence import Evidence
from safeframe.threshold_rule import Conservative, PlugIn

SMALL = PromisesConfig(repeats=6, sizes=[50, 200], large=2000, points=1024)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return promises.run(SMALL, np.random.default_rng(0))


@pytest.mark.parametrize("noise", [0.3, 0.6])
def test_the_plain_law_by_simulation(noise):
    law = threshold_laws.plain(noise)
    y, label = threshold_laws.draw(np.random.default_rng(0), 1_000_000, noise)
    for tau in (-0.5, 0.0, 9.0):
        accepted = y - 1.0 < tau
        assert law.risk(np.array(tau)) == pytest.approx(label[accepted].mean(), rel=0.03)
        assert law.acceptance(np.array(tau)) == pytest.approx(accepted.mean(), abs=2e-3)
    assert law.risk(np.array(-np.inf)) == law.acceptance(np.array(-np.inf)) == 0.0


def test_the_law_of_the_selected_candidate_by_simulation():
    law = threshold_laws.selected(5)
    margin, score, label = threshold_laws.draw_candidates(np.random.default_rng(0), 300_000, 5)
    for tau in (-2.0, -0.5, 0.0, 9.0):
        kept = np.where(margin < tau, score, -np.inf)
        some = kept.max(1) > -np.inf
        unsafe = label[np.arange(len(kept)), kept.argmax(1)][some].mean()
        assert law.acceptance(np.array(tau)) == pytest.approx(some.mean(), abs=3e-3)
        assert law.risk(np.array(tau)) == pytest.approx(unsafe, rel=0.05, abs=1e-5)


def test_another_prior_moves_the_risk_by_its_odds_and_leaves_the_classes():
    law = threshold_laws.plain()
    moved = law.with_prior(0.4)
    assert moved.prior == pytest.approx(0.4)
    tau = np.array([-0.5, 0.0])
    odds = [one.risk(tau) / (1 - one.risk(tau)) for one in (law, moved)]
    np.testing.assert_allclose(odds[1] / odds[0], (0.4 / 0.6) / (law.prior / (1 - law.prior)))
    unsafe = np.repeat([True, False], 200_000)
    margin = law.sample(np.random.default_rng(0), unsafe)
    u, s = law.masses(np.array(0.0))
    assert (margin[unsafe] < 0).mean() == pytest.approx(u / law.prior, abs=3e-3)
    assert (margin[~unsafe] < 0).mean() == pytest.approx(s / (1 - law.prior), abs=3e-3)


def test_the_best_threshold_is_the_largest_within_r_t():
    law = threshold_laws.plain()
    for r_t in (1e-4, 1e-3, 0.1):
        rate = law.acceptance(law.tau)
        assert law.best(r_t) == rate[law.risk(law.tau) <= r_t].max()
    assert law.best(1e-3) == pytest.approx(0.64, abs=0.005)
    assert law.best(1.0) == pytest.approx(1.0)


def test_thresholds_on_ten_cases_by_hand():
    """Margins 0..9, the upper three unsafe. Plug-in accepts the seven safe ones at any r_t < 1 / 8. The
    conservative rule at a given radius 0 counts one unsafe case more, 1 / 4 of the class's mass: the slack
    comes to .3 * .25 over that and the safe share .7 - .7 * .25, so r_t = .1 is out of reach.
    """
    margin = np.arange(10.0)
    evidence = Evidence(margin, (margin >= 7).astype(int), None, None, np.zeros(10, bool))
    plug_in = promises.calibrated(evidence, PlugIn(), [1e-4, 0.1])
    assert all(6.0 < tau <= 7.0 for tau in plug_in)
    at_best = 0.3 * 0.25 / (0.3 * 0.25 + 0.7 * 0.75)
    below, above = promises.calibrated(evidence, Conservative(radius=0.0), [at_best * 0.999, at_best * 1.001])
    assert below == -np.inf
    assert 6.0 < above <= 7.0
    missing = evidence.subset(np.arange(7))  # no unsafe case
    assert np.isnan(promises.calibrated(missing, PlugIn(), [0.1])).all()


def test_counts_of_outcomes_that_are_known():
    """Risks .5, 2 and 0 (nothing accepted) times r_t, and a calibration that stopped, in turn."""
    r_t = 0.1
    turn = iter([[(0.05, 0.6)], [(0.2, 0.9)], [(0.0, 0.0)], [promises.STOPPED]])

    def outcomes(rng, n, levels):
        return [next(turn)] * 3

    config = PromisesConfig(repeats=4)
    setting = promises.Setting("known", outcomes, lambda level: 0.7)
    rows = promises.counted(setting, config, np.random.default_rng(0), 50, [r_t])
    assert [row["rule"] for row in rows] == list(promises.RULES)
    row = rows[0]
    assert (row["broken"], row["refused"], row["stopped"]) == (1, 2, 1)
    assert row["mean_ratio"] == pytest.approx(2.5 / 4)
    assert row["acceptance"] == pytest.approx(1.5 / 4)
    assert row["best"] == 0.7
    assert [np.isnan(row["nominal"]) for row in rows] == [True, True, False]


def test_draws_are_of_the_laws_they_say():
    rng = np.random.default_rng(0)
    grouped = promises.grouped_draw(rng, 200_000)
    small = grouped.group == promises.SMALL
    assert small.mean() == pytest.approx(promises.SMALL_SHARE, abs=2e-3)
    for mine, noise in ((small, promises.SMALL_NOISE), (~small, threshold_laws.NOISE)):
        assert grouped.label[mine].mean() == pytest.approx(threshold_laws.plain(noise).prior, abs=0.012)
    law = threshold_laws.plain()
    drift = promises.drift_draw(rng, 200_000, law)
    shares = np.array([drift.label[drift.block == b].mean() for b in range(5)])
    odds = shares / (1 - shares) / (law.prior / (1 - law.prior))
    np.testing.assert_allclose(odds, promises.ODDS, rtol=0.05)


def test_a_run_has_every_row_and_tells_rules_apart(table):
    assert len(table) == 7 * 3 * len(SMALL.sizes) * len(SMALL.r_t) + 3
    rows = table.set_index(["setting", "rule", "n", "r_t"])
    for use in ("plain", "selected"):
        assert rows.loc[(use, "plug-in", 200, 1e-4), "share_broken"] > 0.8
        assert rows.loc[(use, "conservative", 200, 1e-4), "broken"] == 0
    # too few cases are held out to certify the coverage region, which the guard says instead of guessing
    assert (rows.loc["coverage"].loc[:, 50, :]["stopped"] == SMALL.repeats).all()
    assert (table["acceptance"] <= 1.0).all()
    assert (table["stopped"] <= table["refused"]).all()
    large = rows.loc[("plain", "conservative", SMALL.large, SMALL.large_r_t)]
    assert large["acceptance"] <= large["best"]


def test_the_sample_of_covered_cases_gives_the_risk_of_the_law():
    """With coverage the event differs from the plain one by what little is refused."""
    config = PromisesConfig(points=4096)
    law = threshold_laws.plain()
    found = promises.covered(config, law).outcomes(np.random.default_rng(0), 1000, [0.1])
    (risk, rate), *_ = found[0]
    tau = law.tau[np.searchsorted(law.acceptance(law.tau), rate)]
    assert rate == pytest.approx(law.best(0.1), abs=0.08)
    assert risk == pytest.approx(law.risk(np.array(tau)), rel=0.5)


def test_claims_and_figure_of_a_run(table):
    claims = {one["claim"]: one for one in claims_promises.claimed(table)}
    assert claims["guard.promises.broken_max.plug_in"]["value"] > 0.8
    sure = claims["guard.promises.broken_max.conservative"]
    assert sure["low"] <= sure["value"] <= sure["high"] > 0
    assert claims["guard.promises.acceptance_large.best"]["value"] == pytest.approx(0.64, abs=0.005)
    drawn, caption = figure({"promises": table})
    assert len(drawn.axes) == 7 * len(SMALL.r_t)
    assert f"of {SMALL.repeats} draws" in caption
    assert "Clopper-Pearson" in caption


@pytest.mark.parametrize("broken", [0, 1, 2, 3])
def test_the_interval_of_the_largest_share_holds_it_whatever_digits_were_kept(broken):
    """With three repeats and many rows a limit is the share itself, which its file rounds to 0.33333333."""
    rows = pd.DataFrame({"broken": [broken] * 40, "repeats": 3, "share_broken": round(broken / 3, 8)})
    value, low, high = claims_promises.largest_share(rows)
    assert low <= value <= high
    assert value == pytest.approx(broken / 3)
