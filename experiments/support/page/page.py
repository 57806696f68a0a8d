"""The whole page: one file that loads nothing, in light and dark, for narrow and wide windows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.support.errors import UserError
from experiments.support.page import markup, sections
from experiments.support.page.parts import Part

HERE = Path(__file__).resolve().parent
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""The browser itself refuses whatever would be loaded from elsewhere."""
SETS = (("figures", ""), ("preset_paper/figures", ", at the paper's size"))
"""Folders of figures under results/, and what their captions' heads say."""


@dataclass(frozen=True)
class Contents:
    """What goes into the page.

    Attributes:
        results: the folder results/.
        ledger: results/claims.csv.
        parts: of the experiments, in order.
        headlines: a Markdown table, filled: what reproduced in plain words.
        stated: the claims that the paper states: rows as `sections.ledger_rows` takes them.
        everything: every claim of the ledger, likewise.
        version: which commit the page was made from.
    """

    results: Path
    ledger: pd.DataFrame
    parts: Iterable[Part]
    headlines: str
    stated: list[dict[str, Any]]
    everything: list[dict[str, Any]]
    version: str


def build(contents: Contents) -> str:
    """The page's HTML.

    Args:
        contents: what goes in.

    Returns:
        The text of one file.

    Raises:
        UserError: if Plotly is missing.
        ResultsError: if a file that is to be shown is missing or lacks a column.
    """
    code, parts = plotly(), list(contents.parts)
    bodies = "".join(_experiment(part, contents, parts) for part in parts)
    links = "".join(f'<li><a href="#{part.experiment}">{escape(part.title)}</a></li>' for part in parts)
    head, rows = markup.markdown_table(contents.headlines)
    short = markup.table(head[:3], (row[:3] for row in rows), "What reproduced, in short")
    stated = sections.ledger_rows(contents.ledger, contents.stated, "What the paper states, and ours")
    whole = sections.ledger_rows(contents.ledger, contents.everything, "The ledger of claims")
    search = (
        '<p><label for="filter">Show claims whose name or data contains</label> '
        '<input id="filter" type="search" autocomplete="off"> <output for="filter" id="found"></output></p>'
    )
    body = f"""
<a class="skip" href="#main">Skip to the results</a>
<header><h1>safeframe: what was measured</h1>
<p>Chance constraints around AI models, after <cite>arXiv 2504.20924</cite>: an action is taken only where a
bound on the probability that it is unsafe is at most a threshold r_t, and a default action everywhere else.
This page shows every committed result: claims beside the paper's, figures, and the runs behind them. It loads
nothing from elsewhere.
Made from commit <code>{escape(contents.version)}</code>; intervals are 95 %.</p>
<nav aria-label="Sections"><ul><li><a href="#short">What reproduced</a></li>{links}
<li><a href="#ledger">All claims</a></li></ul></nav>
<button type="button" id="theme">Dark or light</button></header>
<main id="main" tabindex="-1">
<section id="short"><h2>What reproduced</h2>{short}
<h3>Every claim of the paper beside ours</h3>{stated}</section>
{bodies}
<section id="ledger"><h2>All claims</h2><p>Every row of <code>results/claims.csv</code>.</p>
{markup.details(f"The ledger, {len(contents.everything):,} rows", search + whole)}</section>
</main>"""
    return _document(body, code)


def _experiment(part: Part, contents: Contents, parts: list[Part]) -> str:
    """One experiment: frontiers, episodes, figures, runs."""
    results = contents.results
    shown = [sections.frontier(one, results, contents.ledger) for one in part.frontiers]
    frontiers = f"<h3>Frontiers</h3>{''.join(shown)}" if shown else ""
    pictures = []
    for folder, note in SETS:
        names = sections.figures_of(parts, results / folder)
        own = names.get(part.experiment, []) + (names.get("", []) if part is parts[-1] else [])
        pictures += [sections.figure(name, results / folder, note) for name in own]
    moving = sections.episodes(results) if part.episodes else ""
    runs = sections.manifests(results / "raw", part.experiment)
    return (
        f'<section id="{part.experiment}"><h2>{escape(part.title)}</h2><p>{escape(part.about)}</p>'
        f"{frontiers}{moving}<h3>Figures</h3>{''.join(pictures)}<h3>Runs</h3>{runs}</section>\n"
    )


def _document(body: str, code: str) -> str:
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>safeframe: what was measured</title>
<style>{style}</style></head>
<body>{body}
<script>{code}</script>
<script>{script}</script>
</body></html>
"""


def plotly() -> str:
    """Plotly's JavaScript, as the pinned package brings it.

    Raises:
        UserError: if the package is missing.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise UserError(
            'make report needs the package plotly: pip install -e ".[report]", or -r requirements-dev.txt'
        ) from error
    return get_plotlyjs().replace("</script", "<\\/script")
