"""A tiny experiment (toy_experiments/toy) found by the same mechanism as the real ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from matplotlib.figure import Figure

from experiments.support import registry
from experiments.support.config import to_object
from experiments.support.files import REPOSITORY
from experiments.support.results import claims
from experiments.support.runs import running

HELPERS = Path(__file__).resolve().parents[1] / "helpers"
TOY_CONFIGS = HELPERS / "toy_configs"
SAVEFIG = Figure.savefig


@pytest.fixture(autouse=True)
def clean_tree(monkeypatch):
    """Claims are recorded as from a clean tree, whatever is being edited."""
    monkeypatch.setattr(claims, "here", lambda: "c" * 12)


@pytest.fixture(scope="session", autouse=True)
def quick_pdf():
    """A PDF takes as long again as a PNG: tests of this folder put a word in its place, but where
    `rendered_pdf` is asked for.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", _without_pdf)
        yield


@pytest.fixture(scope="module")
def rendered_pdf(quick_pdf):
    """In this module from here on figures are saved as users have them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", SAVEFIG)
        yield


def _without_pdf(figure: Figure, path: Path, **options) -> None:
    if options.get("format") == "pdf":
        Path(path).write_bytes(b"%PDF")
    else:
        SAVEFIG(figure, path, **options)


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> Callable:
    """`smoke("theory")`: the directory of a finished run of the smallest preset, made once for all tests and
    all processes that run them (one waits for another that is at work on it); it is only read.
    """
    spread = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if spread else base) / "smoke"

    def smoke_(name: str) -> Path:
        registry.register_schemas()
        words = [f"experiment={name}", "preset=smoke", f"output={root}", "threads=1", "progress=false"]
        with initialize_config_dir(str(REPOSITORY / "configs"), version_base="1.3"):
            composed = compose("config", overrides=words)
        experiment = registry.get(name)
        return running.perform(experiment, to_object(composed, experiment.schema))

    return smoke_


@pytest.fixture
def toy_package(monkeypatch):
    monkeypatch.setenv("SAFEFRAME_EXPERIMENTS", "toy_experiments")
    for name in ("TOY_LOG", "TOY_KILL_AT", "TOY_FAIL", "TOY_SLEEP"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def composed(toy_package, tmp_path) -> Callable:
    """Compose a configuration as run.py does: `composed("seed=1")`."""

    def compose_(*overrides: str):
        registry.register_schemas()
        search = f"hydra.searchpath=[file://{TOY_CONFIGS}]"
        with initialize_config_dir(str(REPOSITORY / "configs"), version_base="1.3"):
            arguments = [search, "experiment=toy", f"output={tmp_path}", "progress=false", *overrides]
            return compose("config", overrides=arguments)

    return compose_


@pytest.fixture
def toy(composed) -> Callable:
    """A checked configuration object of the toy experiment."""
    return lambda *overrides: to_object(composed(*overrides), registry.get("toy").schema)


@pytest.fixture
def run_toy(toy) -> Callable:
    """Do a run of the toy experiment in this process; its directory."""
    return lambda *overrides: running.perform(registry.get("toy"), toy(*overrides))


@pytest.fixture
def command(toy_package, tmp_path) -> Callable:
    """`python run.py ...` in a process of its own; with wait=False, the running process."""

    def command_(*overrides: str, wait: bool = True, multirun: bool = False, **environment: str):
        path = os.pathsep.join([str(HELPERS), os.environ.get("PYTHONPATH", "")])
        arguments = [sys.executable, str(REPOSITORY / "run.py"), f"--config-dir={TOY_CONFIGS}"]
        arguments += ["--multirun"] * multirun
        arguments += ["experiment=toy", f"output={tmp_path / 'runs'}", *overrides]
        process = subprocess.Popen(
            arguments,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": path} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if not wait:
            return process
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    return command_
