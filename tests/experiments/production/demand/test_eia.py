"""Demand files: reading, choosing, scaling, clipping, and every way in which a file can be wrong."""

import gzip
import os

import numpy as np
import pandas as pd
import pytest

from experiments.production.demand.sources import UNSAFE_BELOW, Quarter, load_eia, truth_probability
from safeframe.types import SafeframeError

NAMES = ["north", "south", "east", "west", "far"]
SMALL = {"hours_per_quarter": 100}
HOURS = 4 * 100 + 24  # as many hours too few for a full history as the real file has


def table(hours=HOURS, seed=0, columns=NAMES):
    """Whole MW in a range of its own per series; the share of low hours falls from first to last column."""
    rng = np.random.default_rng(seed)
    data = {"utc_hour": pd.date_range("2021-01-01", periods=hours, freq="h").strftime("%Y-%m-%d %H:%M:%S")}
    for i, name in enumerate(columns):
        data[name] = (100 * (i + 1) + 50 * rng.beta(2 + i, 3, hours)).round().astype(int).astype(str)
    return pd.DataFrame(data)


def write(tmp_path, frame, name="demand.csv"):
    path = tmp_path / name
    frame.to_csv(path, index=False)
    return path


def test_reads_csv_and_gzip_alike_and_chooses_four(tmp_path):
    frame = table()
    plain = load_eia(write(tmp_path, frame), **SMALL)
    packed = load_eia(write(tmp_path, frame, "demand.csv.gz"), **SMALL)
    np.testing.assert_array_equal(plain.series, packed.series)
    assert plain.names == tuple(NAMES[:4])  # the last has the smallest share of low hours
    assert any("left out: far" in note for note in plain.notes)
    assert any("first 23 target hours" in note for note in plain.notes)
    assert np.bincount(plain.quarter).tolist() == [77, 100, 100, 100]


def test_chosen_columns_keep_their_order(tmp_path):
    frame = table()
    data = load_eia(write(tmp_path, frame), ["far", "east", "north", "south"], **SMALL)
    assert data.names == ("far", "east", "north", "south")
    raw = frame["far"].to_numpy(dtype=float)
    low, high = raw[24:124].min(), raw[24:124].max()
    np.testing.assert_allclose(data.series[:, 0], np.clip((raw - low) / (high - low) * 10, 0, 10), rtol=1e-5)


def test_clipping_is_reported(tmp_path):
    frame = table()
    frame.loc[300:304, "north"] = "999"
    data = load_eia(write(tmp_path, frame), NAMES[:4], **SMALL)
    north = frame["north"].to_numpy(dtype=float)
    low, high = north[24:124].min(), north[24:124].max()  # the training quarter
    assert data.clip.above[Quarter.VALIDATION, 0] == pytest.approx((north[224:324] > high).mean())
    assert data.clip.above[Quarter.VALIDATION, 0] >= 0.05
    assert data.clip.share[0] == pytest.approx(((north < low) | (north > high)).mean())
    assert (data.clip.minimum[0], data.clip.maximum[0]) == (low, high)
    assert data.clip.per_quarter[Quarter.TRAINING].sum() == 0
    assert "north" in str(data.clip)
    assert data.series.max() == 10


def broken(change):
    def make():
        frame = table()
        frame = change(frame)
        return table() if frame is None else frame

    return make


def put(column, row, value):
    def change(frame):
        frame.loc[row, column] = value
        return frame

    return change


BROKEN = {
    "column missing": (lambda f: f.drop(columns="east"), r"columns missing: east; the file has utc_hour, n"),
    "no time": (lambda f: f.drop(columns="utc_hour"), "column utc_hour is missing; the file has north"),
    "gap": (
        lambda f: f.drop(index=[50, 51]),
        "line 52: hours missing: 2021-01-03 04:00:00 follows 2021-01-03 01",
    ),
    "duplicate": (lambda f: f.loc[[*range(10), *range(9, HOURS)]], "line 12: duplicated hour: 2021-01-01 09"),
    "backwards": (lambda f: f.iloc[::-1], "line 3: time goes backwards"),
    "bad time": (put("utc_hour", 7, "soon"), "line 9: utc_hour = 'soon' is no time"),
    "half hours": (
        lambda f: f.assign(utc_hour=f.utc_hour.str.replace(":00:00", ":30:00")),
        "not a full hour",
    ),
    "empty cell": (put("south", 20, ""), r"line 22 \(2021-01-01 20:00:00\): south = '' is missing"),
    "NaN": (put("south", 20, "NaN"), "line 22 .* south = 'NaN' is missing or no number"),
    "text": (put("west", 0, "12 MW"), "line 2 .* west = '12 MW' is missing or no number"),
    "infinite": (put("west", 0, "inf"), "west = 'inf' is infinite"),
    "negative": (put("north", 3, "-1"), "line 5 .* north = '-1' is negative"),
    "constant": (lambda f: f.assign(north="7"), "series north constant in the training quarter"),
    "too few": (lambda f: f[:399], r"too few hours: the series have 399; 400 are needed .* 447 for every"),
    "no rows": (lambda f: f[:0], "too few hours: the series have 0"),
}


@pytest.mark.parametrize("kind", list(BROKEN))
@pytest.mark.parametrize("name", ["demand.csv", "demand.csv.gz"])
def test_wrong_files(tmp_path, kind, name):
    change, message = BROKEN[kind]
    path = write(tmp_path, change(table()), name)
    with pytest.raises(SafeframeError, match=message) as caught:
        load_eia(path, NAMES[:4], **SMALL)
    assert isinstance(caught.value, ValueError)
    if kind != "too few" and kind != "no rows":
        assert str(path) in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == [name]  # nothing is written beside the file


