"""A guard in service through the last year: hour by hour, with labels a day late.

Networks are trained on the training quarter and the internal test quarter for training; the risk, which is
that of figure 2's guard (`guard.score`), is calibrated and the first thresholds are chosen on the internal
test quarter for validation; the validation quarter is the year in use.
In deployment order (`data.order=[0,1,3,2]`) it is the last one, as in a plant: nothing of it is known but
what came in before. Every guard (`guard.service.SERVICES`) plans each hour from what is known a day ahead,
and the demand of an hour is known a day after it. Guards that are renewed count the newest known hours every
week. Every product is watched by a monitor of its own (`safeframe.service.monitor`).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from experiments.production import decomposition, trained
from experiments.production.config import ProductionConfig
from experiments.production.demand.series import HOURS_PER_WEEK, UNSAFE_BELOW, Quarter
from experiments.production.guard.curves import in_service
from experiments.production.guard.service import SERVICES, watched
from experiments.production.planning import plan
from experiments.production.preparation import Experiment
from experiments.production.records import ALARMS, LIKELIHOODS, ORACLE, SERVED, WEEKLY
from experiments.support.files import atomic_path
from experiments.support.runs.running import RunContext

_KNOWN = (Quarter.TRAINING, Quarter.INTERNAL_TEST_TRAINING, Quarter.INTERNAL_TEST_VALIDATION)


def run(config: ProductionConfig, context: RunContext) -> pd.DataFrame:
    """All guards in service on one seed."""
    this = Experiment(config, context)
    trained.train_ahead(this)
    counting, service, predicted = this.evaluation, config.service, trained.predicted(this)
    use, unsafe, risk = counting.validation, this.data.unsafe, trained.risk(this)
    served = in_service(risk, this.data, use, this.data.by_period(*_KNOWN), service)
    tables: dict[str, list[pd.DataFrame]] = {SERVED: [], ALARMS: []}
    for name in service.methods:
        with context.stage(name):
            gates = served.gates(SERVICES[name], counting.levels)
        for r_t, gate in zip(counting.levels, gates, strict=True):
            counting.count(name, plan(this.problem, predicted[use], gate).action, r_t=r_t)
            tables[SERVED].append(_served(gate, unsafe[use], this.data.names).assign(method=name, r_t=r_t))
            alarms = _alarms(gate, unsafe[use], this.data.names, r_t, service.alpha)
            tables[ALARMS].append(alarms.assign(method=name, r_t=r_t))
    true = this.data.demand[use].astype(np.float64)
    counting.count(ORACLE, plan(this.problem, true, true >= UNSAFE_BELOW).action)
    taus = served.thresholds(SERVICES["static_plug_in"], risk.counted, counting.levels)
    tables[LIKELIHOODS] = [
        decomposition.likelihoods(served.scale, taus, counting.levels, this.data, risk.counted)
    ]
    tables[WEEKLY] = counting.weekly
    for name, parts in tables.items():
        with atomic_path(context.directory / f"{name}.parquet") as path:
            pd.concat(parts, ignore_index=True).to_parquet(path, index=False)
    return pd.DataFrame(counting.rows)


def _served(gate: np.ndarray, unsafe: np.ndarray, names: tuple[str, ...]) -> pd.DataFrame:
    """Accepted hours and violations of every product in each week; gate and unsafe (hours, p)."""
    week = np.arange(len(gate)) // HOURS_PER_WEEK
    parts = []
    for i, name in enumerate(names):
        accepted = np.bincount(week, gate[:, i])
        bad = np.bincount(week, gate[:, i] & unsafe[:, i])
        parts.append(
            pd.DataFrame(
                {
                    "product": name,
                    "week": np.arange(len(accepted)),
                    "accepted": accepted.astype(np.int64),
                    "violations": bad.astype(np.int64),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _alarms(
    gate: np.ndarray, unsafe: np.ndarray, names: tuple[str, ...], r_t: float, alpha: float
) -> pd.DataFrame:
    """What a monitor of every product found, with alpha shared among the products."""
    found = [watched(gate[:, i], unsafe[:, i], r_t, alpha / len(names)) for i in range(len(names))]
    return pd.DataFrame(
        {
            "product": list(names),
            "hour": pd.array([one.hour for one in found], dtype="Int64"),
            "labels": pd.array([one.labels for one in found], dtype="Int64"),
        }
    )
