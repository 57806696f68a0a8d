"""Mended training of the binary classifier (docs/tailored_training.md): does it gain over cross-entropy?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from experiments.production.reporting.report import GAINS, TRAINED_AT, claim_gain
from experiments.support.results import collect
from experiments.support.results.publish import Claimant, Target
from experiments.support.results.saved import Saved

COMMAND = "python run.py -m +sweep=figure-2 +ablation=mended_plans evaluation.parts=[binary]"
_FREE = ("seed", "data.path", "evaluation.parts")


def is_mended(run: Saved) -> bool:
    """Whether a run's tailored training has temperatures in units of the margins' spread."""
    return bool(run.setting("tailoring.relative"))


def load(source: str, preset: str, where: Mapping[str, Any], root: collect.Root) -> list[Saved]:
    """Runs with mended training on `source`; empty if there are none."""
    wanted = {"data.source": source, "preset": preset, **where}
    runs = [run for run in collect.finished("production", wanted, root) if is_mended(run)]
    return collect.one_a_seed(collect.comparable(runs, _FREE)[0])


def claimed(results: pd.DataFrame) -> np.ndarray:
    """Which rows of a run's tidy results claims rest on."""
    of_metric = results["metric"].isin({metric for metric, _ in GAINS})
    return (of_metric & np.isclose(results["r_t"].astype(float), TRAINED_AT, rtol=1e-6)).to_numpy()


def record(runs: list[Saved], source: str, preset: str, target: Target) -> None:
    """Claim what mended training accepts more than cross-entropy does."""
    if not runs:
        return
    claim = Claimant(
        "production", runs, COMMAND, target.ledger, target.dirty,
        seeds=[run.seed for run in runs], preset=preset, data=source,
    )  # fmt: skip
    results = pd.concat([run.table("results").assign(run=run.run) for run in runs], ignore_index=True)

    def rows(metric: str, method: str, r_t: float) -> pd.DataFrame:
        found = results[results["metric"].eq(metric) & results["method"].eq(method)]
        found = found[np.isclose(found["r_t"].astype(float), r_t, rtol=1e-6)]
        return found.set_index("run").loc[[run.run for run in runs], ["value", "n"]]

    for metric, suffix in GAINS:
        claim_gain(rows, metric, suffix, claim, "_mended")
