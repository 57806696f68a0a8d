"""The package as others install it: what its wheel holds and says, and that it works from there."""

from __future__ import annotations

import ast
import email
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

from experiments.support.files import REPOSITORY

TEN_LINES = re.compile(r"```python\n(.*?from safeframe import .*?)```\n\nIt prints\n\n```\n(.*?)```", re.S)
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints; neither the repository nor a caller's PYTHONPATH is on its path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without a network from a copy, so that no earlier build's files get into it."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    for name in ("safeframe", "experiments/support", "tests/safeframe"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", "dist")
    run(sys.executable, "-m", "pip", "wheel", *options, ".", cwd=source)
    [built] = (source / "dist").iterdir()
    return built


def test_the_wheel_holds_the_library_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        files = set(archive.namelist())
    meta = {name for name in files if name.startswith(f"safeframe-{PROJECT['version']}.dist-info/")}
    modules = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "safeframe").rglob("*.py")}
    assert files - meta == modules | {"safeframe/py.typed"}


def test_the_wheel_says_what_it_is(wheel):
    with zipfile.ZipFile(wheel) as archive:
        info = f"safeframe-{PROJECT['version']}.dist-info"
        metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
        assert archive.read(f"{info}/licenses/LICENSE") == (REPOSITORY / "LICENSE").read_bytes()
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Description-Content-Type"] == "text/markdown"
    text = metadata.get_payload(decode=True)
    assert isinstance(text, bytes)
    assert text.decode().strip() == (REPOSITORY / "README.md").read_text().strip()
    assert "Paper, https://arxiv.org/abs/2504.20924" in metadata.get_all("Project-URL", [])
    assert metadata["Requires-Python"] == "<3.14,>=3.11"


def test_the_wheel_runs_the_ten_lines_in_an_empty_environment_from_another_folder(wheel, tmp_path):
    found = TEN_LINES.search((REPOSITORY / "README.md").read_text())
    assert found, "the README's block on SafetyGuard is gone"
    code, expected = found.groups()
    place = tmp_path / "environment"
    venv.create(place, symlinks=True, with_pip=False)
    python = place / "bin" / "python"
    names = {"base": str(place), "platbase": str(place)}
    packages = Path(sysconfig.get_path("purelib", "venv", vars=names))
    options = ("--quiet", "--no-deps", "--no-index", "--target", packages)
    run(sys.executable, "-m", "pip", "install", *options, wheel, cwd=tmp_path)
    # Dependencies come from where the tests run, without what is installed there by .pth files, as this
    # repository is when it is editable.
    (packages / "dependencies.pth").write_text(
        "\n".join(sorted(set(map(sysconfig.get_path, ("purelib", "platlib")))))
    )

    where = run(python, "-c", "import safeframe; print(safeframe.__file__)", cwd=tmp_path)
    assert where.strip() == str(packages / "safeframe" / "__init__.py")
    absent = "import importlib.util as u; print(u.find_spec('experiments'))"
    assert run(python, "-c", absent, cwd=tmp_path) == "None\n"
    assert run(python, "-c", code, cwd=tmp_path) == expected
    version = "from importlib.metadata import version; print(version('safeframe'))"
    assert run(python, "-c", version, cwd=tmp_path).strip() == PROJECT["version"]


def test_core_dependencies_are_all_that_the_library_imports():
    imported = set()
    for path in (REPOSITORY / "safeframe").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    core = {re.split(r"[<>=~! ]", line)[0] for line in PROJECT["dependencies"]}
    optional = {"faiss", "pyarrow", "sklearn"}  # the extras of these names
    of_the_experiments = {"browser", "chat", "cluster", "dashboards", "report", "store", "tensorboard"}
    assert imported - sys.stdlib_module_names - {"safeframe"} - optional <= core
    assert optional | of_the_experiments == set(PROJECT["optional-dependencies"])
    assert not optional & of_the_experiments


def test_the_version_is_the_same_everywhere():
    version = PROJECT["version"]
    assert f"\nversion: {version}\n" in (REPOSITORY / "CITATION.cff").read_text()
    newest = re.search(r"^## \[?(\d+\.\d+\.\d+)", (REPOSITORY / "CHANGELOG.md").read_text(), re.M)
    assert newest is not None
    assert newest[1] == version


def test_pinned_requirements_satisfy_what_the_package_asks_for():
    pinned = dict(re.findall(r"^([\w-]+)==(\d+\.\d+)", (REPOSITORY / "requirements.txt").read_text(), re.M))
    for line in PROJECT["dependencies"]:
        name, least = re.fullmatch(r"([\w-]+)>=([\d.]+)", line).groups()
        assert numbers(pinned[name]) >= numbers(least)


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def test_ci_and_hooks_call_the_same_two_commands():
    workflow = yaml.safe_load((REPOSITORY / ".github" / "workflows" / "ci.yml").read_text())
    assert [step["run"] for step in workflow["jobs"]["check"]["steps"] if "run" in step] == [
        "make lint",
        "make test",
    ]
    hooks = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["entry"] for hook in hooks] == ["make lint", "make test"]
    assert (REPOSITORY / ".ci" / "run").read_text().rstrip().endswith("\nmake lint test")
    pythons = workflow["jobs"]["check"]["strategy"]["matrix"]["python"]
    named = [
        line for line in PROJECT["classifiers"] if line.startswith("Programming Language :: Python :: 3.")
    ]
    assert [f"Programming Language :: Python :: {python}" for python in pythons] == named


def refused(*settings: str) -> str:
    """What `make setup` says when it refuses these settings; make's own last line left out."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--no-print-directory", "setup", *settings]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=ours, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert done.stdout == ""
    [said, _] = done.stderr.splitlines()
    return said


def test_setup_names_the_pythons_that_it_takes(tmp_path):
    old = tmp_path / "python-of-yesterday"
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 10, 9)\n$2"\n')
    old.chmod(0o755)
    said = refused(f"PYTHON={old}", f"VENV={tmp_path / 'venv'}")
    assert said.startswith(f"error: Python 3.11 to 3.13 is needed, {old} is 3.10.9; ")
    said = refused("PYTHON=no-such-python", f"VENV={tmp_path / 'venv'}")
    assert said.startswith("error: no-such-python does not run; ")
    assert not (tmp_path / "venv").exists()


def test_setup_does_not_take_an_environment_of_another_python_for_the_one_asked_for(tmp_path):
    for place, version in (("asked", "3.12.1"), ("venv/bin/python", "3.11.7")):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\necho Python {version}\n")
        path.chmod(0o755)
    (tmp_path / "venv" / ".ready").touch()
    said = refused(f"PYTHON={tmp_path / 'asked'}", f"VENV={tmp_path / 'venv'}")
    assert said.startswith(
        f"error: {tmp_path / 'venv'} is of Python 3.11.7, {tmp_path / 'asked'} is Python 3.12.1: "
    )
