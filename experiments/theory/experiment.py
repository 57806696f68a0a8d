"""The theorems as experiments, part by part: python run.py experiment=theory seed=5

Every part is a stage of its own, cached by its section of the configuration, the seed and the code, and
leaves one table <part>.csv in the run's directory, from which figures, claims and the tidy results are made.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from experiments.support.files import atomic_path
from experiments.support.results.saved import of_directory
from experiments.support.runs.running import RunContext
from experiments.theory import (
    certificates,
    coverage,
    dependence,
    leak,
    libraries,
    quality,
    sensitivities,
    theorem_1,
    theorem_2,
    theorem_3,
    validity,
)
from experiments.theory import config as config_module
from experiments.theory.config import TheoryConfig
from experiments.theory.laws import known_laws, problems
from experiments.theory.reporting.figures import draw
from experiments.theory.reporting.report import headline, summary

_COMMON = (known_laws, problems, certificates, config_module)


def parts(
    config: TheoryConfig, context: RunContext
) -> dict[str, tuple[str, tuple, Callable[[], pd.DataFrame]]]:
    """Name of the table -> (section of the configuration, modules that make it, how)."""
    c, seeds = config, context.seeds

    def rng(name: str):
        return seeds.generator(name)

    return {
        "theorem_1": ("theorem_1", (theorem_1,), lambda: theorem_1.run(c.theorem_1, rng("theorem_1"))),
        "measured_xi": ("theorem_1", (theorem_1,), lambda: theorem_1.measured(c.theorem_1, rng("measured"))),
        "leak": ("leak", (leak,), lambda: leak.run(c.leak, rng("leak"))),
        "theorem_2": (
            "theorem_2",
            (theorem_2,),
            lambda: theorem_2.run(c.theorem_2, seeds.integer("theorem_2")),
        ),
        "gradients": (
            "theorem_2",
            (theorem_2,),
            lambda: theorem_2.gradients(c.theorem_2, seeds.integer("gradient")),
        ),
        "path": ("theorem_2", (theorem_2,), theorem_2.path),
        "theorem_3": ("theorem_3", (theorem_3,), lambda: theorem_3.run(c.theorem_3, rng("theorem_3"))),
        "tightness": ("certificates", (), lambda: certificates.tightness(c.certificates, rng("tightness"))),
        "chosen": ("certificates", (), lambda: certificates.chosen(c.certificates, rng("chosen"))),
        "validity": ("certificates", (validity,), lambda: validity.run(c.certificates, rng("validity"))),
        "libraries": ("certificates", (libraries,), lambda: libraries.run(c.certificates, rng("libraries"))),
        "coverage": (
            "coverage",
            (coverage,),
            lambda: coverage.run(c.coverage, rng("coverage"), seeds.integer("net")),
        ),
        "firing": ("coverage", (coverage,), lambda: coverage.firing(c.coverage, rng("firing"))),
        "sensitivities": (
            "sensitivity",
            (sensitivities,),
            lambda: sensitivities.run(c.sensitivity, rng("sensitivity")),
        ),
        "constraints": (
            "sensitivity",
            (sensitivities,),
            lambda: sensitivities.constraints(c.sensitivity, rng("constraints")),
        ),
        "episodes": ("sensitivity", (dependence,), lambda: dependence.run(c.sensitivity, rng("episodes"))),
        "quality": ("quality", (quality,), lambda: quality.run(c.quality, rng("quality"))),
    }


def run(config: TheoryConfig, context: RunContext) -> pd.DataFrame:
    """Every part; the tidy results are the headlines of `report.headline`."""
    import safeframe

    tables: dict[str, pd.DataFrame] = {}
    for name, (section, modules, compute) in parts(config, context).items():
        depends = {section: context.value(section), "seed": config.seed}
        if name == "libraries":
            depends["installed"] = libraries.available()
        tables[name] = context.cache(
            name, depends, lambda stage, make=compute: make(), _save, pd.read_csv, ".csv",
            (*_COMMON, *modules, safeframe),
        )  # fmt: skip
    tables["cases_needed"] = theorem_3.cases_needed(tables["theorem_3"], config.theorem_3)
    tables["slopes"] = theorem_3.slopes(tables["cases_needed"])
    for name, table in tables.items():
        with atomic_path(context.directory / f"{name}.csv") as path:
            _save(table, path)
    return headline(tables, config.r_t)


def _save(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False, lineterminator="\n", float_format="%.8g")


def report(config: TheoryConfig, directory: Path, frame: pd.DataFrame) -> str:
    """The summary that a run prints at its end, with the paths of its figures."""
    paths = draw(of_directory(directory, finished=False), directory)
    return "\n".join([summary(frame), "", "figures:", *(f"  {path}" for path in paths)])
