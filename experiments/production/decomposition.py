"""Safe and unsafe hours, and those accepted, in the year that thresholds come from and in every other.

P(unsafe | accepted) = U pi / (U pi + L (1 - pi)) with U = P(accepted | unsafe), L = P(accepted | safe) and
the prior pi = P(unsafe). What a run keeps are the four counts behind it, week by week; how much of an excess
over r_t is whose is computed from them (`reporting.decomposition`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from experiments.production.demand.series import HOURS_PER_WEEK, DemandData
from experiments.production.records import CALIBRATED_ON, LIKELIHOODS_COLUMNS


def likelihoods(
    scale: np.ndarray,
    tau: np.ndarray,
    levels: Sequence[float],
    data: DemandData,
    calibration: np.ndarray | None = None,
) -> pd.DataFrame:
    """The counts of every product, r_t, year and week.

    Args:
        scale: (n, p) score of every case, larger is riskier.
        tau: (levels, p) thresholds: accepted is what lies below.
        levels: (levels,) the r_t that they were chosen for.
        data: the n cases.
        calibration: index of the cases that the thresholds were chosen on; None: all of that year.

    Returns:
        A row for each, columns `records.LIKELIHOODS_COLUMNS`; weeks count from the first hour of a year.
    """
    parts = []
    for period, start in enumerate(data.starts):
        mine = np.flatnonzero(data.period == period)
        if calibration is not None and mine.size and data.quarter[mine[0]] == CALIBRATED_ON:
            mine = np.intersect1d(mine, calibration)
        if not mine.size:
            continue
        hour = data.target_hour[mine]
        week = (hour - hour[0]) // HOURS_PER_WEEK
        about = {"period": period, "start": start, "role": int(data.quarter[mine[0]])}
        for i, name in enumerate(data.names):
            unsafe = data.unsafe[mine, i]
            for r_t, limit in zip(levels, tau[:, i], strict=True):
                accepted = scale[mine, i] < limit
                counts = {
                    "safe": np.bincount(week, ~unsafe),
                    "unsafe": np.bincount(week, unsafe),
                    "accepted_safe": np.bincount(week, accepted & ~unsafe),
                    "accepted_unsafe": np.bincount(week, accepted & unsafe),
                }
                counted = {key: value.astype(np.int64) for key, value in counts.items()}
                week_number = np.arange(len(counted["safe"]))
                parts.append(
                    pd.DataFrame({"product": name, "r_t": r_t, **about, "week": week_number, **counted})
                )
    return pd.concat(parts, ignore_index=True)[list(LIKELIHOODS_COLUMNS)]
