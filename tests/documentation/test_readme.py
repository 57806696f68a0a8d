"""The README is a door: short, one table, and its ten lines run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys

from hydra import compose, initialize_config_dir

from experiments.support import registry
from experiments.support.config import to_object
from experiments.support.files import REPOSITORY

README = REPOSITORY / "README.md"
GUARD_PAGE = REPOSITORY / "docs" / "guard_your_own_model.md"
FIXED_OUTPUT = re.compile(r"```python\n(import numpy.*?)```\n\nIt prints\n\n```\n(.*?)```", re.S)


def test_it_is_short():
    text = README.read_text()
    assert len(text.split()) <= 900
    assert len(text.splitlines()) <= 150


def test_one_table_of_headlines_each_with_its_page():
    tables = re.findall(r"(?:^\|.*\n)+", README.read_text(), re.M)
    assert len(tables) == 1
    rows = tables[0].splitlines()[2:]
    assert 5 <= len(rows) <= 10
    assert all(re.search(r"\]\(docs/[\w/]+\.md", row) for row in rows)


def test_the_two_commands_and_one_picture():
    text = README.read_text()
    assert re.findall(r"^make (\w+)", text, re.M) == ["run", "test"]
    assert len(re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)) == 1


def test_the_ten_lines_run_and_print_what_the_readme_says():
    found = FIXED_OUTPUT.search(README.read_text())
    assert found, "the README's block on SafetyGuard is gone"
    code, expected = found.groups()
    statements = [line for line in code.splitlines() if line.strip()]
    assert len(statements) <= 13  # imports, a made-up problem, and the guard
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == expected


def test_the_page_on_guarding_shows_the_same_lines():
    assert FIXED_OUTPUT.search(GUARD_PAGE.read_text()).groups() == (
        FIXED_OUTPUT.search(README.read_text()).groups()
    )


def test_commands_of_readme_and_pages_compose():
    """Every `python run.py ...` gives a valid configuration of its experiment."""
    pages = [README, REPOSITORY / "CONTRIBUTING.md", *(REPOSITORY / "docs").rglob("*.md")]
    lines = [
        line
        for page in pages
        for line in re.findall(r"python run\.py ([^#`\n]+)", page.read_text())
        if "-m" not in line.split()
    ]
    assert len(lines) >= 12
    registry.register_schemas()
    for line in lines:
        words = [word for word in line.split() if not word.startswith("-")]
        with initialize_config_dir(str(REPOSITORY / "configs"), version_base="1.3"):
            composed = compose("config", overrides=words)
        to_object(composed, registry.get(composed.experiment).schema)
