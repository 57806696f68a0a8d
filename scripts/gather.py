"""Keep what finished runs measured as raw files, from which every figure, table and claim is drawn:

    python scripts/gather.py figure-3
    python scripts/gather.py figure-3 --preset paper

Writes results/raw/<preset>/<experiment>: runs that are kept there already stay, those found in results/runs
join them or take their place. Only runs that the figures use are kept, and only those from a clean tree,
unless --dirty is given. --fresh forgets what was kept before.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.support.errors import UserError
from experiments.support.results import collect
from experiments.support.results.saved import write_raw
from scripts.figures import FIGURES, add_choice, settings, shown


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("figure", choices=FIGURES)
    add_choice(parser)
    parser.add_argument("--runs", type=Path, default=collect.RUNS, help="where runs are kept")
    parser.add_argument("--raw", type=Path, default=collect.RAW, help="where raw files go")
    parser.add_argument("--fresh", action="store_true", help="forget what was kept before")
    options = parser.parse_args(arguments)
    publication = FIGURES[options.figure]
    try:
        kept = options.raw / options.preset
        roots = [options.runs] if options.fresh else [options.runs, kept]
        runs = publication.runs(options.preset, settings(parser, options.where), roots)
        place = kept / publication.EXPERIMENT
        paths = write_raw(runs, publication.TABLES, place, options.dirty, publication.trim(runs))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{len(runs)} runs, {sum(path.stat().st_size for path in paths) / 2**20:.2f} MiB")
    shown(paths)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
