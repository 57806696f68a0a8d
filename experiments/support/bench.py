"""What every benchmark shares: its options, its clock, the table it writes and the claims it records.

A benchmark measures what is compared in one process, one after the other, so that ratios do not depend on the
day; work that is compiled or cached is done once before anything is timed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from experiments.support.errors import ResultsError
from experiments.support.files import REPOSITORY, atomic_path
from experiments.support.results import claims

TABLES = REPOSITORY / "results" / "tables"
T = TypeVar("T")


class Spread(NamedTuple):
    """The median of repeats and their extremes."""

    value: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Median, least and greatest of what the repeats gave."""
    return Spread(float(np.median(values)), min(values), max(values))


def quotient(above: Spread | float, below: Spread) -> Spread:
    """Ratio of the medians, with the extremes of all pairs; `above` may have been measured once only."""
    a = above if isinstance(above, Spread) else Spread(above, above, above)
    return Spread(a.value / below.value, a.low / below.high, a.high / below.low)


def timed(call: Callable[[], T], clock: Callable[[], float] = time.process_time) -> tuple[float, T]:
    """(seconds that `call` took, what it returned).

    The default clock is that of the process, which other work on the machine disturbs less; where several
    threads or a GPU work, take `time.perf_counter`.
    """
    start = clock()
    result = call()
    return clock() - start, result


class Bench:
    """One benchmark: options of its own are added to `parser` before `parse` is called.

    name: of the script and of its table, results/tables/<name>.csv; doc: the script's docstring, of which
    --help shows the first paragraph; experiment, data: what the ledger says of all its claims; folder: of the
    script.
    """

    def __init__(
        self,
        name: str,
        doc: str | None,
        *,
        experiment: str,
        data: str = "",
        preset: str = "bench",
        folder: str = "benchmarks",
    ):
        self.name, self.data = name, data
        self.command = f"python {folder}/{name}.py"
        self._common = {"experiment": experiment, "preset": preset}
        first = " ".join((doc or "").split("\n\n")[0].split())
        self.parser = argparse.ArgumentParser(description=first)
        self.parser.add_argument("--table", type=Path, help=f"where the table goes ({name}.csv)")
        self.parser.add_argument("--no-claims", action="store_true", help="leave results/claims.csv alone")
        self.parser.add_argument(
            "--dirty", action="store_true", help="record claims although the code has uncommitted changes"
        )
        self.options = argparse.Namespace()
        self._commit = ""

    def parse(self, arguments: Sequence[str] | None = None) -> argparse.Namespace:
        """The options of the command line, or of `arguments`."""
        self.options = self.parser.parse_args(arguments)
        self._commit = claims.here()  # now: the table that is written later is a tracked file too
        return self.options

    def require_commit(self) -> None:
        """End with a usage error, before anything is measured, where the ledger would refuse every claim."""
        wanted = not (self.options.no_claims or self.options.dirty)
        if wanted and not claims.CLEAN.fullmatch(self._commit):
            self.parser.error(
                f"the code here is no commit ({self._commit}), so its claims would not be recorded: commit"
                " the changes, or add --no-claims, or --dirty to record them all the same"
            )

    @property
    def table(self) -> Path:
        """Where the table goes."""
        return self.options.table or TABLES / f"{self.name}.csv"

    def write(self, table: pd.DataFrame, float_format: str = "%.4g") -> None:
        """Write the table as CSV, atomically."""
        with atomic_path(self.table) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n", float_format=float_format)

    def show(self, table: pd.DataFrame) -> None:
        """Print the table and where it was written."""
        print(table.to_string(index=False, float_format=lambda value: f"{value:,.4g}"))
        print(f"written to {self.table}")

    def claim(
        self, claim: str, found: Spread | float, n: int, *, seeds: Iterable[int] = (0,), **more: Any
    ) -> None:
        """Record a claim, unless --no-claims was given; the extremes of a `Spread` are its interval.

        `more`: what differs from the benchmark's own data and command. Ends the process with one line where
        the ledger refuses.
        """
        if self.options.no_claims:
            return
        value, low, high = found if isinstance(found, Spread) else (found, None, None)
        row = {"data": self.data, "command": self.command, "commit": self._commit, **self._common, **more}
        try:
            claims.record(claim, value, low=low, high=high, n=n, seeds=seeds, dirty=self.options.dirty, **row)
        except ResultsError as error:
            raise SystemExit(f"error: {error}") from error
