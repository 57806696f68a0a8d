"""The ledger of claims and its comparison with the paper."""

from __future__ import annotations

import math
import multiprocessing
import re

import pytest

from experiments.support.errors import ResultsError
from experiments.support.files import REPOSITORY
from experiments.support.results import claims
from scripts import compare

OPTIONS = {"experiment": "production", "n": 100, "preset": "laptop", "data": "synthetic"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "claims.csv"


def test_a_row_is_replaced_by_the_same_claim_preset_and_data(path):
    claims.record("a.b", 1.0, **OPTIONS, seeds=range(5), low=0.5, high=2.0, path=path)
    claims.record("a.b", 2.0, **OPTIONS, path=path)
    claims.record("a.b", 3.0, **OPTIONS | {"data": "eia"}, path=path)
    claims.record("a.a", 4.0, **OPTIONS, path=path)
    frame = claims.read(path)
    assert tuple(frame.columns) == claims.COLUMNS
    assert frame[["claim", "data", "value"]].to_numpy().tolist() == [
        ["a.a", "synthetic", 4.0],
        ["a.b", "eia", 3.0],
        ["a.b", "synthetic", 2.0],
    ]
    assert frame["command"].str.startswith("python ").all()
    assert frame["low"].isna().all()


def test_claims_recorded_together_are_those_recorded_one_by_one(path, tmp_path):
    other = tmp_path / "other.csv"
    rows = [("b.c", 1.0), ("a.b", 2.0), ("b.c", 3.0), ("a.c", 4.0)]
    for name, value in rows:
        claims.record(name, value, **OPTIONS, path=path)
    claims.record("a.b", 0.0, **OPTIONS, path=other)
    with claims.together(), claims.together():  # one within another is no other
        for name, value in rows:
            claims.record(name, value, **OPTIONS, path=other)
        assert len(claims.read(other)) == 1
    assert other.read_bytes() == path.read_bytes()


def test_an_error_leaves_the_claims_before_it(path):
    def measure():
        with claims.together():
            claims.record("a.b", 1.0, **OPTIONS, path=path)
            claims.record("a.c", math.nan, **OPTIONS, path=path)

    with pytest.raises(ResultsError, match="not a number"):
        measure()
    assert claims.read(path)["claim"].tolist() == ["a.b"]
    claims.record("a.d", 1.0, **OPTIONS, path=path)
    assert len(claims.read(path)) == 2


def test_interval_seeds_and_command_are_kept(path):
    claims.record(
        "a.b", 0.1 + 0.2, **OPTIONS, seeds=[3, 1, 2], low=0, high=1, command="make figure-2", path=path
    )
    row = claims.read(path).iloc[0]
    # the last bits of 0.1 + 0.2 are not kept
    assert (row["value"], row["low"], row["high"]) == (0.3, 0.0, 1.0)
    assert (row["seeds"], row["command"]) == ("1-3", "make figure-2")
    assert claims.shown_seeds([0, 5]) == "0 5"
    assert claims.shown_seeds([]) == ""


@pytest.mark.parametrize(
    ("claim", "value", "options", "message"),
    [
        ("Production", 1.0, {}, "dotted lower case"),
        ("production", 1.0, {}, "dotted lower case"),
        ("a.b", math.nan, {}, "not a number"),
        ("a.b", 1.0, {"n": -1}, "n=-1"),
        ("a.b", 1.0, {"low": 0.5}, "together"),
        ("a.b", 1.0, {"low": 1.5, "high": 2.0}, "low ≤ value ≤ high"),
    ],
)
def test_bad_claims_are_refused_and_nothing_is_written(path, claim, value, options, message):
    with pytest.raises(ResultsError, match=message):
        claims.record(claim, value, **OPTIONS | options, path=path)
    assert not path.exists()


@pytest.mark.parametrize(
    "text", ["claim,value\na.b,1\n", "", "x\n\0", ",".join(claims.COLUMNS) + "\na.b,e,much,,,1,,,,,\n"]
)
def test_a_file_that_is_no_ledger_is_refused_and_left_alone(path, text):
    path.write_text(text)
    with pytest.raises(ResultsError, match="is not a ledger of claims"):
        claims.record("a.b", 1.0, **OPTIONS, path=path)
    assert path.read_text() == text


@pytest.mark.parametrize("commit", ["0123456789ab+", "unknown"])
def test_a_claim_from_a_dirty_tree_is_refused_unless_asked(path, commit):
    with pytest.raises(
        ResultsError, match=f"a.b: the code that measured it is no commit .{re.escape(commit)}"
    ):
        claims.record("a.b", 1.0, **OPTIONS, commit=commit, path=path)
    assert not path.exists()
    claims.record("a.b", 1.0, **OPTIONS, commit=commit, dirty=True, path=path)
    assert claims.read(path)["commit"].tolist() == [commit]


def test_the_commit_is_that_of_the_run_that_measured(path):
    claims.record("a.b", 1.0, **OPTIONS, commit="0123456789ab", path=path)
    claims.record("a.c", 1.0, **OPTIONS, path=path)
    assert claims.read(path)["commit"].tolist() == ["0123456789ab", claims.here()]


def _record(path, index):
    claims.record(f"a.c{index}", float(index), **OPTIONS, commit="c" * 12, path=path)


def test_many_processes_may_record_at_once(path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_record, args=(path, index)) for index in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert list(claims.read(path)["value"]) == [0.0, 1.0, 2.0]


def test_compare_prints_what_the_paper_states_beside_ours(path, monkeypatch, capsys):
    monkeypatch.setenv("SAFEFRAME_CLAIMS", str(path))
    claims.record("production.times_safer.two_stage", 5.09, **OPTIONS, low=4.09, high=7.0)
    claims.record("production.violation_over_threshold_max", 0.9, **OPTIONS, low=0.8, high=1.1)
    claims.record("core.curve_1e7_seconds", 1.5, **OPTIONS)
    assert compare.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    (safer,) = [line for line in lines if "times_safer.two_stage" in line]
    assert "5 [4, 7]" in safer  # ratios are rounded down
    assert "up to 28" in safer
    (largest,) = [line for line in lines if "production.violation_over_threshold_max" in line]
    assert "0.9 [0.8, 1.1], not seen to break" in largest
    assert not [line for line in lines if "core.curve" in line]
    assert any("safetygym.*.times_safer.ppo_lag" in line and "not measured" in line for line in lines)
    assert len({len(line) for line in lines}) == 1
    assert compare.main(["llm"]) == 0
    assert "production" not in capsys.readouterr().out


def test_compare_prints_the_ledger_when_asked(path, monkeypatch, capsys):
    monkeypatch.setenv("SAFEFRAME_CLAIMS", str(path))
    claims.record("core.curve_1e7_seconds", 1.5, **OPTIONS)
    assert compare.main(["--all"]) == 0
    (core,) = [line for line in capsys.readouterr().out.splitlines() if "core.curve" in line]
    assert "not stated" in core
    assert "c" * 12 in core  # the commit that measured
    assert compare.main(["production", "--all"]) == 0
    assert "core" not in capsys.readouterr().out


def test_compare_says_when_the_ledger_is_broken(path, monkeypatch, capsys):
    monkeypatch.setenv("SAFEFRAME_CLAIMS", str(path))
    path.write_text("nonsense\n1\n")
    assert compare.main([]) == 1
    assert "is not a ledger" in capsys.readouterr().err


def test_the_committed_ledger_is_valid():
    frame = claims.read(REPOSITORY / "results" / "claims.csv")
    assert not frame.duplicated(list(claims.KEY)).any()
    assert frame["claim"].map(lambda name: bool(claims.NAME.fullmatch(name))).all()
