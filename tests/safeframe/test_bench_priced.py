"""The benchmark of prices runs, compares its answers with brute force, and writes its table."""

import sys

import pandas as pd
import pytest

from benchmarks import bench_priced


def test_small_benchmark_writes_a_table(tmp_path, monkeypatch, capsys):
    table = tmp_path / "tables" / "bench.csv"
    sizes = ["--measurements", "3000", "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", ["bench.py", *sizes, "--no-claims", "--table", str(table)])
    bench_priced.main()
    rows = pd.read_csv(table)
    assert (rows["seconds"] > 0).all()
    naive = rows[rows["what"].str.startswith("naive")]
    assert (naive["times_slower"] > 10).all()
    assert "written to" in capsys.readouterr().out


def test_claims_are_refused_for_other_sizes(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench_priced.py", "--measurements", "1000"])
    with pytest.raises(SystemExit):
        bench_priced.main()
    assert "--no-claims" in capsys.readouterr().err
