"""The coverage guard on production: a later year, another region, a sensor that reads wrong.

Networks and thresholds are those of the cross-entropy method with its measured radius: trained on the first
two years, calibrated on the third, counted on the fourth (roles of the quarters 0, 1, 3, 2). The guard's
reference are the measurements of the even weeks of the calibration year (24 hours of all products, as the
classifier sees them), its radius comes from the odd weeks; hours depend on one another, so its certificate's
assumption does not hold here and the firing rate of the later year is what is measured.

Changes: "later year" is the fourth year as it is; "another region" puts a region that no network has seen in
the place of one product, scaled by its own first year, measurements and demand alike; "sensor at half"
halves what is measured of one product, demand stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from experiments.production.config import ProductionConfig
from experiments.production.demand.series import DemandData, Quarter
from experiments.production.guard.calibration import calibrate, odd_weeks
from experiments.production.models import supervised
from experiments.production.models.networks import Inputs
from experiments.support.seeding import Seeds
from safeframe.coverage.coverage_guard import CoverageGuard, CoverageSettings

ORDER = [0, 1, 3, 2]
"""Roles of the consecutive years: the validation year is the last."""
THRESHOLDS = (1e-3, 1e-2, 1e-1)
SETTINGS = CoverageSettings(epsilon=0.01, delta=0.05)


def changes(
    data: DemandData, load: Callable[[list[str]], DemandData], region: str | None
) -> Iterator[tuple[str, list[int], DemandData]]:
    """(name, products that it concerns, the changed data)."""
    everyone = list(range(data.demand.shape[1]))
    yield "later year", everyone, data
    for i in everyone:
        if region is not None:
            names = list(data.names)
            names[i] = region
            yield "another region", [i], load(names)
        measurement = data.measurement.copy()
        measurement[:, :, i] /= 2
        yield "sensor at half", [i], replace(data, measurement=measurement)


def measure(
    config: ProductionConfig,
    load: Callable[[list[str] | None], DemandData],
    region: str | None,
    seed: int,
) -> pd.DataFrame:
    """Counts per change, product and r_t, with and without the guard, of one seed.

    Args:
        config: of the experiment.
        load: column names (None: those of the configuration) -> data in `ORDER`.
        region: a column that is no product, or None to leave that change out.
        seed: of the classifier's training.

    Returns:
        One row per change, product, r_t and guard.
    """
    data = load(None)
    inputs, seeds = Inputs(data, config.data.calendar), Seeds(seed)
    trained_on = torch.from_numpy(data.where(Quarter.TRAINING, Quarter.INTERNAL_TEST_TRAINING))
    network = supervised.fit(
        inputs, trained_on, data.demand.shape[1], config.model.classifier_hidden,
        supervised.cross_entropy(inputs), config.training, seeds.integer("cross_entropy"),
    )  # fmt: skip
    test, year = data.where(Quarter.INTERNAL_TEST_VALIDATION), data.where(Quarter.VALIDATION)
    margin, hour = inputs.outputs(network), data.target_hour[test]
    taus = np.array(
        [
            [
                one.tau
                for one in calibrate(
                    margin[test, i], data.unsafe[test, i].astype(np.int64), hour, THRESHOLDS, None,
                    config.evaluation.xi_mass,
                )
            ]
            for i in range(margin.shape[1])
        ]
    )  # fmt: skip
    odd = odd_weeks(hour)
    guard = CoverageGuard(data.measurement[test[~odd]], data.measurement[test[odd]], SETTINGS)
    rows: list[dict[str, Any]] = []
    for name, products, changed in changes(data, load, region):
        seen = Inputs(changed, config.data.calendar).outputs(network)[year]
        covered = guard.covers(changed.measurement[year])
        for i in products:
            for k, r_t in enumerate(THRESHOLDS):
                accepted, unsafe = seen[:, i] < taus[i, k], changed.unsafe[year, i]
                kept = accepted & covered
                rows.append(
                    {"seed": seed, "change": name, "product": data.names[i], "r_t": r_t, "hours": len(year),
                     "refused": int((~covered).sum()), "accepted": int(accepted.sum()),
                     "unsafe": int((accepted & unsafe).sum()), "accepted_guarded": int(kept.sum()),
                     "unsafe_guarded": int((kept & unsafe).sum()), "epsilon": SETTINGS.epsilon,
                     "radius": guard.radius}
                )  # fmt: skip
    return pd.DataFrame(rows)


def pooled(table: pd.DataFrame) -> pd.DataFrame:
    """Sums over products and seeds, and shares: one row per change and r_t."""
    counts = ["hours", "refused", "accepted", "unsafe", "accepted_guarded", "unsafe_guarded"]
    found = table.groupby(["change", "r_t"], sort=False)[counts].sum().reset_index()
    found["firing"] = found["refused"] / found["hours"]
    found["violation"] = found["unsafe"] / found["accepted"].where(found["accepted"] > 0)
    found["violation_guarded"] = found["unsafe_guarded"] / found["accepted_guarded"].where(
        found["accepted_guarded"] > 0
    )
    return found
