"""From finished runs to raw files to figures: the same bytes each time, without anything heavy; what is
committed is what is drawn.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import production_fake
import pytest
import safetygym_fake
from matplotlib.figure import Figure

from experiments.support.files import REPOSITORY
from experiments.support.results import claims, collect, saved

sys.path.insert(0, str(REPOSITORY / "scripts"))
figures, gather = (importlib.import_module(name) for name in ("figures", "gather"))

HEAVY = ("torch", "numba", "mujoco", "transformers", "cvxpy", "gymnasium")
RESULTS = REPOSITORY / "results"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for seed in range(2):
        production_fake.write_run(root, seed, "eia")
        production_fake.write_run(root, seed, "eia", n_t=1000)
        for n_t in (1_000_000, 1_000):
            safetygym_fake.write_run(root, seed, n_t=n_t, n=150)
    return root


@pytest.fixture(scope="module")
def kept(runs, tmp_path_factory):
    place = tmp_path_factory.mktemp("raw")
    for figure in ("figure-2", "figure-3"):
        assert gather.main([figure, "--runs", str(runs), "--raw", str(place)]) == 0
    return place


@pytest.fixture(scope="module")
def drawn(kept, rendered_pdf, tmp_path_factory):
    """What is drawn from raw files, and what was said."""
    place, said = tmp_path_factory.mktemp("drawn"), io.StringIO()
    with contextlib.redirect_stdout(said):
        assert figures.main(["--raw", str(kept), "--results", str(place)]) == 0
    return files(place), said.getvalue()


@pytest.fixture
def without_pictures(monkeypatch):
    """Figures are made and captions written; pictures hold one byte, since to render them takes longest."""
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: Path(path).write_bytes(b"-"))


def files(place: Path) -> dict[str, bytes]:
    """Every file below a folder but locks, by its path there."""
    found = (path for path in sorted(place.rglob("*.*")) if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(place)): path.read_bytes() for path in found}


def test_figures_from_raw_files_are_the_same_bytes_twice(kept, drawn, tmp_path):
    (first, said), place = drawn, tmp_path / "b"
    assert figures.main(["--raw", str(kept), "--results", str(place)]) == 0
    second = files(place)
    assert list(first) == list(second)
    assert [name for name in first if first[name] != second[name]] == []
    assert {"figures/figure_2_eia.png", "figures/figure_2_scaling_eia.pdf", "figures/figure_3a.txt",
            "figures/figure_3b.png", "figures/figure_3d.pdf", "tables/production_curves_eia.csv",
            "tables/safetygym_gap.csv", "claims.csv"} <= set(first)  # fmt: skip
    ledger = claims.read(place / "claims.csv")
    assert set(ledger["commit"]) == {"c" * 12}  # of the runs, not of the drawing
    assert set(ledger["command"]) == {"make figure-2", "make figure-3"}
    assert "safetygym.scaling_slope" in set(ledger["claim"])
    assert "not claimed: safetygym.point.times_safer" in said
    assert "Largest violation share of ours over r_t" in first["figures/figure_2_eia.txt"].decode()


def test_raw_files_hold_of_smaller_n_t_only_what_shows_the_scaling(kept, runs):
    found = saved.read_raw(kept / "laptop" / "production")
    smaller = [run for run in found if run.setting("evaluation.n_t")]
    assert {method for run in smaller for method in run.table("weekly")["method"]} == {"ours", "oracle"}
    whole = [run for run in found if not run.setting("evaluation.n_t")]
    before = pd.read_parquet(runs / "production" / whole[0].run / "weekly.parquet")
    pd.testing.assert_frame_equal(whole[0].table("weekly"), before)
    for run in saved.read_raw(kept / "laptop" / "safetygym"):
        points = run.table("episodes").groupby(["method", "r_t", "knob"], dropna=False)
        assert points.size().max() == 100
        assert (points["episodes"].sum() == 150).all()


def test_what_is_drawn_from_raw_files_is_what_is_drawn_from_the_runs(drawn, runs, tmp_path):
    for figure in ("figure-2", "figure-3"):
        assert figures.main([figure, "--runs", str(runs), "--results", str(tmp_path)]) == 0
    from_raw, from_runs = drawn[0], files(tmp_path)
    assert list(from_raw) == list(from_runs)
    assert [name for name in from_raw if from_raw[name] != from_runs[name]] == []


def test_raw_files_name_no_folder_of_this_machine():
    config = {"data": {"path": "/home/someone/demand.csv.gz", "order": [0, 1]}, "output": "results/runs"}
    assert saved.portable(config)["data"] == {"path": "demand.csv.gz", "order": [0, 1]}
    assert saved.portable(config)["output"] == "results/runs"


def test_drawing_loads_nothing_heavy(kept, tmp_path):
    """In a process of its own, as `make figures` runs."""
    code = (
        "import sys; sys.argv[0] = 'figures.py'; sys.path.insert(0, 'scripts'); import figures; "
        f"code = figures.main(['--raw', {str(kept)!r}, '--results', {str(tmp_path)!r}]); "
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules]); sys.exit(code)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "LOADED []"


def test_a_figure_asked_for_without_its_raw_file_is_one_clear_error(tmp_path, capsys):
    options = ["--raw", str(tmp_path), "--results", str(tmp_path / "out")]
    for arguments, said in (
        (
            ["figure-4"],
            "figure-4 has nothing to draw from: .*laptop/llm/runs.json does not exist",
        ),
        (["figure-2", "--preset", "paper"], "paper/production/runs.json does not exist"),
        ([], "there are no raw files under"),
    ):
        assert figures.main([*arguments, *options]) == 1
        error = capsys.readouterr().err
        assert re.search(said, error)
        assert error.startswith("error: ")
        assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_raw_file_of_another_version_is_one_clear_error(kept, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(saved, "FORMAT", saved.FORMAT + 1)
    assert figures.main(["--raw", str(kept), "--results", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "has format 1, this version reads 2: gather the runs again" in error
    assert len(error.splitlines()) == 1


@pytest.mark.usefixtures("without_pictures")
def test_gathering_without_runs_or_of_uncommitted_code_is_one_clear_error(tmp_path, capsys):
    options = ["figure-2", "--runs", str(tmp_path / "runs"), "--raw", str(tmp_path / "raw")]
    assert gather.main(options) == 1
    assert "no finished run of production" in capsys.readouterr().err
    directory = production_fake.write_run(tmp_path / "runs", 0)
    manifest = json.loads((directory / "manifest.json").read_text())
    (directory / "manifest.json").write_text(json.dumps(manifest | {"dirty": True}))
    assert gather.main(options) == 1
    error = capsys.readouterr().err
    assert "run synthetic0 was made from a tree with uncommitted changes" in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "raw").exists()
    assert gather.main([*options, "--dirty"]) == 0
    drawing = ["figure-2", "--raw", str(tmp_path / "raw"), "--results", str(tmp_path / "out")]
    assert figures.main(drawing) == 1
    assert "--dirty" in capsys.readouterr().err
    assert figures.main([*drawing, "--dirty"]) == 0
    assert set(claims.read(tmp_path / "out" / "claims.csv")["commit"]) == {"c" * 12 + "+"}


CAPTIONS = {
    "figure-2": ("figure_2", "production"),
    "figure-3": ("figure_3",),
    "figure-4": ("figure_4",),
    "theory": ("theory",),
}
"""How the names of a figure's captions begin."""
COMMITTED = [
    (preset, name)
    for preset in figures.PRESETS
    for name, publication in figures.FIGURES.items()
    if (collect.RAW / preset / publication.EXPERIMENT / "runs.json").is_file()
]


