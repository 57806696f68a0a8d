"""The report: one HTML page of everything that is committed under results/ (make report):

    python scripts/report.py                      # writes build/report.html
    python scripts/report.py --to elsewhere.html

The page loads nothing: figures, episodes, charts and their code are part of it. Nothing is run or measured.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.llm.reporting import part as llm
from experiments.production.reporting import part as production
from experiments.safetygym.reporting import part as safetygym
from experiments.support.errors import UserError
from experiments.support.files import REPOSITORY, atomic_write
from experiments.support.page.page import Contents, build
from experiments.support.results import claims
from experiments.support.results.publish import RESULTS
from experiments.theory.reporting import part as theory
from scripts import compare
from scripts.fill_tables import fill

PARTS = (production.PART, safetygym.PART, llm.PART, theory.PART)
PLACE = REPOSITORY / "build" / "report.html"
COLUMNS = {"ours [95 %]": "shown", "paper": "paper", "what differs": "differs"}


def contents() -> Contents:
    """What the page shows, from committed files only."""
    ledger = claims.read(RESULTS / "claims.csv")
    return Contents(
        results=RESULTS,
        ledger=ledger,
        parts=PARTS,
        headlines=fill(REPOSITORY / "docs" / "tables" / "headlines.md", REPOSITORY),
        stated=rows(compare.stated(ledger)),
        everything=rows(compare.everything(ledger)),
        version=claims.here(),
    )


def rows(compared: pd.DataFrame) -> list[dict[str, Any]]:
    """A table of scripts/compare.py as rows that the page takes."""
    return compared.rename(columns=COLUMNS).astype(str).to_dict("records")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--to", type=Path, default=PLACE, help="the file that is written")
    options = parser.parse_args(arguments)
    try:
        page = build(contents())
        atomic_write(options.to, page)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{options.to} ({len(page.encode()) / 2**20:.1f} MiB)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
