"""The file of a log: killed writers, several processes, other guards and formats, corrupt, locked, full."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from service_problem import calibrated, stream

import safeframe
from safeframe.service.log import GuardLog
from safeframe.types import SafeframeError

HELPERS = Path(__file__).parents[2] / "helpers"


def writers(tmp_path, what, many):
    root = Path(safeframe.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, str(HELPERS / "log_writers.py"), str(tmp_path / "log"), what, str(many)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{root}:{HELPERS}"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def sound(found):
    assert found["lost"] == found["half"] == found["more_than_one"] == found["failed"] == 0
    assert found["sound"]
    assert found["in_order"]
    assert found["rows"] > 0


def test_a_killed_writer_loses_at_most_the_batch_being_written(tmp_path):
    found = writers(tmp_path, "kill", 8)
    sound(found)
    assert found["killed"] == 8


@pytest.mark.long
def test_many_killed_writers_lose_at_most_the_batch_being_written(tmp_path):
    found = writers(tmp_path, "kill", 150)
    sound(found)
    assert found["killed"] == 150


def test_four_processes_write_at_once_and_nothing_is_lost(tmp_path):
    found = writers(tmp_path, "write", 4)
    sound(found)
    assert found["rows"] == 4 * 25 * 5


def test_threads_write_at_once_and_nothing_is_lost(tmp_path):
    y, label = stream(20)
    with GuardLog(tmp_path / "log", calibrated(), durable=False) as log:

        def work(i):
            for j in range(10):
                done = log.act(y, ids=[f"{i}.{j}.{k}" for k in range(20)])
                log.label(done.ids, label)

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(work, range(6)))
        assert len(log) == 6 * 10 * 20
        assert log.database.read("SELECT count(*) FROM labels") == [(1200,)]
        batches = log.database.read("SELECT batch, count(*), max(seq) - min(seq) FROM decisions GROUP BY 1")
        assert all(count == 20 and span == 19 for _, count, span in batches)


def test_another_guard_is_refused(tmp_path):
    GuardLog(tmp_path / "log", calibrated()).close()
    GuardLog(tmp_path / "log", calibrated()).close()  # the same one, made again
    for other in (calibrated(threshold=0.06), calibrated(seed=1), calibrated(rule="plug-in")):
        with pytest.raises(SafeframeError, match="log of another guard"):
            GuardLog(tmp_path / "log", other)
    fresh = calibrated()
    fresh.calibrations, fresh.evidence = {}, None
    with pytest.raises(SafeframeError, match="not calibrated"):
        GuardLog(tmp_path / "log", fresh)


def test_another_format_and_other_databases_are_refused(tmp_path):
    GuardLog(tmp_path / "log", calibrated()).close()
    with sqlite3.connect(tmp_path / "log") as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(SafeframeError, match="format 99"):
        GuardLog(tmp_path / "log", calibrated())
    with sqlite3.connect(tmp_path / "other") as connection:
        connection.execute("CREATE TABLE mine (x)")
    with pytest.raises(SafeframeError, match="no log of a guard"):
        GuardLog(tmp_path / "other", calibrated())


def test_corrupt_files_are_named(tmp_path):
    (tmp_path / "text").write_text("this is no database, but it is long enough to be looked at" * 100)
    with pytest.raises(SafeframeError, match="no SQLite file, or corrupt"):
        GuardLog(tmp_path / "text", calibrated())
    with GuardLog(tmp_path / "log", calibrated(), durable=False) as log:
        log.act(stream(3000)[0])
        log.database.read("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = bytearray((tmp_path / "log").read_bytes())
    whole[4096 * 8 : 4096 * 60] = os.urandom(4096 * 52)
    (tmp_path / "log").write_bytes(whole)
    log = GuardLog(tmp_path / "log", calibrated(), durable=False)
    with log, pytest.raises(SafeframeError, match="corrupt"):
        log.export(tmp_path / "out.parquet")
    assert not list(tmp_path.glob("*.parquet")) + list(tmp_path.glob(".*.tmp"))


def test_a_damaged_export_is_refused(tmp_path):
    path = tmp_path / "out.parquet"
    with GuardLog(tmp_path / "log", calibrated(), durable=False) as log:
        log.act(stream(20)[0])
        assert log.export(path) == 20
    table, whole = GuardLog.read_export(path), path.read_bytes()
    assert table.equals(parquet.read_table(path))
    metadata = parquet.read_metadata(path)
    names = len(whole) - 8 - metadata.serialized_size  # the footer, of which the schema comes first
    rng = np.random.default_rng(0)
    refused = 0
    for at in [*range(names, names + 250), *rng.integers(len(whole), size=250)]:
        content = bytearray(whole)
        content[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        try:
            assert GuardLog.read_export(path).equals(table), at
        except SafeframeError:
            refused += 1
    assert refused > 250
    path.write_bytes(whole[:-1])
    with pytest.raises(SafeframeError, match="cannot be read as an exported log"):
        GuardLog.read_export(path)
    parquet.write_table(table.select(["seq", "id"]), path)
    with pytest.raises(SafeframeError, match="its columns are not those of one"):
        GuardLog.read_export(path)
    with pytest.raises(SafeframeError, match="cannot be read"):
        GuardLog.read_export(tmp_path / "nothing")


def test_a_locked_file_is_waited_for_and_then_named(tmp_path):
    with GuardLog(tmp_path / "log", calibrated(), busy_seconds=0.2) as log:
        other = sqlite3.connect(tmp_path / "log", isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SafeframeError, match=r"locked for over 0\.2 s"):
            log.act(stream(1)[0])
        log.database.busy_seconds = 5.0
        log.close()
        timer = threading.Timer(0.3, lambda: other.execute("ROLLBACK"))
        timer.start()
        log.act(stream(1)[0])  # waits until the other one is done
        timer.join()
        other.close()
        assert len(log) == 1


def test_a_full_disk_is_named_and_nothing_is_half_there(tmp_path):
    with GuardLog(tmp_path / "log", calibrated(), durable=False) as log:
        log.act(stream(10)[0])
        pages = log.database.read("PRAGMA page_count")[0][0]
        log.database.read(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(SafeframeError, match="disk is full"):
            log.act(stream(5000)[0])
        assert len(log) == 10
        log.database.read("PRAGMA max_page_count = 1000000")
        log.act(stream(5000)[0])
        assert len(log) == 5010


def test_files_that_cannot_be_written_are_named(tmp_path):
    with pytest.raises(SafeframeError, match="is no folder"):
        GuardLog(tmp_path / "none" / "log", calibrated())
    with pytest.raises(SafeframeError, match="is a folder"):
        GuardLog(tmp_path, calibrated())
    with GuardLog(tmp_path / "log", calibrated()) as log:
        log.database.read("PRAGMA query_only = ON")
        with pytest.raises(SafeframeError, match="cannot be written"):
            log.act(stream(1)[0])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_named(tmp_path):
    place = tmp_path / "read only"
    place.mkdir()
    place.chmod(0o500)
    with pytest.raises(SafeframeError, match="give write access"):
        GuardLog(place / "log", calibrated())


def test_a_forked_child_uses_a_connection_of_its_own(tmp_path):
    with GuardLog(tmp_path / "log", calibrated(), durable=False) as log:
        mine = log.database.connection
        process, log.database._local.process = os.getpid(), -1  # as it is seen after a fork
        assert log.database.connection is not mine
        assert log.database._local.process == process
        mine.close()


def test_what_cannot_be_encoded_is_refused_before_anything_is_done(tmp_path):
    import pandas as pd

    calls = []
    guard = calibrated()
    with GuardLog(tmp_path / "log", guard, keep_measurements=True, durable=False) as log:
        object.__setattr__(log.guard.callables, "model", lambda y: calls.append(1) or np.zeros(len(y)))
        with pytest.raises(SafeframeError, match="only arrays, tensors and texts"):
            log.act(pd.DataFrame({"y": [0.0]}))
        assert not calls
        assert len(log) == 0


def test_fingerprints_tell_settings_apart_and_name_no_place_in_memory():
    from safeframe.service.storage.encoding import _record

    class Scale:
        pass

    def one(value):
        return value

    assert _record(one) == _record(one)
    assert "0x" not in str(_record([one, Scale(), (1.5, "a"), {"b": np.arange(3)}]))
    assert _record({"b": np.arange(3)}) != _record({"b": np.arange(4)})
    assert _record((1.5, 2)) != _record((1.5, 3))
