"""Other orders of the years: was the promise kept where other years calibrate and other years are in use?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.production.reporting.measured import Measured
from experiments.production.reporting.promises import promises
from experiments.support.results.publish import Claimant, Target, write_tables

COMMAND = "python run.py -m +sweep=figure-2-orders"


def tag(order: Sequence[int]) -> str:
    """The roles of the years as part of a name: 0132."""
    return "".join(map(str, order))


def write(measured: Measured, source: str, order: Sequence[int], place: Path) -> list[Path]:
    """tables/production_promises_<source>_<order>.csv; its path."""
    return write_tables({f"production_promises_{source}_{tag(order)}": promises(measured)}, place)


def record(measured: Measured, source: str, order: Sequence[int], preset: str, target: Target) -> None:
    """Of every method with a promise: the largest shares over r_t, and cells significantly above it."""
    claim = Claimant(
        "production", measured.saved, COMMAND, target.ledger, target.dirty,
        seeds=measured.seeds, preset=preset, data=source,
    )  # fmt: skip
    for row in promises(measured).to_dict("records"):
        name = f"order.{tag(order)}.{row['method']}"
        for key in (
            "pooled_over",
            "worst_over",
            "significant_exact",
            "significant_weeks",
            "significant_holm",
        ):
            claim(f"{name}.{key}", row[key], np.nan, np.nan, row["cells"])
