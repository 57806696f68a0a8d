"""From pooled runs to what is committed: tables, and claims in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from experiments.support.files import REPOSITORY, atomic_path
from experiments.support.results import claims
from experiments.support.results.saved import NoRuns, Saved

RESULTS = REPOSITORY / "results"
Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class Target:
    """Where figures, tables and claims go: `place`/figures, `place`/tables, and a ledger (results/claims.csv
    if None). `dirty`: claim from runs whose code had uncommitted changes too.
    """

    place: Path = RESULTS
    ledger: Path | None = None
    dirty: bool = False

    @property
    def figures(self) -> Path:
        """The folder of figures."""
        return self.place / "figures"


def announce(kind: str, texts: Iterable[str]) -> None:
    """Print notes, one a line."""
    for text in texts:
        print(f"{kind}: {text}")


def load_each(names: Iterable[str], load: Callable[[str], Loaded]) -> tuple[dict[str, Loaded], list[str]]:
    """What is loaded under each name (a source of data, a robot) that has finished runs.

    Args:
        names: of what there may be.
        load: by name; raises `NoRuns` where there is none.

    Returns:
        What was found, by name, and a note for each name without runs.

    Raises:
        NoRuns: if no name has any.
    """
    found: dict[str, Loaded] = {}
    notes: list[str] = []
    for name in names:
        try:
            found[name] = load(name)
        except NoRuns as error:
            notes.append(str(error))
    if not found:
        raise NoRuns("; ".join(notes))
    return found, notes


def write_tables(tables: Mapping[str, pd.DataFrame], place: Path = RESULTS) -> list[Path]:
    """Write place/tables/<name>.csv for every table that has rows; the paths."""
    paths = []
    for name, table in tables.items():
        if len(table):
            paths.append(place / "tables" / f"{name}.csv")
            with atomic_path(paths[-1]) as temporary:
                table.to_csv(temporary, index=False, lineterminator="\n", float_format="%.8g")
    return paths


class Claimant:
    """Writes the claims of one experiment; `missing` says what could not be claimed, and why.

    Args:
        prefix: of every claim's name ("production").
        runs: the runs that measured; the claims name their newest commit.
        command: how to measure again.
        ledger: results/claims.csv if None.
        dirty: claim from runs whose code had uncommitted changes too.
        common: preset, data and seeds of every claim.
    """

    def __init__(
        self,
        prefix: str,
        runs: Iterable[Saved],
        command: str,
        ledger: Path | None = None,
        dirty: bool = False,
        **common: Any,
    ):
        self.prefix, self.ledger, self.dirty = prefix, ledger, dirty
        self.common = {"command": command, "commit": commit_of(runs), "experiment": prefix} | common
        self.missing: list[str] = []

    def __call__(self, name: str, value: float, low: float, high: float, n: float) -> None:
        """Claim `<prefix>.<name>`; ends that are not finite are left out."""
        given = bool(np.isfinite(low) and np.isfinite(high))
        ends = {"low": low if given else None, "high": high if given else None}
        claims.record(
            f"{self.prefix}.{name}",
            value,
            n=int(n),
            path=self.ledger,
            dirty=self.dirty,
            **ends,
            **self.common,
        )

    def lacks(self, name: str, why: str) -> None:
        """Note that `<prefix>.<name>` cannot be claimed."""
        self.missing.append(f"{self.prefix}.{name}: {why}")


def commit_of(runs: Iterable[Saved]) -> str:
    """The short commit of the newest of the runs, with "+" if any was made from a tree with changes."""
    runs = list(runs)
    if not runs or any(not run.manifest.get("commit") for run in runs):
        return "unknown"
    newest = max(runs, key=lambda run: run.finished)
    return newest.manifest["commit"][:12] + "+" * any(bool(run.manifest.get("dirty")) for run in runs)
