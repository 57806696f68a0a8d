"""What the robustness campaign found, once mended: damage is noticed (scripts/reliability counts it)."""

from __future__ import annotations

import json
import sqlite3
import sys

import numpy as np
import pytest

from experiments.support import entry, sweep
from experiments.support.errors import CacheError
from experiments.support.files import REPOSITORY
from experiments.support.results import collect, frames
from experiments.support.results.saved import of_directory, read_raw, write_raw
from safeframe import GuardLog
from safeframe.types import SafeframeError

sys.path.append(str(REPOSITORY / "scripts" / "reliability"))

import kinds as written
from cases import BAD, Cases
from damage import of_kind
from storage import attempt, jumping, times_in_a_log

ALONE = [kind for kind in written.kinds(REPOSITORY) if "run directory" not in kind.name]
OF_A_RUN = ("raw results",)


@pytest.mark.parametrize("count", [3, pytest.param(60, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", [one for one in ALONE if one.name not in OF_A_RUN], ids=lambda one: one.name)
def test_damage_is_noticed_or_harmless(kind, count, tmp_path):
    cases = Cases("damage", 7, tmp_path)
    of_kind(kind, cases, count)
    assert len(cases.rows) == count
    assert [row for row in cases.rows if row.outcome in BAD] == []


@pytest.fixture
def run(toy, tmp_path):
    """A finished run of the toy experiment, with a table of its own."""
    from experiments.support import registry
    from experiments.support.runs import running

    return running.perform(registry.get("toy"), toy())


@pytest.mark.parametrize("name", ["config.yaml", "manifest.json", "results.csv", "results.parquet"])
def test_done_vouches_for_every_file_of_a_run(run, name):
    assert set(frames.done(run)["beside"]) >= set(frames.ABOUT)
    content = bytearray((run / name).read_bytes())
    content[len(content) // 2] ^= 1
    (run / name).write_bytes(content)
    with pytest.raises(CacheError, match=rf"{name} was changed after the run wrote it; delete the directory"):
        of_directory(run)
    with pytest.raises(CacheError, match=name):
        collect.finished("toy", root=run.parents[1])


def test_a_run_of_an_older_version_is_still_read(run):
    done = json.loads((run / "DONE").read_text())
    del done["beside"]
    (run / "DONE").write_text(json.dumps(done))
    assert len(of_directory(run).table("results"))


def test_the_index_of_raw_results_is_sealed(run, tmp_path):
    write_raw([of_directory(run)], [], tmp_path / "raw", dirty=True)
    index = tmp_path / "raw" / "runs.json"
    assert len(read_raw(index.parent)) == 1
    whole = index.read_text()
    seconds = json.loads(whole)["runs"][0]["manifest"]["seconds"]
    index.write_text(whole.replace(f'"seconds": {seconds}', '"seconds": 99.5', 1))
    with pytest.raises(CacheError, match=r"runs\.json was changed since it was written"):
        read_raw(index.parent)
    older = json.loads(whole)
    del older["seal"]
    index.write_text(json.dumps(older))
    assert len(read_raw(index.parent)) == 1


def test_a_sweep_of_which_a_job_is_not_known_has_not_gone_well(tmp_path, monkeypatch, capsys):
    path = sweep.begin(tmp_path, {"seed": 2})
    monkeypatch.delenv(sweep.RECORD)
    for number in (1, 2):
        sweep.add(path, sweep.Job(number, "", sweep.DONE, 1.0))
    assert sweep.code(sweep.read(path).jobs, 2) == 0
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"number": 2', b'"number": 3'))
    assert len(sweep.read(path).jobs) == 1
    assert sweep.code(sweep.read(path).jobs, 2) == 1
    path.write_bytes(b"\xff" + whole[1:])
    monkeypatch.setenv(sweep.RECORD, str(path))
    assert entry.summarise() == 1
    assert "is damaged, so it cannot be told how the sweep goes" in capsys.readouterr().err


CHANGES = {
    "decision": "UPDATE decisions SET margin = margin + 1e-9 WHERE seq = 3",
    "label": "UPDATE labels SET unsafe = 1 - unsafe WHERE decision = 2",
    "calibration": "UPDATE calibrations SET cuts = replace(cuts, '0.1', '0.2')",
    "switch": "UPDATE switches SET reason = 'another'",
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_changed_row_of_a_log_is_named(kind, tmp_path):
    written.make_log(tmp_path)
    with GuardLog(tmp_path / "log.sqlite", written.a_guard(), keep_measurements=True) as log:
        log.check()
        connection = sqlite3.connect(tmp_path / "log.sqlite")
        connection.execute(CHANGES[kind])
        connection.commit()
        connection.close()
        for look in (log.check, lambda: log.export(tmp_path / "out.parquet")):
            with pytest.raises(SafeframeError, match=r"the log is corrupt: .* is not what was written"):
                look()
        if kind == "switch":
            with pytest.raises(SafeframeError, match="switch"):
                log.act(np.zeros((1, 1)))
        if kind == "decision":
            with pytest.raises(SafeframeError, match="decision 3 is not what was written"):
                log.correct(["0-2"], [1], "looked again")


@pytest.mark.parametrize("table", ["decisions", "labels", "marks"])
def test_a_lost_row_of_a_log_is_named(table, tmp_path):
    written.make_log(tmp_path)
    connection = sqlite3.connect(tmp_path / "log.sqlite")
    order = {"decisions": "seq = 60", "labels": "decision = 54", "marks": "kind = 'decision' AND number = 60"}
    connection.execute(f"DELETE FROM {table} WHERE {order[table]}")
    connection.commit()
    connection.close()
    log = GuardLog(tmp_path / "log.sqlite", written.a_guard(), keep_measurements=True)
    with log, pytest.raises(SafeframeError, match="the log is corrupt"):
        log.check()


def test_a_log_of_a_version_without_marks_goes_on(tmp_path):
    written.make_log(tmp_path)
    connection = sqlite3.connect(tmp_path / "log.sqlite")
    connection.execute("DROP TABLE marks")
    connection.commit()
    connection.close()
    with GuardLog(tmp_path / "log.sqlite", written.a_guard(), keep_measurements=True) as log:
        log.check()
        log.label(log.act(np.zeros((2, 1)), time=4000.0).ids, [0, 1], time=5000.0)
        log.check()
        assert len(log) == 62


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/dev/full is always full")
@pytest.mark.parametrize("name", ["guard", "checkpoint of a classifier"])
def test_a_full_disk_is_told_in_words(name, tmp_path, monkeypatch):
    import os

    (kind,) = [one for one in ALONE if one.name == name]

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    outcome, detail = attempt(kind, tmp_path)
    assert outcome == "refused"
    assert "No space left on device; free some space or choose another place" in detail
    assert [path for path in tmp_path.rglob("*") if ".tmp" in path.name] == []


def test_times_in_a_log_never_fall_when_the_clock_jumps():
    assert times_in_a_log(np.random.default_rng(1)) == ("same", "")
    assert jumping(np.random.default_rng(1))() != jumping(np.random.default_rng(2))()
