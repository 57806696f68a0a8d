"""The part on tailored training: the law against simulation, known answers, a run at the smallest size."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.theory import tailoring
from experiments.theory.config import TailoringConfig
from experiments.theory.laws import tailoring_laws as laws
from experiments.theory.reporting import claims_tailoring
from experiments.theory.reporting.figures_tailoring import tailoring as figure

SMALL = TailoringConfig(
    repeats=2, cases=[200, 400], r_t=[0.05], warm_steps=20, steps=4, inputs=32, tests=64, swaps=9,
    why_cases=200, judge=2000,
)  # fmt: skip


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return {"tailoring": tailoring.run(SMALL, 0), "tailoring_why": tailoring.why(SMALL, 0)}


def test_the_law_by_simulation():
    """Cases with a log-odds near a level are unsafe as often as it says."""
    sample = laws.draw(400_000, 0)
    with torch.no_grad():
        p = torch.sigmoid(laws.truth()(sample.features))[:, 0]
    assert float(sample.label.mean()) == pytest.approx(laws.PRIOR, abs=3e-3)
    for low, high in ((0.0, 0.01), (0.1, 0.3), (0.4, 0.6), (0.8, 1.0)):
        inside = (p >= low) & (p < high)
        assert float(sample.label[inside].mean()) == pytest.approx(float(p[inside].mean()), abs=0.02)
    assert float(sample.reward.mean()) == pytest.approx(1.0, abs=0.01)


def test_no_score_beats_the_truth_and_the_truth_reaches_the_best():
    judge = laws.judge(20_000, 1)
    with torch.no_grad():
        right = laws.truth()(judge.sample.features)[:, 0].double().numpy()
    noisy = right + np.random.default_rng(0).normal(size=len(right))
    for r_t in (1e-3, 1e-2, 0.1):
        assert judge.acceptance(right, r_t) == pytest.approx(judge.best(r_t), abs=1e-3)
        assert judge.acceptance(noisy, r_t) < judge.best(r_t)
        reward = judge.sample.reward.double().numpy()
        assert judge.best_reward(r_t) >= judge.acceptance(right, r_t, reward) - 1e-9  # priced earns no less
    assert judge.acceptance(right, 1.0) == 1.0


def test_acceptance_by_hand():
    sample = laws.Sample(torch.zeros(4, 2), torch.zeros(4), torch.ones(4))
    judge = laws.Judge(sample, np.array([0.0, 0.1, 0.5, 0.2]))
    assert judge.acceptance(np.array([0.0, 1.0, 2.0, 3.0]), 0.05) == 0.5
    assert judge.acceptance(np.array([0.0, 1.0, 2.0, 3.0]), 0.2) == 1.0  # the mean of all is .2
    assert judge.acceptance(np.array([3.0, 2.0, 0.0, 1.0]), 0.05) == 0.0
    assert judge.acceptance(np.array([0.0, 1.0, 2.0, 3.0]), 0.05, np.array([1.0, 2.0, 5.0, 2.0])) == 0.3


@pytest.mark.parametrize("capacity", laws.CAPACITIES)
def test_a_warm_up_learns_what_its_capacity_allows(capacity):
    config = TailoringConfig(judge=5000)
    module = tailoring.warm_up(config, laws.draw(2000, 3), capacity, 3)
    scores = tailoring.Scores(laws.judge(5000, 0), laws.draw(500, 4), laws.draw(500, 5))
    accepted = scores.of(module, 0.01)["acceptance"]
    assert accepted > 0.4 if capacity != "too little" else accepted < 0.4


def test_a_run_has_every_row_and_the_same_seed_gives_it_again(tables):
    table = tables["tailoring"]
    methods = {"start", "cross-entropy", *tailoring.METHODS, *tailoring.SELECTED}
    assert len(table) == 2 * 2 * 3 * len(methods)
    assert set(table["method"]) == methods
    assert (table["acceptance"] <= table["best_acceptance"] + 1e-9).all()
    assert table[["acceptance", "seen", "reward"]].stack().between(0, 1).all()
    assert (table[table["method"] == "never harm"]["step"] >= 0).all()
    assert len(tables["tailoring_why"]) == 2 * 2 * 2 * 3
    pd.testing.assert_frame_equal(tailoring.run(TailoringConfig(**(vars(SMALL) | {"cases": [200]})), 0),
                                  table[table["n"] == 200])  # fmt: skip


def test_gains_are_paired_by_draw():
    drawn = [
        (k, method, a, r)
        for k, base in enumerate((0.1, 0.5, 0.9))
        for method, a, r in (
            ("cross-entropy", base, base), ("plain", base + 0.02, 0.0), ("priced", 0.0, base - 0.01)
        )
    ]  # fmt: skip
    rows = pd.DataFrame(drawn, columns=["repeat", "method", "acceptance", "reward"])
    rows = rows.assign(capacity="ample", n=10, r_t=0.1)
    found = claims_tailoring.gains(rows).set_index("method")
    assert found.loc["plain", "value"] == pytest.approx(2.0)
    assert found.loc["priced", "value"] == pytest.approx(-1.0)
    assert found.loc["plain", "high"] - found.loc["plain", "low"] == pytest.approx(0.0, abs=1e-9)


def test_claims_and_figure_of_a_run(tables):
    claims = list(claims_tailoring.claimed(tables["tailoring"], tables["tailoring_why"]))
    names = [claim["claim"] for claim in claims]
    assert len(names) == len(set(names))
    assert "theory.tailoring.gain_points.mended.too_little.many_cases.0.05" in names
    assert "theory.tailoring.why_points.ample.wide.fresh_cases" in names
    assert "theory.tailoring.worse_share.never_harm_plug_in" in names
    drawn, caption = figure(tables)
    assert len(drawn.axes) == 4
    assert "2 draws" in caption
