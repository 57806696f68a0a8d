"""Figures, tables and claims from saved results:

    python scripts/figures.py                 # all, from the raw files that are committed
    python scripts/figures.py figure-3        # those of one experiment
    python scripts/figures.py figure-3 --preset paper
    python scripts/figures.py figure-2 --runs results/runs    # from the runs of this machine instead

Nothing is run. Figures and tables go under results/ (other presets than laptop: results/preset_<preset>),
claims to results/claims.csv. Runs that differ in more than seed, n_t and the like are not pooled; --where
chooses.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import ModuleType

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.llm.reporting import publication as llm
from experiments.production.reporting import publication as production
from experiments.safetygym.reporting import publication as safetygym
from experiments.support.config import PRESETS
from experiments.support.errors import UserError
from experiments.support.files import REPOSITORY
from experiments.support.results import claims, collect
from experiments.support.results.publish import RESULTS, Target
from experiments.support.results.saved import INDEX, NoRuns
from experiments.theory.reporting import publication as theory

FIGURES: dict[str, ModuleType] = {
    "figure-2": production,
    "figure-3": safetygym,
    "figure-4": llm,
    "theory": theory,
}


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Options that say which runs, for gathering and drawing alike."""
    parser.add_argument("--preset", choices=PRESETS, default="laptop")
    parser.add_argument("--where", nargs="*", default=[], metavar="KEY=VALUE", help="only runs configured so")
    parser.add_argument(
        "--dirty", action="store_true", help="take runs made from a tree with uncommitted changes too"
    )


def settings(parser: argparse.ArgumentParser, texts: list[str]) -> dict:
    """KEY=VALUE texts as configuration keys and values."""
    found = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign:
            parser.error(f"--where {text!r}: KEY=VALUE is needed")
        found[key] = yaml.safe_load(value)
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figure", nargs="?", choices=[*FIGURES, "all"], default="all")
    add_choice(parser)
    parser.add_argument("--runs", type=Path, help="draw from runs in this folder, not from raw files")
    parser.add_argument("--raw", type=Path, default=collect.RAW, help="where raw files are")
    parser.add_argument("--results", type=Path, help="where figures and tables go, in place of results/")
    options = parser.parse_args(arguments)
    where = settings(parser, options.where)
    if options.figure == "all":
        wanted = [
            (preset, name)
            for preset in PRESETS
            for name, publication in FIGURES.items()
            if (options.raw / preset / publication.EXPERIMENT / INDEX).is_file()
        ]
        if not wanted:
            print(f"error: there are no raw files under {options.raw}", file=sys.stderr)
            return 1
    else:
        wanted = [(options.preset, options.figure)]
    for preset, name in wanted:
        try:
            draw(preset, name, where, options)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0


def draw(preset: str, name: str, where: dict, options: argparse.Namespace) -> None:
    """One experiment's figures, tables and claims of one preset."""
    publication, root = FIGURES[name], options.runs or options.raw / preset
    index = root / publication.EXPERIMENT / INDEX
    if options.runs is None and not index.is_file():
        raise NoRuns(
            f"{name} has nothing to draw from: {index} does not exist; check it out again, or make the runs "
            f"({publication.SWEEP}) and keep them (python scripts/gather.py {name} --preset {preset})"
        )
    results = options.results or RESULTS
    place = results if preset == "laptop" else results / f"preset_{preset}"
    # one ledger for all presets, which it tells apart; other places than results/ have their own
    ledger = None if results.resolve().is_relative_to(RESULTS) else results / "claims.csv"
    with claims.together():
        paths = publication.publish(preset, where, root, Target(place, ledger, options.dirty))
    shown(paths)


def shown(paths: list[Path]) -> None:
    """Print paths, from the repository's root where they are inside."""
    for path in paths:
        print(path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
