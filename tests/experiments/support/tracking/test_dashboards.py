"""Dashboards name keys that are logged: by the committed results, and read back from offline runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import wandb_file

from experiments.support import registry
from experiments.support.files import REPOSITORY
from experiments.support.results.saved import read_raw
from experiments.support.tracking import dashboards, keys
from experiments.support.tracking.panels import Dashboard, Lines, Media, Points, Section, missing
from scripts import dashboards as script

OF_THE_RUN = ("train/", "seconds/", "figures/", "episodes/")
"""Keys that no row of results has: `test_every_panel_of_a_smoke_run_has_its_keys` reads them back."""


def named(dashboard: Dashboard) -> list[str]:
    return [key for panel in dashboard.panels for key in panel.keys]


def test_every_experiment_has_its_dashboard():
    assert {one.experiment for one in script.DASHBOARDS} == set(registry.discover())
    for one in script.DASHBOARDS:
        titles = [panel.title for panel in one.panels]
        assert len(titles) == len(set(titles))


@pytest.mark.parametrize("one", script.DASHBOARDS, ids=lambda one: one.experiment)
def test_panels_name_what_committed_runs_would_log(one):
    logged = {keys.TABLE, keys.R_T}
    for run in read_raw(REPOSITORY / "results" / "raw" / "laptop" / one.experiment):
        frame = run.table("results")
        logged |= set(keys.summary(frame))
        if not set(named(one)) - logged:
            break
        logged |= {name for row in keys.curves(frame) for name in row}
    assert [key for key in named(one) if key not in logged and not key.startswith(OF_THE_RUN)] == []


def test_a_key_that_nothing_logs_is_named():
    panels = (
        Lines("curves", "curve/r_t", ("curve/ours/cost", "curve/ours/typo")),
        Media("pictures", ("figures/one", "figures/two")),
        Points("score", "n_t", "ours/score"),
    )
    dashboard = Dashboard("toy", "toy", "", (Section("all", "", panels),))
    logged = ["curve/r_t", "curve/ours/cost", "figures/one/path", "n_t", "ours/score"]
    assert missing(dashboard, logged) == ["curves: curve/ours/typo", "pictures: figures/two"]


@pytest.mark.parametrize("one", script.DASHBOARDS, ids=lambda one: one.experiment)
def test_the_specification_holds_every_panel_and_needs_no_account(one, monkeypatch):
    pytest.importorskip("wandb_workspaces", reason="needs wandb-workspaces, of the extra dashboards")
    monkeypatch.setenv("WANDB_MODE", "offline")
    content = dashboards.specification(one, "safeframe")
    assert json.loads(json.dumps(content)) == content
    assert content["keys"] == sorted(set(named(one)))
    for kind in ("workspace", "report"):
        text = json.dumps(content[kind])
        for panel in one.panels:
            for key in panel.keys:
                assert f'{key}"' in text, (kind, panel.title, key)
    runs = content["workspace"]["spec"]["section"]["runSets"][0]
    assert [(one_["key"]["name"], one_["value"]) for one_ in runs["filters"]["filters"]] == [
        ("jobType", one.experiment)
    ]
    assert [group["name"] for group in runs["grouping"]] == ["group"]
    shown = content["workspace"]["spec"]["section"]["panelBankConfig"]["sections"]
    assert [section["name"] for section in shown] == [section.title for section in one.sections]
    for section, expected in zip(shown, one.sections, strict=True):
        assert len(section["panels"]) == len(expected.panels)


def test_without_the_package_the_error_says_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    assert script.main(["--offline", str(tmp_path)]) == 1
    assert "wandb-workspaces" in capsys.readouterr().err


def test_without_a_key_the_error_says_what_needs_none(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert script.main([]) == 1
    assert "--offline FOLDER" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.parametrize("one", script.DASHBOARDS, ids=lambda one: one.experiment)
def test_every_panel_of_a_smoke_run_has_its_keys(one, tmp_path):
    """What an offline run wrote, read back from its .wandb file."""
    words = [f"experiment={one.experiment}", "preset=smoke", f"output={tmp_path}", "threads=1"]
    done = subprocess.run(
        [sys.executable, "run.py", *words, "progress=false", "tracking=wandb"],
        cwd=REPOSITORY,
        env=os.environ | {"WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    written = wandb_file.read(tmp_path / one.experiment)
    assert missing(one, written.keys) == []
    assert (written.run.run_group, written.run.job_type) == ("single runs", one.experiment)
    assert written.config["preset"] == "smoke"
    assert {kind for _, kind in written.artifacts} >= {"results", "run_table"}
    for name, over in written.steps.items():
        if name.startswith("curve/") and name != keys.R_T:
            assert over == keys.R_T
        if name.startswith("train/") and name.endswith("/loss"):
            assert over == name.removesuffix("loss") + "step"


@pytest.mark.long
def test_what_is_committed_is_a_run_of_its_own(tmp_path, monkeypatch):
    pytest.importorskip("wandb_workspaces", reason="needs wandb-workspaces, of the extra dashboards")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert script.main(["--offline", str(tmp_path)]) == 0
    for one in script.DASHBOARDS:
        assert json.loads((tmp_path / f"{one.experiment}.json").read_text())["experiment"] == one.experiment
        written = wandb_file.read(tmp_path / one.experiment)
        assert "claims/nrows" in written.keys
        assert (f"raw-{one.experiment}-laptop", "raw results") in written.artifacts
