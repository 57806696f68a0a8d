"""GuardLog: what is recorded, labels that come late, corrections, export."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow.parquet as parquet
import pytest
import torch
from guard_problem import C, candidate_classifier, candidate_model, candidates
from guard_problem import calibrated as plain_guard
from guard_problem import problem as plain_problem
from service_problem import calibrated, stream

from safeframe import InternalTestData, SafetyGuard
from safeframe.service.log import GuardLog
from safeframe.types import SafeframeError


@pytest.fixture
def log(tmp_path):
    with GuardLog(tmp_path / "log.sqlite", calibrated(), durable=False) as made:
        yield made


def table(log, tmp_path):
    log.export(tmp_path / "out.parquet")
    return pd.read_parquet(tmp_path / "out.parquet")


def test_a_batch_is_decided_as_by_the_guard_and_recorded_as_it_was(log, tmp_path):
    y, _ = stream(300, 1)
    done, alone = log.act(y, time=5.0), log.guard.act(y)
    assert (done.action == alone.action).all()
    assert (done.accepted == alone.accepted).all()
    assert done.version == 1
    assert len(set(done.ids)) == len(log) == 300
    rows = table(log, tmp_path)
    assert rows["id"].tolist() == done.ids
    assert rows["seq"].tolist() == list(range(1, 301))
    for name in ("margin", "tau", "bound", "accepted", "status"):
        assert rows[name].tolist() == getattr(alone, name).tolist()
    assert [json.loads(text) for text in rows["action"]] == alone.action.tolist()
    assert rows["candidate"].tolist() == alone.index.tolist()
    assert set(rows["time"]) == {5.0}
    assert set(rows["version"]) == {1}
    assert rows["unsafe"].isna().all()
    metadata = parquet.read_schema(tmp_path / "out.parquet").metadata
    assert metadata[b"safeframe.guard"].decode() == log.fingerprint


def test_groups_candidates_errors_and_tensors_are_recorded(tmp_path):
    y, label = plain_problem()
    group = np.where(y[:, 1] > 0, "north", "south")
    grouped = plain_guard(internal_test=InternalTestData(y, label, group=group), group_conditional=True)
    with GuardLog(tmp_path / "a", grouped, durable=False) as log:
        fresh = y[:9].copy()
        fresh[4] = np.nan
        log.act(torch.as_tensor(fresh), group=group[:9])
        rows = table(log, tmp_path)
    assert [json.loads(text) for text in rows["group"]] == group[:9].tolist()
    assert rows["status"][4] == "error"
    assert "NaN" in rows["error"][4] or "finite" in rows["error"][4]
    assert rows["margin"][4] == np.inf
    pool, bad = candidates()
    several = SafetyGuard(candidate_model, candidate_classifier, InternalTestData(pool, bad), 0.1, 0.0)
    several.calibrate()
    with GuardLog(tmp_path / "b", several, durable=False) as log:
        done = log.act(pool[:50])
        rows = table(log, tmp_path)
    assert rows["candidate"].tolist() == done.guarded.index.tolist()
    assert rows["candidate"].between(-1, C - 1).all()
    assert all(len(json.loads(text)) == 2 for text in rows["action"])


def test_labels_come_late_once_and_corrections_keep_the_history(log, tmp_path):
    y, label = stream(50, 2)
    done = log.act(y, ids=range(50), time=100.0)
    rows = np.array([3, 5, 4, *range(20, 40)])
    labelled = log.label(rows, label[rows], time=200.0)
    assert not done.accepted[rows].all()
    assert labelled.of_accepted().tolist() == label[rows][done.accepted[rows]].tolist()
    assert labelled.of_accepted(1).tolist() == labelled.of_accepted().tolist()
    assert labelled.of_accepted(2).tolist() == []
    assert labelled.unsafe.tolist() == label[rows].tolist()
    log.label("7", True, time=datetime(2026, 1, 1, tzinfo=UTC))
    log.correct(7, 0, "the sensor was broken", time=datetime(2026, 1, 2, tzinfo=UTC))
    assert [(one["unsafe"], one["reason"]) for one in log.history(7)] == [
        (1, ""),
        (0, "the sensor was broken"),
    ]
    rows = table(log, tmp_path).set_index("id")
    assert rows["unsafe"].notna().sum() == 24
    assert not rows["unsafe"]["7"]
    assert rows["corrections"]["7"] == 1
    assert rows["corrections"]["3"] == 0
    assert rows["label_time"]["3"] == 200.0


def test_whose_labels_are_awaited(log):
    y, label = stream(40, 2)
    audit = np.arange(40) % 5 == 0
    done = log.act(y, time=100.0, audit=audit)
    wanted = [done.ids[i] for i in np.flatnonzero(done.accepted | audit)]
    assert log.awaited() == wanted
    assert log.awaited(limit=3) == wanted[:3]
    assert log.awaited(until=99.0) == []
    log.label(wanted[:10], label[:10])
    assert log.awaited() == wanted[10:]


@pytest.mark.parametrize(
    ("ids", "values", "message"),
    [
        (["b", "none"], [0, 1], "no decision with id 'none'"),
        (["a", "a"], [0, 1], "'a' comes twice"),
        (["b", "a"], [0, 1], "'a' is labelled already"),
        (["b"], [2], r"labels are \[2\]"),
        (["b"], [0, 1], "1 ids, but labels of shape"),
        (["b"], [np.nan], "missing"),
    ],
)
def test_bad_labels_are_refused_whole(log, ids, values, message):
    log.act(stream(3)[0], ids=["a", "b", "c"])
    log.label("a", 0)
    with pytest.raises(SafeframeError, match=message):
        log.label(ids, values)
    assert log.history("b") == []
    assert len(log.history("a")) == 1


def test_corrections_need_a_label_and_a_reason(log):
    log.act(stream(1)[0], ids=["a"])
    with pytest.raises(SafeframeError, match="no label yet"):
        log.correct("a", 1, "why not")
    log.label("a", 0)
    with pytest.raises(SafeframeError, match="needs a reason"):
        log.correct("a", 1, " ")
    with pytest.raises(SafeframeError, match="no decision with id 'b'"):
        log.history("b")


def test_ids_are_unique_and_one_for_each(log):
    y, _ = stream(2)
    log.act(y, ids=["a", "b"])
    for ids, message in (
        (["c", "a"], "'a' is in the log already"),
        (["c", "c"], "'c' comes twice"),
        (["c"], "one for each of the 2"),
        ("cd", "one for each of the 2"),
    ):
        with pytest.raises(SafeframeError, match=message):
            log.act(y, ids=ids)
    assert len(log) == 2


def test_a_clock_that_goes_backwards(log, tmp_path, monkeypatch):
    y, _ = stream(1)
    log.act(y, ids=["a"], time=1000.0)
    with pytest.raises(SafeframeError, match="clock went backwards"):
        log.act(y, ids=["b"], time=999.0)
    assert len(log) == 1
    with pytest.raises(SafeframeError, match=r"before 1000\.000, that of the decision"):
        log.label("a", 1, time=999.0)
    # The machine's own clock: the newest time is kept until it is passed.
    monkeypatch.setattr("safeframe.service.log.now", lambda: 500.0)
    monkeypatch.setattr("safeframe.service.storage.labelling.now", lambda: 400.0)
    log.act(y, ids=["b"])
    monkeypatch.setattr("safeframe.service.log.now", lambda: 2000.0)
    log.act(y, ids=["c"])
    log.label("c", 1)
    assert table(log, tmp_path)["time"].tolist() == [1000.0, 1000.0, 2000.0]
    assert log.history("c")[0]["time"] == 2000.0
    for bad in (np.nan, datetime(2026, 1, 1)):
        with pytest.raises(SafeframeError, match="time"):
            log.act(y, time=bad)


def test_audits_are_drawn_whatever_the_margin(tmp_path):
    with GuardLog(tmp_path / "log", calibrated(), audit=0.3, durable=False) as log:
        done = log.act(stream(4000, 3)[0])
        chosen = np.arange(50) % 7 == 0
        assert (log.act(stream(50)[0], audit=chosen).audit == chosen).all()
        for bad in (chosen[:3], chosen.astype(int)):
            with pytest.raises(SafeframeError, match=r"expected \(50,\) bool"):
                log.act(stream(50)[0], audit=bad)
    share = [done.audit[done.accepted].mean(), done.audit[~done.accepted].mean()]
    assert np.abs(np.array(share) - 0.3).max() < 0.06
    with pytest.raises(SafeframeError, match="audit is 2"):
        GuardLog(tmp_path / "log", calibrated(), audit=2)


def test_an_empty_batch_is_nothing(log):
    assert log.act(stream(1)[0][:0]).ids == []
    assert len(log) == 0


def test_long_actions_are_recognised_by_their_digest(tmp_path):
    y, label = stream(2000)
    guard = SafetyGuard(lambda y: np.tile(y, 2000), lambda y: y[:, 0], InternalTestData(y, label), 0.05, 0.0)
    guard.calibrate()
    with GuardLog(tmp_path / "log", guard, durable=False) as log:
        log.act(y[:2])
        assert all(json.loads(text).startswith("sha256:") for text in table(log, tmp_path)["action"])


def test_the_log_of_a_guard_that_was_saved_and_loaded_goes_on(tmp_path):
    guard = calibrated()
    with GuardLog(tmp_path / "log", guard, durable=False) as log:
        log.act(stream(10)[0])
    guard.save(tmp_path / "guard")
    again = SafetyGuard.load(tmp_path / "guard", guard.model, guard.classifier)
    with GuardLog(tmp_path / "log", again, durable=False) as log:
        log.act(stream(10)[0])
        assert len(log) == 20


def test_later_changes_of_the_guard_do_not_reach_its_log(tmp_path):
    y, _ = stream(500, 4)
    guard, other = calibrated(), calibrated(seed=9)
    before = guard.act(y).accepted
    with GuardLog(tmp_path / "log", guard, durable=False) as log:
        guard.adopt(other.evidence)
        assert (guard.act(y).tau != log.act(y).guarded.tau).all()
        assert (log.act(y).accepted == before).all()
