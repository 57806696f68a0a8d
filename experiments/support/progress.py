"""Progress of long loops, by tqdm: a bar on a terminal, an update every ten seconds in a log file."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable

from tqdm import tqdm

quiet = False
"""Whether bars are left out: a sweep shows a line for each job in their place."""


def progress(
    iterable: Iterable | None, description: str, total: int | None = None, enabled: bool = True
) -> tqdm:
    """Iterate with a progress bar on standard error; `iterable=None` gives a bar to `.update()` by hand."""
    interactive = sys.stderr.isatty()
    return tqdm(
        iterable,
        desc=description,
        total=total,
        disable=quiet or not enabled,
        file=sys.stderr,
        dynamic_ncols=interactive,
        mininterval=0.2 if interactive else 10.0,
        delay=1.0,
    )


class ProgressHandler(logging.StreamHandler):
    """Log lines on standard error that do not tear a progress bar apart."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record above the bars, if there are any."""
        tqdm.write(self.format(record), file=sys.stderr)
