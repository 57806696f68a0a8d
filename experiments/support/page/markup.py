"""Small pieces of HTML: escaped text, tables, pictures, and tables that templates write in Markdown."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

KINDS = {".png": "image/png", ".gif": "image/gif"}


def attributes(given: Mapping[str, object]) -> str:
    """Attributes of a tag; `True` gives the name alone, None leaves it out."""
    parts = []
    for name, value in given.items():
        if value is True:
            parts.append(f" {name}")
        elif value is not None and value is not False:
            parts.append(f' {name}="{escape(str(value))}"')
    return "".join(parts)


def image(path: Path, alt: str, size: tuple[int, int]) -> str:
    """A picture whose bytes are part of the page.

    Args:
        path: a PNG or GIF.
        alt: what it shows, for those who do not see it.
        size: width and height in pixels, so that the page does not jump.
    """
    content = base64.b64encode(path.read_bytes()).decode("ascii")
    given = {"src": f"data:{KINDS[path.suffix]};base64,{content}", "alt": alt}
    given |= {"width": str(size[0]), "height": str(size[1])}
    return f"<img{attributes(given)}>"


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    label: str,
    row_attributes: Iterable[Mapping[str, object]] | None = None,
) -> str:
    """A table in a frame that scrolls sideways, by keyboard too. Cells are HTML; the first heads its row.

    Args:
        head: names of the columns.
        rows: cells.
        label: what the table holds, read out when the frame is entered.
        row_attributes: of each row's tag.
    """
    lines = [list(row) for row in rows]
    given = list(row_attributes) if row_attributes is not None else [{}] * len(lines)
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(
        f'<tr{attributes(about)}><th scope="row">{row[0]}</th>'
        + "".join(f"<td>{cell}</td>" for cell in row[1:])
        + "</tr>\n"
        for row, about in zip(lines, given, strict=True)
    )
    whole = f"<table><thead><tr>{top}</tr></thead><tbody>\n{body}</tbody></table>"
    return scrolling(whole, label)


def scrolling(content: str, label: str, kind: str = "scroll") -> str:
    """A frame that scrolls where its content is too wide, reachable by keyboard."""
    return f'<div class="{kind}" role="region" tabindex="0" aria-label="{escape(label)}">{content}</div>'


def details(summary: str, content: str) -> str:
    """What is shown on request."""
    return f"<details><summary>{summary}</summary>{content}</details>"


def number(text: str, value: float) -> str:
    """A number as it is read, with the one that the ledger has as its machine-readable value."""
    return f'<data value="{value!r}">{escape(text)}</data>'


def inline(text: str) -> str:
    """Markdown within a cell: code, emphasis, and links, of which only the words stay."""
    text = escape(text.strip())
    text = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", text)


def markdown_table(text: str) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a Markdown table, cells as HTML."""
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("|")]
    cells = [[inline(cell) for cell in line.strip("|").split("|")] for line in lines]
    return cells[0], cells[2:]
