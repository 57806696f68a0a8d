"""Replay gives the same decisions again, or names the first that differs and why."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from guard_problem import candidate_classifier, candidate_model, candidates
from guard_problem import problem as plain_problem
from service_problem import calibrated, classifier, model, stream

from safeframe import InternalTestData, SafetyGuard
from safeframe.service.log import GuardLog
from safeframe.service.recalibration import recalibrate, restore
from safeframe.service.replay import replay
from safeframe.types import SafeframeError


def with_parts(model, classifier, **keywords):
    y, label = stream(4000)
    made = SafetyGuard(model, classifier, InternalTestData(y, label), 0.05, -99.0, **keywords)
    made.calibrate()
    return made


def lived(path, guard, keep=True):
    """A log with three batches, a recalibration that lowers the threshold, and two more."""
    log = GuardLog(path, guard, keep_measurements=keep, durable=False)
    for i in range(5):
        y, label = stream(400, 10 + i, shift=0.6)
        done = log.act(y, ids=[f"{i}.{j}" for j in range(400)])
        log.label(done.ids, label)
        if i == 2:
            assert recalibrate(log, 1200).changed
    return log


def test_all_versions_are_replayed_as_they_were(tmp_path):
    with lived(tmp_path / "log", calibrated()) as log:
        restore(log, 1)
        log.act(stream(50, 3)[0])
        found = replay(log)
        assert found.same
        assert found.n == len(log) == 2050
        assert "2,050 decisions, all the same again" in str(found)
        assert replay(log, calibrated(), start=1500).n == 850  # from the beginning of its batch
        assert {row[0] for row in log.database.read("SELECT DISTINCT version FROM decisions")} == {1, 2}


def test_calibrations_between_the_first_and_the_one_in_force_are_read_again(tmp_path):
    with lived(tmp_path / "log", calibrated()) as log:
        restore(log, 1)
        log.act(stream(50, 3)[0])
    with GuardLog(tmp_path / "log", calibrated()) as log:
        assert log.version().number == 1
        assert str(replay(log)) == "2,050 decisions, all the same again"


def test_after_a_restart_with_another_process_s_guard(tmp_path):
    lived(tmp_path / "log", calibrated()).close()
    with GuardLog(tmp_path / "log", calibrated()) as log:
        assert log.version().number == 2
        assert replay(log).same


def test_a_classifier_that_moved_is_named(tmp_path):
    with lived(tmp_path / "log", calibrated()) as log:
        moved = calibrated()
        object.__setattr__(moved.callables, "classifier", lambda y: np.where(y[:, 0] > 1.5, 9.0, y[:, 0]))
        found = replay(log, moved)
        first = found.first
        assert not found.same
        assert first.what == "margin"
        assert first.logged > 1.5
        assert first.again == 9.0
        assert found.n == first.number - 1
        assert "the classifier is another one" in str(found)
        rounding = calibrated()
        object.__setattr__(rounding.callables, "classifier", lambda y: y[:, 0] * (1.0 + 1e-9))
        assert replay(log, rounding).same
        assert replay(log, rounding, tolerance=0.0).first.what == "margin"


def test_a_model_that_moved_is_named(tmp_path):
    with lived(tmp_path / "log", calibrated()) as log:
        moved = calibrated()
        object.__setattr__(moved.callables, "model", lambda y: 10.0 * y[:, 0] + (y[:, 0] < -2.0))
        first = replay(log, moved).first
        assert first.what == "action"
        assert float(first.again) - float(first.logged) == 1.0


def test_another_calibration_is_named(tmp_path):
    with lived(tmp_path / "log", calibrated()) as log:
        found = replay(log, calibrated(seed=5))
        assert found.first.what == "threshold"
        assert found.n == 0
        assert "calibrated otherwise" in str(found)
        found = replay(log, calibrated(threshold=[0.05, 0.06]))
        assert found.first is not None
        assert found.first.what in ("threshold", "error")


def test_missing_measurements_are_named_and_may_be_looked_up(tmp_path):
    with lived(tmp_path / "log", calibrated(), keep=False) as log:
        found = replay(log)
        assert (found.n, found.first.what, found.first.id) == (0, "measurement", "0.0")
        assert "give a lookup" in str(found)

        def lookup(ids):
            batch = int(ids[0].split(".")[0])
            return None if batch == 3 else stream(400, 10 + batch, shift=0.6)[0]

        found = replay(log, lookup=lookup)
        assert (found.n, found.first.what, found.first.id) == (1200, "measurement", "3.0")
        found = replay(log, lookup=lambda ids: stream(7)[0])
        assert found.first.what == "measurement"
        assert found.first.again == 7


def test_kinds_of_measurements_come_back_as_they_were(tmp_path):
    y, label = plain_problem()
    tensors = SafetyGuard(
        lambda y: y.sum(dim=1), lambda y: y[:, 0], InternalTestData(torch.as_tensor(y), label), 0.05, 0.0
    )
    tensors.calibrate()
    texts = [f"case {value:.3f}" for value in y[:, 0]]
    words = SafetyGuard(
        lambda batch: np.array([len(text) for text in batch]),
        lambda batch: np.array([float(text[5:]) for text in batch]),
        InternalTestData(texts, label), 0.05, 0,
    )  # fmt: skip
    words.calibrate()
    pool, bad = candidates()
    several = SafetyGuard(candidate_model, candidate_classifier, InternalTestData(pool, bad), 0.1, 0.0)
    several.calibrate()
    group = np.where(y[:, 1] > 0, "north", "south")
    grouped = SafetyGuard(
        model, classifier, InternalTestData(y, label, group=group), 0.05, 0.0, constraint="per_group"
    )
    grouped.calibrate()
    for name, guard, batch, chosen in (
        ("tensors", tensors, torch.as_tensor(y[:20]), {}),
        ("texts", words, texts[:20], {}),
        ("candidates", several, pool[:20], {}),
        ("groups", grouped, y[:20], {"group": group[:20]}),
    ):
        with GuardLog(tmp_path / name, guard, keep_measurements=True, durable=False) as log:
            log.act(batch, **chosen)
            found = replay(log)
            assert found.same, str(found)
            assert found.n == 20


def test_a_codec_of_one_s_own(tmp_path):
    class Halves:
        def encode(self, batch):
            return [row.astype(np.float32).tobytes() for row in batch]

        def decode(self, pieces):
            return np.stack([np.frombuffer(piece, np.float32) for piece in pieces]).astype(np.float64)

    with GuardLog(tmp_path / "log", calibrated(), keep_measurements=Halves(), durable=False) as log:
        log.act(stream(30)[0])
        assert replay(log, tolerance=1e-5).same
        assert not replay(log, tolerance=0.0).same


def test_an_empty_log_and_a_number_beyond_its_end(tmp_path):
    with GuardLog(tmp_path / "log", calibrated(), durable=False) as log:
        assert replay(log).n == 0
        with pytest.raises(SafeframeError, match="no decision number 7"):
            replay(log, start=7)
