"""The benchmark of the core runs, checks its naive forms against the fast ones, and writes its table."""

import sys

import pandas as pd
import pytest

from benchmarks import bench_core


def test_small_benchmark_writes_a_table(tmp_path, monkeypatch, capsys):
    table = tmp_path / "tables" / "bench.csv"
    sizes = ["--cases", "20000", "--rows", "1000", "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", ["bench_core.py", *sizes, "--no-claims", "--table", str(table)])
    bench_core.main()
    rows = pd.read_csv(table)
    assert (rows["seconds"] > 0).all()
    naive = rows["what"].str.startswith("naive")
    assert naive.sum() == 3
    assert (rows.loc[naive, "times_slower"] > 1).all()
    assert "written to" in capsys.readouterr().out


def test_claims_are_refused_for_other_sizes(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench_core.py", "--cases", "1000"])
    with pytest.raises(SystemExit):
        bench_core.main()
    assert "--no-claims" in capsys.readouterr().err
