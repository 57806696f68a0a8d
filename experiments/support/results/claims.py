"""The ledger of claims: results/claims.csv, one row per figure that the README or an issue names.

Rows are written by the code that measures, never by hand. A row is known by (claim, preset, data): measuring
again replaces it. Columns:

- claim: its name, dotted, most general part first.
- experiment, preset, data: what was measured on.
- value: the figure.
- low, high: an interval, or both empty.
- n: units behind the value.
- seeds: of the runs.
- command: that measured.
- commit: that of the run that measured, whoever draws or records it later. A claim from a tree with
  uncommitted changes is refused unless it is asked for; then a "+" follows the commit.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from experiments.support import manifest
from experiments.support.errors import ResultsError
from experiments.support.files import REPOSITORY, atomic_path
from experiments.support.locks import exclusive

COLUMNS = (
    "claim",
    "experiment",
    "value",
    "low",
    "high",
    "n",
    "seeds",
    "preset",
    "data",
    "command",
    "commit",
)
KEY = ("claim", "preset", "data")
DIGITS = 10
"""Significant digits that are kept of a number; the last ones of a double depend on how sums were made."""
CLEAN = re.compile(r"[0-9a-f]{7,40}")
NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)+")
_waiting: dict[Path, list[dict[str, object]]] | None = None
"""What `together` has still to write, by ledger; None outside it."""


def ledger() -> Path:
    """The ledger's file: results/claims.csv, or the one that SAFEFRAME_CLAIMS names."""
    return Path(os.environ.get("SAFEFRAME_CLAIMS") or REPOSITORY / "results" / "claims.csv")


def record(
    claim: str,
    value: float,
    *,
    experiment: str,
    n: int,
    seeds: Iterable[int] | str = "",
    preset: str = "",
    data: str = "",
    low: float | None = None,
    high: float | None = None,
    command: str | None = None,
    commit: str | None = None,
    dirty: bool = False,
    path: Path | None = None,
) -> None:
    """Write one claim, replacing the row with the same claim, preset and data.

    Several processes may record at once.

    Args:
        claim: its name, dotted lower case.
        value: the figure, a number; of it and of the interval's ends DIGITS significant digits are kept.
        experiment: that it is of.
        n: units behind the value, >= 0.
        seeds: of the runs, or a text that says which.
        preset: of the runs.
        data: what was measured on.
        low: lower end of an interval that holds the value; None: no interval.
        high: its upper end; given together with `low`.
        command: what was typed; None: this process's command line.
        commit: that of the run, where a run has measured; None: the one checked out now.
        dirty: whether a commit that does not say how it was measured is taken too.
        path: the ledger's file; None: :func:`ledger`.

    Raises:
        ResultsError: for a bad name, a value that is no number, a negative n, an interval that does not hold
            the value, and, unless `dirty`, for a commit that does not say how it was measured: none, or one
            with uncommitted changes beside it.
    """
    _check(claim, value, low, high, n)
    commit = here() if commit is None else commit
    if not dirty and not CLEAN.fullmatch(commit):
        raise ResultsError(
            f"claim {claim}: the code that measured it is no commit ({commit}); commit the changes and "
            "measure again, or record it all the same with --dirty"
        )
    row = {
        "claim": claim,
        "experiment": experiment,
        "value": _kept(value),
        "low": math.nan if low is None else _kept(low),
        "high": math.nan if high is None else _kept(high),
        "n": int(n),
        "seeds": seeds if isinstance(seeds, str) else shown_seeds(seeds),
        "preset": preset,
        "data": data,
        "command": command or manifest.command(),
        "commit": commit,
    }
    path = path or ledger()
    if _waiting is None:
        _write(path, [row])
    else:
        _waiting.setdefault(path, []).append(row)


def _kept(value: float) -> float:
    """A number with DIGITS significant digits."""
    return float(f"{float(value):.{DIGITS}g}")


@contextmanager
def together() -> Iterator[None]:
    """Claims recorded within are written at its end, a ledger once: a thousand of them take a second then,
    where one by one they take a minute. An error leaves those that came before it.
    """
    global _waiting
    if _waiting is not None:
        yield
        return
    _waiting = {}
    try:
        yield
    finally:
        found, _waiting = _waiting, None
        for path, rows in found.items():
            _write(path, rows)


def _write(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Put claims into a ledger, the last of those with one key in the place of the others."""
    new = {tuple(row[name] for name in KEY): row for row in rows}
    with exclusive(path.parent / "runs" / f"{path.name}.lock", str(path)):
        kept = [row for row in read(path).to_dict("records") if tuple(row[name] for name in KEY) not in new]
        frame = pd.DataFrame([*kept, *new.values()], columns=list(COLUMNS))
        with atomic_path(path) as temporary:
            frame.sort_values(list(KEY), kind="stable").to_csv(temporary, index=False, lineterminator="\n")


def read(path: Path | None = None) -> pd.DataFrame:
    """The ledger.

    Args:
        path: its file; None: :func:`ledger`.

    Returns:
        A row per claim; empty if there is no file.

    Raises:
        ResultsError: if the file is not a ledger.
    """
    path = path or ledger()
    if not path.exists():
        return pd.DataFrame(columns=list(COLUMNS))
    texts = dict.fromkeys(("claim", "experiment", "seeds", "preset", "data", "command", "commit"), str)
    try:
        frame = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values={"low": [""], "high": [""]})
        frame = frame.astype({"value": float, "low": float, "high": float, "n": int})
    except (ValueError, KeyError, pd.errors.ParserError) as error:
        raise ResultsError(f"{path} is not a ledger of claims: {error}") from error
    if tuple(frame.columns) != COLUMNS:
        raise ResultsError(f"{path} is not a ledger of claims: its columns are {', '.join(frame.columns)}")
    return frame


def here() -> str:
    """The short commit, with "+" if tracked files differ from it; "unknown" outside a git repository."""
    found = manifest.git_commit()
    return f"{found[:12]}{'+' if manifest.git_dirty() else ''}" if found else "unknown"


def shown_seeds(seeds: Iterable[int]) -> str:
    """Seeds as text: "0-4" for a range, "0 3 7" otherwise."""
    ordered = sorted({int(seed) for seed in seeds})
    if len(ordered) > 2 and ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"{ordered[0]}-{ordered[-1]}"
    return " ".join(map(str, ordered))


def _check(claim: str, value: float, low: float | None, high: float | None, n: int) -> None:
    if not NAME.fullmatch(claim):
        raise ResultsError(
            f"claim {claim!r} must be dotted lower case, as in production.times_safer.two_stage"
        )
    if math.isnan(value):
        raise ResultsError(f"claim {claim}: the value is not a number")
    if n < 0:
        raise ResultsError(f"claim {claim}: n={n} must be at least 0")
    if (low is None) != (high is None):
        raise ResultsError(f"claim {claim}: low and high must be given together")
    if low is not None and high is not None and not low <= value <= high:
        raise ResultsError(f"claim {claim}: low ≤ value ≤ high must hold, got {low}, {value}, {high}")
