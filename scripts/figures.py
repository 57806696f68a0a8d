"""Figures, tables and claims from finished runs:  python scripts/figures.py figure-2

draws figures 2A and 2B (and the scaling in n_t, where runs with several were made) for each source of
demand that has finished runs; figure-3 draws 3A to 3D and the ablations for the robots that have. Tables
and manifests behind them go under results/, the claims to results/claims.csv. Runs that differ in more than
seed, n_t and the like are not pooled; --where chooses. figure-4 draws 4A and 4B (and 4C, where runs with
several n_t were made; and transfer to another set, where it was run) for each source of answers that has
finished runs; theory those of the theorems, from
the one run that has the largest seed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pandas as pd

from experiments.llm.reporting import figures as llm_figures
from experiments.llm.reporting import measured as llm_measured
from experiments.llm.reporting import report as llm_report
from experiments.llm.reporting import scaling as llm_scaling
from experiments.llm.reporting import transfer_figure as llm_transfer
from experiments.production.config import SOURCES
from experiments.production.reporting import figures, measured, report, scaling
from experiments.production.reporting.comparison import times_safer
from experiments.safetygym.reporting import ablations, classification, guarantee
from experiments.safetygym.reporting import comparison as safetygym_comparison
from experiments.safetygym.reporting import figures as safetygym_figures
from experiments.safetygym.reporting import measured as safetygym_measured
from experiments.safetygym.reporting import report as safetygym_report
from experiments.safetygym.reporting import scaling as safetygym_scaling
from experiments.support.config import PRESETS
from experiments.support.errors import ResultsError
from experiments.support.results import collect
from experiments.theory.reporting import figures as theory_figures
from experiments.theory.reporting import report as theory_report


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("figure", choices=["figure-2", "figure-3", "figure-4", "theory"])
    parser.add_argument("--preset", default="laptop", choices=PRESETS)
    parser.add_argument(
        "--data", choices=SOURCES, help="figure-2: one source only; without it, every one that has runs"
    )
    parser.add_argument("--where", nargs="*", default=[], metavar="KEY=VALUE", help="only runs configured so")
    parser.add_argument("--runs", type=Path, default=collect.RUNS, help="where runs are kept")
    parser.add_argument("--results", type=Path, default=report.RESULTS, help="where figures and tables go")
    options = parser.parse_args(arguments)
    where = {}
    for text in options.where:
        key, sign, value = text.partition("=")
        if not sign:
            parser.error(f"--where {text!r}: KEY=VALUE is needed")
        where[key] = yaml.safe_load(value)
    makers = {"figure-2": all_of_figure_2, "figure-3": figure_3, "figure-4": figure_4, "theory": theory}
    return makers[options.figure](options, where)


def all_of_figure_2(options: argparse.Namespace, where: dict) -> int:
    drawn = 0
    for source in [options.data] if options.data else SOURCES:
        try:
            by_n_t = measured.load(source, options.preset, where, options.runs)
        except ResultsError as error:
            if options.data or "no finished run" not in str(error):
                print(f"error: {error}", file=sys.stderr)
                return 1
            print(f"{source}: no finished runs of preset {options.preset}, left out")
            continue
        figure_2(by_n_t, source, options.preset, options.results)
        drawn += 1
    if not drawn:
        print("error: nothing to draw; python run.py -m +sweep=figure-2 makes the runs", file=sys.stderr)
        return 1
    return 0


def figure_2(by_n_t: dict[int, measured.Measured], source: str, preset: str, results: Path) -> None:
    full = by_n_t[max(by_n_t)]
    print(f"{source}: {len(full.runs)} runs, seeds {full.seeds}, n_t = {max(by_n_t):,}")
    for note in full.notes:
        print(f"note: {note}")
    paths = figures.figure_2(full, source, directory=results / "figures")
    paths += scaling.figure_2_scaling(by_n_t, source, directory=results / "figures")
    paths += report.write_tables(full, source, results)
    paths += [report.write_manifests(by_n_t, source, results)]
    ledger = ledger_of(results)
    safer = times_safer(full)
    for text in report.record(full, source, preset, safer, ledger):
        print(f"not claimed: {text}")
    columns = [
        "method",
        "revenue_share",
        "violation",
        "ours_violation",
        "ratio",
        "low",
        "high",
        "limit",
        "note",
    ]
    print(safer[columns].to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    show(paths)


def figure_3(options: argparse.Namespace, where: dict) -> int:
    by_robot = {}
    for robot, task in safetygym_report.TASKS.items():
        try:
            by_robot[robot] = safetygym_measured.load(task, options.preset, where, options.runs)
        except ResultsError as error:
            if "no finished run" not in str(error):
                print(f"error: {error}", file=sys.stderr)
                return 1
            print(f"{robot}: no finished runs of preset {options.preset}, left out")
    if not by_robot:
        print("error: nothing to draw; python run.py -m +sweep=figure-3 makes the runs", file=sys.stderr)
        return 1
    full = {robot: loaded.full for robot, loaded in by_robot.items()}
    for robot, found in full.items():
        print(f"{robot}: {len(found.runs)} runs, seeds {found.seeds}, n_t = {by_robot[robot].n_t:,}")
        for note in found.notes:
            print(f"note: {note}")
        print(safetygym_report.summary(found))
    source, place = f"preset {options.preset}", options.results / "figures"
    paths = safetygym_figures.figure_3a(full, source, place)
    paths += safetygym_scaling.figure_3b(by_robot, source, place)
    paths += guarantee.figure_3c(full, source, place)
    paths += classification.figure_3d(full, source, place)
    paths += ablations.figure_ablations(full, source, place)
    safer = {robot: safetygym_comparison.times_safer(found) for robot, found in full.items()}
    together = pd.concat([table.assign(robot=robot) for robot, table in safer.items()])
    paths += safetygym_report.write_tables(by_robot, together, options.results)
    paths += [safetygym_report.write_manifests(by_robot, options.results)]
    ledger = ledger_of(options.results)
    for robot, loaded in by_robot.items():
        task = safetygym_report.TASKS[robot]
        for text in safetygym_report.record(robot, loaded, options.preset, task, safer[robot], ledger):
            print(f"not claimed: {text}")
    columns = [
        "robot",
        "method",
        "knob",
        "by",
        "return",
        "rate",
        "ours_rate",
        "ratio",
        "low",
        "high",
        "limit",
    ]
    shown = together[together["claimed"].eq(True)][[*columns, "note"]]
    print(shown.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    show(paths)
    return 0


def theory(options: argparse.Namespace, where: dict) -> int:
    try:
        directory = theory_report.load(options.preset, where, options.runs)
        paths = theory_figures.draw(directory, options.results / "figures")
        paths += theory_report.publish(directory, options.results)
    except ResultsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    ledger = ledger_of(options.results)
    theory_report.record(directory, options.preset, ledger)
    show(paths)
    return 0


def figure_4(options: argparse.Namespace, where: dict) -> int:
    drawn = 0
    for data in (*llm_measured.SYNTHETIC, "pku", "diasafety", "hub"):
        try:
            by_n_t = llm_measured.load(data, options.preset, where, options.runs)
        except ResultsError as error:
            if "no finished run" not in str(error):
                print(f"error: {error}", file=sys.stderr)
                return 1
            print(f"{data}: no finished runs of preset {options.preset}, left out")
            continue
        full = by_n_t[max(by_n_t)]
        r_t = llm_measured.trained_at(full)
        print(f"{data}: {len(full.runs)} runs, seeds {full.seeds}, n_t = {max(by_n_t):,}")
        for note in full.notes:
            print(f"note: {note}")
        paths = llm_figures.figure_4(full, data, options.results / "figures")
        paths += llm_scaling.figure_4c(by_n_t, data, r_t, options.results / "figures")
        paths += llm_transfer.figure_transfer(full, data, options.results / "figures")
        paths += llm_report.write_tables(by_n_t, data, r_t, options.results)
        paths += [llm_report.write_manifests(by_n_t, data, options.results)]
        ledger = ledger_of(options.results)
        for text in llm_report.record(by_n_t, data, options.preset, r_t, ledger):
            print(f"not claimed: {text}")
        show(paths)
        drawn += 1
    if not drawn:
        print("error: nothing to draw; python run.py -m +sweep=figure-4 makes the runs", file=sys.stderr)
        return 1
    return 0


def ledger_of(place: Path) -> Path | None:
    """results/claims.csv (None) for what goes there or into a folder of it, whose presets are told apart; a
    ledger of its own for other places.
    """
    return None if place.resolve().is_relative_to(report.RESULTS) else place / "claims.csv"


def show(paths: list[Path]) -> None:
    for path in paths:
        print(path.relative_to(report.REPOSITORY) if path.is_relative_to(report.REPOSITORY) else path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
