"""The notebooks run, and what they say is so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest
from nbclient import NotebookClient

from experiments.support.files import REPOSITORY

NOTEBOOK = REPOSITORY / "notebooks" / "guard_your_own_model.py"
THEORY_NOTEBOOK = REPOSITORY / "notebooks" / "theory_in_two_dimensions.py"
SERVICE_NOTEBOOK = REPOSITORY / "notebooks" / "a_guard_in_service.py"
CHAT_NOTEBOOK = REPOSITORY / "notebooks" / "guard_a_chat_model.py"
PRODUCTION_NOTEBOOK = REPOSITORY / "notebooks" / "plan_production.py"
ROBOT_NOTEBOOK = REPOSITORY / "notebooks" / "a_robot_among_hazards.py"


def printed_by(path: Path) -> tuple[str, int]:
    """What a notebook prints when it is executed, and how many pictures it shows."""
    notebook = jupytext.read(path)
    where = {"metadata": {"path": str(REPOSITORY)}}
    NotebookClient(notebook, timeout=180, kernel_name="python3", resources=where).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = sum("image/png" in output.get("data", {}) for output in outputs)
    return "".join(output.get("text", "") for output in outputs), pictures


def test_the_notebook_runs():
    printed, _ = printed_by(NOTEBOOK)
    shares = re.findall(r"r_t = ([\d.]+): ([\d.e-]+) of the accepted were unsafe", printed)
    assert len(shares) == 3
    for r_t, share in shares:
        assert 0.1 * float(r_t) < float(share) <= float(r_t)
    assert "200 cases, conservative: bound 1, accepts 0%" in printed
    assert "200 cases, plug-in: bound 0" in printed
    assert re.search(r"torch: \{.*'error': 1.* cannot be judged", printed)
    accepted = float(
        re.search(r"on a frame: accepts ([\d.]+)%, unsafe among them ([\d.e-]+)", printed).group(1)
    )
    assert accepted > 50
    assert "transformers, r_t = 0.01: accepts 0%" in printed
    assert printed.rstrip().endswith("True")


def test_the_theory_notebook_runs_and_its_statements_hold(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    printed, pictures = printed_by(THEORY_NOTEBOOK)
    assert pictures == 4
    assert "below the bound of all three data sets: True" in printed
    assert "beyond the coverage radius" in printed
    assert float(re.search(r"refused in distribution: ([\d.]+)", printed).group(1)) < 0.013
    assert printed.rstrip().endswith("True")


def test_the_notebook_of_a_guard_in_service_runs_and_its_page_quotes_it(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    printed, pictures = printed_by(SERVICE_NOTEBOOK)
    assert pictures == 3
    alarms = re.search(r"alarms on days \[([\d, ]+)\], new thresholds on days \[([\d, ]+)\]", printed)
    first, second = (int(day) for day in alarms[1].split(", "))
    assert 30 < first < second < 40  # while the limit falls, and not before
    assert max(int(day) for day in alarms[2].split(", ")) > 70  # and it rises again
    once, served = re.search(r"as calibrated ([\d.]+), in service ([\d.]+), r_t 0.02", printed).groups()
    assert float(once) > 0.1
    assert float(served) < 0.02
    page = (REPOSITORY / "docs" / "in_service.md").read_text()
    for line in printed.splitlines():
        if "the same again" in line:
            assert line in page
    assert f"{float(once):.0%}".replace("%", " %") in page
    assert f"days {first} and {second}" in page
    assert "restored: 1" in printed


def test_the_notebook_of_a_chat_model_runs_and_its_guard_keeps_its_word(monkeypatch):
    monkeypatch.delenv("SAFEFRAME_CHAT_MODEL", raising=False)
    printed, _ = printed_by(CHAT_NOTEBOOK)
    alone = float(re.search(r"always the most helpful answer: ([\d.]+) harmful", printed).group(1))
    rows = re.findall(r"r_t = ([\d.]+): answers ([\d.]+) of the prompts, ([\d.]+) of the answers", printed)
    assert len(rows) == 3
    for r_t, answered, share in rows:
        assert float(share) <= float(r_t)
        assert float(share) < alone
        assert float(answered) > 0.3
    assert printed.count("> ") >= 3


def test_the_notebook_of_a_year_of_production_runs_and_its_guard_keeps_its_word(monkeypatch):
    monkeypatch.delenv("SAFEFRAME_EIA_CSV", raising=False)
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    printed, pictures = printed_by(PRODUCTION_NOTEBOOK)
    assert pictures == 6
    found = re.findall(r"^(.+): revenue ([\d.]+) of the best, violations / r_t (.+)$", printed, re.M)
    earned = {name: float(share) for name, share, _ in found}
    over = {name: [float(value) for value in text.split(", ")] for name, _, text in found}
    assert earned["no guard"] > earned["plug-in, kept"] > earned["worst product, weekly"] > 0.7
    assert min(over["no guard"]) > 10
    assert max(over["plug-in, kept"]) > 1.2  # what the last part explains
    assert max(over["worst product, weekly"]) <= 1
    assert len(re.findall(r"odds over those of r_t [\d.]+ = cases", printed)) == 12
    assert printed.rstrip().endswith("True")


def test_the_notebook_of_a_robot_runs_and_its_guard_keeps_it_out_of_hazards(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    printed, pictures = printed_by(ROBOT_NOTEBOOK)
    assert pictures == 3
    one, both = re.findall(r"alone: return ([\d.]+), steps in a hazard: ([\d,]+)", printed)
    guarded = re.findall(r"guarded: return ([\d.]+), steps in a hazard: ([\d,]+) of 64,000", printed)
    assert int(one[1]) > 0
    assert "guarded: return" in printed.split("alone: return")[1]
    assert int(guarded[0][1]) <= 64  # r_t = 1e-3
    assert int(both[1].replace(",", "")) > 1000
    assert float(guarded[0][0]) > 18
    assert printed.rstrip().endswith("True")


@pytest.mark.long
def test_the_pictures_of_a_guard_in_service_are_those_of_its_notebook(tmp_path):
    command = [sys.executable, str(SERVICE_NOTEBOOK), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "MPLBACKEND": "Agg"}
    subprocess.run(command, check=True, capture_output=True, env=environment, timeout=300)
    for picture in sorted(tmp_path.glob("*.png")):
        kept = REPOSITORY / "docs" / "images" / picture.name
        assert picture.read_bytes() == kept.read_bytes(), picture.name
    assert len(list(tmp_path.glob("*.png"))) == 3