def differing(place: Path, preset: str, name: str, kinds: set[str]) -> tuple[list[str], dict[str, bytes]]:
    """Files of those kinds that are not what is committed, after drawing below `place`; and all of them."""
    shutil.copy(RESULTS / "claims.csv", place / "claims.csv")
    assert figures.main([name, "--preset", preset, "--results", str(place)]) == 0
    drawn = {name: data for name, data in files(place).items() if Path(name).suffix in kinds}
    return [name for name, data in drawn.items() if (RESULTS / name).read_bytes() != data], drawn


@pytest.mark.parametrize(("preset", "name"), COMMITTED)
@pytest.mark.usefixtures("without_pictures")
def test_what_is_committed_is_what_is_drawn(tmp_path, preset, name):
    """Tables, captions and claims."""
    other, drawn = differing(tmp_path, preset, name, {".csv", ".txt"})
    assert other == []
    place = RESULTS if preset == "laptop" else RESULTS / f"preset_{preset}"
    captions = {
        str(path.relative_to(RESULTS))
        for path in (place / "figures").glob("*.txt")
        if path.name.startswith(CAPTIONS[name])
    }
    assert captions == {name for name in drawn if name.endswith(".txt")}


@pytest.mark.long
@pytest.mark.usefixtures("rendered_pdf")
@pytest.mark.parametrize(("preset", "name"), COMMITTED)
def test_committed_pictures_are_those_that_are_drawn(tmp_path, preset, name):
    """Where matplotlib is the version that is pinned."""
    pinned = f"matplotlib=={importlib.metadata.version('matplotlib')}"
    if pinned not in (REPOSITORY / "requirements.txt").read_text():
        pytest.skip(f"{pinned} is not the version that the pictures were drawn with")
    other, drawn = differing(tmp_path, preset, name, {".png", ".pdf"})
    assert other == []
    assert drawn


def test_every_caption_is_of_a_figure_with_raw_files():
    known = tuple(start for _, name in COMMITTED for start in CAPTIONS[name])
    assert [path for path in RESULTS.rglob("figures/*.txt") if not path.name.startswith(known)] == []


def test_raw_files_are_small():
    assert sum(path.stat().st_size for path in collect.RAW.rglob("*.*")) <= 15e6
