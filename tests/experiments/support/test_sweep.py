"""The record of a sweep: counting jobs, time left, the table, exit codes, several writers, damage."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from experiments.support import sweep
from experiments.support.sweep import DONE, FAILED, REFUSED, SKIPPED, Job, Progress


def job(number: int, outcome: str = DONE, seconds: float = 10.0) -> Job:
    return Job(number, f"seed={number}", outcome, seconds, f"/runs/{number}")


@pytest.fixture
def record(tmp_path, monkeypatch):
    monkeypatch.setenv(sweep.RECORD, "")
    return sweep.begin(tmp_path, {"seed": 3, "r_t": 2, "+ablation": 1})


@pytest.mark.parametrize(
    ("params", "typed", "expected"),
    [
        ({}, ["seed=0,1,2", "r_t=1e-2,1e-3"], {"seed": 3, "r_t": 2}),
        ({"seed": "5,6,7", "n_t": "null,10"}, [], {"seed": 3, "n_t": 2}),
        ({"seed": "5,6,7"}, ["seed=1", "+sweep=x"], {"seed": 1, "+sweep": 1}),  # typed ones take their place
        ({"data.order": "[0,1,3,2],[0,1,2,3]"}, ["seed=range(5)"], {"data.order": 2, "seed": 5}),
        ({}, ["experiment=glob(*)"], {}),
    ],
)
def test_jobs_are_counted_as_hydra_makes_them(params, typed, expected):
    config = OmegaConf.create({"hydra": {"sweeper": {"params": params}, "overrides": {"task": typed}}})
    assert sweep.values(config) == expected


def test_a_record_says_what_was_added(record):
    progress = sweep.read(record)
    assert (progress.total, progress.swept, progress.jobs) == (6, ("seed", "r_t"), ())
    sweep.add(record, job(1))
    assert sweep.add(record, job(2, SKIPPED)).jobs == (job(1), job(2, SKIPPED))


def test_many_writers_lose_nothing(record):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: sweep.add(record, job(number)), range(200)))
    assert sorted(one.number for one in sweep.read(record).jobs) == list(range(200))


def test_a_line_that_was_cut_off_is_passed_over(record):
    sweep.add(record, job(1))
    with record.open("a") as file:
        file.write(json.dumps({"number": 2})[:5] + "\n")
    assert sweep.add(record, job(3)).jobs == (job(1), job(3))


def test_a_job_that_was_begun_again_is_one_job(record):
    """A worker can die after it added its line and before its launcher knows."""
    for outcome in (DONE, SKIPPED, FAILED):
        assert sweep.add(record, job(1, outcome)).jobs == (job(1),)
    sweep.add(record, job(2, FAILED))
    sweep.add(record, job(3))
    assert sweep.add(record, job(2)).jobs == (job(1), job(2), job(3))
    assert sweep.code(sweep.read(record).jobs, 4) == 1  # two lines of one job do not stand for another


def test_time_left_rests_on_what_ran():
    assert Progress(10, 0.0, (), ()).left(5.0) is None
    assert Progress(10, 0.0, (), (job(1, SKIPPED), job(2, REFUSED))).left(5.0) is None
    half = Progress(4, 100.0, (), (job(1, SKIPPED), job(2), job(3, FAILED)))
    assert half.left(120.0) == 10.0  # 20 seconds for two, one to go
    assert Progress(0, 0.0, (), (job(1),)).left(5.0) is None
    assert sweep.line(half, job(3, FAILED, 12.0), 120.0) == "3 of 4: seed=3: failed in 12 s, about 10 s left"
    assert sweep.line(Progress(1, 0.0, (), (job(1),)), job(1, SKIPPED), 1.0) == "1 of 1: seed=1: skipped"


@given(st.lists(st.sampled_from([DONE, SKIPPED, FAILED, REFUSED]), max_size=6))
def test_exit_codes(outcomes):
    code = sweep.code([job(at, outcome) for at, outcome in enumerate(outcomes)])
    if set(outcomes) <= {DONE, SKIPPED}:
        assert code == 0
    else:
        assert code == (2 if set(outcomes) == {REFUSED} else 1)


def test_the_table_has_every_job_in_order_and_says_what_was_not_run():
    text = sweep.table(Progress(4, 0.0, (), (job(2, FAILED, 200.0), job(1))))
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["job", "1", "2"]
    assert "failed   3 min 20 s" in lines[2]
    assert lines[-1] == "1 done, 1 failed, 2 not run"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (8.4, "8 s"), (60, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (3600, "1 h")],
)
def test_durations_are_short(seconds, text):
    assert sweep.duration(seconds) == text


def test_only_settings_that_differ_are_shown():
    words = ["experiment=toy", "+ablation=xi_0", "data.order=[0,1]", "seed=1"]
    assert sweep.chosen(words, ["seed", "ablation", "data.order"]) == "ablation=xi_0 data.order=[0,1] seed=1"


def test_of_jobs_elsewhere_the_terminal_is_told_their_line_and_their_error(record, capsys):
    sweep.log_of(record, 2).parent.mkdir()
    sweep.log_of(record, 2).write_text("12:00:00 begun\nerror: an older one\nerror: speed=3: at most 2\n")
    sweep.add(record, job(1))
    ended = threading.Event()
    thread = threading.Thread(target=sweep.watch, args=(record, ended, 0.01))
    thread.start()
    while "seed=1" not in (so_far := capsys.readouterr().err):
        time.sleep(0.01)
    sweep.add(record, job(2, FAILED))
    sweep.add(record, job(3, SKIPPED))
    ended.set()
    thread.join()
    lines = capsys.readouterr().err.splitlines()
    assert so_far.splitlines()[0].startswith("1 of 6: seed=1: done in 10 s")
    assert lines[0] == "error: speed=3: at most 2"
    assert lines[1].startswith("2 of 6: seed=2: failed in 10 s")
    assert lines[2].startswith("3 of 6: seed=3: skipped")
    assert len(lines) == 3
    assert sweep.told(record, 7, time.time()) == []


def test_outside_a_sweep_there_is_no_record(record, monkeypatch):
    assert sweep.active() is None  # Hydra runs no multirun here
