"""The lines that the pages and docstrings show are run as they stand: guard, log, monitor, recalibration."""

from __future__ import annotations

import re
import textwrap
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from service_problem import calibrated, stream

import safeframe.service.log
from safeframe import GuardLog, LongRunBudget, PlugIn, RiskMonitor, recalibrate
from safeframe.service.log import GuardLog as Log

ROOT = Path(__file__).parents[3]
R_T = 0.05


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), flags=re.S)


def test_the_lines_of_the_log_s_docstring(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = safeframe.service.log.__doc__
    assert text is not None
    lines = textwrap.dedent("\n".join(line for line in text.splitlines() if line.startswith("    ")))
    assert "monitor.update(labelled.of_accepted())" in lines
    measurement, unsafe = stream(500, 1)
    guard, monitor = calibrated(), RiskMonitor(r_t=R_T, arl=1e6)
    names = {"GuardLog": Log, "guard": guard, "monitor": monitor}
    names |= {"measurement": measurement, "unsafe": unsafe}
    exec(compile(lines, "docstring", "exec"), names)
    accepted = guard.act(measurement).accepted
    assert monitor.n == accepted.sum()
    assert monitor.unsafe == unsafe[accepted].sum()
    assert (tmp_path / "decisions.parquet").exists()


def test_the_first_lines_of_the_page_in_service(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (first, *_) = blocks("in_service.md")
    measurement, unsafe = stream(3000, 1, 1.0)
    names = {"guard": calibrated(threshold=0.02), "measurement": measurement, "unsafe": unsafe}
    exec(compile(first, "in_service.md", "exec"), names)
    shown = capsys.readouterr().out
    assert "calibration 2 is new in force" in shown  # there was an alarm
    assert "3,000 decisions, all the same again" in shown
    assert not names["monitor"].alarm  # it begins anew


def test_the_lines_about_a_budget_and_a_log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (lines,) = [block for block in blocks("in_service.md") if "LongRunBudget" in block]
    measurement, unsafe = stream(1500, 1)
    guard = calibrated(threshold=0.02)
    with GuardLog("guard.sqlite", guard) as log:
        names = {"guard": guard, "log": log, "measurement": measurement, "unsafe": unsafe}
        names["monitor"] = monitor = RiskMonitor(r_t=0.02)
        exec(compile(lines, "in_service.md", "exec"), names)
        done = names["done"]
        assert monitor.n == done.accepted.sum() < guard.act(measurement).accepted.sum()
        assert names["budget"].ledger.unsafe == monitor.unsafe


@pytest.mark.parametrize("with_budget", [False, True])
def test_a_monitor_sees_what_was_accepted_by_the_calibration_in_force(with_budget, tmp_path):
    """Labels a day late: after a recalibration those of the former calibration are told apart."""
    guard = calibrated(threshold=R_T, rule=PlugIn())
    budget = LongRunBudget(guard, R_T, reserve=50.0, late=100) if with_budget else None
    monitor, seen, before = RiskMonitor(r_t=R_T, arl=1e5), defaultdict(list), None
    with GuardLog(tmp_path / "log", guard, durable=False) as log:
        for day in range(60):
            y, unsafe = stream(100, day, 0.0 if day < 20 else 0.6)
            done = log.act(y, budget=budget)
            if before is not None:
                labelled = log.label(before[0].ids, before[1])
                if budget is not None:
                    budget.learn(before[0].budgeted.ids, before[1])
                version = log.version().number
                news = labelled.of_accepted(version)
                if before[0].version != version:
                    assert len(news) == 0
                else:
                    assert news.tolist() == before[1][before[0].accepted].tolist()
                seen[version] += news.tolist()
                monitor.update(news)
            if monitor.alarm or monitor.detector.rang:
                assert day > 20
                recalibrate(log, 600, odds=2.0)
                monitor.restart()
            before = done, unsafe
        last = log.version().number
        if with_budget:  # the level is lowered in time: there is nothing to hear
            assert last == 1
            assert np.mean(seen[1]) < 1.3 * R_T
        else:  # the first window is mostly from before the change: another alarm, another window
            assert 2 <= last <= 4
            assert np.mean(seen[1][-200:]) > 1.5 * R_T
            assert len(seen[last]) > 200
            assert np.mean(seen[last]) < 1.2 * R_T
