"""A guard calibrated on one set of recorded answers, applied to another.

What breaks, what a coverage guard catches, and what fresh internal test data mend.

The classifier, the thresholds and the radius are those of the run; nothing is fitted on the other set, whose
labels are human or its own judge's. Methods, after "transfer.<format>.":

- ours, ours_accepted: as on the run's own set
- ours_covered, ours_covered_pairs: ours, with the default answer to prompts (no candidate that is) unlike the
  internal test data (`coverage`); counted on the run's own validation prompts too, without the prefix
- ours_recalibrated: the same classifier, thresholds chosen anew on internal test prompts of the other set
- ai, best_of_k: the other set's answers without a guard
"""

from __future__ import annotations

import dataclasses

import numpy as np
from torch import nn

from experiments.llm.answers.packing import Chosen
from experiments.llm.answers.pools import Pool
from experiments.llm.answers.recorded_source import RecordedSource
from experiments.llm.config import LLMConfig
from experiments.llm.evaluation import Evaluation
from experiments.llm.guard import baselines, coverage
from experiments.llm.guard.backends import spread
from experiments.llm.guard.calibration import Calibrator, Choice
from experiments.llm.guard.classifier import margins, ranking
from experiments.llm.guard.judge import recorded_rows
from experiments.llm.records import COVERED, TRANSFER


def other_configuration(config: LLMConfig) -> LLMConfig:
    """The run's configuration with the data of `transfer`."""
    data = dataclasses.replace(config.data, path=config.transfer.path, format=config.transfer.format)
    return dataclasses.replace(config, data=data)


@dataclasses.dataclass(frozen=True)
class Calibrated:
    """What a run has calibrated: its settings, its source of answers and internal test prompts, ours (the
    classifier), and the thresholds of each method.
    """

    config: LLMConfig
    source: RecordedSource
    internal_test: Pool
    ours: nn.Module
    chosen: dict[str, list[Choice]]


def transfer(
    run: Calibrated, other: RecordedSource, own_margin: np.ndarray, counting: Evaluation, seed: int
) -> None:
    """Add the rows and blocks of the methods above, on the other source of answers, to `counting`.

    own_margin: (n, k) of ours on the run's own validation prompts; seed: of the coverage guard's split.
    """
    config, own, ours, chosen = run.config, run.source, run.ours, run.chosen
    name = f"{TRANSFER}{config.transfer.format}."

    def of_other(split: str, wanted: int) -> tuple[Pool, np.ndarray]:
        pool = other.pool(split, min(wanted, len(other.rows[split])))
        return pool, spread(margins(ours, Chosen(other.hidden, other.rows_of(pool))), pool)

    pool, margin = of_other("validation", config.pools.validation)
    found = Evaluation(pool, other.default_reward(pool.prompt), counting.n_t)
    for method in ("ours", "ours_accepted"):
        found.guarded(name + method, margin, chosen[method])
    for method, at, part in (("ours", own_margin, counting), (f"{name}ours", margin, found)):
        value, n = ranking(at, part.pool)
        part.rows.append({"method": method, "metric": "auc", "value": value, "n": n})
    found.count(f"{name}ai", baselines.first_answer(pool))
    found.count(f"{name}best_of_k", baselines.best_of_all(pool))

    found.rows += [
        row | {"method": name + row["method"]}
        for row in recorded_rows(other, ours, chosen["ours"], counting.n_t)
    ]

    inside = coverage.features_of(own, run.internal_test)
    guards = coverage.fit(inside, config.transfer.epsilon, seed)
    for prefix, source, where, at in (("", own, counting, own_margin), (name, other, found, margin)):
        covered = coverage.covered(guards, coverage.features_of(source, where.pool))
        where.rows += coverage.refused_rows(f"{prefix}coverage", covered)
        for method, kind in COVERED.items():
            where.guarded(prefix + method, at, chosen["ours"], covered=covered[kind])

    fresh = Calibrator(*of_other("internal_test", config.pools.internal_test)[::-1])
    thresholds = [choice.r_t for choice in chosen["ours"]]
    anew = fresh.choose("selected", thresholds, config.fixed_radius(), config.evaluation.xi_mass)
    mended = Evaluation(pool, found.default_reward, fresh.n_t)
    mended.guarded(f"{name}ours_recalibrated", margin, anew)
    for part in (found, mended):
        counting.rows += part.rows
        counting.blocks += part.blocks
