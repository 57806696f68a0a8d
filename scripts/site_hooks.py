"""Hooks of the site's builder (mkdocs.yml): files outside docs/ that a page shows or links to.

Pages link to figures, tables and notebooks where they are (`../results/figures/figure_3a.png`), so that the
links work in the repository as well. The builder knows docs/ only: each such file goes into the site under
its path from the repository's root, and the link is turned to it. A page whose text holds
`<!-- include: FILE -->` gets the text of that file, without its first heading. What does not exist stays as
it is, and the builder stops at it (--strict).
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).resolve().parent))

from check_links import LINK, links

ROOT = Path(__file__).resolve().parents[1]
INCLUDE = re.compile(r"<!-- include: (\S+) -->")
ROLE = re.compile(r":(?:func|meth|class|mod|attr):<code>")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what pages outside docs/ are linked to, and what these are linked to."""
    waiting = [Path(str(page.abs_src_path)) for page in files.documentation_pages()]
    while waiting:
        page = waiting.pop()
        for link in links(page.read_text()):
            target = (page.parent / link.partition("#")[0]).resolve()
            inside = target.is_relative_to(config.docs_dir) or not target.is_relative_to(ROOT)
            if inside or not target.is_file() or files.get_file_from_path(source_path(target, config)):
                continue
            files.append(File.generated(config, source_path(target, config), abs_src_path=str(target)))
            if target.suffix == ".md":
                waiting.append(target)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to what was added, and put in what is to be included."""
    here = Path(str(page.file.abs_src_path)).parent

    def turned(found: re.Match) -> str:
        name, sign, anchor = found[0].partition("#")
        target = (here / name).resolve()
        if not name or re.match(r"[a-z][a-z0-9+.-]*:", name) or not target.is_file():
            return found[0]
        source = source_path(target, config)
        if files.get_file_from_path(source) is None:
            return found[0]
        return os.path.relpath(source, Path(page.file.src_uri).parent) + sign + anchor

    def included(found: re.Match) -> str:
        text = (ROOT / found[1]).read_text()
        return re.sub(r"\A\s*# .*\n", "", text)

    return INCLUDE.sub(included, LINK.sub(turned, markdown))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Docstrings name functions as Sphinx does (:func:`name`); on the page the name alone is shown."""
    return ROLE.sub("<code>", html)


def source_path(target: Path, config: MkDocsConfig) -> str:
    """Where a file stands for the builder: its path from docs/, or from the root if it is outside."""
    inside = target.is_relative_to(config.docs_dir)
    return target.relative_to(config.docs_dir if inside else ROOT).as_posix()
