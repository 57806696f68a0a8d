"""The tidy schema of results refuses what does not fit it, with the row and the column."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from experiments.support.errors import ResultsError
from experiments.support.results import frames

GOOD = {
    "experiment": "e",
    "method": "m",
    "seed": 0,
    "r_t": 1e-3,
    "n_t": 100,
    "xi": 0.5,
    "metric": "violation",
    "value": 0.25,
    "n": 4,
    "low": 0.1,
    "high": 0.5,
    "interval": "Clopper-Pearson 95%",
}


def test_a_good_row_and_its_defaults():
    frame = frames.tidy([GOOD])
    assert list(frame.columns) == [*frames.COLUMNS, *frames.OPTIONAL]
    short = frames.tidy([{"method": "m", "metric": "x", "value": 1, "n": 1}], experiment="e", seed=2)
    assert short.loc[0, "seed"] == 2
    assert math.isnan(short.loc[0, "r_t"])
    assert short.loc[0, "interval"] == ""
    assert short["n_t"].isna().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"r_t": 0.0}, r"r_t must lie in \(0, 1\]"),
        ({"r_t": 1.5}, r"r_t must lie in \(0, 1\]"),
        ({"method": ""}, "method must not be empty"),
        ({"metric": None}, "metric must not be empty"),
        ({"seed": -1}, "seed must be"),
        ({"seed": 0.5}, "column seed must hold Int64"),
        ({"n": None}, "n must be"),
        ({"n": -4}, "n must be"),
        ({"n_t": -1}, "n_t must be"),
        ({"xi": -0.5}, "xi must be at least 0"),
        ({"value": "high"}, "column value must hold float64"),
        ({"value": math.inf}, "value must be finite"),
        ({"value": math.nan, "low": None, "high": None}, "NaN only where n = 0"),
        ({"low": None}, "low and high must be given together"),
        ({"low": 0.3}, "low ≤ value ≤ high"),
        ({"high": 0.2}, "low ≤ value ≤ high"),
        ({"interval": ""}, "an interval must be named"),
        ({"knobs": 1.0}, r"unknown columns \['knobs'\]; allowed: experiment"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(ResultsError, match=message):
        frames.tidy([GOOD | change])


def test_missing_columns_and_repeated_rows():
    with pytest.raises(ResultsError, match=r"missing columns \['method'"):
        frames.tidy([{"experiment": "e", "seed": 0, "metric": "x", "value": 1.0, "n": 1}])
    with pytest.raises(ResultsError, match=r"rows must differ .* row \(1\)"):
        frames.tidy([GOOD, GOOD | {"value": 0.3}])
    assert len(frames.tidy([GOOD, GOOD | {"knob": 0.3}])) == 2


def test_nothing_measured_is_nan_with_n_of_zero():
    frame = frames.tidy([GOOD | {"value": math.nan, "n": 0, "low": None, "high": None, "interval": None}])
    assert math.isnan(frame.loc[0, "value"])


def test_csv_and_parquet_hold_the_same_numbers(tmp_path):
    rows = [
        GOOD | {"metric": f"m{i}", "value": value, "low": value, "high": value}
        for i, value in enumerate(np.random.default_rng(0).random(50))
    ]
    frame = frames.tidy(rows)
    frames.write(frame, tmp_path)
    pd.testing.assert_frame_equal(frames.tidy(pd.read_csv(tmp_path / "results.csv")), frame)
    pd.testing.assert_frame_equal(frames.tidy(pd.read_parquet(tmp_path / "results.parquet")), frame)
    first = (tmp_path / "results.parquet").read_bytes()
    frames.write(frame, tmp_path)
    assert (tmp_path / "results.parquet").read_bytes() == first
