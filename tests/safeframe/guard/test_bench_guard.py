"""The benchmark of the guard runs, also against another checkout, and writes its table."""

import sys

import pandas as pd
import pytest

from benchmarks import bench_guard
from experiments.support.files import REPOSITORY


def test_small_benchmark_writes_a_table(tmp_path, monkeypatch):
    table = tmp_path / "bench.csv"
    sizes = ["--many", "1000", "--large", "20000", "--repeats", "1", "--other", f"same={REPOSITORY}"]
    monkeypatch.setattr(sys, "argv", ["bench_guard.py", *sizes, "--no-claims", "--table", str(table)])
    bench_guard.main()
    rows = pd.read_csv(table)
    assert (rows["seconds"] > 0).sum() >= 5
    assert (rows["version"] == "same").all()


def test_a_checkout_without_the_library_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench_guard.py", "--no-claims", "--other", f"none={tmp_path}"])
    with pytest.raises(SystemExit):
        bench_guard.main()
    assert "a folder that holds safeframe" in capsys.readouterr().err
