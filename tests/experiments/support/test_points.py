"""Points of curves of pooled runs, and tables that are worked out once."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import pandas as pd
import pytest

from experiments.support.results.points import CurvePoints, once


@dataclass(frozen=True)
class Pool(CurvePoints):
    points: pd.DataFrame
    runs: pd.DataFrame


@pytest.fixture
def pool():
    points = pd.DataFrame({"method": ["ours", "ours", "ai"], "r_t": [0.1, 1.0, None], "knob": None})
    return Pool(points, pd.DataFrame({"seed": [3, 1, 3], "saved": None}))


def test_points_of_a_method(pool):
    assert pool.where("ours").tolist() == [0, 1]
    assert pool.at("ours", 0.1 + 1e-9) == 0
    assert pool.at("ours", 0.2) is None
    assert pool.methods == ["ours", "ai"]
    assert pool.seeds == [1, 3]


def test_a_table_is_worked_out_once_for_each_pool_and_arguments(pool):
    asked = []

    @once
    def table(pool: Pool, method: str = "ours", scale: float = 1.0) -> pd.DataFrame:
        """Its text."""
        asked.append((method, scale))
        return pool.points[pool.points["method"] == method].assign(scale=scale)

    first = table(pool)
    first["scale"] = 7.0  # the copy's owner may change it
    assert table(pool, "ours", scale=1.0)["scale"].tolist() == [1.0, 1.0]
    assert asked == [("ours", 1.0)]
    assert table(pool, "ai")["method"].tolist() == ["ai"]
    assert table(pool, scale=2.0)["scale"].tolist() == [2.0, 2.0]
    fewer = dataclasses.replace(pool, points=pool.points.iloc[:1])
    assert len(table(fewer)) == 1
    assert len(asked) == 4
    assert table.__doc__ == "Its text."
