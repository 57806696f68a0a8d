"""Bad input to production planning: one clear message, the right exit code, nothing half-written."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from front_door import is_one_line, is_refused, typed

from experiments.support.files import REPOSITORY

QUARTER = 400
HOURS = 4 * QUARTER + 47
NAMES = ("north", "south", "east", "west")
SMALL = (
    "experiment=production", "preset=smoke", "progress=false", "threads=1",
    f"data.hours_per_quarter={QUARTER}", "training.epochs=1", "training.steps=2",
    "training.inputs=64", "training.test_cases=128", "evaluation.penalties=[10.0]",
)  # fmt: skip


@pytest.fixture
def command(tmp_path, monkeypatch, capsys) -> Callable:
    """run.py as typed, in this process: (exit code, stdout, stderr); runs go to tmp_path/runs."""

    def command_(*overrides: str) -> tuple[int, str, str]:
        monkeypatch.delenv("SAFEFRAME_EIA_CSV", raising=False)
        capsys.readouterr()
        code = typed(*SMALL, f"output={tmp_path / 'runs'}", *overrides)
        return code, *capsys.readouterr()

    return command_


def table(seed: int = 0) -> pd.DataFrame:
    """Hourly series with a daily wave, as text cells, which the reader takes."""
    rng, hour = np.random.default_rng(seed), np.arange(HOURS)
    times = pd.date_range("2021-01-01", periods=HOURS, freq="h").strftime("%Y-%m-%d %H:%M:%S")
    waves = {
        name: 1000 + 400 * np.sin(2 * np.pi * (hour - 3 * i) / 24) + 120 * rng.normal(size=HOURS)
        for i, name in enumerate(NAMES)
    }
    return pd.DataFrame({"utc_hour": times, **waves}).round(1).astype(str)


def put(column: str, row: int, cell: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[row, column] = cell
        return frame

    return change


def never_low(frame: pd.DataFrame) -> pd.DataFrame:
    """Without a low hour of `east` in the last quarter: the class "unsafe" is absent there."""
    last = np.arange(HOURS) >= HOURS - QUARTER
    frame.loc[last, "east"] = "1400.0"
    return frame


CONFIGURATIONS = {
    "threshold 0": (["r_t=0"], "r_t is 0.0; a probability threshold must lie in (0, 1]"),
    "threshold 2": (["r_t=2"], "r_t is 2.0; a probability threshold must lie in (0, 1]"),
    "threshold NaN": (["r_t=nan"], "r_t is nan"),
    "unknown key": (["training.epochz=1"], "epochz"),
    "wrong type": (["training.epochs=many"], "training.epochs"),
    "wrong section": (["data=weather"], "weather"),
    "no path": (["data=eia"], "data.path is missing: data=eia needs data.path=/path/to/demand.csv.gz"),
    "no file": (["data=eia", "data.path=/no/such.csv"], "data.path: no such file: '/no/such.csv'"),
    "infeasible": (["problem.capacity=[-1,6,6,6]"], "problem.capacity[0] = -1: it must be >= 0"),
    "no slope": (["problem.slope=[1,1,0,1]"], "problem.slope[2] = 0: it must be > 0"),
    "three products": (
        ["problem.price=[1,1,1]"],
        "problem.slope has shape (4,); (3,) is needed for",
    ),
    "negative radius": (["evaluation.xi=-1"], "evaluation.xi is -1.0; the radius xi must be finite and >= 0"),
    "infinite radius": (["evaluation.xi=inf"], "evaluation.xi is inf"),
    "radius is a word": (
        ["evaluation.xi=abc"],
        "evaluation.xi='abc': \"measured\" or a number >= 0",
    ),
    "threshold to validate": (["evaluation.thresholds=[2.0]"], "evaluation.thresholds[0] is 2.0"),
    "penalty twice": (["evaluation.penalties=[1.0,1.0]"], "evaluation.penalties[1]=1.0 is there already"),
    "too many cases": (["evaluation.n_t=9999"], "evaluation.n_t=9999 is out of range"),
    "priced per product": (
        ["evaluation.choice=priced"],
        "evaluation.choice=priced promises the share of all products together",
    ),
    "no constraint": (["evaluation.constraint=each"], "evaluation.constraint='each'"),
    "no part": (["evaluation.parts=[]"], "name at least one part"),
    "order": (["data.order=[0,1,2,2]"], "order = [0, 1, 2, 2]: it must hold each of 0, 1, 2, 3 once or more"),
}


@pytest.mark.parametrize("kind", list(CONFIGURATIONS))
def test_a_wrong_configuration_writes_nothing(command, tmp_path, kind):
    overrides, message = CONFIGURATIONS[kind]
    code, out, err = command(*overrides)
    is_refused(code, out, err, message)
    assert list(tmp_path.iterdir()) == []


FILES = {
    "column missing": (lambda f: f.drop(columns="east"), "4 series are needed beside utc_hour; the file has"),
    "no time": (lambda f: f.drop(columns="utc_hour"), "column utc_hour is missing"),
    "gap": (lambda f: f.drop(index=[50, 51]), "line 52: hours missing"),
    "NaN": (put("south", 20, "NaN"), "line 22 (2021-01-01 20:00:00): south = 'NaN' is missing or no number"),
    "negative": (put("north", 3, "-1"), "line 5 (2021-01-01 03:00:00): north = '-1' is negative"),
    "constant": (lambda f: f.assign(north="7"), "series north constant in the training quarter"),
    "too few": (lambda f: f[: 4 * QUARTER - 1], "too few hours: the series have 1,599; 1,600 are needed"),
    "class absent": (
        never_low,
        "east: 0 of 168 hours in the even weeks of the internal test quarter for",
    ),
}


@pytest.mark.parametrize("kind", list(FILES))
def test_a_wrong_file_fails_before_anything_is_trained(command, tmp_path, kind):
    change, message = FILES[kind]
    path = tmp_path / "demand.csv"
    change(table()).to_csv(path, index=False)
    code, out, err = command("data=eia", f"data.path={path}")
    assert (code, out) == (1, ""), err
    is_one_line(err, message)
    assert {folder.name for folder in (tmp_path / "runs").iterdir()} == {"production"}  # no cache
    (directory,) = (tmp_path / "runs" / "production").glob("[!.]*")
    assert {file.name for file in directory.iterdir()} == {"config.yaml", "manifest.json", "error.txt"}
    assert message in (directory / "error.txt").read_text()


def test_a_good_file_runs(command, tmp_path):
    """The table that the tests above break is one that works."""
    path = tmp_path / "demand.csv"
    table().to_csv(path, index=False)
    code, out, err = command("data=eia", f"data.path={path}")
    assert code == 0, err
    assert "ours" in out


def test_too_few_cases_of_a_class_are_told_by_product(command, tmp_path):
    code, _, err = command("data.hours_per_quarter=100")
    assert code == 1
    assert "safe and unsafe hours are both needed there" in err
    assert not (tmp_path / "runs" / "cache").exists()


def test_the_same_from_a_shell(tmp_path):
    """One case in a process of its own: what the tests above do in this one."""
    path = tmp_path / "demand.csv"
    put("north", 3, "-1")(table()).to_csv(path, index=False)
    arguments = [*SMALL, f"output={tmp_path / 'runs'}", "data=eia", f"data.path={path}"]
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "run.py"), *arguments],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith(
        f"error: {path}, line 5 (2021-01-01 03:00:00): north = '-1'"
    )
    assert "Traceback" not in done.stderr
    assert {file.name for file in Path(tmp_path / "runs").iterdir()} == {"production"}
