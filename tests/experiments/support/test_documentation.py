"""README, map of the paper and notebook say what is there: names exist, examples run."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import jupytext
import pytest
from hydra import compose, initialize_config_dir
from nbclient import NotebookClient
from omegaconf import OmegaConf

from experiments.production.config import ProductionConfig
from experiments.support import registry
from experiments.support.config import to_object
from experiments.support.files import REPOSITORY
from experiments.support.results import claims

README = REPOSITORY / "README.md"
PAPER_MAP = REPOSITORY / "docs" / "paper_map.md"
THEORY = REPOSITORY / "docs" / "theory.md"
DOCUMENTS = (README, PAPER_MAP, THEORY, REPOSITORY / "CONTRIBUTING.md")
MADE = {"results/runs", "results/figures"}  # by the commands that the documents name
NOTEBOOK = REPOSITORY / "notebooks" / "guard_your_own_model.py"
THEORY_NOTEBOOK = REPOSITORY / "notebooks" / "theory_in_two_dimensions.py"
FIXED_OUTPUT = re.compile(r"<!-- test: .*?-->\n```python\n(.*?)```\n\nIt prints\n\n```\n(.*?)```", re.S)


def text_of(path: Path) -> str:
    """A document without its HTML comments."""
    return re.sub(r"<!--.*?-->", "", path.read_text(), flags=re.S)


def quoted(path: Path) -> list[str]:
    """Everything between single backticks, outside code blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text_of(path), flags=re.S))


@cache
def exists(dotted: str) -> bool:
    """Whether a dotted name is a module or something in one."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            if not hasattr(found, name) and name not in getattr(found, "__annotations__", {}):
                return False
            found = getattr(found, name, None)
        return True
    return False


def is_path(text: str) -> bool:
    return bool(re.fullmatch(r"[\w.-]*(/[\w.-]+)+/?", text)) and text.split("/")[0] in {
        "configs", "docs", "experiments", "notebooks", "results", "safeframe", "scripts", "tests",
    }  # fmt: skip


def test_the_check_itself_can_fail():
    assert exists("safeframe.risk_curve.RiskCurve.bound")
    assert exists("safeframe.internal_test.InternalTestData.n_t")
    assert not exists("safeframe.risk_curve.RiskCurve.bounds")
    assert not exists("safeframe.no_such_module.function")
    assert is_path("docs/paper_map.md")
    assert not is_path("and/or")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_functions_named_exist(document):
    named = [
        text.split("(")[0] for text in quoted(document) if re.match(r"(safeframe|experiments)\.\w", text)
    ]
    assert named or document != PAPER_MAP
    assert [name for name in named if not exists(name)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_named_exist(document):
    text = text_of(document)
    named = [name for name in quoted(document) if is_path(name)]
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:|#", link)]
    assert links or document != README
    missing = [name for name in named if not (REPOSITORY / name).exists() and name not in MADE]
    missing += [link for link in links if not (document.parent / link.split("#")[0]).exists()]
    assert missing == []


def test_tests_named_in_the_map_exist():
    named = [text for text in quoted(PAPER_MAP) if text.startswith("tests/")]
    assert len(named) > 20
    for text in named:
        file, _, function = text.partition("::")
        source = (REPOSITORY / file).read_text()
        assert not function or f"def {function}(" in source, text


def test_settings_named_in_the_map_exist():
    config = OmegaConf.structured(ProductionConfig)
    sections = ("data", "problem", "model", "training", "evaluation")
    named = [text for text in quoted(PAPER_MAP) if re.fullmatch(rf"({'|'.join(sections)})\.[\w.]+", text)]
    assert len(set(named)) > 10
    for key in named:
        section, _, name = key.partition(".")
        assert name in config[section], key


def test_hyper_parameters_in_the_map_are_those_of_the_configuration():
    config = ProductionConfig(experiment="production")
    text = PAPER_MAP.read_text().split("## Hyper-parameters")[1].split("\n## ")[0]
    checked = 0
    for keys in re.findall(
        r"^\|[^|]+\|[^|]*\| *([^|]+?) *\| *(`(?:model|training)\.[^|]+?) *\|$", text, re.M
    ):
        shown = [float(number) for number in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?:e-?\d+)?", keys[0])]
        values = []
        for key in re.findall(r"`([\w.]+)`", keys[1]):
            section, name = key.split(".")
            values.append(float(getattr(getattr(config, section), name)))
        assert shown == values, keys
        checked += len(values)
    assert checked >= 9


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_make_targets_named_exist(document):
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (REPOSITORY / "Makefile").read_text(), re.M))
    named = [
        target
        for text in re.findall(r"(?:^|`)make ((?:[a-z][a-z0-9-]* ?)+)", text_of(document), re.M)
        for target in text.split()
    ]
    assert named
    assert set(named) <= targets


def test_commands_of_the_readme_compose():
    """Every `python run.py ...` line gives a valid configuration of its experiment."""
    lines = re.findall(r"python run\.py ([^#`\n]+)", text_of(README) + PAPER_MAP.read_text())
    assert len(lines) >= 5
    registry.register_schemas()
    for line in lines:
        words = [word for word in line.split() if not word.startswith("-")]
        with initialize_config_dir(str(REPOSITORY / "configs"), version_base="1.3"):
            composed = compose("config", overrides=words)
        to_object(composed, registry.get(composed.experiment).schema)


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
        assert 0.5 * float(r_t) < float(share) < 1.5 * float(r_t)
    assert printed.rstrip().endswith("True")


def test_the_theory_notebook_runs_and_its_statements_hold(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    printed, pictures = printed_by(THEORY_NOTEBOOK)
    assert pictures == 4
    assert "below the bound of all three data sets: True" in printed
    assert "beyond the coverage radius" in printed
    assert float(re.search(r"refused in distribution: ([\d.]+)", printed).group(1)) < 0.013
    assert printed.rstrip().endswith("True")


def test_theory_figures_are_all_explained():
    """Every committed figure of the theory has its paragraph and its caption."""
    shown = {path.stem for path in (REPOSITORY / "results" / "figures").glob("theory_*.png")}
    assert len(shown) == 9
    text = THEORY.read_text()
    for name in shown:
        assert f"../results/figures/{name}.png" in text, name
        assert (REPOSITORY / "results" / "figures" / f"{name}.txt").is_file()


def test_theory_claims_quoted_are_those_of_the_ledger():
    """Numbers in docs/theory.md that stand behind a claim's name are the committed ones."""
    ledger = claims.read(REPOSITORY / "results" / "claims.csv")
    ledger = ledger[~ledger["data"].eq("synthetic")].set_index("claim")
    pattern = r"`((?:theory|certificates|coverage|production)\.[a-z0-9_.]+)` (-?\d[\d.]*(?:e-?\d+)?)"
    quoted_claims = re.findall(pattern, THEORY.read_text())
    assert len(quoted_claims) >= 15
    for name, number in quoted_claims:
        shown = float(number)
        value = float(ledger.loc[name, "value"])
        assert shown == pytest.approx(value, rel=0.02, abs=1e-12), name


def test_the_results_table_can_be_filled():
    text = README.read_text()
    assert text.count("<!-- results:begin -->") == text.count("<!-- results:end -->") == 1
    assert text.index("<!-- results:begin -->") < text.index("<!-- results:end -->")