def test_a_bad_value_in_a_series_that_is_not_used_does_not_matter(tmp_path):
    path = write(tmp_path, put("far", 5, "-3")(table()))
    assert len(load_eia(path, NAMES[:4], **SMALL)) == 377
    with pytest.raises(SafeframeError, match="far = '-3' is negative"):
        load_eia(path, **SMALL)


def test_wrong_columns_asked_for(tmp_path):
    path = write(tmp_path, table())
    for columns in (NAMES[:3], NAMES, ["north", "north", "east", "west"], "north"):
        with pytest.raises(SafeframeError, match="4 different series"):
            load_eia(path, columns, **SMALL)
    with pytest.raises(SafeframeError, match="4 series are needed"):
        load_eia(write(tmp_path, table(columns=NAMES[:3]), "three.csv"), **SMALL)


def test_files_that_are_no_csv(tmp_path):
    with pytest.raises(SafeframeError, match="no such file"):
        load_eia(tmp_path / "absent.csv")
    with pytest.raises(SafeframeError, match="no such file"):
        load_eia(tmp_path)
    (tmp_path / "demand.xlsx").write_bytes(b"PK")
    with pytest.raises(
        SafeframeError, match=r"only \.csv, .* or \.parquet can be read; save the table as one"
    ):
        load_eia(tmp_path / "demand.xlsx")
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(SafeframeError, match="is empty"):
        load_eia(tmp_path / "empty.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x81" * 100)
    with pytest.raises(SafeframeError, match=r"binary\.csv"):
        load_eia(tmp_path / "binary.csv")
    (tmp_path / "ragged.csv").write_text(
        "utc_hour,a,b,c,d\n2021-01-01 00:00,1,2,3,4\n2021-01-01 01:00,1,2,3,4,5,6\n"
    )
    with pytest.raises(SafeframeError, match="not a readable CSV"):
        load_eia(tmp_path / "ragged.csv")
    (tmp_path / "wide.csv").write_text("utc_hour,a,b,c,d\n2021-01-01 00:00,1,2,3,4,5\n")
    with pytest.raises(SafeframeError, match="more cells than the header"):
        load_eia(tmp_path / "wide.csv")
    (tmp_path / "short.csv").write_text("utc_hour,a,b,c,d\n2021-01-01 00:00,1,2,3\n")
    with pytest.raises(SafeframeError, match=r"d = .* is missing"):
        load_eia(tmp_path / "short.csv")
    whole = gzip.compress(table().to_csv(index=False).encode())
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SafeframeError, match="damaged or cut off"):
        load_eia(tmp_path / "cut.csv.gz")
    (tmp_path / "plain.csv.gz").write_text("utc_hour,a,b,c,d\n")
    with pytest.raises(SafeframeError, match="damaged or cut off"):
        load_eia(tmp_path / "plain.csv.gz")


@pytest.mark.real_data
def test_real_file():
    path = os.environ.get("SAFEFRAME_EIA_CSV")
    if not path:
        pytest.skip(
            "SAFEFRAME_EIA_CSV is not set: it names the hourly demand file, which is not in the repository"
        )
    data = load_eia(path)
    assert data.names == ("CISO-SDGE", "PJM-PL", "PJM-PN", "PJM-AEP")
    assert np.bincount(data.quarter).tolist() == [8737, 8760, 8760, 8760]
    np.testing.assert_allclose(data.series[:, 0].min(), 0)
    training = data.demand[data.where(Quarter.TRAINING)]
    np.testing.assert_allclose(
        (training < UNSAFE_BELOW).mean(axis=0), [0.139, 0.157, 0.242, 0.346], atol=0.001
    )
    assert (data.clip.share < 0.006).all()
    assert data.clip.per_quarter[Quarter.TRAINING].sum() == 0


def test_order_changes_the_roles_and_the_quarter_that_scales(tmp_path):
    path = write(tmp_path, table())
    data = load_eia(path, NAMES[:4], order=(3, 2, 1, 0), **SMALL)
    assert [int(data.quarter[0]), int(data.quarter[-1])] == [3, 0]
    training = data.demand[data.where(Quarter.TRAINING)]
    assert (training.min(axis=0) == 0).all()
    assert (training.max(axis=0) == 10).all()
    assert data.clip.per_quarter[Quarter.TRAINING].sum() == 0
    with pytest.raises(SafeframeError, match=r"order = \[0, 1, 1, 2\]"):
        load_eia(path, NAMES[:4], order=(0, 1, 1, 2), **SMALL)


def test_truth_is_refused_for_real_data(tmp_path):
    data = load_eia(write(tmp_path, table()), **SMALL)
    with pytest.raises(SafeframeError, match=r"law of eia:demand\.csv is not known"):
        truth_probability(data)


def test_later_years_of_a_longer_file_take_the_four_roles(tmp_path):
    frame = table(hours=724)
    data = load_eia(write(tmp_path, frame), NAMES[:4], skip_quarters=2, **SMALL)
    alone = load_eia(write(tmp_path, frame.iloc[200:], "later.csv"), NAMES[:4], **SMALL)
    np.testing.assert_array_equal(data.series, alone.series)
    np.testing.assert_array_equal(data.quarter, alone.quarter)
    np.testing.assert_array_equal(data.calendar, alone.calendar)
    with pytest.raises(SafeframeError, match="without its first 4 quarters of 100 hours fewer than four"):
        load_eia(write(tmp_path, frame), NAMES[:4], skip_quarters=4, **SMALL)
