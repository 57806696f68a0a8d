"""What every benchmark shares: ratios with their extremes, one table, one row a claim."""

from __future__ import annotations

import time

import pandas as pd
import pytest

from experiments.support.bench import TABLES, Bench, Spread, quotient, spread, timed
from experiments.support.results import claims


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setenv("SAFEFRAME_CLAIMS", str(tmp_path / "claims.csv"))
    return Bench("bench_some", "One line\nand its rest.\n\nMore.", experiment="core", data="random numbers")


def test_ratios_hold_the_extremes_of_all_pairs():
    slow, fast = spread([6.0, 8.0, 7.0]), spread([1.0, 2.0])
    assert slow == Spread(7.0, 6.0, 8.0)
    assert quotient(slow, fast) == Spread(7.0 / 1.5, 6.0 / 2.0, 8.0 / 1.0)
    assert quotient(12.0, fast) == Spread(8.0, 6.0, 12.0)  # what was measured once


def test_time_of_the_process_is_not_that_of_the_wall():
    asleep, result = timed(lambda: time.sleep(0.2) or "done")
    assert result == "done"
    assert asleep < 0.1 < timed(lambda: time.sleep(0.2), time.perf_counter)[0]


def test_table_is_written_where_asked_and_shown(bench, tmp_path, capsys):
    bench.parse([])
    assert bench.table == TABLES / "bench_some.csv"
    path = tmp_path / "new" / "table.csv"
    bench.parse(["--table", str(path)])
    bench.write(pd.DataFrame({"n": [3], "seconds": [1 / 3]}))
    assert path.read_text() == "n,seconds\n3,0.3333\n"
    bench.show(pd.read_csv(path))
    assert f"written to {path}" in capsys.readouterr().out


def test_claims_carry_what_the_benchmark_says_of_all(bench):
    bench.parse(["--dirty"])
    bench.claim("core.some_seconds", Spread(2.0, 1.0, 3.0), 7, seeds=[2])
    bench.claim("core.other", 4.0, 5, data="others")
    rows = claims.read().set_index("claim")
    assert rows.loc["core.some_seconds", ["value", "low", "high", "n"]].tolist() == [2.0, 1.0, 3.0, 7]
    assert rows["seeds"].tolist() == ["0", "2"]
    assert rows["data"].tolist() == ["others", "random numbers"]
    assert rows[["low", "high"]].loc["core.other"].isna().all()
    assert set(rows["command"]) == {"python benchmarks/bench_some.py"}
    assert set(rows["preset"]) == {"bench"}


def test_no_claims_and_bad_claims(bench):
    bench.parse(["--no-claims"])
    bench.claim("core.some_seconds", 2.0, 1)
    assert claims.read().empty
    bench.parse(["--dirty"])
    with pytest.raises(SystemExit, match="error: claim 'Some' must be dotted"):
        bench.claim("Some", 2.0, 1)


def test_a_tree_with_changes_is_refused_before_anything_is_measured(bench, monkeypatch, capsys):
    monkeypatch.setattr(claims, "here", lambda: "0123456789ab+")
    bench.parse([])
    with pytest.raises(SystemExit):
        bench.require_commit()
    assert "no commit (0123456789ab+)" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"error: claim core\.some_seconds: the code that measured it"):
        bench.claim("core.some_seconds", 2.0, 1)
    for asked in ("--dirty", "--no-claims"):
        bench.parse([asked])
        bench.require_commit()


def test_the_commit_is_that_before_the_table_was_written(bench, monkeypatch):
    monkeypatch.setattr(claims, "here", lambda: "0123456789ab")
    bench.parse([])
    monkeypatch.setattr(claims, "here", lambda: "0123456789ab+")
    bench.require_commit()
    bench.claim("core.some_seconds", 2.0, 1)
    assert claims.read()["commit"].tolist() == ["0123456789ab"]


def test_help_tells_what_is_measured(bench, capsys):
    with pytest.raises(SystemExit):
        bench.parse(["--help"])
    assert "One line and its rest." in capsys.readouterr().out
