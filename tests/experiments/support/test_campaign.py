"""The robustness campaign's own counting: what of a log, a record and a table it takes for what."""

from __future__ import annotations

import sys

import pandas as pd
import pytest

from experiments.support import sweep
from experiments.support.files import REPOSITORY

sys.path.append(str(REPOSITORY / "scripts" / "reliability"))

import kills
import sweeps
import tables


def test_stages_are_those_of_a_log_with_or_without_times(tmp_path):
    log = tmp_path / "log"
    assert kills.stages_of(log) == []
    log.write_text("13:01:02 job 1: seed=0\n13:01:03 demand …\n13:01:09 demand: 6 s\n13:01:09 guard …\n")
    assert kills.stages_of(log) == [("demand", True), ("guard", False)]
    log.write_text("demand …\ndemand: taken from the cache\n")
    assert kills.stages_of(log) == [("demand", True)]


@pytest.mark.parametrize(
    ("outcomes", "fine"),
    [
        ({1: sweep.DONE, 2: sweep.SKIPPED, 3: sweep.DONE}, True),
        ({1: sweep.DONE, 2: sweep.FAILED, 3: sweep.DONE}, False),
        ({1: sweep.DONE, 3: sweep.DONE}, False),
        ({1: sweep.DONE, 2: sweep.DONE, 3: sweep.DONE, 4: sweep.DONE}, False),
    ],
)
def test_a_sweep_is_whole_only_if_every_job_is_done(tmp_path, monkeypatch, outcomes, fine):
    monkeypatch.setenv(sweep.RECORD, "")
    record = sweep.begin(tmp_path, {"seed": len(sweeps.SEEDS)})
    for number, outcome in outcomes.items():
        sweep.add(record, sweep.Job(number, f"seed={number - 1}", outcome, 1.0))
    assert (sweeps.undone(record) == "") is fine
    assert sweeps.undone(None)


def test_parts_that_were_not_counted_again_keep_their_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "TABLES", tmp_path)
    monkeypatch.setattr(tables, "BUILD", tmp_path)
    head, row = "part,kind,number,what,outcome,detail\n", "{},toy,{},{},same,\n"
    (tmp_path / "clock_1.csv").write_text(head + row.format("clock", 0, "a jump"))
    first = tables.write_table(1).read_text()
    (tmp_path / "clock_1.csv").unlink()
    cases = [row.format("kills", at, what) for at, what in enumerate(["killed", "finished", "killed"])]
    (tmp_path / "kills_1.csv").write_text(head + "".join(cases))
    found = pd.read_csv(tables.write_table(1))
    assert found["part"].tolist() == ["kills", "kills", "clock", "clock"]
    assert found["cases"].tolist() == [2, 2, 1, 1]  # "finished" was not killed
    assert set(first.splitlines()) <= set(tables.write_table(1).read_text().splitlines())
