"""The theorems as experiments, part by part: python run.py experiment=theory seed=5

Every part is a stage of its own, cached by its section of the configuration, the seed and the code, and
leaves one table <part>.csv in the run's directory, from which figures, claims and the tidy results are made.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from experiments.support.files import atomic_path
from experiments.support.results.saved import of_directory
from experiments.support.runs.running import RunContext
from experiments.support.seeding import Seeds
from experiments.theory import (
    certificates,
    coverage,
    dependence,
    leak,
    libraries,
    quality,
    sensitivities,
    tailoring,
    theorem_1,
    theorem_2,
    theorem_3,
    validity,
)
from experiments.theory.config import TheoryConfig
from experiments.theory.guards import group_constraints, monitoring, priced, promises, shrinkage
from experiments.theory.reporting.figures import draw
from experiments.theory.reporting.report import headline, summary


@dataclass(frozen=True)
class Part:
    """One part.

    Attributes:
        section: of the configuration; what computes the table takes it first, unless it takes nothing.
        compute: the table.
        seeds: what it takes next, from the run's seeds; None for one that takes nothing.
    """

    section: str
    compute: Callable[..., pd.DataFrame]
    seeds: Callable[[Seeds], tuple] | None = None

    def table(self, config: TheoryConfig, seeds: Seeds) -> pd.DataFrame:
        """What it computes for a run."""
        return self.compute() if self.seeds is None else self.compute(
            getattr(config, self.section), *self.seeds(seeds)
        )  # fmt: skip


def _rng(*names: str) -> Callable[[Seeds], tuple]:
    return lambda seeds: tuple(seeds.generator(name) for name in names)


def _integer(name: str) -> Callable[[Seeds], tuple]:
    return lambda seeds: (seeds.integer(name),)


PARTS = {
    "theorem_1": Part("theorem_1", theorem_1.run, _rng("theorem_1")),
    "measured_xi": Part("theorem_1", theorem_1.measured, _rng("measured")),
    "leak": Part("leak", leak.run, _rng("leak")),
    "theorem_2": Part("theorem_2", theorem_2.run, _integer("theorem_2")),
    "gradients": Part("theorem_2", theorem_2.gradients, _integer("gradient")),
    "path": Part("theorem_2", theorem_2.path),
    "theorem_3": Part("theorem_3", theorem_3.run, _rng("theorem_3")),
    "tightness": Part("certificates", certificates.tightness, _rng("tightness")),
    "chosen": Part("certificates", certificates.chosen, _rng("chosen")),
    "validity": Part("certificates", validity.run, _rng("validity")),
    "libraries": Part("certificates", libraries.run, _rng("libraries")),
    "coverage": Part(
        "coverage", coverage.run, lambda seeds: (seeds.generator("coverage"), seeds.integer("net"))
    ),
    "firing": Part("coverage", coverage.firing, _rng("firing")),
    "sensitivities": Part("sensitivity", sensitivities.run, _rng("sensitivity")),
    "constraints": Part("sensitivity", sensitivities.constraints, _rng("constraints")),
    "episodes": Part("sensitivity", dependence.run, _rng("episodes")),
    "quality": Part("quality", quality.run, _rng("quality")),
    "promises": Part("promises", promises.run, _rng("promises")),
    "monitor": Part("monitor", monitoring.run, _rng("monitor")),
    "monitor_time": Part("monitor", monitoring.times, _rng("monitor_time")),
    "shrinkage": Part("shrinkage", shrinkage.run, _rng("shrinkage")),
    "group_constraints": Part("group_constraints", group_constraints.run, _rng("group_constraints")),
    "priced": Part("priced", priced.run, _rng("priced")),
    "tailoring": Part("tailoring", tailoring.run, _integer("tailoring")),
    "tailoring_why": Part("tailoring", tailoring.why, _integer("tailoring_why")),
}
"""By the name of the table."""


def run(config: TheoryConfig, context: RunContext) -> pd.DataFrame:
    """Every part; the tidy results are the headlines of `report.headline`."""
    tables: dict[str, pd.DataFrame] = {}
    for name, part in PARTS.items():
        depends = {part.section: context.value(part.section), "seed": config.seed}
        if name == "libraries":
            depends["installed"] = libraries.available()
        if part.section == "monitor":
            depends["installed"] = monitoring.available()
        made = context.cache(
            name,
            depends,
            lambda stage, part=part: part.table(config, context.seeds),
            _save,
            pd.read_csv,
            ".csv",
            part.compute,
        )
        tables[name] = _as_saved(made)
    tables["cases_needed"] = theorem_3.cases_needed(tables["theorem_3"], config.theorem_3)
    tables["slopes"] = theorem_3.slopes(tables["cases_needed"])
    for name, table in tables.items():
        with atomic_path(context.directory / f"{name}.csv") as path:
            _save(table, path)
    return headline(tables, config.r_t)


def _save(table: pd.DataFrame, path: Path) -> None:
    path.write_text(_text(table), encoding="utf-8")


def _text(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, lineterminator="\n", float_format="%.8g")


def _as_saved(table: pd.DataFrame) -> pd.DataFrame:
    """A table with the digits that its file keeps, so that what follows is the same from the cache."""
    return pd.read_csv(io.StringIO(_text(table)))


def report(config: TheoryConfig, directory: Path, frame: pd.DataFrame) -> str:
    """The summary that a run prints at its end, with the paths of its figures."""
    paths = draw(of_directory(directory, finished=False), directory)
    return "\n".join([summary(frame), "", "figures:", *(f"  {path}" for path in paths)])
