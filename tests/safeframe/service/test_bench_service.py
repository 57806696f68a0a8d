"""The benchmark of the guard in service runs and writes its table."""

from __future__ import annotations

import sys

import pandas as pd
import pytest

from benchmarks import bench_service


def test_small_benchmark_writes_a_table(tmp_path, monkeypatch):
    table = tmp_path / "bench.csv"
    sizes = ["--rows", "2000", "--batch", "500", "--singles", "3", "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", ["bench_service.py", *sizes, "--no-claims", "--table", str(table)])
    bench_service.main()
    found = pd.read_csv(table).set_index("what")
    assert (found["value"] > 0).all()
    assert set(bench_service.CLAIMS) <= set(found.index)


def test_claims_need_the_sizes_that_they_name(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bench_service.py", "--rows", "10"])
    with pytest.raises(SystemExit):
        bench_service.main()
