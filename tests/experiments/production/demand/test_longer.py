"""Longer series, other roles of the quarters, and what is said of a series when it is read."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

from experiments.production.demand.described import far_out, moved, shares
from experiments.production.demand.quality import longest_run, oddities
from experiments.production.demand.quarters import LEFT_OUT, check_order, periods, roles
from experiments.production.demand.sources import Quarter, load_eia, synthetic
from safeframe.types import SafeframeError

NAMES = ["north", "south", "east", "west"]
WINDOW = {"lookback": 24, "lead": 24, "hours_per_quarter": 100}


def table(hours, seed=0):
    rng = np.random.default_rng(seed)
    times = pd.date_range("2016-01-01", periods=hours, freq="h").astype(str)
    return pd.DataFrame({"utc_hour": times} | {name: rng.uniform(100, 900, hours) for name in NAMES})


def read(place, frame, **settings):
    frame.to_csv(place / "demand.csv", index=False)
    return load_eia(place / "demand.csv", NAMES, **WINDOW, **settings)


def test_periods_and_roles_by_hand():
    found = periods(20, 2, 1, 3, (0, 0, 1, LEFT_OUT, 3, 2))
    assert found.tolist() == [-1, -1, *np.repeat(range(6), 3).tolist()]
    assert roles(found, (0, 0, 1, -1, 3, 2)).tolist() == [-1, -1, *np.repeat([0, 0, 1, -1, 3, 2], 3).tolist()]
    assert roles(periods(22, 2, 1, 3, (0, 1, 2, 3)), (0, 1, 2, 3)).tolist()[-9:] == [3, *[-1] * 8]


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 1, 2, 2), (0, 1, 2, 3, 4), (0, 1, 2, 3, -2), ()])
def test_an_order_without_every_role_is_refused(order):
    with pytest.raises(
        SafeframeError, match=r"must hold each of 0, 1, 2, 3 once or more.* and -1 for a quarter"
    ):
        check_order(order)


def test_more_years_than_four(tmp_path):
    """Two years of training, one left out: the cases are those of a file cut by hand."""
    frame = table(647)
    order = (0, 0, -1, 1, 3, 2)
    data = read(tmp_path, frame, order=order)
    assert np.bincount(data.quarter).tolist() == [200, 100, 100, 100]
    assert np.bincount(data.period, minlength=6).tolist() == [100, 100, 0, 100, 100, 100]
    assert data.starts == tuple(str(t)[:10] for t in frame["utc_hour"][47::100])
    raw = frame[NAMES].to_numpy()
    low, high = raw[47:247].min(axis=0), raw[47:247].max(axis=0)  # both training quarters set the scale
    np.testing.assert_allclose(data.series, np.clip((raw - low) / (high - low) * 10, 0, 10), rtol=1e-5)
    known = data.by_period(Quarter.TRAINING, Quarter.INTERNAL_TEST_TRAINING, Quarter.INTERNAL_TEST_VALIDATION)
    assert [int(data.target_hour[index[0]]) for index in known] == [47, 147, 347, 447]
    assert (data.target_hour[data.quarter == Quarter.VALIDATION] == np.arange(547, 647)).all()
    assert (data.target_hour[data.quarter == Quarter.INTERNAL_TEST_TRAINING] == np.arange(347, 447)).all()
    with pytest.raises(SafeframeError, match=r"the series have 599; 600 are needed \(6 quarters of 100\)"):
        read(tmp_path, frame[:599], order=order)


def test_four_quarters_of_a_longer_file_are_those_of_its_beginning(tmp_path):
    frame = table(900)
    data, first = read(tmp_path, frame), read(tmp_path, frame[:447])
    np.testing.assert_array_equal(data.measurement, first.measurement)
    np.testing.assert_array_equal(data.quarter, first.quarter)
    assert "the last 453 hours lie after the last quarter and are not used" in data.notes


def test_synthetic_demand_has_as_many_quarters_as_roles():
    data = synthetic(3, hours_per_quarter=300, order=(0, -1, 1, 0, 3, 2))
    assert np.bincount(data.quarter).tolist() == [600, 300, 300, 300]
    assert len(data.starts) == 6


def test_the_prior_of_every_quarter_is_told_and_what_it_was_calibrated_on(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    data = read(tmp_path, table(447), order=(0, 1, 3, 2))
    share = shares(data)
    np.testing.assert_allclose(share[3], data.unsafe[data.quarter == Quarter.VALIDATION].mean(axis=0))
    odds = (share[3] / (1 - share[3])) / (share[2] / (1 - share[2]))
    told = moved(data)
    assert len(told) == 5
    assert f"{data.starts[3]}, validation: north {share[3, 0]:.3f} (x {odds[0]:.2f})" in told[4]
    assert told[3].count("(x 1.00)") == 4  # the quarter calibrated on
    for text in ("0 to 10 is north", "hours clipped to [0, 10]", "validation: north"):
        assert text in caplog.text


def test_a_change_of_unit_is_told(tmp_path, caplog):
    frame = table(447)
    frame.loc[300:, "west"] /= 1000
    data = read(tmp_path, frame)
    (text,) = [text for text in far_out(data) if "internal test for validation" in text]
    assert text.startswith("west: 100% of the hours of internal test for validation lie below the range")
    assert any("west" in record.message for record in caplog.records if record.levelname == "WARNING")


def test_oddities_by_hand():
    hour, training = np.arange(4000) + 420768, np.arange(4000) < 2000  # 2018-01-01
    good = 500 + 100 * np.sin(np.arange(4000) / 4)
    assert oddities(good[:, None], hour, ["a"], training) == []
    spike, dip, flat = good.copy(), good.copy(), good.copy()
    spike[100], dip[48], flat[24:64] = 5000, 40, 500
    late = good.copy()
    late[3000] = 5000  # outside of training it is clipped and no more
    (first,) = oddities(spike[:, None], hour, ["a"], training)
    assert first.startswith("a: the largest demand, 5000 at 2018-01-05 04:00, is 8.3 times")
    (second,) = oddities(dip[:, None], hour, ["a"], training)
    assert second.startswith("a: the smallest demand, 40 at 2018-01-03 00:00, is 0.10 times")
    (third,) = oddities(flat[:, None], hour, ["a"], training)
    assert third == "a: 40 equal hours in a row from 2018-01-02 00:00: were they filled in?"
    assert oddities(late[:, None], hour, ["a"], training) == []
    assert longest_run(np.array([1, 1, 2, 2, 2, 3])) == (2, 3)
    assert longest_run(np.array([7.0])) == (0, 1)
