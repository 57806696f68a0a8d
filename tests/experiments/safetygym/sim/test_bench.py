"""The benchmark of the simulator runs and writes its table and, if asked, the ledger."""

from __future__ import annotations

import sys

import pandas as pd
import pytest

from benchmarks import bench_collect, bench_sim
from experiments.support.results import claims


@pytest.fixture(autouse=True)
def any_core(monkeypatch):
    """The other tests may go on with every core."""
    monkeypatch.setattr(bench_sim.os, "sched_setaffinity", lambda *_: None)


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["bench_sim.py", "--seconds", "0.01", "--repeats", "2", *arguments])
    bench_sim.main()


def test_table_and_claims(monkeypatch, tmp_path):
    table, ledger = tmp_path / "bench_sim.csv", tmp_path / "claims.csv"
    monkeypatch.setenv("SAFEFRAME_CLAIMS", str(ledger))
    run(monkeypatch, "--dirty", "--table", str(table))
    rows = pd.read_csv(table).set_index("what")
    assert rows.loc["mj_step loop, Point, physics only", "times_mj_step"] == 1
    assert rows.loc["Point, vase fixed", "times_mj_step"] > 10  # about 100 on an idle core
    assert 0 < rows.loc["share of Point steps in MuJoCo", "share"] < 0.2
    written = claims.read(ledger).set_index("claim")
    assert {"safetygym.sim.point_steps_per_s", "safetygym.sim.car_steps_per_s"} <= set(written.index)
    assert written.loc["safetygym.sim.speedup_over_mj_step", "value"] > 10


def test_other_simulators_are_asked_in_their_own_interpreter(tmp_path):
    (tmp_path / "slow_gym.py").write_text(
        "class Env:\n"
        "    class action_space:\n"
        "        sample = staticmethod(lambda: 0)\n"
        "    def reset(self): pass\n"
        "    def step(self, action): return 0, 0.0, 1.0, False, True, {}\n"
        "make = lambda task: Env()\n"
    )
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncd {tmp_path}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    assert bench_sim.other_rate(str(python), "slow_gym", "any", 50) > 0
    with pytest.raises(SystemExit, match="no_such_gym"):
        bench_sim.other_rate(str(python), "no_such_gym", "any", 50)


def test_unknown_simulator_is_refused(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "--other", "gym=/usr/bin/python3")
    assert "NAME in ['safety-gymnasium', 'safety-gym']" in capsys.readouterr().err


def test_collecting_is_timed_for_both_robots(monkeypatch, tmp_path):
    monkeypatch.setenv("SAFEFRAME_CLAIMS", str(tmp_path / "claims.csv"))
    table = tmp_path / "bench_collect.csv"
    monkeypatch.setattr(
        sys, "argv", ["bench_collect.py", "--cases", "3000", "--dirty", "--table", str(table)]
    )
    bench_collect.main()
    rows = pd.read_csv(table).set_index("robot")
    assert (rows["cases"] == 3000).all()
    assert rows["unsafe_share"].between(0.005, 0.3).all()
    ledger = pd.read_csv(tmp_path / "claims.csv").set_index("claim")["value"]
    seconds = ledger["safetygym.point.collect_1e7_seconds"]
    assert seconds == pytest.approx(1e7 / rows.loc["point", "per_second"], rel=1e-3)
