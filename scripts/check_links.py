"""Do the links of the documents lead somewhere?  python scripts/check_links.py  (part of make lint)

Every relative link and anchor in README.md, CONTRIBUTING.md, CHANGELOG.md and docs/ is followed, without a
network: files must exist, anchors must be headings. Links to elsewhere (https:) are left alone.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FENCED = re.compile(r"^(`{3,}).*?^\1[ \t]*$", re.S | re.M)
INLINE_CODE = re.compile(r"`[^`\n]+`")
LINK = re.compile(r"(?<=\]\()([^()\s]+)(?=\))|(?<=src=\")([^\"\s]+)(?=\")")


def documents(root: Path = ROOT) -> list[Path]:
    """The documents whose links are checked; templates of tables are checked where they are filled in."""
    top = [root / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    pages = sorted((root / "docs").rglob("*.md"))
    return [path for path in (*top, *pages) if path.is_file() and path.parent != root / "docs" / "tables"]


def links(text: str) -> Iterator[str]:
    """Targets of the relative links and pictures of a Markdown text, outside code."""
    for found in LINK.finditer(INLINE_CODE.sub("``", FENCED.sub("", text))):
        target = found[1] or found[2]
        if not re.match(r"[a-z][a-z0-9+.-]*:", target):
            yield target


@cache
def anchors(path: Path) -> frozenset[str]:
    """The anchors of a Markdown file's headings, as GitHub and the site make them."""
    found: list[str] = []
    for heading in re.findall(r"^#{1,6} +(.+?) *#* *$", FENCED.sub("", path.read_text()), re.M):
        plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return frozenset(found)


def broken(path: Path) -> list[str]:
    """Links of one document that lead nowhere, each with what is wrong."""
    wrong = []
    for link in links(path.read_text()):
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists():
            wrong.append(f"{link}: there is no such file")
        elif anchor and (target.suffix != ".md" or anchor not in anchors(target)):
            wrong.append(f"{link}: {target.name} has no heading with this anchor")
    return wrong


def main() -> int:
    paths = documents()
    wrong = [f"{path.relative_to(ROOT)}: {text}" for path in paths for text in broken(path)]
    for text in wrong:
        print(text, file=sys.stderr)
    print(f"{len(paths)} documents, {len(wrong)} broken links")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
