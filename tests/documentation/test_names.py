"""What the documents name is there: functions, files, tests, settings, make targets, claims."""

from __future__ import annotations

import importlib
import re
from functools import cache
from pathlib import Path

import pytest

from experiments.llm.config import SCHEMA as LLM
from experiments.production.config import SCHEMA as PRODUCTION
from experiments.safetygym.config import SCHEMA as SAFETYGYM
from experiments.support.files import REPOSITORY
from experiments.support.results import claims

DOCS = REPOSITORY / "docs"
README = REPOSITORY / "README.md"
PAPER_MAP = DOCS / "paper_map.md"
THEORY = DOCS / "theory.md"
SETTINGS = DOCS / "settings.md"
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if page.parent != DOCS / "tables" and page != SETTINGS]
DOCUMENTS = [README, REPOSITORY / "CONTRIBUTING.md", *PAGES]
MADE = {"results/runs", "results/runs/cache"}  # by the commands that the documents name
every_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY))
)


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


def first_paragraph(path: Path) -> str:
    return next(part for part in text_of(path).split("\n\n")[1:] if part.strip())


def test_the_check_itself_can_fail():
    assert exists("safeframe.risk_curve.RiskCurve.bound")
    assert exists("safeframe.internal_test.InternalTestData.n_t")
    assert not exists("safeframe.risk_curve.RiskCurve.bounds")
    assert not exists("safeframe.no_such_module.function")
    assert is_path("docs/paper_map.md")
    assert not is_path("and/or")


def test_the_pages_are_found():
    assert {PAPER_MAP, THEORY, DOCS / "experiments" / "production.md", DOCS / "api" / "guard.md"} <= set(
        PAGES
    )


@every_document
def test_functions_named_exist(document):
    named = [
        text.split("(")[0] for text in quoted(document) if re.match(r"(safeframe|experiments)\.\w", text)
    ]
    named += re.findall(r"^::: ([\w.]+)$", document.read_text(), re.M)
    assert named or document != PAPER_MAP
    assert [name for name in named if not exists(name)] == []


@every_document
def test_files_named_exist(document):
    named = [name for name in quoted(document) if is_path(name)]
    assert [name for name in named if not (REPOSITORY / name).exists() and name not in MADE] == []


@every_document
def test_tests_named_exist(document):
    named = [text for text in quoted(document) if text.startswith("tests/")]
    assert len(named) > 20 or document != PAPER_MAP
    for text in named:
        file, _, function = text.partition("::")
        assert (REPOSITORY / file).exists(), text
        assert not function or f"def {function}(" in (REPOSITORY / file).read_text(), text


@every_document
def test_make_targets_named_exist(document):
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (REPOSITORY / "Makefile").read_text(), re.M))
    named = [
        target
        for text in re.findall(r"(?:^|`)make ((?:[a-z][a-z0-9-]* ?)+)", text_of(document), re.M)
        for target in text.split()
    ]
    assert named or document not in (README, REPOSITORY / "CONTRIBUTING.md")
    assert set(named) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_every_page_begins_with_a_paragraph_for_a_stranger(page):
    """Sentences, not a table, a command or a formula; symbols of the paper come later."""
    paragraph = first_paragraph(page)
    assert page.read_text().startswith("# ")
    assert paragraph[0].isalnum() or paragraph[0] == "`"
    assert len(paragraph.split()) >= 15
    assert not re.search(r"[ξζτβλ]|\br_t\b|\bn_t\b", paragraph)


def test_settings_named_in_the_map_exist():
    sections = (
        "data",
        "problem",
        "model",
        "training",
        "evaluation",
        "internal_test",
        "classifier",
        "learning",
        "tailored",
    )
    named = {
        text.split("=")[0]
        for text in quoted(PAPER_MAP)
        if re.fullmatch(rf"({'|'.join(sections)})\.\w+(=[\w.]+)?", text)
    }
    assert len(named) > 20
    assert [
        key for key in named if not any(has(schema(), key) for schema in (PRODUCTION, SAFETYGYM, LLM))
    ] == []


def has(settings: object, key: str) -> bool:
    for name in key.split("."):
        if not hasattr(settings, name):
            return False
        settings = getattr(settings, name)
    return True


def test_hyper_parameters_in_the_map_are_those_of_the_configuration():
    config = PRODUCTION(experiment="production")
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


def test_theory_figures_are_all_explained():
    """Every committed figure of the theory has its paragraph and its caption."""
    shown = {path.stem for path in (REPOSITORY / "results" / "figures").glob("theory_*.png")}
    assert len(shown) == 15
    text = THEORY.read_text()
    for name in shown:
        assert f"../results/figures/{name}.png" in text, name
        assert (REPOSITORY / "results" / "figures" / f"{name}.txt").is_file()


def test_theory_claims_quoted_are_those_of_the_ledger():
    """Numbers in docs/theory.md that stand behind a claim's name are the committed ones."""
    ledger = claims.read(REPOSITORY / "results" / "claims.csv")
    ledger = ledger[~ledger["data"].eq("synthetic")].set_index("claim")
    kinds = "theory|certificates|coverage|production|guard|monitor|priced"
    pattern = rf"`((?:{kinds})\.[a-z0-9_.]+)` (-?\d[\d.]*(?:e-?\d+)?)"
    quoted_claims = re.findall(pattern, THEORY.read_text())
    assert len(quoted_claims) >= 15
    for name, number in quoted_claims:
        shown = float(number)
        value = float(ledger.loc[name, "value"])
        assert shown == pytest.approx(value, rel=0.02, abs=1e-12), name
