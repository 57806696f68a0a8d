"""The benchmark of large curves runs, compares its answers with those of one curve, and writes its table."""

import sys

import numpy as np
import pandas as pd
import pytest

from benchmarks import bench_large_curve


def test_small_benchmark_writes_a_table(tmp_path, monkeypatch, capsys):
    table = tmp_path / "tables" / "bench.csv"
    sizes = ["--cases", "20000", "--shard-cases", "1600000", "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", ["bench.py", *sizes, "--no-claims", "--table", str(table)])
    bench_large_curve.main()
    rows = pd.read_csv(table)
    assert (rows["seconds"] > 0).all()
    assert rows["what"].str.contains("from_shards").sum() == 1
    assert rows["what"].str.startswith("naive").sum() == 1
    assert "written to" in capsys.readouterr().out


def test_a_shard_is_the_same_whenever_it_is_made():
    first, second = (bench_large_curve.make_shard(3, 100_000) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first[0], bench_large_curve.make_shard(4, 100_000)[0])


def test_claims_are_refused_for_other_sizes(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench_large_curve.py", "--cases", "1000"])
    with pytest.raises(SystemExit):
        bench_large_curve.main()
    assert "--no-claims" in capsys.readouterr().err
