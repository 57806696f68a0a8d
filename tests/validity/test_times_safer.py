"""Times safer: the interval covers a known ratio as often as it says, whether runs or weeks differ more."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from experiments.production.reporting import measured
from experiments.production.reporting.comparison import times_safer

NAN = float("nan")


def world(rng, runs: int, shared: bool, of_runs: float, of_weeks: float, produced: int) -> measured.Measured:
    """Runs with violation shares that vary by run and by week around known ones; weeks common if shared."""
    weeks = 52
    names = [
        ("ours", 1e-3, NAN),
        ("ours", 1e-2, NAN),
        ("ours", 1e-1, NAN),
        ("two_stage", NAN, 1.0),
        ("oracle", NAN, NAN),
    ]
    common = np.exp(of_weeks * rng.normal(size=(1 if shared else runs, weeks)) - of_weeks**2 / 2)
    share = np.zeros((runs, 5, weeks))
    for methods in ([0, 1, 2], [3]):
        effect = np.exp(of_runs * rng.normal(size=(runs, 1)) - of_runs**2 / 2)
        for point in methods:
            share[:, point] = np.minimum([0.004, 0.012, 0.03, 0.05][point] * effect * common, 1)
    size = rng.normal(1, 0.2, (1 if shared else runs, 1, weeks))
    revenue = np.array([0.4, 0.6, 0.9, 0.7, 1.0])[:, None] * size * rng.normal(1, 0.01, (runs, 5, 1))
    return measured.Measured(
        points=pd.DataFrame(names, columns=measured.POINT),
        runs=pd.DataFrame({"run": range(runs), "seed": range(runs), "order": [()] * runs}),
        produced=np.full(share.shape, float(produced)),
        violations=rng.binomial(produced, share).astype(float),
        revenue=revenue,
        hours=np.full((runs, weeks), 168.0),
        realisation=np.zeros(runs, dtype=int) if shared else np.arange(runs),
    )


TRUTH = 0.05 / (0.012 ** (2 / 3) * 0.03 ** (1 / 3))  # a third of the way from revenue 0.6 to 0.9


@pytest.mark.parametrize(
    "case",
    [
        {"runs": 5, "shared": True, "of_runs": 0.4, "of_weeks": 0.1, "produced": 400},
        {"runs": 5, "shared": True, "of_runs": 0.2, "of_weeks": 0.6, "produced": 200},
        {"runs": 5, "shared": False, "of_runs": 0.05, "of_weeks": 0.6, "produced": 400},
        {"runs": 1, "shared": True, "of_runs": 0.0, "of_weeks": 0.4, "produced": 300},
    ],
    ids=["runs differ", "mixed, same hours", "own hours", "one run"],
)
def test_interval_covers(case):
    rng = np.random.default_rng(1)
    worlds = 150
    rows = [times_safer(world(rng, **case), draws=300, seed=i).iloc[0] for i in range(worlds)]
    hits = sum(row["low"] <= TRUTH <= row["high"] for row in rows)
    assert hits >= 132  # of 150; with 95 % coverage fewer come by chance about once in 5,000 times
    middle = np.median([row["ratio"] for row in rows])
    assert middle == pytest.approx(TRUTH, rel=0.15)


def test_coverage_is_lost_without_runs_as_units():
    """The test above can fail: weeks alone do not carry what differs between runs."""
    rng = np.random.default_rng(1)
    hits = 0
    for i in range(60):
        pooled = world(rng, 5, True, 0.4, 0.1, 400)
        merged = measured.Measured(
            points=pooled.points,
            runs=pooled.runs.iloc[:1],
            produced=pooled.produced.sum(axis=0, keepdims=True),
            violations=pooled.violations.sum(axis=0, keepdims=True),
            revenue=pooled.revenue.sum(axis=0, keepdims=True),
            hours=pooled.hours[:1],
            realisation=np.zeros(1, dtype=int),
        )
        row = times_safer(merged, draws=300, seed=i).iloc[0]
        hits += row["low"] <= TRUTH <= row["high"]
    assert hits < 40
