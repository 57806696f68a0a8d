"""Counting on the validation quarter: what every method earned and violated, by week and in total."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import beta

from experiments.production.config import ProductionConfig
from experiments.production.demand.series import HOURS_PER_WEEK, DemandData, Quarter
from experiments.production.guard import knobs
from experiments.production.guard.calibration import calibrate, certified_gates
from experiments.production.models.networks import Inputs
from experiments.production.planning import PlanTable, ProductionProblem, produced, revenue, violations
from experiments.production.records import CHOSEN
from safeframe.threshold_rule import Calibrated

_LEVEL = 0.95


class Evaluation:
    """Collects tidy `rows` and `weekly` sums of every point that is counted, and `by_product` those of gates.

    test: index (n_t,) of the cases to calibrate on.
    """

    def __init__(
        self,
        config: ProductionConfig,
        problem: ProductionProblem,
        data: DemandData,
        inputs: Inputs,
        test: np.ndarray,
    ):
        self.config, self.problem, self.data, self.inputs, self.test = config, problem, data, inputs, test
        self.validation = data.where(Quarter.VALIDATION)
        self.rows: list[dict[str, Any]] = []
        self.weekly: list[pd.DataFrame] = []
        self.by_product: list[pd.DataFrame] = []

    def count(
        self, method: str, action: np.ndarray, r_t: float = np.nan, knob: float = np.nan, **extra: Any
    ) -> None:
        """Record what a plan (hours, p) for the validation quarter earned and violated."""
        true = self.data.demand[self.validation].astype(np.float64)
        earned = revenue(self.problem, action, true)
        made, bad = produced(action), violations(action, true)
        week = self.week
        self.weekly.append(
            pd.DataFrame(
                {
                    "week": week,
                    "hours": 1,
                    "produced": made.sum(1),
                    "violations": bad.sum(1),
                    "revenue": earned,
                }
            )
            .groupby("week", as_index=False)
            .sum()
            .assign(method=method, r_t=r_t, knob=knob)
        )
        point = {"method": method, "r_t": r_t, "knob": knob, "n_t": len(self.test)} | extra
        self.rows.append(point | {"metric": "revenue", "value": earned.mean(), "n": len(earned)})
        self.rows.append(point | _rate("violation", bad.sum(), made.sum()))
        self.rows.append(point | _rate("acceptance", made.sum(), made.size, interval=False))
        for i, name in enumerate(self.products):
            self.rows.append(point | _rate(f"violation.{name}", bad[:, i].sum(), made[:, i].sum()))
            self.rows.append(point | _rate(f"acceptance.{name}", made[:, i].sum(), len(made), interval=False))

    @property
    def products(self) -> list[str]:
        """Names of the products as parts of metrics."""
        return [name.lower().replace("-", "_") for name in self.data.names]

    @property
    def week(self) -> np.ndarray:
        """(hours,) week of the validation quarter."""
        return np.arange(len(self.validation)) // HOURS_PER_WEEK

    def gated(self, method: str, table: PlanTable, gate: np.ndarray, r_t: float, **extra: Any) -> None:
        """Count the plans behind a gate (hours, p) for the validation quarter, by product and week too."""
        action = table.action(gate, self.validation)
        self.count(method, action, r_t=r_t, **extra)
        made, bad = produced(action), violations(action, self.data.demand[self.validation])
        for i, name in enumerate(self.products):
            accepted, violated = (np.bincount(self.week, part[:, i]).astype(np.int32) for part in (made, bad))
            self.by_product.append(
                pd.DataFrame({"product": name, "week": np.arange(len(accepted), dtype=np.int16),
                              "accepted": accepted, "violations": violated}).assign(method=method, r_t=r_t)
            )  # fmt: skip

    def guarded(self, method: str, margin: np.ndarray, table: PlanTable, radius: float | None) -> None:
        """Calibrate margins (n, p) of a classifier product by product, and count at every threshold."""
        label, hour = self.data.unsafe[self.test].astype(np.int64), self.data.target_hour[self.test]
        levels, share = self.levels, self.config.evaluation.xi_mass
        by_product = [
            calibrate(margin[self.test, i], label[:, i], hour, levels, radius, share)
            for i in range(self.problem.n_products)
        ]
        for r_t, chosen in zip(levels, zip(*by_product, strict=True), strict=True):
            gate = margin[self.validation] < np.array([product.tau for product in chosen])
            xi = float(np.mean([product.radius for product in chosen]))
            self.gated(method, table, gate, r_t, xi=xi)
            self._calibration_rows(method, r_t, xi, chosen)

    def swept(
        self,
        method: str,
        settings: Iterable[float],
        action: Callable[[float, np.ndarray], np.ndarray],
        tuned_on: np.ndarray | None = None,
    ) -> None:
        """Count a method at every setting of its knob, which is hindsight, and as a user would choose it.

        Args:
            method: its name; `CHOSEN` is appended to the second.
            settings: of the knob, the larger the stricter.
            action: from a setting and cases (k,) to amounts (k, p).
            tuned_on: cases that the knob is chosen on; None: the calibration quarter.
        """
        settings = [float(knob) for knob in settings]
        cases = self.test if tuned_on is None else tuned_on
        demand = self.data.demand[cases].astype(np.float64)
        for knob in settings:
            self.count(method, action(knob, self.validation), knob=knob)
        tried = [knobs.tried(self.problem, knob, action(knob, cases), demand) for knob in settings]
        for r_t in self.levels:
            knob = knobs.chosen(tried, r_t)
            made = (
                np.zeros((len(self.validation), self.problem.n_products))
                if knob is None
                else action(knob, self.validation)
            )
            point = {"method": method + CHOSEN, "r_t": r_t, "n_t": len(cases), "n": len(cases)}
            self.count(method + CHOSEN, made, r_t=r_t)
            if knob is not None:
                self.rows.append(point | {"metric": "knob", "value": knob})

    @property
    def levels(self) -> list[float]:
        """Thresholds r_t to validate at, ascending; the run's own is one of them."""
        return sorted({*self.config.evaluation.thresholds, self.config.r_t})

    def certified(self, method: str, margin: np.ndarray, table: PlanTable) -> None:
        """As `guarded`, with thresholds from a finite-sample certificate."""
        other = margin[self.data.where(Quarter.INTERNAL_TEST_TRAINING)]
        label = self.data.unsafe[self.test].astype(np.int64)
        for r_t in self.levels:
            gate = certified_gates(
                margin[self.validation], margin[self.test], other, label, r_t, self.config.evaluation.delta
            )
            self.gated(method, table, gate, r_t)

    def _calibration_rows(self, method: str, r_t: float, xi: float, chosen: Sequence[Calibrated]) -> None:
        point = {"method": method, "r_t": r_t, "n_t": len(self.test), "xi": xi, "n": len(self.test)}
        accepted = float(np.mean([product.threshold.acceptance for product in chosen]))
        self.rows.append(point | {"metric": "calibration_acceptance", "value": accepted})
        for name, product in zip(self.products, chosen, strict=True):
            for metric, value in (
                ("bound", product.threshold.bound),
                ("calibration_acceptance", product.threshold.acceptance),
                ("radius", product.radius),
            ):
                self.rows.append(point | {"metric": f"{metric}.{name}", "value": value})


def _rate(metric: str, k: int, n: int, interval: bool = True) -> dict[str, Any]:
    """A share with its exact interval (Clopper-Pearson); NaN where n = 0."""
    k, n = int(k), int(n)
    row: dict[str, Any] = {"metric": metric, "value": k / n if n else np.nan, "n": n}
    if interval and n:
        tail = (1 - _LEVEL) / 2
        low = beta.ppf(tail, k, n - k + 1) if k else 0.0
        high = beta.ppf(1 - tail, k + 1, n - k) if k < n else 1.0
        row |= {"low": low, "high": high, "interval": "Clopper-Pearson 95%"}
    return row
