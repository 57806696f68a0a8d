"""docs/settings.md: all settings of all experiments as tables, made from the schemas."""

from __future__ import annotations

from collections.abc import Iterable

from experiments.support import registry
from experiments.support.config import BaseConfig
from experiments.support.files import REPOSITORY
from experiments.support.manual.describe import (
    CONFIGS,
    DEFAULT_EXPERIMENT,
    Described,
    Group,
    groups,
    groups_of,
    headline,
)

PAGE = REPOSITORY / "docs" / "settings.md"
_INTRODUCTION = """\
# All settings

<!-- Made by `python scripts/settings.py` from the schemas in experiments/*/config.py: change those. -->

An experiment does what its settings say: how much data it draws, how long it trains, how much risk it
allows. Each has a default, so that `python run.py experiment=production` works as it stands; give another
value behind the command, as in `python run.py experiment=production r_t=1e-2 training.epochs=10`. This page
lists every setting, what it means and which values it may have, and
`python run.py experiment=production --help` prints the same. A value that is not allowed stops the command
before anything is computed.

The default is that of `preset=laptop`. "Changed by" names the presets, sweeps and other files of `configs/`
that set another value (values with commas between them: a sweep over them); what nothing changes is for you
to change. `null` means that nothing is given. Letters are the paper's (arXiv 2504.20924): the risk threshold
r_t, the number n_t of internal test cases, the radius xi of conservative testing, the penalty beta and the
weight lambda of the approximate loss.
"""
_HEAD = "| setting | type | default | allowed | changed by | what it is |\n|---|---|---|---|---|---|"


def page() -> str:
    """The whole page, in Markdown."""
    common = groups_of(BaseConfig(experiment=DEFAULT_EXPERIMENT))
    parts = [_INTRODUCTION, "## Every experiment\n", *_tables("every experiment", common)]
    known = {row.key: row for group in common for row in group.settings}
    for name in sorted(registry.discover()):
        path = CONFIGS / "experiment" / f"{name}.yaml"
        if not path.is_file():
            continue  # of another package
        parts += [f"## {name}\n", f"{headline(path)}\n", *_tables(name, _own(groups(name), known))]
    return "\n".join(parts)


def _own(found: Iterable[Group], known: dict[str, Described]) -> list[Group]:
    """Groups without the settings that are as in every experiment."""
    kept = []
    for group in found:
        rows = tuple(row for row in group.settings if not _as_everywhere(row, known.get(row.key)))
        if rows:
            kept.append(Group(group.key, group.about, rows))
    return kept


def _as_everywhere(row: Described, other: Described | None) -> bool:
    if other is None or row.key == "experiment":
        return other is not None
    return row.default == other.default and all(
        name.startswith(("launcher=", "tracking=")) for name, _ in row.changed
    )


def _tables(name: str, found: Iterable[Group]) -> list[str]:
    """One table a section; rows in the order of the schema."""
    parts = []
    for group in found:
        if group.key:
            parts.append(f"### {name}: {group.key}\n\n{group.about}\n")
        parts.append("\n".join([_HEAD, *map(_row, group.settings)]) + "\n")
    return parts


def _row(row: Described) -> str:
    changed = "; ".join(f"`{name}`: {_code(value)}" for name, value in row.changed)
    cells = (f"`{row.key}`", row.kind, _code(row.default), row.allowed, changed, row.explanation)
    return f"| {' | '.join(_escaped(cell) for cell in cells)} |"


def _code(value: str) -> str:
    return f"`{value}`" if value else "(empty)"


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("<limit>", "&lt;limit&gt;")
