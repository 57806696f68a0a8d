"""Demand files as people have them: packed, parquet, with zones, other units, in long form, in local time."""

from __future__ import annotations

import gzip
import lzma
import zipfile

import numpy as np
import pandas as pd
import pytest

from experiments.production.demand.sources import load_eia
from safeframe.types import SafeframeError

NAMES = ["north", "south", "east", "west"]
SMALL = {"hours_per_quarter": 100}
HOURS = 447
TIMES = pd.date_range("2021-03-01", periods=HOURS, freq="h")


def table(times=None) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    data = {"utc_hour": (TIMES if times is None else times).astype(str)}
    data |= {name: (100 * (i + 1) + 50 * rng.beta(2, 3, HOURS)).round(2) for i, name in enumerate(NAMES)}
    return pd.DataFrame(data)


def write(place, frame, name="demand.csv"):
    frame.to_csv(place / name, index=False)
    return place / name


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return load_eia(write(tmp_path_factory.mktemp("plain"), table()), NAMES, **SMALL)


def same(data, other) -> None:
    np.testing.assert_array_equal(data.series, other.series)
    np.testing.assert_array_equal(data.calendar, other.calendar)
    assert data.starts == other.starts


@pytest.mark.parametrize("end", ["csv.xz", "zip", "csv.zip", "CSV", "csv.gz"])
def test_packed_files_read_like_the_plain_one(tmp_path, plain, end):
    text = table().to_csv(index=False).encode()
    path = tmp_path / f"demand.{end}"
    if end.endswith("zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("folder/demand.csv", text)
            archive.writestr("__MACOSX/._demand.csv", b"no table")
    else:
        pack = {"csv.xz": lzma.compress, "csv.gz": gzip.compress}.get(end, bytes)
        path.write_bytes(pack(text))
    same(load_eia(path, NAMES, **SMALL), plain)


@pytest.mark.parametrize("zone", [None, "UTC", "America/Los_Angeles"])
@pytest.mark.parametrize("indexed", [False, True])
def test_parquet_with_times_as_times(tmp_path, plain, zone, indexed):
    times = TIMES if zone is None else TIMES.tz_localize("UTC").tz_convert(zone)
    frame = table().assign(utc_hour=times)
    path = tmp_path / "demand.parquet"
    (frame.set_index("utc_hour") if indexed else frame).to_parquet(path)
    same(load_eia(path, NAMES, **SMALL), plain)


def test_parquet_says_the_row_and_stops_at_what_is_missing(tmp_path):
    frame = table()
    frame.loc[20, "south"] = np.nan
    path = tmp_path / "demand.parquet"
    frame.to_parquet(path)
    with pytest.raises(SafeframeError, match=r"row 21 \(2021-03-01 20:00:00\): south = '' is missing"):
        load_eia(path, NAMES, **SMALL)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(SafeframeError, match=r"demand\.parquet: cannot be read"):
        load_eia(path, NAMES, **SMALL)


@pytest.mark.parametrize(
    "times",
    [
        TIMES.strftime("%Y-%m-%dT%HZ"),
        TIMES.strftime("%Y-%m-%d %H:%M"),
        TIMES.strftime("%Y-%m-%dT%H:%M:%S+00:00"),
        (TIMES + pd.Timedelta(hours=5, minutes=30)).strftime("%Y-%m-%d %H:%M:%S+05:30"),
        TIMES.tz_localize("UTC").tz_convert("America/New_York").map(str),  # spring: the offset changes within
    ],
)
def test_times_with_a_zone_are_hours_in_utc(tmp_path, plain, times):
    same(load_eia(write(tmp_path, table(times)), NAMES, **SMALL), plain)


def test_order_of_columns_unit_byte_order_mark_blank_lines_and_an_index_change_nothing(tmp_path, plain):
    shuffled = table()[["west", "utc_hour", "north", "east", "south"]]
    same(load_eia(write(tmp_path, shuffled), NAMES, **SMALL), plain)
    gigawatt = table()
    gigawatt[NAMES] /= 1000
    found = load_eia(write(tmp_path, gigawatt), NAMES, **SMALL)
    np.testing.assert_allclose(found.series, plain.series, atol=1e-5)
    text = "\ufeff" + table().to_csv(index=False).replace("\n", "\r\n") + "\r\n\r\n"
    (tmp_path / "windows.csv").write_bytes(text.encode())
    same(load_eia(tmp_path / "windows.csv", NAMES, **SMALL), plain)
    table().to_csv(tmp_path / "indexed.csv")  # a first column without a name
    same(load_eia(tmp_path / "indexed.csv", **SMALL), plain)


@pytest.mark.parametrize(("mark", "called"), [(";", ";"), ("\t", "tabs"), ("|", r"\|")])
def test_a_file_that_is_separated_otherwise_names_what_separates_it(tmp_path, mark, called):
    table().to_csv(tmp_path / "demand.csv", index=False, sep=mark, decimal="," if mark == ";" else ".")
    with pytest.raises(
        SafeframeError, match=rf"column utc_hour is missing; the file seems to be separated by {called}:"
    ):
        load_eia(tmp_path / "demand.csv", NAMES, **SMALL)


def test_a_file_in_columns_of_blanks(tmp_path):
    times = TIMES.strftime("%Y-%m-%dT%H")
    table(times).to_csv(tmp_path / "demand.csv", index=False, sep=" ")
    with pytest.raises(SafeframeError, match="seems to be separated by blanks"):
        load_eia(tmp_path / "demand.csv", NAMES, **SMALL)


def changed(**columns):
    frame = table()
    for name, (row, value) in columns.items():
        frame[name] = frame[name].astype(object)
        frame.loc[row, name] = value
    return frame


WRONG = {
    "decimal comma": (
        changed(east=(3, "1896,5")),
        "east = '1896,5' is missing or no number: write 1896.5, with",
    ),
    "thousands": (changed(east=(3, "15,417")), "write 15417, without marks between thousands"),
    "any series": (changed(east=(3, "-5")), "data.columns", None),
    "repeated name": (
        table().rename(columns={"south": "north"}),
        r"column north is there more than once; give every column",
    ),
    "other name of the time": (
        table().rename(columns={"utc_hour": "date_time"}),
        "column utc_hour is missing; .*; if date_time holds the times in UTC, call it utc_hour",
    ),
    "long": (
        table().melt("utc_hour", var_name="region", value_name="MW"),
        r"hours repeat, and region seems to say whose demand a row is: .*index='utc_hour', columns='region', "
        "values='MW'",
    ),
    "long and sorted": (
        table().melt("utc_hour", var_name="region", value_name="MW").sort_values("utc_hour"),
        "one row per hour and one column per series",
    ),
    "local time in spring": (
        table(TIMES.tz_localize("UTC").tz_convert("America/New_York").tz_localize(None)),
        "hours missing: .*, 1 hours missing.*daylight saving, perhaps: give UTC",
    ),
    "local time in autumn": (
        table(
            (TIMES + pd.Timedelta(days=235)).tz_localize("UTC").tz_convert("Europe/Paris").tz_localize(None)
        ),
        "duplicated hour: .*daylight saving, perhaps",
    ),
    "quarter hours": (
        table(pd.date_range("2021-03-01", periods=HOURS, freq="15min")),
        "line 3: a step of 15 minutes: .*take means over each hour",
    ),
    "days": (table(pd.date_range("2021-03-01", periods=HOURS, freq="D")), "hourly demand is needed"),
    "newest first": (table(TIMES[::-1]), "time goes backwards: .*; sort the rows by time"),
    "half an hour's zone": (
        table(TIMES.strftime("%Y-%m-%d %H:%M:%S+05:30")),
        r"line 2: utc_hour = '2021-03-01 00:00:00\+05:30' is not a full hour in UTC",
    ),
    "many gaps": (
        table().drop(index=[*range(50, 60), 80, 90, 91]),
        r"line 52: hours missing: .*3 such place\(s\) in all, 13 hours missing\)",
    ),
    "three quarters": (
        table()[:300],
        "too few hours: the series have 300; .* quarters of 75 hours .* would fit",
    ),
}


@pytest.mark.parametrize("kind", list(WRONG))
def test_what_is_wrong_is_named_with_what_would_be_right(tmp_path, kind):
    frame, message, *columns = WRONG[kind]
    path = write(tmp_path, frame)
    chosen = None if columns or "long" in kind or "name" in kind else NAMES
    with pytest.raises(SafeframeError, match=message) as caught:
        load_eia(path, chosen, **SMALL)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_archives_that_cannot_be_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.csv", "x")
        archive.writestr("b.csv", "x")
    with pytest.raises(
        SafeframeError, match=r"two\.zip: one \.csv within is needed, it holds a\.csv, b\.csv"
    ):
        load_eia(tmp_path / "two.zip")
    packed = lzma.compress(table().to_csv(index=False).encode())
    for name, content in (
        ("cut.csv.xz", packed[: len(packed) // 2]),
        ("no.csv.xz", b"text"),
        ("no.zip", b"text"),
        ("empty.csv.gz", gzip.compress(b"")),
        ("nothing.csv", bytes(500)),
        ("utf16.csv", table().to_csv(index=False).encode("utf-16")),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SafeframeError, match=name):
            load_eia(tmp_path / name)


def test_names_that_differ_in_case_and_an_index_without_a_name(tmp_path):
    with pytest.raises(SafeframeError, match=r"columns missing: EAST; .*; is east meant\?"):
        load_eia(write(tmp_path, table()), ["north", "south", "EAST", "west"], **SMALL)
    frame = table().assign(utc_hour=TIMES).set_index("utc_hour").rename_axis(None)
    frame.to_parquet(tmp_path / "demand.parquet")
    with pytest.raises(SafeframeError, match="if index holds the times in UTC, call it utc_hour"):
        load_eia(tmp_path / "demand.parquet", NAMES, **SMALL)


def test_a_letter_of_another_alphabet_is_found_by_its_line(tmp_path):
    text = table().to_csv(index=False).encode() + "2021-04-01 00:00,\u00e9,1,2,3\n".encode("latin-1")
    (tmp_path / "latin.csv").write_bytes(text)
    with pytest.raises(SafeframeError, match=f"line {HOURS + 2} is no UTF-8 text"):
        load_eia(tmp_path / "latin.csv", NAMES, **SMALL)


def test_zero_demand_is_taken_and_said(tmp_path):
    frame = table()
    frame.loc[200:205, "south"] = 0.0
    data = load_eia(write(tmp_path, frame), NAMES, **SMALL)
    assert [text for text in data.oddities if "south" in text] == [
        "south: 6 hours with a demand of 0, the first 2021-03-09 08:00: are these missing values?"
    ]
