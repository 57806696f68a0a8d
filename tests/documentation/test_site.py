"""The site builds without a network and shows what the pages show; links lead somewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.support.files import REPOSITORY
from scripts import check_links, draw_pipeline

NO_NETWORK = """
import runpy, socket, sys
def refuse(*arguments, **options):
    raise OSError("the site was to be built without a network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
sys.argv = ["mkdocs", *sys.argv[1:]]
runpy.run_module("mkdocs", run_name="__main__", alter_sys=True)
"""


def build(config: Path, site: Path) -> subprocess.CompletedProcess:
    command = ["build", "--strict", "--config-file", str(config), "--site-dir", str(site)]
    return subprocess.run(
        [sys.executable, "-c", NO_NETWORK, *command],
        cwd=config.parent,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("site")
    done = build(REPOSITORY / "mkdocs.yml", place)
    assert done.returncode == 0, done.stdout + done.stderr
    return place


def pages(site: Path) -> list[Path]:
    return [path for path in sorted(site.rglob("*.html")) if path.name != "404.html"]


def test_every_page_of_docs_is_there_and_templates_are_not(site):
    names = {path.relative_to(site).with_suffix("").as_posix() for path in pages(site)}
    for page in (REPOSITORY / "docs").rglob("*.md"):
        name = page.relative_to(REPOSITORY / "docs").with_suffix("").as_posix()
        assert (name in names) == (not name.startswith("tables/")), name


def test_pictures_and_files_linked_are_in_the_site(site):
    """Links and pictures of every built page; figures and notebooks come from outside docs/."""
    seen = set()
    for page in pages(site):
        text = page.read_text()
        for target in re.findall(r"<(?:img|a)[^>]* (?:src|href)=\"([^\"#?]+)", text):
            if not re.match(r"[a-z]+:|/", target):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
                seen.add((page.parent / target).resolve().relative_to(site.resolve()).as_posix())
    expected = {
        "images/pipeline.png",
        "results/figures/figure_2_eia.png",
        "results/figures/figure_3a.png",
        "results/figures/figure_4_synthetic.png",
        "results/figures/theory_certificates.png",
        "results/tables/production_per_product_eia.csv",
        "notebooks/guard_your_own_model.py",
    }
    assert expected <= seen
    assert (site / "results/figures/figure_3a.png").read_bytes() == (
        REPOSITORY / "results/figures/figure_3a.png"
    ).read_bytes()


def test_nothing_is_loaded_from_elsewhere(site):
    for page in pages(site):
        loaded = re.findall(
            r"<(?:script|img|iframe)[^>]* src=\"([^\"]+)|<link[^>]* href=\"([^\"]+)", page.read_text()
        )
        assert [a or b for a, b in loaded if re.match(r"(https?:)?//", a or b)] == [], page.name
    for style in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//|@import", style.read_text()), style.name


def test_the_api_says_what_docstrings_say(site):
    text = (site / "api" / "guard.html").read_text()
    assert 'id="safeframe.guard.safety_guard.SafetyGuard.act"' in text
    assert 'id="safeframe.guard.safety_guard.SafetyGuard.__repr__"' not in text
    assert "Raises:" in text
    text = (site / "api" / "coverage.html").read_text()
    assert "<code>conditional_inflation</code>" in text
    assert ":func:" not in text


def test_a_page_of_the_api_for_every_module():
    shown = {
        name
        for page in (REPOSITORY / "docs" / "api").glob("*.md")
        for name in re.findall(r"^::: ([\w.]+)$", page.read_text(), re.M)
    }
    modules = {
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        for path in (REPOSITORY / "safeframe").rglob("*.py")
        if path.name != "__init__.py"
    }
    assert modules - shown == {"safeframe.lazy", "safeframe.tensors"}  # nothing for users


@pytest.mark.parametrize(
    ("link", "said"),
    [("none.md", "none.md"), ("index.md#none", "no such anchor"), ("../results/none.png", "none.png")],
)
def test_a_broken_link_stops_the_build(tmp_path, link, said):
    (tmp_path / "docs").mkdir()
    (tmp_path / "scripts").mkdir()
    for name in ("site_hooks.py", "check_links.py"):
        shutil.copy(REPOSITORY / "scripts" / name, tmp_path / "scripts")
    config = (REPOSITORY / "mkdocs.yml").read_text()
    validation = re.search(r"^validation:\n(?: .*\n)+", config, re.M)[0]
    (tmp_path / "mkdocs.yml").write_text(
        f"site_name: a\nplugins: []\nhooks: [scripts/site_hooks.py]\n{validation}"
    )
    (tmp_path / "docs" / "index.md").write_text(f"# A\n\n[there]({link})\n")
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode == 1
    assert said in done.stdout + done.stderr


def test_links_of_all_documents_lead_somewhere():
    paths = check_links.documents()
    assert {
        REPOSITORY / "README.md",
        REPOSITORY / "CONTRIBUTING.md",
        REPOSITORY / "docs" / "theory.md",
    } <= set(paths)
    assert [f"{path.name}: {wrong}" for path in paths for wrong in check_links.broken(path)] == []


def test_broken_links_and_anchors_are_named(tmp_path):
    page = tmp_path / "page.md"
    (tmp_path / "other.md").write_text(
        "# One `two` (ζ), three\n\n## Twice\n\n## Twice\n\n```\n# no heading\n```\n"
    )
    page.write_text(
        "[a](other.md) [b](other.md#one-two-ζ-three) [c](other.md#twice-1) [d](#here) [e](https://x.org/none)\n"
        "# Here\n`[f](none.md)`\n\n```\n[g](none.md)\n```\n"
    )
    assert check_links.broken(page) == []
    page.write_text('[a](none.md) [b](other.md#no-heading) ![c](none.png) <img src="gone.png"> [d](#none)')
    assert check_links.broken(page) == [
        "none.md: there is no such file",
        "other.md#no-heading: other.md has no heading with this anchor",
        "none.png: there is no such file",
        "gone.png: there is no such file",
        "#none: page.md has no heading with this anchor",
    ]


def test_the_picture_is_what_its_script_draws(tmp_path):
    draw_pipeline.draw(tmp_path / "pipeline.png")
    assert (tmp_path / "pipeline.png").read_bytes() == draw_pipeline.PICTURE.read_bytes()
